import numpy as np
import pandas as pd

from tests.views.looks import check_whole
from xmodal_lib.views.adaptation_plots import underspecified


def test_a_panel_a_kind_of_rows_and_every_line_through_its_points() -> None:
    rng = np.random.default_rng(0)
    points = pd.DataFrame(rng.normal(size=(20, 2)), columns=["x", "y"])
    points = points.assign(**{"class": ["a long class name", "b"] * 10, "kind": ["drawing"] * 14 + ["shot"] * 4
                              + ["prompt"] * 2, "draw": [-1] * 14 + [0, 0, 1, 1] + [-1] * 2})  # fmt: skip
    lines = pd.DataFrame({"draw": [0, 1, 0, 1], "rows": ["image"] * 2 + ["image + text"] * 2, "a": [1.0, 0.5, 1, 2],
                          "b": [0.0, 1, 1, -1], "c": [0.1, 0.2, 0, 0], "accuracy": 0.5})  # fmt: skip
    figure = underspecified(points, lines, notes={"image": "accuracy 50 %, of the worst tenth 10 % or less"})
    check_whole(figure)
    assert [len(axes.lines) for axes in figure.axes] == [2, 2]
    for axes, kind in zip(figure.axes, ("image", "image + text"), strict=True):
        for drawn, line in zip(axes.lines, lines[lines["rows"] == kind].itertuples(), strict=True):
            x, y = drawn.get_data()
            np.testing.assert_allclose(line.a * x + line.b * y + line.c, 0, atol=1e-9)
