"""One HTML file to explore a saved collection: no network, no kernel, no other file.

    write("results/60_latent_views/seed=1/collection", "results/60_latent_views/seed=1/explore.html", title="Emoji")

The page is `page/explore.html` with its style and scripts inside, and the collection, gzipped, as base64. Nothing of
the collection is HTML: the scripts unpack it, and set every word of it as text.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xmodal_lib.gap import by_modality, modality_gap
from xmodal_lib.home import replacing
from xmodal_lib.views import map_words, neighbours
from xmodal_lib.views.stored import Stored

PARTS = Path(__file__).parent / "page"
SCRIPTS = ("data.js", "map.js", "items.js", "selection.js", "explore.js")
NEAR = 5  # neighbours kept of each modality
BINS = 5  # groups that a column of numbers is coloured by
FEW = 12  # different numbers up to which a column is taken as it is
COLUMNS = ("row", "item", "modality", "class")


def write(folder: str | Path, path: str | Path, *, title: str = "", note: str = "") -> Path:
    """Write the page of the collection that was saved in `folder`; the same collection gives the same bytes.

    Raises:
        FileNotFoundError: nothing was saved there.
        ValueError: it is damaged.
    """
    stored, path = Stored.read(folder), Path(path)
    title = title or "Explorer"
    packed = gzip.compress(_packed(stored, title, note), 6, mtime=0)
    inside = {
        "title": html.escape(title),
        "style": (PARTS / "explore.css").read_text("utf-8"),
        "script": "\n".join((PARTS / name).read_text("utf-8") for name in SCRIPTS),
        "payload": base64.b64encode(packed).decode(),
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: inside[found[1]], (PARTS / "explore.html").read_text("utf-8"))
    with replacing(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def _packed(stored: Stored, title: str, note: str) -> bytes:
    """Length of the head (8 bytes, little-endian), the head as JSON, its sections, each at a multiple of 8 bytes."""
    points, spaces, maps = stored.points, stored.of("space"), stored.of("map")
    modality = points["modality"].to_numpy(str)
    sections: dict[str, bytes] = {"tiles": stored.arrays["tiles"].astype("<i4").tobytes(),
                                  "ends": stored.arrays["ends"].astype("<i4").tobytes(),
                                  "pictures": stored.pictures, "sounds": stored.sounds}  # fmt: skip
    columns = []
    for name in dict.fromkeys([*COLUMNS, *points.columns]):
        about, codes, numbers = _column(points[name], name in COLUMNS)
        columns.append({"name": str(name), **about})
        sections[f"codes/{name}"] = codes.astype("<i4").tobytes()
        if numbers is not None:
            sections[f"numbers/{name}"] = numbers.astype("<f8").tobytes()
    seen = [_about_map(name, xy, stored, next(iter(spaces), "")) for name, xy in maps.items()]
    sections |= {f"map/{name}": np.where(np.isfinite(xy).all(1, keepdims=True), xy, np.nan).astype("<f4").tobytes()
                 for name, xy in maps.items()}  # fmt: skip
    gaps = {}
    for name in dict.fromkeys(about["space"] for about in seen if about["space"]):
        gaps[name] = _gaps(spaces[name], modality)
        z, lines = neighbours.unit(spaces[name]), np.arange(len(points))
        for m in dict.fromkeys(modality):
            near = neighbours.nearest_rows(z, lines, lines[modality == m], NEAR)
            sections[f"near/{name}/{m}"] = near.astype("<i4").tobytes()
    head: dict[str, Any] = {
        "title": title, "note": note, "count": len(points), "columns": columns, "maps": seen, "gaps": gaps,
        "modalities": list(dict.fromkeys(modality)), "texts": stored.texts, "side": stored.side, "nearest": NEAR,
        "across": stored.across,
    }  # fmt: skip
    at, where, body = 0, {}, []
    for key, content in sections.items():
        body.append(content + bytes(-len(content) % 8))
        where[key] = [at, len(content)]
        at += len(body[-1])
    words = json.dumps(head | {"sections": where}, separators=(",", ":"), allow_nan=False).encode()
    words += b" " * (-(len(words) + 8) % 8)
    return len(words).to_bytes(8, "little") + words + b"".join(body)


def _column(column: pd.Series, as_words: bool) -> tuple[dict[str, Any], np.ndarray, np.ndarray | None]:
    """A column as codes into a list of words, -1 without a value; numbers in ranges, with the numbers themselves."""
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column) and not as_words
    if numeric and column.nunique() > FEW:
        numbers = np.array(column.to_numpy(float, na_value=np.nan))
        numbers[~np.isfinite(numbers)] = np.nan
        edges = np.unique(np.nanquantile(numbers, np.linspace(0, 1, BINS + 1)))
        codes = np.clip(np.searchsorted(edges, numbers, "right") - 1, 0, len(edges) - 2)
        values = [f"{a:.3g} to {b:.3g}" for a, b in pairwise(edges)]
        return {"values": values, "ranges": True}, np.where(np.isnan(numbers), -1, codes), numbers
    if numeric and column.notna().any():
        column = column.map(lambda x: f"{x:g}", na_action="ignore")
    codes, found = pd.factorize(column.where(column.astype(str) != "", None).astype(object))
    return {"values": [str(value) for value in found], "ranges": False}, codes, None


def _about_map(name: str, xy: np.ndarray, stored: Stored, first: str) -> dict[str, Any]:
    about: Mapping[str, Any] = stored.about.get(name, {})
    off = int((~np.isfinite(xy).all(1)).sum())
    missing = f"{off} of {len(xy)} points are not on this map." if off else ""
    return {"name": name, "space": about.get("space", first), "note": map_words.note(about),
            "off": missing}  # fmt: skip


def _gaps(z: np.ndarray, modality: np.ndarray) -> list[dict[str, Any]]:
    """The modality gap of each two modalities that have rows in a space."""
    table = modality_gap(by_modality(z, modality))
    return [{"a": a, "b": b, "gap": round(gap, 4)} for a, b, gap, _ in table.itertuples(index=False)]
