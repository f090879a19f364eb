import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from tests.views.test_plots import NAMES, points, scores
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


def test_a_name_cannot_end_the_script_of_the_map(tmp_path):
    frame = points(3).assign(name="</script><script>alert(1)</script>")
    page = interactive.latent_map_html(frame, tmp_path / "map.html", colour="name", hover=["class"])
    assert "</script><script>alert" not in page.read_text()
    with pytest.raises(ValueError, match="1 thumbnails for 200 points"):
        interactive.latent_map_html(frame, tmp_path / "map.html", thumbnails=[None])


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_hover_shows_the_picture_and_the_words_of_the_point(tmp_path):
    from playwright.sync_api import sync_playwright

    frame = pd.DataFrame({"x": [0.0, 1, 0, 1], "y": [0.0, 0, 1, 1], "class": ["a", "b", "a", "b"]})
    frame = frame.assign(modality=["image", "image", "text", "image"], name=["p", "q", "<i>r</i>", "s"])
    thumbnails = [Image.new("RGB", (32, 32), "red"), Image.new("RGB", (32, 32), "blue"), None, Image.new("RGB", (9, 9))]
    page_path = interactive.latent_map_html(
        frame.iloc[[2, 0, 1, 3]], tmp_path / "map.html", thumbnails=[thumbnails[i] for i in (2, 0, 1, 3)],
        hover=["name"], note="trust it",
    )  # fmt: skip
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page, asked = browser.new_page(viewport={"width": 1000, "height": 850}), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_path.as_uri())
        page.wait_for_selector("#chart .main-svg")
        for (x, y), words, place in [
            ((0, 1), ["class: a", "modality: text", "name: <i>r</i>"], None),
            ((1, 0), ["class: b", "modality: image", "name: q"], "-128px 0px"),
            ((1, 1), ["class: b", "modality: image", "name: s"], "0px -128px"),
        ]:
            at = page.evaluate(
                """([x, y]) => {
                    const chart = document.getElementById("chart"), box = chart.getBoundingClientRect();
                    const {xaxis, yaxis} = chart._fullLayout;
                    return [box.left + xaxis._offset + xaxis.c2p(x), box.top + yaxis._offset + yaxis.c2p(y)];
                }""",
                [x, y],
            )
            page.mouse.move(at[0] - 40, at[1] - 40)
            page.mouse.move(*at, steps=5)
            page.wait_for_timeout(300)
            card = page.locator("body > div").last
            assert card.is_visible()
            assert [w for w in card.locator("div").all_text_contents() if w] == words
            style = card.locator(".thumbnail").all()
            assert (style[0].evaluate("e => e.style.backgroundPosition") if style else None) == place
        assert {url.split(":")[0] for url in asked} <= {"file", "data"}
        assert "trust it" in page.inner_text("body")
        browser.close()
