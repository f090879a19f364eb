import json
import re
from pathlib import Path

from tests.views.test_plots import NAMES, scores
from xmodal_lib.views import interactive


def figure_of(page: Path) -> dict:
    return json.loads(re.search(r"const figure = (.*);\n", page.read_text())[1])


def test_the_curve_page_holds_every_method_and_no_library(tmp_path):
    page = interactive.accuracy_curve_html(scores(), tmp_path / "deep" / "curve.html", title="<b>")
    assert [trace["name"] for trace in figure_of(page)["data"]] == list(NAMES)
    assert page.stat().st_size < 100_000 and "&lt;b&gt;" in page.read_text()
    assert (page.parent / "plotly.min.js").stat().st_size > 1_000_000
    again = interactive.accuracy_curve_html(
        scores(), tmp_path / "again.html", title="<b>", library="deep/plotly.min.js"
    )
    assert again.read_text() == page.read_text().replace('"plotly.min.js"', '"deep/plotly.min.js"')
    assert not (tmp_path / "plotly.min.js").exists()


def test_the_library_can_be_inside(tmp_path):
    page = interactive.accuracy_curve_html(scores(), tmp_path / "curve.html", library="inside")
    assert page.stat().st_size > 1_000_000 and list(tmp_path.iterdir()) == [page]
