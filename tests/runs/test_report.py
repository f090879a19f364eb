"""The index of results: which jobs are shown whole, and what they are called."""

from pathlib import Path

import pytest

from tests.runs.conftest import write_notebook
from xmodal_lib.runs import report
from xmodal_lib.runs.plan import make_plan

SHEET = """
notebook: notebooks/10_small.ipynb
jobs:
  draw:
    matrix: {modalities: [[speech, image], [text]], shots: [[1, 2]], seed: [1, 2]}
    outputs: {value: value.json}
  report:
    matrix: {modalities: [[speech, image], [text]]}
    needs: {values: 10_small/draw/value}
"""


def test_every_report_of_a_matrix_is_shown_whole_and_named_for_a_reader(tmp_path: Path) -> None:
    parameters = (
        'values = []  # upstream\nmodalities = ["text"]  # used\nshots = [1]  # rows\nseed = 0  # of it\nout = ""'
    )
    write_notebook(tmp_path / "notebooks" / "10_small.ipynb", parameters, "1")
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "10_small.yaml").write_text(SHEET)
    html = report.write(make_plan(tmp_path)).read_text("utf-8")
    first, _, second = html.partition("<h3>10_small/draw ")
    assert first.count("<h3>10_small/report</h3>") == 1  # before the draws that it sums up
    assert "<h4>speech, image " in first and "<h4>text " in first and "<details" not in first
    assert second.count('<details class="job">') == 4
    assert (
        "<summary>speech, image · shots 1, 2 · seed 1 " in second and "<summary>text · shots 1, 2 · seed 2 " in second
    )
    assert "<td >speech, image</td><td >1, 2</td>" in second and "['speech'" not in html and "[1, 2]" not in html


@pytest.mark.parametrize(("value", "shown"), [
    (15498.0, "15498"), (27.0, "27"), (1.0, "1.0000"), (0.25, "0.2500"), (2e-5, "2e-05"), (12345.6, "1.235e+04"),
    (float("nan"), "nan"), ([1, 4], "1, 4"),
])  # fmt: skip
def test_counts_are_shown_whole(value: float, shown: str) -> None:
    assert report._text(value) == shown
