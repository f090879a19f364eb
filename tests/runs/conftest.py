"""A small project of real notebooks, run by the real engine."""

from pathlib import Path

import nbformat
import pytest
from nbformat import v4

DRAW = """import json, sys
from pathlib import Path
if Path("../broken").exists() and seed == 2:
    raise RuntimeError("the second draw is broken")
print("a line for the terminal")
if out:
    Path(out, "value.json").write_text(json.dumps(seed * scale))
    Path(out, "metrics.json").write_text(json.dumps({"value": seed * scale}))"""

REPORT = """import json
from pathlib import Path
values = [json.loads(Path(path).read_text()) for path in values]
if out:
    Path(out, "metrics.json").write_text(json.dumps({"sum": sum(values)}))"""


def write_notebook(path: Path, parameters: str, *cells: str, text: str = "# A title\n\nWhat is *asked*?") -> None:
    book = v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    book.cells = [v4.new_markdown_cell(text), v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    book.cells += [v4.new_code_cell(cell) for cell in cells]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`10_small` draws with two seeds and a report over both."""
    write_notebook(
        tmp_path / "notebooks" / "10_small.ipynb",
        'seed = 0  # of the draw; "=" is no trap\nscale = 1.0  # of the value\nvalues = []  # upstream\nout = ""',
        "if not values:\n    " + DRAW.replace("\n", "\n    ") + "\nelse:\n    " + REPORT.replace("\n", "\n    "),
    )
    sheet(tmp_path, seeds=[1, 2], scale=1.0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sheet(root: Path, *, seeds: list[int], scale: float) -> None:
    (root / "params").mkdir(exist_ok=True)
    (root / "params" / "10_small.yaml").write_text(f"""
notebook: notebooks/10_small.ipynb
jobs:
  draw:
    matrix: {{seed: {seeds}}}
    parameters: {{scale: {scale}}}
    outputs: {{value: value.json, metrics: metrics.json}}
  report:
    needs: {{values: 10_small/draw}}
    outputs: {{metrics: metrics.json}}
""")
