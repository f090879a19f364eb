"""What a figure must look like, whatever it shows."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from xmodal_lib.views.plots import NARROW, WIDE


def check_whole(figure: Figure) -> None:
    """As wide as a column, not blank, and nothing runs over its edge."""
    assert figure.get_figwidth() in (NARROW, 4.5, WIDE) and figure.get_figheight() < 9
    shown = np.asarray(Image.open(io.BytesIO(figure._repr_png_())).convert("L"))
    assert shown.min() < 100  # not blank
    edge = np.concatenate([shown[0], shown[-1], shown[:, 0], shown[:, -1]])
    assert edge.min() > 200  # no ink there


def check_readable(figure: Figure, *, rows: bool) -> None:
    """No text covers another; with `rows`, nor do the labels of the rows."""
    figure.draw_without_rendering()  # lays it out
    texts = [t for axes in figure.axes for t in (*axes.texts, axes.title, axes.xaxis.label)]
    texts += [*figure.texts, *(t for legend in figure.legends for t in (*legend.get_texts(), legend.get_title()))]
    texts += figure.axes[0].get_yticklabels() if rows else []
    texts = [text for text in texts if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    found = [(texts[i].get_text(), texts[j].get_text()) for i, a in enumerate(boxes) for j, b in enumerate(boxes)
             if i < j and a.overlaps(b)]  # fmt: skip
    assert not found
