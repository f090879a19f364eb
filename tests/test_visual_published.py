"""The data sets of two visual modalities as few-shot tasks, on small files in their real layouts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.sources.layouts import VISUAL
from xmodal_lib.methods import NearestMean
from xmodal_lib.visual_published import NAMES, VisualTask, published


@pytest.fixture(scope="module", params=VISUAL)
def task(request: pytest.FixtureRequest, written: dict[str, Path]) -> VisualTask:
    if request.param == "nyud-mat":
        pytest.importorskip("h5py")
    return published(request.param.split("-")[0], written[request.param], 1, pixels=16)


def test_every_data_set_has_a_layout() -> None:
    assert {key.split("-")[0] for key in VISUAL} == set(NAMES)


def test_the_base_is_in_colour_and_its_classes_are_nobody_elses(task: VisualTask) -> None:
    assert task.base.modalities == ("image",)
    names = [set(task.rows[part].classes) for part in ("base", "val support", "novel support")]
    assert not names[0] & names[1] and not names[0] & names[2] and not names[1] & names[2]
    split = dict(zip(task.source.info["image"]["label"], task.source.info["image"]["split"], strict=True))
    assert {split[c] for c in names[0] | names[1]} == {"base"} and {split[c] for c in names[2]} == {"novel"}


def test_what_stays_together_is_on_one_side(task: VisualTask) -> None:
    for role in ("val", "novel"):
        sides = []
        for part in ("support", "query"):
            units = set()
            for m, table in task.rows[f"{role} {part}"].rows.items():
                info = task.source.info[m].iloc[table.x.tolist()]
                units |= set(zip(info["label"], info["group"].where(info["group"] != "", info["item"]), strict=True))
            sides.append(units)
        assert not sides[0] & sides[1]


def test_an_episode_can_be_fitted_and_asked(task: VisualTask) -> None:
    (episode,) = task.episodes("novel", shot=1, seed=2, way=2)
    assert [len(t) for t in episode.support.rows.values()] == [2, 2]
    flat = {m: t.__class__(t.x.flatten(1), t.y, t.pair) for m, t in episode.support.rows.items()}
    support = episode.support.__class__(flat, episode.support.classes)
    fitted = NearestMean(modalities=support.modalities).fit(support)
    for m, table in episode.query.rows.items():
        if len(table):
            asked = episode.query.only(m).__class__({m: table.__class__(table.x.flatten(1), table.y, table.pair)},
                                                    episode.query.classes)  # fmt: skip
            assert torch.isfinite(fitted.proba(asked)).all()


def test_no_such_data_set_or_encoder(written: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="there are sketchy, tuberlin"):
        published("cremad", "", 1)
    with pytest.raises(ValueError, match="'efficientnet' and MODEL:WEIGHTS"):
        published("sketchy", written["sketchy-raw"], 1, encoder="ViT-B-16")
