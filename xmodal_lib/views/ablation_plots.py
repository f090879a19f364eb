"""A number against a setting, for several things at once."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from xmodal_lib.views.plots import COLOURS, MARKERS, WIDE, Picture, styled


@styled
def swept(
    frame: pd.DataFrame, x: str, *, panel: str, label: str, log: bool = False, truth: float | None = None
) -> Picture:
    """Lines with 95 % intervals: columns `x`, name (a line), `panel`, mean, low, high (shares, shown in per cent).

    A panel for each value of `panel`, side by side; `truth` is a setting to point at; `log`, to base 2.
    """
    panels, names, places = list(frame[panel].unique()), list(frame["name"].unique()), sorted(frame[x].unique())
    figure = Picture(figsize=(WIDE, 2.3), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    handles: dict[str, Line2D] = {}
    for axes, value in zip(grid, panels, strict=True):
        for k, name in enumerate(names):
            own = frame[(frame[panel] == value) & (frame["name"] == name)].sort_values(x)
            look: Any = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)]}
            if own.empty:
                continue
            (handles[name],) = axes.plot(own[x], 100 * own["mean"], ms=3, lw=1, label=name, **look)
            axes.fill_between(own[x], 100 * own["low"], 100 * own["high"], color=look["color"], alpha=0.12, lw=0)
        if log:
            axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(places))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:g}"))
        if truth is not None:
            axes.axvline(truth, color="#777777", lw=0.6, ls=(0, (1, 3)))
        axes.grid(axis="y", color="#EEEEEE", lw=0.6)
        axes.set(xlabel=x, title=str(value))
    grid[0].set_ylabel(label)
    figure.legend([handles[name] for name in names], names, loc="outside upper center", ncols=min(len(names), 4))
    return figure
