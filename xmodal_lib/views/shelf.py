"""What the points of a collection show: items opened in each modality, thumbnails made when first looked at."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from xmodal_lib.views import panels

if TYPE_CHECKING:
    from xmodal_lib.views.collection import Collection

KEPT = 4000  # thumbnails in memory
FACTS = ("name", "class", "modality")  # of a point, on hover


class Shelf:
    """Opens items of a collection. One that is missing or cannot be opened is told in words, never raised."""

    def __init__(self, collection: Collection, label: str) -> None:
        self.collection, points = collection, collection.points
        self.items = points["item"].to_numpy()
        self.modality = points["modality"].astype(str).to_numpy()
        self.classes = points["class"].astype(str).to_numpy()
        self.names = points[label].astype(str).to_numpy() if label in points else np.array([str(i) for i in self.items])
        self.picture = lru_cache(KEPT)(self._picture)

    def views(self, item: int) -> dict[str, Any]:
        """The item in each modality of the collection: None where it has none, a sentence of why where it fails."""
        return {modality: self._open(modality, item)[0] for modality in self.collection.open}

    def tile(self, point: int, note: str = "", colour: str = "", same: bool = False) -> str:
        """A point as it is in its own modality: its picture, its words, or a note for a sound."""
        modality, name = self.modality[point], self.names[point]
        if modality not in self.collection.open or (thumbnail := self.picture(self.items[point], modality)):
            thumbnail = thumbnail if modality in self.collection.open else ""
            return panels.figure(name, thumbnail, name, note, colour, same)
        opened = self._open(modality, self.items[point])[0]
        words = opened if isinstance(opened, str) else "♪" if opened is not None else f"no {modality}"
        return panels.figure(name, "", words, note, colour, same)

    def card(self, point: int) -> tuple[str, Mapping[str, str]]:
        """What hovering shows: a picture of the item in whichever modality has one, else its name, and its facts."""
        own = self.modality[point]
        order = [own, *(m for m in self.collection.open if m != own)]
        found = (self.picture(self.items[point], m) for m in order if m in self.collection.open)
        preview = next((uri for uri in found if uri), "") or _words_uri(str(self.names[point]))
        facts = (self.names[point], self.classes[point], own)
        return preview, dict(zip(FACTS, map(str, facts), strict=True))

    def _picture(self, item: int, modality: str) -> str:
        opened = self._open(modality, item)[0]
        return panels.picture_uri(opened, 96) if isinstance(opened, Image.Image) else ""

    def _open(self, modality: str, item: int) -> tuple[Any, bool]:
        try:
            return self.collection.open[modality](int(item)), True
        except Exception as error:  # a missing file must not end the session
            return f"could not be opened: {error}", False


def _words_uri(words: str) -> str:
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="192" height="96"><rect width="192" height="96" fill="#f3f6f9"/>'
        '<text x="96" y="53" text-anchor="middle" font-family="sans-serif" font-size="17" fill="#33414e">'
        f"{html.escape(words[:22])}</text></svg>"
    )
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
