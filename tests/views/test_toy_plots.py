import pandas as pd
import pytest

from xmodal_lib.linear_toy import FIRST, SECOND, Toy, compare
from xmodal_lib.views.toy_plots import toy_curves


@pytest.mark.parametrize(("over", "values"), [("pairs", [50, 200, 800]), ("pair_noise", [0.5, 1.0])])
def test_measured_and_both_predictions_are_drawn(over: str, values: list) -> None:
    frame = compare(Toy(), over, values, repeats=20)
    figure = toy_curves(frame)
    (axes,) = figure.axes
    drawn = {tuple(line.get_ydata()) for line in axes.get_lines()}
    for name in (FIRST, SECOND):
        for column in ("measured", "exact", "rule"):
            assert tuple(frame.loc[frame["estimator"] == name, column]) in drawn
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        FIRST, SECOND, "exact formula", "the paper's rule"]  # fmt: skip
    assert [float(text.get_text()) for text in axes.get_xticklabels()] == values


def test_another_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="no column pairs or pair_noise"):
        toy_curves(pd.DataFrame({"shot": [1]}))
