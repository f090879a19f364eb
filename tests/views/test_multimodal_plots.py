import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from tests.views.looks import check_readable, check_whole
from xmodal_lib import evaluate as ev
from xmodal_lib.calibration import expected_calibration_error, reliability
from xmodal_lib.views import multimodal_plots as plots
from xmodal_lib.views.plots import COLOURS

NAMES = (
    "joint, concatenation", "joint, sum", "joint, FiLM", "OGM", "OGM-GE", "QMF", "summed unimodal",
    "independent unimodal, fused by entropy", "MLA, as the paper", "MLA, as released", "MLA, released form forced on",
    "MMPareto", "ReconBoost", "AGM",
)  # fmt: skip


def scores(names=NAMES, modalities=("image", "speech"), draws: int = 5) -> pd.DataFrame:
    """Lines as `evaluate` gives them, other metrics among them."""
    rng = np.random.default_rng(0)
    metrics = {"accuracy": 0.7, "macro accuracy": 0.1, "ECE": 0.2, "fit seconds": 9.0}
    metrics |= {f"accuracy {m}": 0.6 - 0.2 * k for k, m in enumerate(modalities)}
    return pd.DataFrame(
        [
            {"method": name, "track": "few-shot val", "seed": seed, "metric": metric,
             "value": value + 0.01 * i + rng.normal(0, 0.02)}
            for i, name in enumerate(names) for seed in range(draws) for metric, value in metrics.items()
        ]
    )  # fmt: skip


def trace(names=NAMES, steps: int = 400, modalities=("image", "speech")) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    step = np.arange(1, steps + 1)
    parts = []
    for i, name in enumerate(names):
        log = (0.1 * i + 0.5) * (1 - np.exp(-step / 80)) + rng.normal(0, 0.25, steps)
        for k, m in enumerate(modalities):
            parts.append(pd.DataFrame({"method": name, "step": step, "modality": m, "ratio": np.exp((1 - k) * log)}))
            if len(modalities) == 2 and k:
                parts[-1]["ratio"] = np.exp(-log)
    return pd.concat(parts)


def fusion_weights(modalities=("image", "speech")) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    right = rng.random(800) < 0.7
    first = np.where(right, rng.beta(6, 3, 800), rng.beta(3, 3, 800))
    share = [first, *[(1 - first) / max(len(modalities) - 1, 1)] * (len(modalities) - 1)]
    return pd.concat(
        [pd.DataFrame({"modality": m, "weight": w, "right": right}) for m, w in zip(modalities, share, strict=True)]
    )


def answers(sharpness: float, n: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n, 6)) * 1.5
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    y = (p.cumsum(1) > rng.random((n, 1))).argmax(1)
    sharp = np.exp(sharpness * z)
    return sharp / sharp.sum(1, keepdims=True), y


def calibrations(names=NAMES) -> pd.DataFrame:
    return pd.concat([reliability(*answers(0.4 + 0.2 * i)).assign(method=name) for i, name in enumerate(names)])


def missing(names=NAMES) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {"method": name, "track": "few-shot val", "seed": seed, "rate": rate, "metric": metric,
             "value": 0.8 + 0.01 * i - (0.3 + 0.02 * i) * rate + rng.normal(0, 0.01)}
            for i, name in enumerate(names) for rate in (0, 0.1, 0.2, 0.3, 0.4, 0.5) for seed in range(3)
            for metric in ("accuracy", "ECE")
        ]
    )  # fmt: skip


