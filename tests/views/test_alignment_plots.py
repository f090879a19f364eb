import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from tests.views.looks import check_readable, check_whole
from xmodal_lib import evaluate as ev
from xmodal_lib.views import alignment_plots as plots
from xmodal_lib.views.plots import COLOURS

READS = {"from scratch": "nothing", "reconstruction": "rows", "weak labels": "sets", "align + classify": "pairs",
         "CroMA": "pairs", "CroMA, as the release runs": "pairs", "shared + domain confusion": "rows",
         "oracle": "labels"}  # fmt: skip


def scores(names=tuple(READS), shots=(1, 5, 10), draws: int = 5) -> pd.DataFrame:
    """Lines as `alignment_rows.score` gives them, seconds among them, two tasks a draw."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {"method": name, "seed": seed, "shot": shot, "task": i, "metric": metric,
             "value": value + 0.03 * k + rng.normal(0, 0.02)}
            for k, name in enumerate(names) for shot in shots for seed in range(draws) for i in range(2)
            for metric, value in {"accuracy": 0.3 + 0.04 * shot, "fit seconds": 4.0}.items()
        ]
    )  # fmt: skip


def curve(names=tuple(READS)) -> pd.DataFrame:
    return pd.DataFrame([{"method": name, "iteration": 20 * i, "accuracy": 0.3 + 0.02 * k + 0.05 * i}
                         for k, name in enumerate(names) for i in range(1, 4)])  # fmt: skip


def swept(draws: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    kinds = {"pairs kept": (0.02, 0.1, 1.0), "wrong pairs": (0.0, 0.5, 1.0), "wrong labels": (0.0, 0.3, 0.6)}
    return pd.DataFrame(
        [
            {"sweep": sweep, "share": share, "method": name, "seed": seed, "value": 0.4 + 0.2 * k + rng.normal(0, 0.01)}
            for sweep, shares in kinds.items() for share in shares for seed in range(draws)
            for k, name in enumerate(("CroMA", "oracle") if sweep == "wrong labels" else ("pairs", "sets"))
        ]
    )  # fmt: skip


def things(pictures: bool = True) -> tuple[list, list, list]:
    rng = np.random.default_rng(0)
    made = [[Image.new("RGB", (32, 32), "red") if pictures else rng.normal(size=(40, 90)) for _ in range(5)]
            for _ in range(3)]  # fmt: skip
    queries = ["a short one", "a longer one that goes on over several lines, as recipes do, and is cut", "hasa (hamsa)"]
    return queries, made, [[True, False, False, True, False]] * 3


FIGURES = {
    "rows": lambda: plots.shot_bars(scores(), READS, chance=20),
    "rows of one draw": lambda: plots.shot_bars(scores(draws=1, shots=(1,)), title="one draw"),
    "two rows": lambda: plots.shot_bars(scores(("CroMA", "oracle"), shots=(1, 5)), READS, chance=33.3),
    "iterations": lambda: plots.iterations_curve(curve(), chance=20),
    "iterations of three": lambda: plots.iterations_curve(curve(("CroMA", "oracle", "source only"))),
    "shares": lambda: plots.share_curves(swept(), chance=20, title="words"),
    "shares of one draw": lambda: plots.share_curves(swept(1).query("sweep == 'wrong pairs'")),
    "pictures": lambda: plots.retrieved(*things()),
    "spectrograms": lambda: plots.retrieved(*things(pictures=False), title="what comes first"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_as_wide_as_a_column_and_nothing_is_cut_off(name: str) -> None:
    check_whole(FIGURES[name]())


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_covers_another(name: str) -> None:
    check_readable(FIGURES[name](), rows="rows" in name)


def test_rows_show_the_mean_and_interval_of_the_draws_and_what_they_read() -> None:
    frame = scores()
    figure = plots.shot_bars(frame, READS)
    panel = figure.axes[1]
    dots = [line for line in panel.lines if line.get_marker() not in ("None", None)]
    bars = [line for line in panel.lines if len(line.get_xdata()) == 2]
    assert len(dots) == len(bars) == len(READS)
    for i, (name, reads) in enumerate(READS.items()):
        mine = frame[(frame["method"] == name) & (frame["shot"] == 5) & (frame["metric"] == "accuracy")]
        mean, low, high = ev.interval(mine.groupby("seed")["value"].mean().to_numpy())
        assert dots[i].get_xdata()[0] == pytest.approx(100 * mean)
        assert bars[i].get_xdata() == pytest.approx([100 * low, 100 * high])
        assert dots[i].get_marker() == plots.LOOKS[reads]["marker"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [f"reads {r}" for r in plots.READS]


def test_curves_against_far_shares_are_on_a_log_axis_and_hold_the_means() -> None:
    frame = swept()
    figure = plots.share_curves(frame)
    assert [axes.get_xscale() for axes in figure.axes] == ["log", "linear", "linear"]
    line = figure.axes[2].containers[1].lines[0]
    mine = frame[(frame["sweep"] == "wrong labels") & (frame["method"] == "oracle")]
    assert line.get_ydata() == pytest.approx(100 * mine.groupby("share")["value"].mean().to_numpy())
    assert line.get_xdata() == pytest.approx([0, 30, 60])


def test_hits_are_framed_and_named() -> None:
    figure = plots.retrieved(*things())
    said = [axes.get_xlabel() for axes in figure.axes]
    assert said[1:6] == ["yes", "no", "no", "yes", "no"]
    assert to_hex(figure.axes[1].spines["left"].get_edgecolor()).upper() == COLOURS[0]


def test_what_cannot_be_drawn_is_refused() -> None:
    queries, found, right = things()
    with pytest.raises(ValueError, match="3 queries, 2 lines of what was found"):
        plots.retrieved(queries, found[:2], right)
    with pytest.raises(ValueError, match="no column 'shot'"):
        plots.shot_bars(scores().drop(columns="shot"))
    with pytest.raises(ValueError, match="no line"):
        plots.share_curves(swept().iloc[:0])
