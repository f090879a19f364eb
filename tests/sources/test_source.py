"""A source: from items to rows and back."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables


@pytest.fixture
def source() -> Source:
    """Rows 0..4, of which 1, 3 and 4 are in the table, as items 11, 13 and 14."""
    x = torch.tensor([1, 3, 4])
    info = pd.DataFrame({"name": list("abcde"), "style": ["x", "y", "x", "y", "x"]})
    tables = Tables({"image": Table(x, torch.zeros(3, dtype=torch.int64), x + 10)}, ("thing",))
    return Source("test", tables, {"image": info}, {"image": lambda i: f"picture {i}"}, "d", "", {"image": "own"})


def test_columns_are_those_of_the_rows_in_the_table(source) -> None:
    assert source.column("image", "name") == ["b", "d", "e"]
    assert source.by_item("image", "name") == {11: "b", 13: "d", 14: "e"}
    assert source.frame("image")["style"].tolist() == ["y", "y", "x"]


def test_items_are_found_and_opened(source) -> None:
    assert source.where("image", style="y").tolist() == [11, 13]
    assert source.where("image", style=["x", "y"], name="e").tolist() == [14]
    assert source.opened("image", [14, 11]) == ["picture 4", "picture 1"]
    other = Tables(
        {"image": Table(torch.tensor([0, 3]), torch.zeros(2, dtype=torch.int64), torch.tensor([7, 8]))}, ("a",)
    )
    assert source.opened("image", [8, 7], other) == ["picture 3", "picture 0"]


def test_the_cache_key_is_the_modality_s_own_where_there_is_one(source) -> None:
    assert (source.digest_of("image"), source.digest_of("text")) == ("own", "d")
    assert source.summary().loc["image", "rows"] == 3
