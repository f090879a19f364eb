"""What a reader opens from disk, in a real browser without a network: the index, a notebook's page, the two to explore.

The index is of three jobs of one small notebook, executed for real: one done, one failed, one that waits for both.
"""

import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pandas as pd
import pytest
from nbconvert import HTMLExporter
from playwright.sync_api import Browser, Page

from tests.runs.conftest import sheet, write_notebook
from xmodal_lib.runs import report
from xmodal_lib.runs.pages import notebook_page
from xmodal_lib.runs.plan import make_plan
from xmodal_lib.views.interactive import accuracy_curve_html

pytestmark = pytest.mark.slow

TEXT = r"""# 10 · A small notebook

**Question.** What is *asked*, with $\alpha_i < 1$?

$$L(W) = \tfrac12 \operatorname{mean}\mathrm{CE}(\text{image rows}) + \frac{\sum_i z_i}{\sqrt n}$$

Its code is `xmodal_lib.methods.adaptation.LinearProbe._gradients`, a long word on a telephone."""
CELLS = (
    """if seed == 2:
    raise RuntimeError("the second draw is broken: " + "a long reason " * 9)
import json
from pathlib import Path
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from xmodal_lib.views import explore_page, plots
from xmodal_lib.views.collection import Collection
from xmodal_lib.views.notebook import Results, show_source
results = Results(out)
show_source(plots.loss_curve)""",
    'results.figure(plots.loss_curve([(0, 2.0), (9, 1.0)]), "loss", "Loss falls from two to one")',
    "go.Figure(go.Scatter(y=[1, 2, 3]))",
    """wide = pd.DataFrame([[0.123456789] * 20] * 2, columns=[f"column number {i}" for i in range(20)])
results.table(wide, "wide")
results.metrics(**{f"WiSE-FT of image + text, text start, {k}-shot, few-shot val": k / 7 for k in range(12)})
Path(out, "value.json").write_text(json.dumps(seed * scale))
points = {"row": ["image:0", "text:0"], "item": 0, "modality": ["image", "text"], "class": ["a", "b"]}
kept = Collection(pd.DataFrame(points), {}, {"only map": np.eye(2)}).save(Path(out, "collection"))
explore_page.write(kept, Path(out, "explore.html"), title="The maps")
print("one long line " * 30)
wide""",
)
RUN = """import sys
from pathlib import Path
from xmodal_lib.runs.plan import make_plan
from xmodal_lib.runs.run import run_job
for job in sys.argv[2:]:
    run_job(make_plan(Path(sys.argv[1])), job)"""
