"""Several maps of the same rows side by side, and the modality gap of several spaces: small multiples, one legend."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from xmodal_lib.views.plots import COLOURS, GREY, MARKERS, WIDE, Picture, _wrapped, gap_panel, styled

COLUMNS = 3  # panels side by side


@styled
def latent_panels(
    maps: Mapping[str, np.ndarray], rows: pd.DataFrame, *, colour: str = "class", shape: str = "modality",
    notes: Mapping[str, str] | None = None,
) -> Picture:  # fmt: skip
    """A panel for each map {name: (n, 2)} of the same rows (n lines), with its note below.

    `colour` and `shape` name columns of `rows`. The seven values with most rows have a colour each, all others are
    grey, and so are values in every panel alike; a point that is not on a map (NaN) is left out.

    Raises:
        ValueError: there is no map, or one of other rows.
    """
    for name, xy in maps.items():
        if np.shape(xy) != (len(rows), 2):
            raise ValueError(f"map {name!r} is of shape {np.shape(xy)}; ({len(rows)}, 2) is needed")
    if not maps:
        raise ValueError("there is no map to draw")
    values = rows[colour].astype(str)
    shown = values.value_counts(sort=True).index[: len(COLOURS)].tolist()
    shown = [value for value in dict.fromkeys(values) if value in shown]
    paint = np.array([COLOURS[shown.index(v)] if v in shown else GREY for v in values])
    kinds = rows[shape].astype(str)
    looks = dict(zip(dict.fromkeys(kinds), MARKERS, strict=False))
    columns = min(COLUMNS, len(maps))
    lines = math.ceil(len(maps) / columns)
    tall, long = (2.45, 38) if columns > 1 else (3.2, 76)
    figure = Picture(figsize=(WIDE * max(columns, 2) / COLUMNS, 0.5 + tall * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    size = float(np.clip(2500 / len(rows), 3, 16))
    front = np.argsort([c != GREY for c in paint], kind="stable")  # grey lies below
    for axes, (name, given) in zip(grid.flat, maps.items(), strict=False):
        xy = np.asarray(given, float)
        for i, (kind, marker) in enumerate(looks.items()):
            own = front[(kinds.to_numpy()[front] == kind) & np.isfinite(xy).all(1)[front]]
            edge = {"edgecolors": "black", "lw": 0.25} if i else {"lw": 0}
            axes.scatter(*xy[own].T, c=paint[own], marker=marker, s=size * (1 + 0.6 * i), alpha=0.8, rasterized=True,
                         **edge)  # fmt: skip
        axes.set(xticks=[], yticks=[], title=_wrapped(name, long))
        axes.set_xlabel(_wrapped((notes or {}).get(name, ""), long), size=6, color="#444444")
        axes.spines[:].set(visible=True, color="#DDDDDD")
        axes.set_aspect("equal", "datalim")
    for axes in grid.flat[len(maps) :]:
        axes.remove()
    handles = []
    if shape != colour:
        edges = ["none", *["black"] * len(looks)]
        handles = [Line2D([], [], ls="", marker=marker, mfc="#777777", mec=edge, mew=0.3, label=kind)
                   for (kind, marker), edge in zip(looks.items(), edges, strict=False)]  # fmt: skip
    for i, value in enumerate(shown):
        marker = looks[value] if shape == colour else "o"
        handles.append(Line2D([], [], ls="", marker=marker, color=COLOURS[i], label=_wrapped(value, 24)))
    if others := values.nunique() - len(shown):
        handles.append(Line2D([], [], ls="", marker="o", color=GREY, label=f"{others} more"))
    figure.legend(
        handles=handles, loc="outside upper center", ncols=min(len(handles), 2 * columns - 1 if columns > 1 else 3)
    )
    return figure


@styled
def gap_panels(frames: Mapping[str, pd.DataFrame]) -> Picture:
    """`plots.gap` of several spaces {name: frame of `projections.along_gap`}, on one scale: gaps can be compared."""
    figure = Picture(figsize=(WIDE * max(len(frames), 2) / COLUMNS, 2.6), layout="constrained")
    grid = figure.subplots(2, len(frames), sharex=True, sharey="row", height_ratios=(1, 2.6), squeeze=False)
    for (top, axes), (name, frame) in zip(grid.T, frames.items(), strict=True):
        gap_panel(top, axes, frame)
        axes.set_xlabel("")
        top.set_title(_wrapped(name, 34))
    grid[1, 0].set_ylabel("across (first component)")
    grid[0, 0].set_ylabel("rows")
    figure.supxlabel("along the line between the two centres, on the unit sphere", size=7)
    figure.legend(*grid[1, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, markerscale=2)
    return figure
