"""Views are rows: ten views give ten times the rows, every one kept and the same in every run."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.sources.augmented import KINDS, augmented, with_views
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables

N = 6


def picture(i: int) -> Image.Image:
    pixels = np.random.default_rng(i).integers(0, 255, (40, 56, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def source(tmp_path, monkeypatch) -> Source:
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path))
    rows = Table(torch.arange(N), torch.arange(N) % 2, torch.arange(N) + 50)
    return Source("noise", Tables({"image": rows}, ("a", "b")), {"image": pd.DataFrame({"i": range(N)})},
                  {"image": picture}, "digest", "none")  # fmt: skip


@pytest.fixture
def encoder() -> Encoder:
    def look(items):
        small = [item.resize((8, 8)) for item in items]
        return torch.stack([torch.from_numpy(np.array(s)).float().flatten() for s in small])

    return Encoder("pixels", torch.nn.Identity(), look, sample=Image.new("RGB", (32, 32)))


@pytest.mark.parametrize("views", [1, 10])
def test_so_many_views_give_so_many_times_the_rows(source, encoder, views: int) -> None:
    support = Tables({"image": replace(source.tables["image"][:4], x=torch.zeros(4, 192))}, ("a", "b"))
    more = with_views(support, source, encoder, views, "resized crop", progress=False)
    added = more["image"][4:]
    assert len(added) == views * 4 and torch.equal(more["image"][:4].x, support["image"].x)
    assert added.pair.tolist() == [p for p in range(50, 54) for _ in range(views)]
    assert added.y.tolist() == [p % 2 for p in range(50, 54) for _ in range(views)]
    assert len(added.x.unique(dim=0)) > 0.9 * len(added)  # none lost, and none a copy of another
    again = with_views(support, source, encoder, views, "resized crop", progress=False)
    assert torch.equal(again["image"].x, more["image"].x)
    other = with_views(support, source, encoder, views, "resized crop", seed=1, progress=False)
    assert not torch.equal(other["image"].x, more["image"].x)


def test_a_flip_is_the_mirror_image(source) -> None:
    flipped = augmented(source)
    for i in range(N):
        assert np.array_equal(np.asarray(flipped.open["image"](i)), np.asarray(picture(i))[:, ::-1])


@pytest.mark.parametrize("kind", ["crop", "resized crop"])
def test_a_crop_is_square_and_a_view_depends_on_nothing_but_its_number(source, kind: str) -> None:
    views = augmented(source, 3, kind, size=24)
    first = np.asarray(views.open["image"](7))  # of row 2, its second view
    assert first.shape == (24, 24, 3)
    assert np.array_equal(first, np.asarray(KINDS[kind](picture(2), 24, np.random.default_rng([0, 2, 1]))))
    assert views.info["image"]["i"].iloc[7] == 2
    assert views.digest != augmented(source, 3, kind, size=25).digest


def test_errors_are_one_clear_line(source, encoder) -> None:
    for options, said in (
        ({"kind": "blur"}, "no views of kind 'blur'; there are flip, crop, resized crop"),
        ({"views": 0}, "views=0; at least 1"),
        ({"views": 2}, "would all be the same"),
        ({"modality": "speech"}, "has no 'speech' rows"),
    ):
        with pytest.raises(ValueError, match=said):
            augmented(source, **options)
    stranger = Tables({"image": Table(torch.zeros(1, 192), torch.tensor([0]), torch.tensor([7]))}, ("a", "b"))
    with pytest.raises(ValueError, match="item 7 of the support has no image row"):
        with_views(stranger, source, encoder)
