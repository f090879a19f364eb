"""Points to look at and the items behind them: what the explorers show, and what a job keeps of it on disk.

found.save("results/60/collection")             # pictures and sounds too, small enough for one page
Collection.load("results/60/collection").opened(0)

`collect` makes one of the rows of a source. Here nothing imports torch: a saved collection is open in a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from xmodal_lib.home import Unusable
from xmodal_lib.views.stored import Stored, write

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