PAGES = ["index.html", "10_small/draw/seed=1/notebook.html", "10_small/draw/seed=2/failed.html",
         "10_small/draw/seed=1/explore.html"]  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    values = 'seed = 0  # of the draw\nscale = 1.0  # of the value\nvalues = []  # upstream\nout = ""  # folder'
    write_notebook(root / "notebooks" / "10_small.ipynb", values, *CELLS, text=TEXT)
    sheet(root, seeds=[1, 2], scale=1.0)
    jobs = ["10_small/draw/seed=1", "10_small/draw/seed=2"]
    ended = subprocess.run([sys.executable, "-c", RUN, root, *jobs], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    plan = make_plan(root)
    states = [report.state(plan, job) for job in plan.jobs]
    assert states == ["done", "failed", "missing"], (plan.results / jobs[0] / "failed.json").read_text()
    return report.write(plan).parent


def open_whole(page: Page, path: Path) -> None:
    """Open a page, unfold what is folded, and have every picture loaded."""
    page.goto(path.as_uri())
    page.evaluate("""() => {
        document.querySelectorAll("details").forEach(folded => { folded.open = true; });
        return Promise.all([...document.images].map(image => { image.loading = "eager"; return image.decode(); }));
    }""")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole(results: Path, page: Page, name: str) -> None:
    """Pictures load and are described, links lead somewhere, and nothing sticks out on a desk or on a telephone."""
    open_whole(page, results / name)
    for image in page.locator("img").all():
        assert image.evaluate("i => i.naturalWidth") > 0 and (image.get_attribute("alt") or "").strip()
    for href in page.eval_on_selector_all("a[href]:not(.modebar a)", "links => links.map(link => link.href)"):
        address, fragment = urldefrag(href)
        assert urlsplit(address).scheme == "file", href
        assert Path(unquote(urlsplit(address).path)).exists(), href
        names = [fragment, unquote(fragment)]  # a browser tries both
        assert not fragment or page.evaluate("ids => ids.some(id => document.getElementById(id))", names), href
    assert page.title() and page.locator("html").get_attribute("lang") == "en"
    assert page.locator("h1").count() == 1
    for width in (1200, 400):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(150)
        wide = page.evaluate("""() => [document.documentElement.scrollWidth, [...document.querySelectorAll("body *")]
            .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, pre, table, math"))
            .map(e => e.tagName + "." + e.className + " " + e.textContent.slice(0, 50)).slice(0, 3)]""")
        assert wide[0] <= width, f"{wide[0]} of {width} pixels: {wide[1]}"
        cut = "boxes => boxes.filter(box => box.scrollWidth > box.clientWidth).map(box => box.innerText)"
        assert not page.eval_on_selector_all(".highlight pre", cut), "code is read whole, not scrolled"


def test_the_index_tells_what_happened(results: Path, page: Page) -> None:
    open_whole(page, results / "index.html")
    shown = page.inner_text("body")
    for words in ("1 done", "1 failed", "1 not run", "the second draw is broken", "xmodal reproduce 10_small/report"):
        assert words in shown
    figure = page.locator("figure")
    assert figure.locator("img").get_attribute("alt") == "Loss falls from two to one"
    assert figure.locator("figcaption a").all_inner_texts() == ["PDF", "SVG"]
    assert "points.parquet" not in shown
    page.get_by_role("link", name="Explore the maps").click()
    page.wait_for_selector("body[data-ready]")
    assert "2 points · 1 item ·" in page.inner_text("#count")
    open_whole(page, results / "index.html")
    page.get_by_role("link", name="Executed notebook", exact=True).click()
    assert page.locator("h1").inner_text().startswith("10 · A small notebook")
    page.get_by_role("link", name="All results").click()
    assert page.locator("h1").inner_text() == "Results"


def test_a_notebook_page_shows_formulas_and_figures(results: Path, page: Page) -> None:
    open_whole(page, results / PAGES[1])
    inline, block = page.locator("math").all()
    for formula in (inline, block):
        assert formula.evaluate("m => m.namespaceURI") == "http://www.w3.org/1998/Math/MathML"
        box = formula.bounding_box()
        assert box and box["width"] > 10 and box["height"] > 8
    heights = [formula.evaluate("m => m.getBoundingClientRect().height") for formula in (inline, block)]
    assert heights[1] > 1.5 * heights[0], "a fraction is higher than a letter"
    assert "$" not in page.locator("main").inner_text() and "\\frac" not in page.locator("main").inner_text()
    page.wait_for_selector(".js-plotly-plot .main-svg")
    assert page.locator("main img").get_attribute("alt") == "Loss falls from two to one"
    assert page.locator(".highlight").filter(has_text="def loss_curve").count() == 1


def move_to(page: Page, x: float, y: float) -> None:
    """Move the mouse onto the point (x, y) of the axes."""
    left, top = page.evaluate(
        """([x, y]) => {
            const chart = document.getElementById("chart"), box = chart.getBoundingClientRect();
            const {xaxis, yaxis} = chart._fullLayout;
            return [box.left + xaxis._offset + xaxis.d2p(x), box.top + yaxis._offset + yaxis.d2p(y)];
        }""",
        [x, y],
    )
    page.mouse.move(left - 40, top - 40)
    page.mouse.move(left, top, steps=5)


def test_hover_on_the_curve_says_the_value(page: Page, tmp_path: Path) -> None:
    arms = {"linear probe": 0.3, "zero-shot": 0.6}
    rows = [(method, k, s, value + k / 100) for method, value in arms.items() for k in (1, 4, 16) for s in (1, 2)]
    frame = pd.DataFrame(rows, columns=["method", "shot", "seed", "value"])
    frame = frame.assign(track="few-shot val", metric="accuracy")
    page.goto(accuracy_curve_html(frame, tmp_path / "curve.html", title="Accuracy").as_uri())
    page.wait_for_selector("#chart .main-svg")
    for name, shot, value in (("linear probe", 4, 34.0), ("zero-shot", 16, 76.0)):
        move_to(page, shot, value)
        box = page.locator(".hoverlayer .hovertext").filter(has_text=f"{value:.1f} %")
        box.wait_for()
        assert f"{name}{shot} shots: {value:.1f} %" in box.evaluate("e => e.textContent")


INK = """image => {  // the share of its pixels that are not white
    const sheet = Object.assign(document.createElement("canvas"), {width: 200, height: 200});
    const pen = sheet.getContext("2d");
    pen.fillStyle = "white";
    pen.fillRect(0, 0, 200, 200);
    pen.drawImage(image, 0, 0, 200, 200);
    return pen.getImageData(0, 0, 200, 200).data.filter((value, i) => i % 4 < 3 && value < 240).length / 120000;
}"""


@pytest.mark.parametrize("ours", [True, False], ids=["our page", "nbconvert's"])
def test_the_explorer_notebook_is_not_blank_without_a_network(browser: Browser, tmp_path: Path, ours: bool) -> None:
    """The committed notebook 61: a picture stands where the live explorer was, and nothing waits for a widget."""
    notebook, path = Path(__file__).parents[2] / "notebooks" / "61_explorer.ipynb", tmp_path / "page.html"
    written = notebook_page(notebook, tmp_path, ".") if ours else HTMLExporter().from_filename(notebook)[0]
    assert notebook.stat().st_size < 300_000 and "widget-view" not in written
    path.write_text(written, "utf-8")
    with browser.new_context(offline=True) as context:
        page = context.new_page()
        page.goto(path.as_uri(), wait_until="domcontentloaded")
        images = page.locator("main img")
        page.wait_for_function("document.images.length === 3 && [...document.images].every(image => image.complete)")
        assert all(image.evaluate(INK) > 0.01 for image in images.all())
        box = images.last.bounding_box()
        assert box and box["width"] > 300, "the map"
        if ours:  # the other has no place for it
            assert str(images.last.get_attribute("alt")).startswith(
                "Map of 743 points (464 image, 103 text, 176 speech"
            )
