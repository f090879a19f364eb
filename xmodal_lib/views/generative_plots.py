"""DataFrame -> figure, for a generator of features from concept and disturbance: the style and the rules of `plots`.

losses(history)                     # of GTL.history_: what each part of the loss does over epochs
two_by_two(frame)                   # maps of concept and of disturbance, by modality and by class
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from xmodal_lib.views.multimodal_plots import _check_columns
from xmodal_lib.views.plots import COLOURS, MARKERS, WIDE, Picture, _wrapped, styled

PARTS = {"reconstruction": "nats a row", "kl concept": "nats a row", "kl disturbance": "nats a row",
         "cross-entropy": "nats a row"}  # fmt: skip


@styled
def losses(history: Mapping[str, pd.DataFrame]) -> Picture:
    """The parts of the loss against epochs, a panel a part and a line a method: {method: its `history_`}.

    Raises:
        ValueError: a column is missing, or there is no line.
    """
    for frame in history.values():
        _check_columns(frame, ["epoch", *PARTS])
    figure = Picture(figsize=(WIDE, 2.0), layout="constrained")
    for axes, (part, unit) in zip(figure.subplots(1, len(PARTS)), PARTS.items(), strict=True):
        for k, (name, frame) in enumerate(history.items()):
            style = {"color": COLOURS[k], "marker": MARKERS[k], "ms": 3, "markevery": max(1, len(frame) // 6)}
            axes.plot(frame["epoch"], frame[part], label=name if part == "reconstruction" else None, **style)
        axes.set(title=part, xlabel="epoch", ylabel=unit if part == "reconstruction" else "")
        axes.grid(axis="y", color="#EEEEEE", lw=0.6)
    figure.legend(loc="outside lower center", ncols=len(history))
    return figure


@styled
def two_by_two(frame: pd.DataFrame, notes: Mapping[str, str] | None = None) -> Picture:
    """Maps of several latents: a line a latent, coloured by modality on the left and by class on the right.

    Columns latent, x, y, modality, class; at most 12 classes can be told apart. `notes` {latent: what to say below}.

    Raises:
        ValueError: a column is missing, or there is no line.
    """
    _check_columns(frame, ["latent", "x", "y", "modality", "class"])
    latents = list(frame["latent"].unique())
    figure = Picture(figsize=(WIDE, 3.1 * len(latents) + 0.5), layout="constrained")
    grid = figure.subplots(len(latents), 2, squeeze=False)
    for line, latent in zip(grid, latents, strict=True):
        own = frame[frame["latent"] == latent]
        for axes, column in zip(line, ("modality", "class"), strict=True):
            for k, name in enumerate(frame[column].unique()):
                part = own[own[column] == name]
                look = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)]}
                axes.scatter(part["x"], part["y"], s=8, lw=0, alpha=0.7, rasterized=True, **look)
            axes.set(xticks=[], yticks=[], title=f"{latent}, by {column}")
            axes.spines[:].set_visible(False)
        if notes:
            line[0].set_xlabel(_wrapped(notes[latent], 62), fontsize=6)
    places: tuple[Any, ...] = ("outside upper center", "outside lower center")
    for column, loc in zip(("modality", "class"), places, strict=True):
        names = list(frame[column].unique())
        handles = [Line2D([], [], ls="", marker=MARKERS[k % len(MARKERS)], color=COLOURS[k % len(COLOURS)], label=name)
                   for k, name in enumerate(names)]  # fmt: skip
        figure.legend(handles=handles, loc=loc, ncols=min(len(names), 4))
    return figure
