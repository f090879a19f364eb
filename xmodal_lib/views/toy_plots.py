"""The figure of the linear toy, in the style of `plots`."""

from __future__ import annotations

import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from xmodal_lib.linear_toy import FIRST, GRIDS, SECOND
from xmodal_lib.views.plots import WIDE, Picture, styled, styles

LABELS = {"pairs": "pairs to align with", "pair_noise": "noise of the pairs, $\\sigma_W$"}


@styled
def toy_curves(frame: pd.DataFrame, title: str = "") -> Picture:
    """Excess risk of both estimators, from the frame of `linear_toy.compare`.

    Markers are what was measured, with 95 % intervals; full lines the exact formula, dotted ones the paper's rule.

    Raises:
        ValueError: the frame has neither column of GRIDS.
    """
    over = next((name for name in GRIDS if name in frame), None)
    if over is None:
        raise ValueError(f"the frame has no column {' or '.join(GRIDS)}; give what linear_toy.compare() returns")
    figure = Picture(figsize=(WIDE, 2.5), layout="constrained")
    axes, looks = figure.subplots(), styles([FIRST, SECOND])
    handles = []
    for name, look in looks.items():
        line = frame[frame["estimator"] == name].sort_values(over)
        colour, x = look["color"], line[over]
        axes.plot(x, line["exact"], color=colour)
        axes.plot(x, line["rule"], color=colour, ls=(0, (1, 1.5)))
        about = [line["measured"] - line["low"], line["high"] - line["measured"]]
        axes.errorbar(x, line["measured"], about, color=colour, marker=look["marker"], ls="", elinewidth=1)
        handles.append(Line2D([], [], color=colour, marker=look["marker"], ls="", label=name))
    handles += [Line2D([], [], color="#444444", label=said, ls=dash)
                for said, dash in (("exact formula", "-"), ("the paper's rule", (0, (1, 1.5))))]  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel=LABELS[over], ylabel="excess risk")
    axes.xaxis.set_major_locator(FixedLocator(sorted(frame[over].unique())))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(FixedLocator([0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100]))
    axes.yaxis.set_minor_locator(NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="y", color="#E2E2E2", lw=0.6)
    axes.set_axisbelow(True)
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5))
    if title:
        axes.set_title(title, loc="left")
    return figure
