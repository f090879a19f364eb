import pandas as pd
import pytest

from xmodal_lib.views.ablation_plots import swept


def test_a_panel_for_each_value_and_a_line_with_its_interval_for_each_name() -> None:
    lines = [{"d": d, "name": name, "of": of, "mean": 0.1 * d, "low": 0.1 * d - 0.05, "high": 0.1 * d + 0.05}
             for d in (1, 2, 8) for name, of in (("a", "left"), ("b", "left"), ("c", "right"))]  # fmt: skip
    figure = swept(pd.DataFrame(lines), "d", panel="of", label="per cent", log=True, truth=2)
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == ("left", "right")
    drawn = {line.get_label(): list(line.get_ydata()) for line in left.get_lines() if len(line.get_xdata()) == 3}
    assert set(drawn) == {"a", "b"} and drawn["a"] == pytest.approx([10, 20, 80])
    assert [text.get_text() for text in left.get_xticklabels()] == ["1", "2", "8"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c"]
    assert left.collections[0].get_paths()[0].get_extents().ymin == pytest.approx(5)
