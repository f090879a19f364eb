"""Few-shot tasks over drawings in colour and in one ink: who is learnt from, who is asked."""

from __future__ import annotations

import pytest
import torch

from xmodal_lib.sources.emoji import base_novel
from xmodal_lib.visual_tasks import FOUR, INK, LEVELS, TWO, VisualTask, drawings, heard_rows


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
        for m in TWO:
            assert episode.support[m].y.bincount().tolist() == [2, 2, 2]
        assert not torch.isin(episode.query.items(), episode.support.items()).any()
    first, again = (task.episodes("val", shot=1, seed=5)[0] for _ in range(2))
    assert torch.equal(first.support.items(), again.support.items())
    assert not torch.equal(first.support.items(), task.episodes("val", shot=1, seed=6)[0].support.items())


def test_edges_are_a_third_modality_of_the_same_families_or_hands(task: VisualTask) -> None:
    level = task.source.name.removeprefix("emoji-")
    three = drawings(3, level=level, pixels=16, modalities=(*TWO, "edges"))  # type: ignore[arg-type]
    info, column = three.source.info["edges"], "family" if level == "category" else "drawing_family"
    for part in ("novel support", "novel query"):
        for m in TWO:  # the two others are as without
            assert torch.equal(three.rows[part][m].x, task.rows[part][m].x)
        edges, image = three.rows[part]["edges"], three.rows[part]["image"]
        whole = task.source.info["image"].loc[image.x.numpy(), column]
        assert set(info.loc[edges.x.numpy(), column]) == set(whole) and len(edges) == len(image)
        assert not torch.isin(edges.pair, image.pair).any()


def test_what_is_heard_and_read_is_of_families_that_the_bridge_has_not_seen() -> None:
    source, rows = heard_rows(2)
    unseen = base_novel(source, 0).novel
    assert set(rows["base"].rows) == {"image"} and set(rows["novel query"].rows) == set(FOUR)
    for part in ("val", "novel"):
        families = []
        for role in ("support", "query"):
            tables = rows[f"{part} {role}"]
            families.append(set())
            for m, table in tables.rows.items():
                info = source.info[m].loc[table.x.numpy()]
                families[-1] |= set(info["family"])
                assert [tables.classes[y] for y in table.y.tolist()] == info["category"].tolist()
                assert m != "text" or not info["category_word"].any()
            ids = torch.cat([table.pair for table in tables.rows.values()])
            assert len(ids.unique()) == len(ids)
        assert not families[0] & families[1] and families[0] | families[1] <= unseen
    with pytest.raises(ValueError, match="image is needed"):
        heard_rows(1, modalities=("text",))


def test_too_many_shots_and_no_such_level(task: VisualTask) -> None:
    with pytest.raises(ValueError, match="1000 are needed"):
        task.episodes("novel", shot=1000, seed=0)
    with pytest.raises(ValueError, match="there are category, concept"):
        drawings(1, level="family")  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4, 14))  # among them draws where computers or plants fell short
def test_every_class_that_is_heard_has_enough_to_learn_from(seed: int) -> None:
    rows = heard_rows(seed)[1]
    for part in ("val", "novel"):
        support, query = rows[f"{part} support"], rows[f"{part} query"]
        for m in FOUR:
            assert support[m].y.bincount(minlength=len(support.classes)).min() >= 5
            assert query[m].y.unique().tolist() == list(range(len(support.classes)))
