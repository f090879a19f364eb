"""Figures of the leaderboard: what every method is ahead of a reference, and what accuracy costs; a panel a task.

shown(board(frame), summary(frame, by=["method", "shot"]))     # of one task
standings(gains(frame, "nearest mean"))
costs(board(frame))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from xmodal_lib.evaluate import per_cent
from xmodal_lib.views.notebook import percent
from xmodal_lib.views.plots import COLOURS, GREY, WIDE, Picture, styled

LINE = 0.125  # inches a method
CHEAPEST = 0.001  # seconds, at the left edge


def shown(table: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """`leaderboard.board` of one task as a reader wants it, its lines in order: accuracy by number of shots (`scores`:
    `summary` by method and shot), what it is behind the best, and what it costs."""
    table = table.set_index("method")
    lines = table[["reference", "mean", "low", "high"]].itertuples()
    behind = [per_cent(*gain, signed=True) if own != best else "" for own, best, *gain in lines]
    columns = {f"shots: {shot:g}": part for shot, part in percent(scores, "method", "shot").items()}
    columns |= {"to the best": pd.Series(behind, table.index), "p (Holm)": table["holm"].map(_probability),
                "told apart": table["with_best"].map({True: "", False: "yes"}),
                "fit, s": table["fit seconds"].map("{:.2f}".format),
                "first stage, s": table["base seconds"].map("{:.2f}".format),
                "numbers held": table["numbers"].map("{:,.0f}".format)}  # fmt: skip
    return pd.DataFrame(columns).loc[table.index]


@styled
def standings(table: pd.DataFrame, *, sure: float = 0.05) -> Picture:
    """Differences to the reference in points with 95 % intervals, best first, from `leaderboard.gains`.

    Filled: the p value after Holm's correction is below `sure`; open: it is not. The axis of a panel reaches to its
    means and ends there; a longer interval is cut.
    """
    tasks = [(task, own.reset_index(drop=True)) for task, own in table.groupby("task", sort=False)]
    columns = min(2, len(tasks))
    heights = _heights([len(own) for _, own in tasks], columns)
    figure = Picture(figsize=(WIDE, 0.4 + sum(0.45 + LINE * n for n in heights)), layout="constrained")
    grid = figure.subplots(len(heights), columns, squeeze=False, height_ratios=[n + 3 for n in heights])
    for k, (axes, (task, own)) in enumerate(zip(grid.flat, tasks, strict=False)):
        for y, line in own.iterrows():
            mean, low, high = (100 * line[k] for k in ("mean", "low", "high"))
            colour = COLOURS[0] if mean >= 0 else COLOURS[1]
            if line["method"] != line["reference"]:
                axes.plot([low, high], [y, y], color=colour, lw=1)
            face = colour if line["holm"] < sure else "white"
            axes.plot(mean, y, "o" if mean >= 0 else "s", color=colour, mfc=face, ms=3.5)
        axes.axvline(0, color="black", lw=0.6, zorder=0)
        axes.set_yticks(range(len(own)), own["method"])
        axes.set_ylim(heights[k // columns] - 0.4, -0.6)  # a line is as high in both panels
        reach = max(5.0, 160 * own["mean"].abs().max())
        axes.set(xlim=(-reach, reach), title=f"{task} ({_draws(own['n'].max())})")
        _lined(axes, "y")
    for axes in grid.flat[len(tasks) :]:
        axes.remove()
    reference = " or ".join(dict.fromkeys(table["reference"]))
    figure.supxlabel(f"difference to {reference} within each draw (points), 95 % interval", size=7)
    return figure


@styled
def costs(table: pd.DataFrame) -> Picture:
    """Accuracy against CPU seconds of first stage and fit (log axis), from `leaderboard.board`.

    Named and coloured: those that are a point better than every cheaper one. Grey: the others.
    """
    tasks = list(table.groupby("task", sort=False))
    columns = min(2, len(tasks))
    figure = Picture(figsize=(WIDE, 0.3 + 2.2 * math.ceil(len(tasks) / columns)), layout="constrained")
    grid = figure.subplots(math.ceil(len(tasks) / columns), columns, squeeze=False, sharex=True)
    for axes, (task, own) in zip(grid.flat, tasks, strict=False):
        x = (own["fit seconds"] + own["base seconds"]).clip(lower=CHEAPEST)
        axes.plot(x, 100 * own["accuracy"], "o", color=GREY, ms=3)
        worth = frontier(own.assign(seconds=x))
        axes.plot(worth["seconds"], 100 * worth["accuracy"], "o-", color=COLOURS[0], ms=4, lw=0.8)
        for _, line in worth.iterrows():
            at = line["seconds"], 100 * line["accuracy"]
            axes.annotate(line["method"], at, (5, 3), textcoords="offset points", size=6)
        axes.set(xscale="log", title=task, ylabel="accuracy (%)")
        axes.margins(x=0.12, y=0.12)
        axes.tick_params(labelbottom=True)
        _lined(axes, "both")
    for axes in grid.flat[len(tasks) :]:
        axes.remove()
    figure.supxlabel(f"CPU seconds of first stage and fit ({CHEAPEST} and less at the left edge)", size=7)
    return figure


def frontier(table: pd.DataFrame, margin: float = 0.01) -> pd.DataFrame:
    """The lines, by cost (column `seconds`), whose accuracy is more than `margin` above that of every cheaper one of
    them."""
    kept: list[Any] = []
    best = -math.inf
    for i, line in table.sort_values(["seconds", "accuracy"], ascending=[True, False], kind="stable").iterrows():
        if line["accuracy"] > best + margin:
            kept, best = [*kept, i], line["accuracy"]
    return table.loc[kept]


def _heights(lines: Sequence[int], columns: int) -> list[int]:
    """Lines of the longest panel in each row of the grid."""
    return [max(lines[i : i + columns]) for i in range(0, len(lines), columns)]


def _draws(n: int) -> str:
    return f"{n} draw" if n == 1 else f"{n} draws"


def _lined(axes: Axes, axis: str) -> None:
    axes.grid(axis=axis, color="#EEEEEE", lw=0.6)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)


def _probability(p: float) -> str:
    return "" if p != p else "< 0.001" if p < 0.001 else f"{p:.3f}"
