"""Figures of generative transfer: whole, readable, and of what they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.views.looks import check_readable, check_whole
from xmodal_lib.views import generative_plots as plots


def history(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"epoch": range(1, 13), **{part: 500 + rng.random(12).cumsum() for part in plots.PARTS}})


def placed(classes: int = 9) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame([{"latent": latent, "x": rng.normal(), "y": rng.normal(), "modality": m, "class": f"class {c}"}
                         for latent in ("concept", "disturbance") for m in ("image", "ink") for c in range(classes)
                         for _ in range(4)])  # fmt: skip


NOTES = dict.fromkeys(("concept", "disturbance"), "a sentence on how far this map can be trusted, of some length " * 3)
FIGURES = {
    "losses": lambda: plots.losses({"GTL": history(0), "plain VAE": history(1)}),
    "maps": lambda: plots.two_by_two(placed(), NOTES),
    "maps of many": lambda: plots.two_by_two(placed(12)),
}


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off_and_no_text_covers_another(name: str) -> None:
    check_whole(FIGURES[name]())
    check_readable(FIGURES[name](), rows=False)


def test_every_row_is_drawn_by_modality_and_by_class() -> None:
    axes = plots.two_by_two(placed()).axes
    assert [a.get_title() for a in axes][:2] == ["concept, by modality", "concept, by class"]
    assert [len(a.collections) for a in axes] == [2, 9, 2, 9]
    assert all(sum(len(c.get_offsets()) for c in a.collections) == 72 for a in axes)


def test_a_column_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="latent"):
        plots.two_by_two(placed().drop(columns="latent"))
