"""Points to look at and the items behind them: what the explorers show, and what a job keeps of it on disk.

found = collect(source, rows, {"before": before, "after": after}, {"t-SNE": xy}, columns=["name"], item="concept")
found.save("results/60/collection")             # pictures and sounds too, small enough for one page
Collection.load("results/60/collection").opened(0)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from xmodal_lib.home import Unusable
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Tables
from xmodal_lib.views.stored import Stored, write

RATE = 16_000  # of the sounds of a Source
NEEDED = ("row", "item", "modality", "class")


@dataclass(frozen=True, eq=False, repr=False)
class Collection:
    """Points and what is behind them. All is in the order of the lines of `points`, a line a point.

    Columns of `points`: row, "image:17" for row 17 of the image modality, unique; item, equal for what shows the same
    thing; modality; class; and any others (name, method, predicted, correct, ...). `open[modality](17)` opens a row: a
    PIL image, (samples, rate), a string, or None where it is missing.

    Raises:
        ValueError: there is no point, a column is missing, rows are named twice, or lengths differ.
    """

    points: pd.DataFrame  # RangeIndex
    spaces: Mapping[str, np.ndarray]  # (n, d) each
    maps: Mapping[str, np.ndarray]  # (n, 2) each, NaN where a point is not on the map
    about: Mapping[str, dict[str, Any]] = field(default_factory=dict)  # map -> its "space", "quality", "note"
    open: Mapping[str, Callable[[int], Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        points, n = self.points.reset_index(drop=True), len(self.points)
        if lacking := [column for column in NEEDED if column not in points]:
            raise ValueError(f"points have no column {lacking[0]!r}; {', '.join(NEEDED)} are needed")
        if not n or not self.maps:
            raise ValueError(f"{n} points and {len(self.maps)} maps; at least one of each is needed")
        if (twice := points["row"].duplicated()).any():
            raise ValueError(f"row {points['row'][twice].iloc[0]!r} is there twice; a row is one point")
        for kind, arrays in (("space", self.spaces), ("map", self.maps)):
            for name, x in arrays.items():
                if x.ndim != 2 or len(x) != n or (kind == "map" and x.shape[1] != 2):
                    raise ValueError(f"{kind} {name!r} is of shape {x.shape}; ({n}, {'2' if kind == 'map' else 'd'}) "
                                     "is needed, a line a point")  # fmt: skip
        for name, about in self.about.items():
            if name not in self.maps or about.get("space", next(iter(self.spaces), None)) not in self.spaces:
                raise ValueError(f"about {name!r}: no such map, or no space {about.get('space')!r}")
        object.__setattr__(self, "points", points)
        for name in ("spaces", "maps", "about", "open"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {m}" for m, count in self.points["modality"].value_counts(sort=False).items())
        return f"Collection({counts}; {self.points['item'].nunique()} items; maps {', '.join(self.maps)})"

    def opened(self, line: int) -> Image.Image | tuple[np.ndarray, int] | str | None:
        """What is behind a point: a picture, (samples, rate), words, or None where it is missing or cannot be read."""
        modality, _, number = str(self.points["row"][line]).rpartition(":")
        try:
            return self.open[modality](int(number))
        except (KeyError, IndexError, OSError, ValueError, Unusable):
            return None

    def off(self, name: str) -> str:
        """ "" if every point is on the map, else a sentence that says how many are not."""
        missing = int((~np.isfinite(self.maps[name]).all(1)).sum())
        return f"{missing} of {len(self)} points are not on the map {name!r}." if missing else ""

    def save(self, folder: str | Path) -> Path:
        """Write points.parquet, arrays.safetensors, pictures.webp, sounds.bin and texts.json; returns the folder.

        Pictures become thumbnails and sounds Ogg/Opus, the smaller the more there are (under 10 MB in all).
        """
        return write(Path(folder), self.points, self.spaces, self.maps, self.about, map(self.opened, range(len(self))))

    @classmethod
    def load(cls, folder: str | Path) -> Collection:
        """What `save` wrote; pictures and sounds are opened from the folder, as small as they were kept.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged.
        """
        found = Stored.read(folder)
        lines = {row: line for line, row in enumerate(found.points["row"])}

        def opener(modality: str) -> Callable[[int], Any]:
            return lambda number: found.opened(lines[f"{modality}:{number}"])

        opens = {m: opener(m) for m in dict.fromkeys(row.rpartition(":")[0] for row in lines)}
        return cls(found.points, found.of("space"), found.of("map"), found.about, opens)


Placed = np.ndarray | Tensor | Mapping[str, np.ndarray | Tensor]  # for all points in line order, or {modality: rows}


def collect(
    source: Source, tables: Tables, spaces: Mapping[str, Placed], maps: Mapping[str, Placed], *,
    about: Mapping[str, dict[str, Any]] | None = None, columns: Sequence[str] = (), item: str = "",
    more: Mapping[str, Sequence[Any]] | None = None,
) -> Collection:  # fmt: skip
    """The rows of `tables`, modality after modality, as points that a source can open.

    `tables` hold row numbers of the source, or features of rows whose pair ids are the source's own. A space or map
    given as {modality: (n_m, d)} is NaN for the modalities it lacks. `columns` of the source's frames are taken along
    where a modality has them; `item` names the one whose equal values are one item ("" = the pair ids); `more` gives
    columns of your own, in line order.

    Raises:
        ValueError: features whose pair ids do not name one row of the source each.
    """
    parts = []
    for m, table in tables.rows.items():
        numbers = table.x if table.x.dtype == torch.int64 and table.x.ndim == 1 else _numbers(source, m, table.pair)
        frame = source.info[m].iloc[numbers.tolist()]
        names = [*tables.classes, ""]
        part = {"row": [f"{m}:{i}" for i in numbers.tolist()], "item": table.pair.tolist(), "modality": m,
                "class": [names[y] for y in table.y.tolist()]}  # fmt: skip
        taken = {c: frame[c].to_numpy() for c in dict.fromkeys([*columns, *([item] if item else [])]) if c in frame}
        parts.append(pd.DataFrame(part | taken, index=range(len(table))))
    points = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=NEEDED)
    if item:
        points["item"] = pd.factorize(points[item])[0]
        points = points if item in columns else points.drop(columns=item)
    points = points.assign(**{k: list(v) for k, v in (more or {}).items()})
    sizes = {m: len(t) for m, t in tables.rows.items()}
    own_spaces, own_maps = ({k: _placed(v, sizes) for k, v in given.items()} for given in (spaces, maps))
    return Collection(points, own_spaces, own_maps, about or {}, {m: _opener(source.open[m]) for m in sizes})


def _numbers(source: Source, modality: str, pair: Tensor) -> Tensor:
    """Row numbers of the rows with these pair ids."""
    own = source.tables[modality]
    order = torch.argsort(own.pair)
    place = torch.searchsorted(own.pair[order], pair).clamp(max=max(len(order) - 1, 0))
    if not len(order) or (own.pair[order][place] != pair).any() or len(own.pair.unique()) < len(own):
        raise ValueError(f"{modality}: the pair ids do not name one row of {source.name!r} each; give row numbers as x")
    return own.x[order][place]


def _placed(given: Placed, sizes: Mapping[str, int]) -> np.ndarray:
    if not isinstance(given, Mapping):
        return np.asarray(given, np.float32)
    width = next(iter(given.values())).shape[1]
    return np.concatenate([np.asarray(given[m], np.float32) if m in given else np.full((n, width), np.nan, np.float32)
                           for m, n in sizes.items()])  # fmt: skip


def _opener(open_row: Callable[[int], Any]) -> Callable[[int], Any]:
    """The opener of a source, with sounds as (samples, rate) and the middle one of several pictures."""

    def opened(number: int) -> Any:
        x = open_row(number)
        if isinstance(x, list | tuple) and x and isinstance(x[0], Image.Image):
            return x[len(x) // 2]
        if isinstance(x, Tensor | np.ndarray):
            return (np.asarray(x, np.float32), RATE) if x.ndim == 1 else None
        return x if isinstance(x, Image.Image | str) else None

    return opened
