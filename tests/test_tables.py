"""Tables against plain Python, on many small random ones."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xmodal_lib.tables import Table, Tables, check_labelled, class_means, concat, shared_items, usable


@st.composite
def tables(draw: st.DrawFn) -> Tables:
    classes = draw(st.integers(1, 4))
    label = {i: draw(st.integers(0, classes - 1)) for i in range(6)}
    rows = {}
    for modality in ("image", "text", "speech"):
        pair = draw(st.lists(st.integers(0, 5), max_size=7))
        rows[modality] = Table(
            torch.rand(len(pair), 3), torch.tensor([label[p] for p in pair], dtype=torch.int64),
            torch.tensor(pair, dtype=torch.int64),
        )  # fmt: skip
    return Tables(rows, tuple(f"c{c}" for c in range(classes)))


@given(tables())
@settings(deadline=None)
def test_items_are_the_ids_of_all_rows(t: Tables) -> None:
    ids = {p for table in t.rows.values() for p in table.pair.tolist()}
    assert t.items().tolist() == sorted(ids)


@given(tables())
@settings(deadline=None)
def test_places_find_the_item_of_a_row(t: Tables) -> None:
    items, places = t.items().tolist(), t.places()
    assert tuple(places) == t.modalities
    for m, table in t.rows.items():
        assert [items[place] for place in places[m].tolist()] == table.pair.tolist()


@given(tables(), st.lists(st.integers(0, 5), max_size=4))
@settings(deadline=None)
def test_take_keeps_just_the_rows_of_those_items(t: Tables, ids: list[int]) -> None:
    for m, table in t.take(torch.tensor(ids, dtype=torch.int64)).rows.items():
        assert table.pair.tolist() == [p for p in t[m].pair.tolist() if p in ids]


@given(tables())
@settings(deadline=None)
def test_paired_is_the_join_on_the_id(t: Tables) -> None:
    counts = [Counter(table.pair.tolist()) for table in t.rows.values()]
    x, y, pair = t.paired()
    expected = {i: counts[0][i] * counts[1][i] * counts[2][i] for i in range(6)}
    assert Counter(pair.tolist()) == Counter({i: n for i, n in expected.items() if n})
    for m, rows in x.items():
        for row, i in zip(rows, pair.tolist(), strict=True):
            assert any(torch.equal(row, own) for own in t[m].x[t[m].pair == i])
    label = dict(zip(t.items().tolist(), t.labels().tolist(), strict=True))
    assert y.tolist() == [label[i] for i in pair.tolist()]


@given(tables())
@settings(deadline=None)
def test_of_classes_relabels_and_comes_back(t: Tables) -> None:
    back = t.of_classes(t.classes[::-1]).of_classes(t.classes)
    assert all(torch.equal(back[m].y, t[m].y) and torch.equal(back[m].x, t[m].x) for m in t.modalities)


@given(tables())
@settings(deadline=None)
def test_unpaired_rows_are_items_of_their_own(t: Tables) -> None:
    alone = t.unpaired()
    assert len(alone.items()) == sum(len(table) for table in t.rows.values())


def test_union_keeps_ids_and_refuses_other_classes() -> None:
    a = Tables({"image": Table(torch.rand(2, 3), torch.tensor([0, 1]), torch.tensor([0, 1]))}, ("a", "b"))
    b = Tables({"text": Table(torch.rand(1, 3), torch.tensor([1]), torch.tensor([1]))}, ("a", "b"))
    both = concat([a, b, b])
    assert both.items().tolist() == [0, 1]
    assert len(both["text"]) == 2
    assert shared_items(a, b).tolist() == [1]
    with pytest.raises(ValueError, match="different classes"):
        a | Tables(b.rows, ("x", "y"))


def test_bad_tables_are_refused() -> None:
    with pytest.raises(ValueError, match=r"y is torch.float32 .* int64 of shape \(2,\) is needed"):
        Table(torch.rand(2, 3), torch.rand(2), torch.arange(2))
    good = Table(torch.rand(2, 3), torch.tensor([0, 3]), torch.arange(2))
    with pytest.raises(ValueError, match="do not index 2 classes"):
        Tables({"image": good}, ("a", "b"))
    with pytest.raises(ValueError, match="'a' is named twice"):
        Tables({}, ("a", "a"))
    with pytest.raises(KeyError, match="no modality 'audio'; there are image"):
        Tables({"image": good}, tuple("abcd"))["audio"]
    with pytest.raises(ValueError, match="class 'z' is not one of the 4 classes"):
        Tables({"image": good}, tuple("abcd")).of_classes(["z"])
    two = Table(torch.rand(2, 3), torch.tensor([0, 1]), torch.tensor([5, 5]))
    with pytest.raises(ValueError, match="item 5 has rows of two classes"):
        Tables({"image": two}, tuple("abcd")).labels()


def test_withheld_labels_are_gone() -> None:
    table = Table(torch.rand(2, 3), torch.tensor([0, 1]), torch.arange(2))
    assert Tables({"image": table}, ("a", "b")).withheld()["image"].y.tolist() == [-1, -1]


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 2, 3)])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rows_to_use_are_there_and_finite(shape: tuple[int, ...], value: float) -> None:
    table = Table(torch.rand(shape), torch.tensor([0, 0, 1, -1]), torch.arange(4))
    tables = Tables({"image": table, "text": table[:0]}, ("a", "b"))
    assert usable(tables, "image", "X needs") is table
    for name in ("text", "speech"):
        with pytest.raises(ValueError, match=f"X needs '{name}', but the base holds image, text; do this"):
            usable(tables, name, "X needs", "base", "do this")
    table.x[2:] = value
    with pytest.raises(FloatingPointError, match="support: image row 2 is not finite"):
        usable(tables, "image", "X needs")
    with pytest.raises(ValueError, match=r"val: image row 3 has no label \(-1\)"):
        check_labelled(tables, "val")
    check_labelled(Tables({"image": table[:3]}, ("a", "b")), "val")


@given(st.integers(1, 5), st.lists(st.integers(0, 4), min_size=1, max_size=20))
@settings(deadline=None)
def test_class_means_against_a_loop(d: int, labels: list[int]) -> None:
    x, y = torch.rand(len(labels), d), torch.tensor(labels)
    for c, mean in enumerate(class_means(x, y, 5)):
        own = x[y == c]
        torch.testing.assert_close(mean, own.mean(0) if len(own) else torch.zeros(d))
