"""Small multiples of maps, and of the modality gap."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex

from tests.views.looks import check_readable, check_whole
from xmodal_lib.views.latent_plots import gap_panels, latent_panels
from xmodal_lib.views.plots import COLOURS, GREY
from xmodal_lib.views.projections import along_gap

NOTE = "56% of neighbours kept, trust 0.96: read groups only"


def world(maps: int = 5, classes: int = 10, n: int = 200) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
    rng = np.random.default_rng(0)
    y = rng.integers(classes, size=n) ** 2 // classes  # the first classes are the largest
    rows = pd.DataFrame(
        {"class": [f"a class with a name {c}" for c in y], "modality": rng.choice(["image", "text"], n)}
    )
    return {f"disturbance, base stage {k}": rng.normal(size=(n, 2)) for k in range(maps)}, rows


@pytest.mark.parametrize("maps", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("colour", ["class", "modality"])
def test_panels_are_whole_and_readable(maps: int, colour: str) -> None:
    xy, rows = world(maps)
    figure = latent_panels(xy, rows, colour=colour, notes=dict.fromkeys(xy, NOTE))
    check_whole(figure)
    check_readable(figure, rows=False)
    assert [axes.get_title().replace("\n", " ") for axes in figure.axes] == list(xy)
    assert {axes.get_xlabel().replace("\n", " ") for axes in figure.axes} == {NOTE}


def test_every_point_is_drawn_in_its_colour_and_marker() -> None:
    (name, xy), rows = next(iter(world(1, classes=4)[0].items())), world(1, classes=4)[1]
    xy[3] = np.nan  # is not on the map
    (axes,) = latent_panels({name: xy}, rows).axes
    names = list(dict.fromkeys(rows["class"]))
    drawn = {}
    for part in axes.collections:
        for at, colour in zip(part.get_offsets().tolist(), part.get_facecolors(), strict=True):
            drawn[tuple(at)] = to_hex(colour).upper()
    assert len(drawn) == len(rows) - 1
    assert all(drawn[tuple(at)] == COLOURS[names.index(c)].upper()
               for at, c in zip(xy.tolist(), rows["class"], strict=True) if at[0] == at[0])  # fmt: skip
    sizes = [len(part.get_offsets()) for part in axes.collections]
    assert sizes == [(rows["modality"].drop(3) == m).sum() for m in dict.fromkeys(rows["modality"])]


def test_the_largest_seven_have_a_colour_and_the_rest_is_counted() -> None:
    xy, rows = world(1, classes=30)
    figure = latent_panels(xy, rows)
    words = [text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()]
    large = set(rows["class"].value_counts().index[:7])
    assert set(words[2:9]) == large and words[9] == f"{rows['class'].nunique() - 7} more"
    grey = sum((np.array([to_hex(c).upper() for c in part.get_facecolors()]) == GREY).sum()
               for part in figure.axes[0].collections)  # fmt: skip
    assert grey == (~rows["class"].isin(large)).sum()


def test_maps_of_other_rows_are_refused() -> None:
    xy, rows = world(1)
    with pytest.raises(ValueError, match=r"is of shape \(200, 2\); \(199, 2\) is needed"):
        latent_panels(xy, rows[1:])
    with pytest.raises(ValueError, match="no map to draw"):
        latent_panels({}, rows)


@pytest.mark.parametrize("spaces", [1, 2, 3])
def test_gaps_side_by_side_have_one_scale(spaces: int) -> None:
    rng = torch.Generator().manual_seed(0)
    frames = {}
    for k in range(spaces):
        image, text = torch.randn(50, 8, generator=rng) + k, torch.randn(40, 8, generator=rng) - 1
        frames[f"space {k}"] = along_gap({"image": image, "text": text})
    figure = gap_panels(frames)
    check_whole(figure)
    check_readable(figure, rows=False)
    below = figure.axes[spaces:]
    assert len({axes.get_xlim() for axes in below}) == 1 and len({axes.get_ylim() for axes in below}) == 1
    said = [next(t.get_text() for t in axes.texts if t.get_text()) for axes in below]
    middles = [frame.groupby("modality")["along"].mean() for frame in frames.values()]
    assert said == [f"gap {m['image'] - m['text']:.2f}" for m in middles]
