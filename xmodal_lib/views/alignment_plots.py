"""DataFrame -> figure, for learning a modality through another one: the style and the rules of `plots`.

shot_bars(frame, chance=20)         # of alignment_rows.score(): every row, a panel a number of shots
iterations_curve(curve)             # accuracy on tasks of val while meta-training goes on
share_curves(frame, chance=20)      # accuracy against shares of pairs, wrong pairs, wrong labels
retrieved(texts, found, right)      # what comes first for each text: pictures, or spectrograms of sounds
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator
from PIL import Image

from xmodal_lib.evaluate import summary
from xmodal_lib.views.multimodal_plots import _check_columns, _curves, _legend, _percent
from xmodal_lib.views.plots import COLOURS, GREY, WIDE, Picture, _shots, _title, _wrapped, styled, styles

READS = ("nothing", "rows", "sets", "pairs", "labels")  # of the target, in meta-training
LOOKS: dict[str, dict[str, Any]] = {
    "nothing": {"color": "#777777", "marker": "X"},
    "rows": {"color": COLOURS[4], "marker": "^"},
    "sets": {"color": COLOURS[2], "marker": "v"},
    "pairs": {"color": COLOURS[0], "marker": "o"},
    "labels": {"color": COLOURS[1], "marker": "s"},
}


@styled
def shot_bars(
    frame: pd.DataFrame, reads: Mapping[str, str] | None = None, *, chance: float | None = None, title: str = ""
) -> Picture:
    """Accuracy (per cent) of every method with 95 % intervals over draws: a line a method, a panel a number of shots.

    Columns method, shot, metric, seed, value. `reads` says of a method what of the target its meta-training read (one
    of READS), which gives colour and marker. Intervals are cut at 0 and 100; `chance` is in per cent.

    Raises:
        ValueError: a column is missing, or there is no line.
    """
    _check_columns(frame, ["method", "shot", "metric", "seed", "value"])
    means = _percent(summary(frame[frame["metric"] == "accuracy"], ["method", "shot"]))
    names, shots = list(means["method"].unique()), sorted(means["shot"].unique())
    kind = {name: (reads or {}).get(name, "nothing" if reads else "pairs") for name in names}
    figure = Picture(figsize=(WIDE, 0.95 + 0.2 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(shots), sharex=True, sharey=True, squeeze=False)[0]
    for axes, shot in zip(panels, shots, strict=True):
        for row in range(0, len(names), 2):
            axes.axhspan(row - 0.5, row + 0.5, color="#F4F4F4", lw=0, zorder=0)
        for _, line in means[means["shot"] == shot].iterrows():
            y, look = names.index(line["method"]), LOOKS[kind[line["method"]]]
            axes.plot([line["low"], line["high"]], [y, y], color=look["color"], lw=1)
            axes.plot(line["mean"], y, ls="", ms=4, **look)
            at: Any = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
            axes.annotate(f"{line['mean']:.0f}", (1, y), (3, 0), va="center", size=6, annotation_clip=False, **at)
        if chance is not None:
            axes.axvline(chance, color="#777777", lw=0.6, ls=(0, (1, 3)))
        axes.set_title(_shots(shot))
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#E2E2E2", lw=0.6)
        axes.set_axisbelow(True)
    panels[0].set_yticks(range(len(names)), [_wrapped(name, 30) for name in names])
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    label = "accuracy (%)" if chance is None else f"accuracy (%; chance {chance:.1f})"
    figure.supxlabel(f"{label}, 95 % interval over draws", size=7)
    if reads:
        there = [name for name in READS if name in kind.values()]
        handles = [Line2D([], [], ms=4, lw=1, label=f"reads {name}", **LOOKS[name]) for name in there]
        _legend(figure, handles, title or "What meta-training reads of the target")
    else:
        _title(figure, title)
    return figure


@styled
def iterations_curve(curve: pd.DataFrame, *, chance: float | None = None, title: str = "") -> Picture:
    """Accuracy on tasks of val (per cent) while meta-training goes on: columns method, iteration, accuracy.

    Up to five methods share a panel, more get one each.

    Raises:
        ValueError: a column is missing, or there is no line.
    """
    _check_columns(curve, ["method", "iteration", "accuracy"])
    mean = 100 * curve["accuracy"]
    points = curve.assign(x=curve["iteration"], mean=mean, low=np.nan, high=np.nan)
    return _curves(points, list(curve["method"].unique()), "meta-iteration", "accuracy on val tasks", chance, title)


@styled
def share_curves(frame: pd.DataFrame, *, chance: float | None = None, title: str = "") -> Picture:
    """Accuracy (per cent) against a share (per cent), with 95 % intervals over draws: a panel a value of `sweep`.

    Columns sweep, share, method, seed, value. A sweep whose shares lie far apart (20 times and more, none 0) has a log
    axis. A method looks the same in every panel.

    Raises:
        ValueError: a column is missing, or there is no line.
    """
    _check_columns(frame, ["sweep", "share", "method", "seed", "value"])
    means = _percent(summary(frame, ["sweep", "method", "share"]))
    sweeps, names = list(frame["sweep"].unique()), list(frame["method"].unique())
    look = styles(names)
    figure = Picture(figsize=(WIDE, 2.5), layout="constrained")
    panels = figure.subplots(1, len(sweeps), sharey=True, squeeze=False)[0]
    for axes, sweep in zip(panels, sweeps, strict=True):
        part = means[means["sweep"] == sweep]
        for name, line in part.groupby("method", sort=False):
            line = line.sort_values("share")
            error = np.nan_to_num(np.stack([line["mean"] - line["low"], line["high"] - line["mean"]]))
            style = {**look[str(name)], "ms": 3.5}
            axes.errorbar(100 * line["share"], line["mean"], error, elinewidth=0.8, capsize=1.5, **style)
        low, high = part["share"].min(), part["share"].max()
        if low > 0 and high / low >= 20:
            axes.set_xscale("log")
            axes.set_xticks([t for t in (1, 2, 5, 10, 20, 50, 100) if 90 * low <= t <= 110 * high])
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
        if chance is not None:
            axes.axhline(chance, color="#777777", lw=0.6, ls=(0, (1, 3)))
        axes.set_xlabel(f"{sweep} (%)")
        axes.grid(axis="y", color="#EEEEEE", lw=0.6)
        axes.set_axisbelow(True)
    panels[0].set_ylabel("accuracy (%)" if chance is None else f"accuracy (%; chance {chance:.1f})")
    _legend(figure, [Line2D([], [], ms=4, label=name, **look[name]) for name in names], title)
    return figure


@styled
def retrieved(
    queries: Sequence[str], found: Sequence[Sequence[Any]], right: Sequence[Sequence[bool]], *, title: str = ""
) -> Picture:
    """What comes first for each query, the nearest at the left: a line a query, "yes" below what is of its class.

    `found` holds a line a query of pictures, or of spectrograms (bands, frames). A thick frame marks a hit, besides.

    Raises:
        ValueError: the three differ in length, or there is no query.
    """
    if not len(queries) == len(found) == len(right) or not queries:
        raise ValueError(f"{len(queries)} queries, {len(found)} lines of what was found and {len(right)} of which are "
                         "right; give as many of each, at least one")  # fmt: skip
    columns = max(len(line) for line in found)
    figure = Picture(figsize=(WIDE, 0.25 * bool(title) + 0.85 * len(queries)), layout="constrained")
    grid = figure.subplots(len(queries), columns + 1, squeeze=False, width_ratios=[1.6] + [1] * columns)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for line, query, shown, hits in zip(grid, queries, found, right, strict=True):
        line[0].text(0, 0.5, _wrapped(query, 24, max_lines=3, placeholder=" …"), va="center", size=6.5)
        for axes, thing, hit in zip(line[1:], shown, hits, strict=False):
            if isinstance(thing, Image.Image):
                axes.imshow(np.asarray(thing.convert("RGB")))
            else:
                axes.imshow(np.asarray(thing), aspect="auto", origin="lower", cmap="magma")
            axes.spines[:].set(visible=True, color=COLOURS[0] if hit else GREY, linewidth=2.2 if hit else 0.6)
            axes.set_xlabel("yes" if hit else "no", size=6, color=COLOURS[0] if hit else "#777777", labelpad=2)
    _title(figure, title)
    return figure