def epochs(names=NAMES, runs: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    epoch = np.arange(1, 41)
    return pd.concat(
        [
            pd.DataFrame({"method": name, "seed": seed, "epoch": epoch,
                          "val_accuracy": 0.5 + 0.02 * i - 0.4 * np.exp(-epoch / 8) + rng.normal(0, 0.012, 40)})
            for i, name in enumerate(names) for seed in range(runs)
        ]
    )  # fmt: skip


FIGURES = {
    "bars": lambda: plots.modality_bars(scores(), chance=10),
    "bars of three": lambda: plots.modality_bars(scores(NAMES[:3], ("audio", "text", "visual")), title="IEMOCAP"),
    "bars of one draw": lambda: plots.modality_bars(scores(NAMES[:1], draws=1)),
    "ratios": lambda: plots.ratio_curve(trace()),
    "ratios of three": lambda: plots.ratio_curve(trace(NAMES[:4], modalities=("audio", "text", "visual")), title="T"),
    "ratios of one method": lambda: plots.ratio_curve(trace(NAMES[8:9], steps=3)),
    "weights": lambda: plots.weight_histogram(fusion_weights(), title="MLA"),
    "weights of three": lambda: plots.weight_histogram(fusion_weights(("audio", "text", "visual"))),
    "weights of one": lambda: plots.weight_histogram(fusion_weights(("image",)).query("right")),
    "energies": lambda: plots.weight_histogram(fusion_weights().assign(weight=lambda f: 4 * f["weight"] - 1)),
    "reliability": lambda: plots.reliability_diagram(calibrations()),
    "reliability of two": lambda: plots.reliability_diagram(calibrations(NAMES[:2]), title="two"),
    "reliability of one": lambda: plots.reliability_diagram(calibrations(NAMES[:1])),
    "missing": lambda: plots.missing_curve(missing(), chance=4),
    "missing, few": lambda: plots.missing_curve(missing(NAMES[5:10]), title="rates"),
    "missing, one": lambda: plots.missing_curve(missing(NAMES[:1]), chance=50),
    "epochs": lambda: plots.epochs_curve(epochs()),
    "epochs, few": lambda: plots.epochs_curve(epochs(NAMES[6:10]), chance=10),
    "epochs, runs": lambda: plots.epochs_curve(epochs(NAMES[6:9], runs=3)),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_as_wide_as_a_column_and_nothing_is_cut_off(name):
    check_whole(FIGURES[name]())


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_covers_another(name):
    check_readable(FIGURES[name](), rows=name.startswith("bars"))


def test_modality_bars_show_the_means_and_intervals_of_the_draws():
    frame = scores(NAMES[:3])
    axes = plots.modality_bars(frame).axes[0]
    dots = [line for line in axes.lines if line.get_marker() not in ("None", None) and len(line.get_xdata()) == 1]
    bars = [line for line in axes.lines if line not in dots]
    assert len(dots) == len(bars) == 9
    for metric, colour, marker in (("accuracy", "#000000", "D"), ("accuracy image", COLOURS[0], "o"),
                                   ("accuracy speech", COLOURS[1], "s")):  # fmt: skip
        own = [(dot, bar) for dot, bar in zip(dots, bars, strict=True) if dot.get_marker() == marker]
        for i, (dot, bar) in enumerate(sorted(own, key=lambda pair: pair[0].get_ydata()[0])):
            values = frame[(frame["method"] == NAMES[i]) & (frame["metric"] == metric)]["value"]
            want = [100 * v for v in ev.interval(values)]
            assert [dot.get_xdata()[0], *bar.get_xdata()] == pytest.approx(want)
            assert to_hex(dot.get_color()).upper() == colour and round(dot.get_ydata()[0]) == i
    numbers = [t.get_text() for t in axes.texts]
    fused = frame[frame["metric"] == "accuracy"].groupby("method", sort=False)["value"].mean()
    assert numbers == [*(f"{100 * v:.1f}" for v in fused), "fused"]
    assert [t.get_text() for t in axes.get_yticklabels()] == list(NAMES[:3])


def test_a_ratio_is_drawn_as_it_is_and_as_its_rolling_median():
    frame = trace(NAMES[:2], steps=100)
    figure = plots.ratio_curve(frame)
    assert [axes.get_title() for axes in figure.axes] == list(NAMES[:2])
    part = frame[(frame["method"] == NAMES[1]) & (frame["modality"] == "speech")]
    _, _, _, raw, middle = figure.axes[1].lines
    assert raw.get_ydata().tolist() == part["ratio"].tolist()
    want = [np.median(part["ratio"].iloc[max(i - 2, 0) : i + 3]) for i in range(100)]
    assert middle.get_ydata() == pytest.approx(want) and middle.get_marker() == "s"
    assert figure.axes[0].get_yscale() == "log"


def test_weights_are_shares_of_right_and_of_wrong_rows():
    frame = fusion_weights()
    axes = plots.weight_histogram(frame, bins=10).axes[1]
    own = frame[frame["modality"] == "speech"]
    for patch, right, mark in zip(axes.patches, (True, False), axes.lines, strict=True):
        weight = own.loc[own["right"] == right, "weight"]
        want = np.histogram(weight, 10, (0, 1))[0] / len(weight) * 100
        assert patch.get_xy()[1:-1:2][:10, 1] == pytest.approx(want)
        assert mark.get_xdata()[0] == weight.median()
    assert axes.get_title() == f"speech ({own['right'].sum()} right, {(~own['right']).sum()} wrong)"


def test_the_diagram_shows_each_bin_and_the_error():
    p, y = answers(2.0)
    table = reliability(p, y)
    axes = plots.reliability_diagram(table.assign(method="sharp")).axes[0]
    dots = np.concatenate(
        [np.asarray(c.get_offsets()) for c in axes.collections if hasattr(c, "get_sizes") and len(c.get_sizes())]
    )
    want = 100 * table[["confidence", "accuracy"]].to_numpy()
    np.testing.assert_allclose(dots[dots[:, 0].argsort()], want)
    assert axes.texts[0].get_text() == f"ECE {100 * expected_calibration_error(p, y):.1f} %"


def test_missing_curves_show_the_means_of_the_draws():
    frame = missing(NAMES[:2])
    line, _, (bars,) = plots.missing_curve(frame).axes[0].containers[1]
    own = frame[(frame["method"] == NAMES[1]) & (frame["metric"] == "accuracy")].groupby("rate")["value"]
    assert line.get_xdata() == pytest.approx(np.array([0, 10, 20, 30, 40, 50]), abs=0.5)
    assert line.get_ydata() == pytest.approx(100 * own.mean().to_numpy())
    want = [100 * np.array(ev.interval(values)[1:]) for _, values in own]
    np.testing.assert_allclose([segment[:, 1] for segment in bars.get_segments()], want)
    assert plots.missing_curve(frame, metric="ECE").axes[0].get_ylabel() == "ECE (%)"
    many = plots.missing_curve(missing())
    assert len(many.axes) == len(NAMES) and all(len(axes.lines) == len(NAMES) + 1 for axes in many.axes)


def test_the_star_is_the_first_of_the_best_epochs():
    frame = pd.DataFrame({"method": "MLA", "epoch": [1, 2, 3, 4], "val_accuracy": [0.2, 0.6, 0.6, 0.5]})
    axes = plots.epochs_curve(frame).axes[0]
    lines = axes.lines
    assert axes.containers[0][0].get_ydata().tolist() == pytest.approx([20, 60, 60, 50])
    stars = [line for line in lines if line.get_marker() == "*"]
    assert [(s.get_xdata()[0], s.get_ydata()[0]) for s in stars] == [(2, 60)]
    assert not [
        line for line in plots.epochs_curve(epochs(NAMES[:2], runs=2)).axes[0].lines if line.get_marker() == "*"
    ]


def test_a_modality_looks_the_same_whatever_others_there_are():
    first, second = plots.modality_looks(["text", "audio"]), plots.modality_looks(["audio", "text"])
    assert first == second and len({tuple(look.values()) for look in first.values()}) == 2


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(ValueError, match="no column 'rate'"):
        plots.missing_curve(scores())
    with pytest.raises(ValueError, match="no metric 'F1'; there are accuracy, ECE"):
        plots.missing_curve(missing(), metric="F1")
    with pytest.raises(ValueError, match="the tracks 'few-shot val', 'validation-free'; choose one"):
        plots.modality_bars(pd.concat([scores(), scores().assign(track="validation-free")]))
    with pytest.raises(ValueError, match="no line"):
        plots.ratio_curve(trace()[:0])
    with pytest.raises(ValueError, match="no column 'right'; modality, weight, right are needed"):
        plots.weight_histogram(fusion_weights().drop(columns="right"))


def test_colours_stay_what_they_are_in_the_small_picture():
    """With fourteen colours and their shades on one picture, each still is the one it was."""
    shown = np.asarray(Image.open(io.BytesIO(plots.epochs_curve(epochs())._repr_png_())).convert("RGB")).reshape(-1, 3)
    for colour in COLOURS:
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        assert np.abs(shown.astype(int) - rgb).max(1).min() < 10
