"""What the points of a collection show: opened when first looked at, and a word where there is nothing."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from xmodal_lib.views import panels
from xmodal_lib.views.collection import Collection

KEPT = 4000  # thumbnails in memory
SEVERAL = 3  # rows of one modality of an item that are shown
FACTS = ("name", "class", "modality")  # of a point, on hover


class Shelf:
    """Opens the points of a collection. A missing or broken one is told in words, and ends no session."""

    def __init__(self, collection: Collection, label: str = "name") -> None:
        self.collection, points = collection, collection.points
        self.items = points["item"].to_numpy()
        self.modality = points["modality"].astype(str).to_numpy(object)
        self.modalities = list(dict.fromkeys(self.modality))
        self.classes = points["class"].astype(str).to_numpy(object)
        names = points[label] if label in points else points["row"]
        self.names = names.fillna(points["row"]).astype(str).to_numpy(object)
        order = np.argsort(self.items, kind="stable")
        cuts = np.flatnonzero(np.diff(self.items[order])) + 1
        self._of_item = {self.items[part[0]]: part for part in np.split(order, cuts)}
        self.thumbnail = lru_cache(KEPT)(self._thumbnail)

    def of_item(self, point: int) -> np.ndarray:
        """All points of the item that a point shows, itself first."""
        own = self._of_item[self.items[point]]
        return np.concatenate([[point], own[own != point]])

    def views(self, point: int) -> dict[str, list[Any]]:
        """The item of a point in each modality of the collection: what can be opened, at most SEVERAL rows of one."""
        own = self.of_item(point)
        found: dict[str, list[Any]] = {modality: [] for modality in self.modalities}
        for other in own.tolist():
            if len(found[self.modality[other]]) < SEVERAL:
                found[self.modality[other]].append(self.opened(other))
        return found

    def tile(self, point: int, note: str = "", colour: str = "", same: bool = False) -> str:
        """A point as it is in its own modality: its picture, its words, or a note for a sound."""
        name = self.names[point]
        if uri := self.thumbnail(point):
            return panels.figure(name, uri, note=note, colour=colour, same=same)
        opened = self.opened(point)
        words = opened if isinstance(opened, str) else f"no {self.modality[point]}" if opened is None else "♪"
        return panels.figure(name if words != name else "", "", words, note, colour, same)

    def card(self, point: int) -> tuple[str, Mapping[str, str]]:
        """What hovering shows: a picture of the item if any of its rows is one, else its name; and its facts."""
        uris = (self.thumbnail(other) for other in self.of_item(point)[:12].tolist())
        preview = next((uri for uri in uris if uri), "") or _words_uri(self.names[point])
        facts = (self.names[point], self.classes[point], self.modality[point])
        return preview, dict(zip(FACTS, facts, strict=True))

    def opened(self, point: int) -> Any:
        try:
            return self.collection.opened(point)
        except Exception:  # whatever a reader of files may raise: to the user it is missing
            return None

    def _thumbnail(self, point: int) -> str:
        opened = self.opened(point)
        return panels.picture_uri(opened, 96) if isinstance(opened, Image.Image) else ""


def _words_uri(words: str) -> str:
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="192" height="96"><rect width="192" height="96" fill="#f3f6f9"/>'
        '<text x="96" y="53" text-anchor="middle" font-family="sans-serif" font-size="17" fill="#33414e">'
        f"{html.escape(words[:22])}</text></svg>"
    )
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
