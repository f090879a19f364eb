"""Pages need nothing from outside and show every kind of output."""

import re
from pathlib import Path

import nbformat
from nbformat import v4

from tests.runs.conftest import write_notebook
from xmodal_lib.runs import pages


def outputs(path: Path, *data: dict) -> None:
    book = nbformat.read(path, 4)
    book.cells[-1].outputs = [v4.new_output("display_data", d) for d in data]
    nbformat.write(book, path)


def test_notebook_page(tmp_path: Path) -> None:
    notebook = tmp_path / "n.ipynb"
    write_notebook(notebook, "seed = 0", "1", text="# T\n\n$x_i < 1$ and\n\n$$\\begin{aligned} a &= b \\end{aligned}$$")
    figure = {"data": [{"y": [1, 2], "name": "</script>"}], "layout": {"height": 300}}
    outputs(
        notebook,
        {pages.PLOTLY: figure, "text/plain": "Figure()"},
        {pages.WIDGET: {"model_id": "1"}, "text/plain": "Widget()"},
        {"image/png": "iVBORw0KGgo="},
    )
    html = pages.notebook_page(notebook, tmp_path, "..")
    assert (
        html.count("<math") == 2 and "mtable" in html and "$" not in html.partition("<main>")[2].partition("newPlot")[0]
    )
    assert '<script src="../plotly.min.js">' in html and (tmp_path / "plotly.min.js").stat().st_size > 1e6
    assert "Plotly.newPlot" in html and "<\\/script>" in html
    assert "A live widget stands here" in html and "Widget()" not in html
    assert 'alt="T: figure"' in html
    assert not re.search(r'(src|href)="?https?:', html)


def test_a_link_to_another_notebook_leads_to_its_results(tmp_path: Path) -> None:
    notebook = tmp_path / "n.ipynb"
    write_notebook(notebook, "seed = 0", text="# T\n\n[there](10_other.ipynb#Result) and [page](https://x.org/a.ipynb)")
    outputs(notebook, {"text/html": '<a href="20_more.ipynb#cell-id=c1">here</a>'})
    html = pages.notebook_page(notebook, tmp_path, "../..")
    assert '"../../index.html#10_other"' in html and '"../../index.html#20_more"' in html
    assert 'href="n.ipynb"' in html and "https://x.org/a.ipynb" in html
    assert "10_other.ipynb#Result" in pages.notebook_page(notebook, tmp_path, ".", home=False)


def test_title_and_question(tmp_path: Path) -> None:
    notebook = tmp_path / "n.ipynb"
    for text in ("# T\n\nWhy\nso?\n\n- **Paper**: x", "# T\nWhy so?\n## More", "# T\n\nWhy so?\n- a list"):
        write_notebook(notebook, "seed = 0", text=text)
        assert pages.title_and_question(notebook) == ("T", "Why so?")
    write_notebook(notebook, "seed = 0", text="no heading")
    assert pages.title_and_question(notebook) == ("n", "")


def test_a_formula_that_cannot_be_read_stays_tex() -> None:
    assert pages.formula("\\frac{", "inline") == "<code>\\frac{</code>"
