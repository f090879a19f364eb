"""A column of a frame as colours that everybody can tell apart, with their legend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb

from xmodal_lib.views.plots import COLOURS, GREY

RAMP = [to_hex(c) for c in colormaps["cividis"](np.linspace(0.04, 0.98, 64))]
MANY = 12  # different numbers, from which on a column of numbers is a ramp
YES, NO = "yes", "no"
NONE = "no value"


@dataclass(frozen=True, eq=False)
class Colouring:
    """Point i has `colours[names[codes[i]]]`; on a ramp codes are floats in 0..1 from `low` to `high`."""

    codes: np.ndarray  # (n,) int64, or float64 on a ramp
    colours: dict[str, str]  # name -> colour, in order of the codes; RAMP for numbers
    low: float = 0.0
    high: float = 0.0

    @property
    def ramp(self) -> bool:
        return np.issubdtype(self.codes.dtype, np.floating)

    def counts(self, shown: np.ndarray) -> dict[str, int]:
        """How many of the points of a mask (n,) have each name."""
        count = np.bincount(self.codes[shown], minlength=len(self.colours))
        return dict(zip(self.colours, count.tolist(), strict=True))

    def of(self, point: int) -> str:
        if self.ramp:
            return RAMP[int(self.codes[point] * (len(RAMP) - 1))]
        return list(self.colours.values())[int(self.codes[point])]


def colouring(values: pd.Series) -> Colouring:
    """Numbers get a ramp (points without one its low end), yes and no blue and vermilion, all else a colour a name."""
    if pd.api.types.is_bool_dtype(values) or set(values.dropna().unique()) <= {True, False}:
        values = values.map({True: YES, False: NO})
        fixed = {YES: COLOURS[0], NO: COLOURS[1]}
    elif pd.api.types.is_numeric_dtype(values) and values.nunique() > MANY:
        numbers = values.to_numpy(float)
        low, high = float(np.nanmin(numbers)), float(np.nanmax(numbers))
        return Colouring(np.nan_to_num((numbers - low) / (high - low)), {c: c for c in RAMP}, low, high)
    else:
        fixed = {}
    missing = values.isna().to_numpy()
    names = values.astype(str).where(~missing, NONE).to_numpy()
    present = sorted(pd.unique(names[~missing]), key=lambda name: (len(name), name) if name.isdigit() else (99, name))
    colours = {n: fixed.get(n, c) for n, c in zip(present, palette(len(present)), strict=True)}
    if missing.any():
        colours[NONE] = GREY
    return Colouring(pd.Index(list(colours)).get_indexer(names).astype(np.int64), colours)


def palette(n: int) -> list[str]:
    """n colours: Okabe and Ito's, then the same lighter, then darker; from 21 on they come again."""
    light = [_mixed(c, "#ffffff", 0.5) for c in COLOURS]
    dark = [_mixed(c, "#000000", 0.45) for c in COLOURS[:-1]]
    tiers = [*COLOURS, *light, *dark]
    return [tiers[i % len(tiers)] for i in range(n)]


def _mixed(colour: str, other: str, share: float) -> str:
    r, g, b = (1 - share) * np.array(to_rgb(colour)) + share * np.array(to_rgb(other))
    return to_hex((float(r), float(g), float(b)))
