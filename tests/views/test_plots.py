import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.views.looks import check_whole
from xmodal_lib import evaluate as ev
from xmodal_lib.views import plots
from xmodal_lib.views.projections import along_gap

NAMES = (
    "zero-shot", "nearest class mean", "image-only, random init", "image+text, random init (cross-modal)",
    "image-only, text init", "image+text, text init (cross-modal)", "WiSE-FT 0.5", "adapter", "Tip-Adapter",
    "Tip-Adapter-F", "partial finetuning",
)  # fmt: skip
CLASSES = [f"category-number-{i}" for i in range(27)]


def scores(names=NAMES, tracks=("few-shot val",)) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {"method": name, "track": track, "seed": seed, "shot": shot, "metric": "accuracy",
             "value": 0.2 + 0.01 * i + 0.01 * np.log2(shot) + rng.normal(0, 0.01)}
            for i, name in enumerate(names) for track in tracks for shot in (1, 2, 4, 8, 16) for seed in range(3)
        ]
    )  # fmt: skip


def points(classes: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    label = np.arange(200) % classes
    frame = pd.DataFrame(rng.normal(size=(200, 2)) + label[:, None], columns=["x", "y"])
    return frame.assign(**{"class": label, "modality": np.where(np.arange(200) < 120, "image", "text"),
                           "pair": np.arange(200) % 120})  # fmt: skip


def every_figure():
    rng = np.random.default_rng(0)
    frame = scores()
    table = pd.concat([ev.paired(frame, name, "zero-shot") for name in NAMES[1:]])
    y = rng.integers(0, 27, 300)
    z = {"image": torch.randn(50, 6) + 1, "text": torch.randn(20, 6)}
    part = pd.DataFrame({"text": [0.2] * 27, "image": [0.8] * 27}, index=CLASSES)
    return {
        "one panel": lambda: plots.accuracy_curve(scores(NAMES[:4], ("few-shot val", "validation-free")), chance=3.7),
        "panels": lambda: plots.accuracy_curve(frame, reference="zero-shot", chance=3.7),
        "both tracks": lambda: plots.accuracy_curve(scores(tracks=("few-shot val", "validation-free"))),
        "differences": lambda: plots.differences(table),
        "one difference": lambda: plots.differences(table[table["shot"] == 4], by=None, title="4 shots"),
        "confusion": lambda: plots.confusion(y, np.where(rng.random(300) < 0.5, y, 3), CLASSES),
        "gap": lambda: plots.gap(along_gap(z)),
        "few colours": lambda: plots.latent_map(points(4), pair="pair", note="72% of the neighbours " * 8),
        "many colours": lambda: plots.latent_map(points(27), title="UMAP"),
        "narrow": lambda: plots.latent_map(points(9), width=plots.NARROW, note="72% of the neighbours " * 8),
        "examples": lambda: plots.examples([Image.new("RGB", (30, 20), "red")] * 9, ["a long caption " * 9] * 9),
        "loss": lambda: plots.loss_curve({"image head": [(0, 2.0), (9, 1.0)], "text head": [(0, 1.0)]}, log=True),
        "shares": lambda: plots.shares(part),
    }


@pytest.mark.parametrize("name", every_figure())
def test_every_figure_is_as_wide_as_a_column_and_nothing_is_cut_off(name):
    check_whole(every_figure()[name]())


def test_no_label_of_a_crowded_map_covers_another():
    figure = plots.latent_map(points(27))
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 27
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_the_curve_shows_the_means_of_the_draws():
    frame = scores(NAMES[:2])
    means = plots.curve_points(frame)
    assert list(means["method"].unique()) == list(NAMES[:2]) and means["shot"].tolist() == [1, 2, 4, 8, 16] * 2
    at = frame[(frame["method"] == NAMES[1]) & (frame["shot"] == 8)]["value"]
    assert means.iloc[8][["mean", "low", "high"]].tolist() == pytest.approx([100 * v for v in ev.interval(at)])
    drawn = plots.accuracy_curve(frame).axes[0].containers[1].lines[0].get_ydata()
    assert drawn.tolist() == pytest.approx(means["mean"][5:].tolist())


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(ValueError, match="no column 'shot'"):
        plots.accuracy_curve(scores().drop(columns="shot"))
    with pytest.raises(ValueError, match="no metric 'f1'; there are accuracy"):
        plots.accuracy_curve(scores(), metric="f1")
    with pytest.raises(ValueError, match="no method 'x' to refer to"):
        plots.accuracy_curve(scores(), reference="x")
    with pytest.raises(ValueError, match="1 pictures and 2 captions"):
        plots.examples([Image.new("RGB", (3, 3))], ["a", "b"])


def test_files_are_the_same_bytes_each_time(tmp_path):
    for folder in ("a", "b"):
        written = plots.save(plots.latent_map(points(9)), tmp_path / folder, "map", alt="Nine groups, apart.")
        assert [path.name for path in written] == ["map.pdf", "map.svg", "map.png", "map.txt"]
    for path in written:
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes() and path.stat().st_size > 10
    assert written[3].read_text() == "Nine groups, apart.\n"
    assert b"/FontType 42" in written[0].read_bytes() or b"/CIDFontType2" in written[0].read_bytes()
    assert b"Nine groups, apart." in written[1].read_bytes()
    with pytest.raises(ValueError, match="no alt text"):
        plots.save(plots.latent_map(points(9)), tmp_path, "map", alt=" ")


def test_the_settings_of_the_user_stay_and_do_not_matter():
    first = plots.loss_curve([(0, 1.0), (5, 0.5)])._repr_png_()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert plots.loss_curve([(0, 1.0), (5, 0.5)])._repr_png_() == first
        assert mpl.rcParams["font.size"] == 30


def test_colours_differ_without_colour_too():
    look = [tuple(str(v) for v in style.values()) for style in plots.styles(NAMES).values()]
    assert len({style[1] for style in look}) == len(NAMES)  # every marker once
