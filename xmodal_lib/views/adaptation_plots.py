"""Two classes in a plane, and the decision lines that a few labelled rows leave possible."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from xmodal_lib.views.plots import COLOURS, WIDE, Picture, _wrapped, styled

TITLES = {"image": "one drawing of each class", "image + text": "one drawing of each class, and its prompt"}


@styled
def underspecified(points: pd.DataFrame, lines: pd.DataFrame, *, notes: dict[str, str] | None = None) -> Picture:
    """The lines of `adaptation_rows.one_shot_lines`, a panel for each kind of rows; the first draw is drawn bold.

    Pale dots are drawings that are asked, large marks the rows that the bold line was fitted to: filled circles the
    two shots, stars the prompts. `notes` {kind of rows: text} stand below the panels.
    """
    kinds, names = list(lines["rows"].unique()), list(dict.fromkeys(points["class"]))
    colour = dict(zip(names, COLOURS, strict=False))
    asked = points[points["kind"] == "drawing"]
    middle = asked[["x", "y"]].mean().to_numpy()
    half = 1.15 * float(np.abs(points[["x", "y"]].to_numpy() - middle).max())
    figure = Picture(figsize=(WIDE, 3.6), layout="constrained")
    grid = figure.subplots(1, len(kinds), squeeze=False)[0]
    for axes, kind in zip(grid, kinds, strict=True):
        axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
        axes.scatter(asked["x"], asked["y"], c=asked["class"].map(colour), s=7, alpha=0.35, lw=0)
        own = lines[lines["rows"] == kind]
        first = own["draw"].min()
        for line in own.itertuples():
            n = np.array([line.a, line.b], float)
            foot = middle - n * (n @ middle + float(line.c)) / (n @ n)  # of the line, nearest to the middle
            along = np.array([-n[1], n[0]]) / np.linalg.norm(n)
            ends = np.stack([foot - 9 * half * along, foot + 9 * half * along])
            bold = line.draw == first
            axes.plot(
                *ends.T, color="black", lw=1.6 if bold else 0.5, alpha=1.0 if bold else 0.3, zorder=3 if bold else 2
            )
        shown = [("shot", "o", 42), *([("prompt", "*", 110)] if "text" in kind else [])]
        for what, marker, size in shown:
            rows = points[(points["kind"] == what) & points["draw"].isin([first, -1])]
            axes.scatter(rows["x"], rows["y"], c=rows["class"].map(colour), marker=marker, s=size, ec="black", lw=0.7,
                         zorder=4)  # fmt: skip
        axes.set(xticks=[], yticks=[], aspect="equal", title=TITLES.get(kind, kind))
        axes.set_xlabel(_wrapped((notes or {}).get(kind, ""), 60), size=6.5, color="#444444")
        axes.spines[:].set(visible=True, color="#DDDDDD")
    handles = [Line2D([], [], ls="", marker="o", mfc=colour[name], mec="none", label=name) for name in names]
    handles += [
        Line2D([], [], ls="", marker="o", mfc="#777777", mec="black", label="the drawing learnt from"),
        Line2D([], [], ls="", marker="*", ms=8, mfc="#777777", mec="black", label="prompt"),
        Line2D([], [], color="black", lw=1.6, label="its line"),
        Line2D([], [], color="black", lw=0.5, alpha=0.5, label="lines of other draws"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=6)
    return figure
