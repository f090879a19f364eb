"""Spaces before and after training, of each family of methods."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from PIL import Image

from xmodal_lib.latent_tasks import FAMILIES, LENGTHS, Clock, Latents, _first, latents
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables
from xmodal_lib.views.collect import collect


@pytest.fixture
def two() -> Latents:
    """Three texts and two pictures, whose source opens a row as its number."""

    def table(x: list[int], y: list[int]) -> Table:
        return Table(torch.tensor(x), torch.tensor(y), torch.tensor(x))

    rows = Tables({"text": table([4, 5, 6], [0, 1, 0]), "image": table([7, 8], [1, 0])}, ("food-fruit", "tool"))
    source = Source("numbers", rows, {}, {"text": str, "image": lambda i: Image.new("RGB", (i, i))}, "", "")
    z = torch.arange(10.0).reshape(5, 2)
    answers = {"m": torch.tensor([0, 1, 1, 1, 1])}
    return Latents(source, rows, {"z": z}, (), ("z",), answers, pd.DataFrame(), "", "")


def test_rows_of_a_space_by_modality_with_labels_and_answers(two: Latents) -> None:
    parts = two.parts("z")
    assert {m: z[:, 0].tolist() for m, z in parts.items()} == {"text": [0, 2, 4], "image": [6, 8]}
    assert two.modality == ["text"] * 3 + ["image"] * 2
    assert two.labels == ["fruit", "tool", "fruit", "tool", "fruit"]
    assert two.correct() == {"by m": ["right", "right", "wrong", "right", "wrong"]}
    assert two.examples("text") == {"1. fruit": "4", "2. tool": "5", "3. fruit": "6"}
    assert [picture.width for picture in two.examples("image", 2).values()] == [7, 8]


def test_each_row_once() -> None:
    assert _first(torch.tensor([5, 3, 5, 5, 3, 9])).tolist() == [0, 1, 5]


def test_the_clock_keeps_what_was_trained() -> None:
    clock = Clock()
    assert clock("sum", 3, sum, [1, 2]) == 3
    assert clock.table()[["method", "length"]].to_dict("records") == [{"method": "sum", "length": 3}]
    assert clock.table()["CPU seconds"][0] >= 0


def test_no_such_family_and_no_such_length() -> None:
    with pytest.raises(ValueError, match="no family 'clip'; there are adaptation, mla, croma, gtl"):
        latents("clip", 1)
    with pytest.raises(ValueError, match="length=-1"):
        latents("mla", 1, length=-1)
    assert set(LENGTHS) == set(FAMILIES)


@pytest.mark.slow  # loads the drawings, words and sounds
@pytest.mark.parametrize("family", FAMILIES)
def test_spaces_of_a_family_are_of_the_same_rows(family: str) -> None:
    found = latents(family, 1, length=1)
    n = len(found.labels)
    assert len(found.modality) == n and len(set(found.modality)) == 2
    for z in found.spaces.values():
        assert len(z) == n and z.isfinite().all()
    named = {name for step in found.steps for name in step} | set(found.gap)
    assert named <= set(found.spaces) and all(a != b for a, b in found.steps)
    for a, b in found.steps:  # training does something
        assert found.spaces[a].shape != found.spaces[b].shape or not torch.equal(found.spaces[a], found.spaces[b])
    assert all(len(answer) == n for answer in found.answers.values())
    assert found.trained["length"].max() <= 2 and found.look
    collection = collect(found.source, found.rows, found.spaces, {"x": next(iter(found.spaces.values()))[:, :2]},
                         item=found.item)  # fmt: skip
    assert collection.points["modality"].tolist() == found.modality
    assert collection.points["item"].nunique() < n  # something is shown by rows of both modalities
    for m in found.rows.modalities:
        line = found.modality.index(m)
        opened = next(iter(found.examples(m).values()))
        assert opened is not None and collection.opened(line) is not None
