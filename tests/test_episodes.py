"""Episodes: the published draws, and laws of splitting and drawing."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xmodal_lib.episodes import Episode, draw, few_shot_indices, split
from xmodal_lib.tables import Table, Tables, shared_items

COOP = {"dtd": "DescribableTextures", "eurosat": "EuroSAT"}


@pytest.mark.parametrize("data", COOP)
def test_few_shot_indices_reproduce_the_published_draws(shared, data: str) -> None:
    lists = json.loads((shared / "data/coop" / f"split_zhou_{COOP[data]}.json").read_text())
    files = sorted((shared / "data/coop/indices" / data).glob("shot_*-seed_*.json"))
    assert len(files) == 6
    for file in files:
        shot, seed = (int(part.split("_")[1]) for part in file.stem.split("-"))
        published = json.loads(file.read_text())
        labels = [[row[1] for row in lists[part]] for part in ("train", "val")]
        train, val = few_shot_indices(*labels, shot=shot, seed=seed)
        assert (train, val) == (published["train"]["indices"], published["val"]["indices"])


def pool(per_class: int, classes: int = 3, first: int = 0, family: int = 2) -> tuple[Tables, list[str]]:
    """Rows 0.. of `classes` classes; every `family` neighbours of a class are one family."""
    y = torch.arange(classes).repeat_interleave(per_class)
    pair = torch.arange(first, first + len(y))
    names = [f"{c}/{i // family}" for c in range(classes) for i in range(per_class)]
    return Tables({"image": Table(torch.rand(len(y), 4), y, pair)}, tuple(f"c{c}" for c in range(classes))), names


@given(st.integers(2, 20), st.integers(0, 99), st.sampled_from([(0.5, 0.5), (0.4, 0.2, 0.4), (0.1, 0.9)]))
@settings(deadline=None)
def test_split_deals_whole_families_and_loses_none(per_class: int, seed: int, fractions: tuple[float, ...]) -> None:
    tables, families = pool(per_class)
    parts = split(tables, families, fractions, seed=seed)
    assert sorted(torch.cat([p.items() for p in parts]).tolist()) == tables.items().tolist()
    seen = [{families[i] for i in p.items().tolist()} for p in parts]
    assert all(not a & b for n, a in enumerate(seen) for b in seen[:n])
    again = split(tables, families, fractions, seed=seed)
    assert [p.items().tolist() for p in parts] == [p.items().tolist() for p in again]
    if per_class // 2 >= 2 * len(fractions):
        assert all(len(p.labels().unique()) == 3 for p in parts)


@given(st.integers(1, 4), st.integers(0, 99))
@settings(deadline=None)
def test_draw_gives_k_shots_of_each_class(shot: int, seed: int) -> None:
    (support, _), (val, _), (query, _) = pool(8), pool(6, first=100), pool(5, first=200)
    episode = draw(support, query, val, shot=shot, seed=seed)
    assert Counter(episode.support.labels().tolist()) == dict.fromkeys(range(3), shot)
    assert Counter(episode.val.labels().tolist()) == {c: min(shot, 4) for c in range(3)}
    assert len(episode.query.items()) == 15


def test_draw_spreads_over_groups_first() -> None:
    (support, families), (query, _) = pool(8, family=4), pool(5, first=200)
    spread = dict(enumerate(families))
    for seed in range(20):
        items = draw(support, query, shot=2, seed=seed, spread=spread).support.items().tolist()
        assert len({spread[i] for i in items}) == 6


def test_draw_of_some_classes_keeps_names_in_step() -> None:
    (support, _), (query, _) = pool(8, classes=6), pool(5, classes=6, first=200)
    prompts = Tables({"text": Table(torch.rand(6, 4), torch.arange(6), torch.arange(900, 906))}, support.classes)
    episode = draw(support, query, shot=1, seed=4, way=3, always=prompts)
    assert len(episode.query.classes) == 3
    for name in episode.query.classes:
        c = support.classes.index(name)
        assert episode.support["text"].pair[episode.query.classes.index(name)] == 900 + c


def test_too_few_items_are_one_clear_line() -> None:
    (support, _), (query, _) = pool(3), pool(5, first=200)
    with pytest.raises(ValueError, match="class 'c0' has 3 items in the support pool; 4 are needed"):
        draw(support, query, shot=4, seed=0)
    for shot in (0, -1):
        with pytest.raises(ValueError, match=f"support: {shot} items a class are asked for; at least 1 is needed"):
            draw(support, query, shot=shot, seed=0)
    with pytest.raises(ValueError, match="way=9, but there are 3 classes"):
        draw(support, query, shot=1, seed=0, way=9)
    with pytest.raises(ValueError, match="2 families for 9 items"):
        split(support, ["a", "b"], (0.5, 0.5), seed=0)


def test_an_episode_refuses_shared_items() -> None:
    tables, _ = pool(3)
    with pytest.raises(ValueError, match="item 0 is in query and in support"):
        Episode(tables, None, tables, 0)
    assert shared_items(tables, tables).tolist() == list(range(9))
