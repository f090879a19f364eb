"""Few-shot tasks over drawings in colour and in one ink: who is learnt from, who is asked."""

from __future__ import annotations

import pytest
import torch

from xmodal_lib.visual_tasks import INK, LEVELS, VisualTask, drawings


@pytest.fixture(scope="module", params=LEVELS)
def task(request: pytest.FixtureRequest) -> VisualTask:
    return drawings(3, level=request.param, pixels=16)


def test_classes_of_base_val_and_novel_are_disjoint(task: VisualTask) -> None:
    names = [set(task.rows[part].classes) for part in ("base", "val support", "novel support")]
    assert not names[0] & names[1] and not names[0] & names[2] and not names[1] & names[2]
    assert task.rows["novel support"].classes == task.rows["novel query"].classes


def test_the_base_is_in_colour_and_novel_rows_are_of_the_ink_they_say(task: VisualTask) -> None:
    assert task.base.modalities == ("image",)
    info = task.source.info["image"]
    for part, tables in task.rows.items():
        for m, table in tables.rows.items():
            assert set(info.loc[table.x.numpy(), "ink"]) <= set(INK[m]), (part, m)
            label = "category" if task.source.name == "emoji-category" else "name"
            assert [tables.classes[y] for y in table.y.tolist()] == info.loc[table.x.numpy(), label].tolist()


def test_what_is_asked_is_not_what_was_learnt_from(task: VisualTask) -> None:
    info = task.source.info["image"]
    for role in ("val", "novel"):
        parts = [task.rows[f"{role} {part}"] for part in ("support", "query")]
        seen = [info.loc[torch.cat([t.x for t in tables.rows.values()]).numpy()] for tables in parts]
        if task.source.name == "emoji-category":
            assert not set(seen[0]["family"]) & set(seen[1]["family"])
        else:
            assert not set(seen[0]["drawing_family"]) & set(seen[1]["drawing_family"])


def test_an_episode_has_so_many_rows_a_class_and_modality(task: VisualTask) -> None:
    for episode in task.episodes("novel", shot=2, seed=5, number=2, way=3):
        assert len(episode.support.classes) == 3
        for m in INK:
            assert episode.support[m].y.bincount().tolist() == [2, 2, 2]
        assert not torch.isin(episode.query.items(), episode.support.items()).any()
    first, again = (task.episodes("val", shot=1, seed=5)[0] for _ in range(2))
    assert torch.equal(first.support.items(), again.support.items())
    assert not torch.equal(first.support.items(), task.episodes("val", shot=1, seed=6)[0].support.items())


def test_too_many_shots_and_no_such_level(task: VisualTask) -> None:
    with pytest.raises(ValueError, match="1000 are needed"):
        task.episodes("novel", shot=1000, seed=0)
    with pytest.raises(ValueError, match="there are category, concept"):
        drawings(1, level="family")  # type: ignore[arg-type]
