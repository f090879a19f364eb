"""The door of labels: `Table`, `Tables`, and the draws of `episodes`."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.law import NAMES, NASTY_TEXTS, door, lawful
from xmodal_lib.episodes import draw, few_shot_indices, split
from xmodal_lib.tables import Table, Tables

NUMBERS = st.one_of(st.integers(-3, 6), st.sampled_from([2**31, 2**63 - 1, -(2**63)]))
REALS = st.one_of(NUMBERS, st.floats(), st.booleans())


@given(st.data())
@door
def test_labels_of_tables(data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 6))

    def numbers() -> object:
        kind = data.draw(st.sampled_from(["int64"] * 6 + ["float", "bool", "list", "none", "2d", "short", "scalar"]))
        some = [data.draw(NUMBERS if kind == "int64" else st.integers(-1, 3)) for _ in range(n)]
        made = torch.tensor(some, dtype=torch.int64)
        other = {"float": made.float(), "bool": made.bool(), "list": some, "none": None, "2d": made[:, None],
                 "short": made[:-1], "scalar": torch.tensor(1)}  # fmt: skip
        return other.get(kind, made)

    names = data.draw(st.lists(NAMES | NASTY_TEXTS, max_size=6).map(tuple) | NAMES)
    with lawful():
        x = torch.zeros(n, 2) if data.draw(st.integers(0, 9)) else numbers()
        tables = Tables({"image": Table(x, numbers(), numbers())}, names)  # type: ignore[arg-type]
        assert isinstance(tables.classes, tuple) and len(set(tables.classes)) == len(tables.classes)
        y = tables["image"].y
        assert ((y >= -1) & (y < len(tables.classes))).all()
        labels = tables.labels()
        assert dict(zip(tables["image"].pair.tolist(), y.tolist(), strict=True)) == dict(
            zip(tables.items().tolist(), labels.tolist(), strict=True)
        )


@given(counts=st.lists(st.integers(0, 4), min_size=1, max_size=4), shot=st.integers(-1, 4), seed=st.integers(),
       way=st.none() | st.integers(-1, 5), query_shot=st.none() | st.integers(-1, 3))  # fmt: skip
@door
def test_draws(counts: list[int], shot: int, way: int | None, seed: int, query_shot: int | None) -> None:
    y = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))

    def pool(first: int) -> Tables:
        rows = Table(y[:, None].float(), y, first + torch.arange(len(y)))
        return Tables({"image": rows}, tuple(f"class {c}" for c in range(len(counts))))

    with lawful():
        episode = draw(pool(0), pool(100), shot=shot, seed=seed, way=way, query_shot=query_shot)
        names = episode.support.classes
        assert torch.bincount(episode.support.labels(), minlength=len(names)).tolist() == [shot] * len(names)
        own = episode.support["image"]
        assert [names[c] for c in own.y.tolist()] == [f"class {int(c)}" for c in own.x[:, 0].tolist()]


@given(labels=st.lists(REALS, max_size=8), shot=st.integers(-2, 4), most=st.integers(-2, 3), seed=st.integers())
@door
def test_published_draws(labels: list, shot: int, most: int, seed: int) -> None:
    with lawful():
        train, val = few_shot_indices(labels, labels, shot=shot, seed=seed, max_val_shot=most)
        assert len(set(train)) == len(train) and {labels[i] for i in train} == set(labels)
        assert all(sum(labels[i] == c for i in train) == min(shot, labels.count(c)) for c in set(labels))
        assert all(sum(labels[i] == c for i in val) <= min(shot, most) for c in set(labels))


@given(
    families=st.lists(st.integers(0, 3), max_size=8), fractions=st.lists(st.floats(), max_size=3) | st.just([0.5, 0.5])
)
@door
def test_splits_of_families(families: list[int], fractions: list[float]) -> None:
    n = max(len(families) - (len(families) == 5), 0)  # five families are one too many
    rows = Table(torch.zeros(n, 1), torch.arange(n) % 2, torch.arange(n))
    with lawful():
        parts = split(Tables({"image": rows}, ("a", "b")), families, fractions, seed=0)
        home: dict[int, int] = {}
        for p, part in enumerate(parts):
            for item in part.items().tolist():
                assert home.setdefault(families[item], p) == p
        assert sum(len(part["image"]) for part in parts) == n
