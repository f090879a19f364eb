"""The page to explore, opened from disk in a real browser without a network: each gesture, and what a reader sees."""

import csv
import io
import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from PIL import Image
from playwright.sync_api import Page
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tests.views.collections import KINDS, colour, small, tone
from xmodal_lib.views import explore_page, neighbours, stored
from xmodal_lib.views.collection import Collection

pytestmark = pytest.mark.slow


def written(collection: Collection, folder: Path) -> Path:
    return explore_page.write(collection.save(folder / "collection"), folder / "explore.html", title="A <small> world")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(small(), tmp_path_factory.mktemp("page"))


@pytest.fixture
def shown(page: Page, path: Path) -> Page:
    return opening(page, path)


def opening(page: Page, path: Path) -> Page:
    page.emulate_media(reduced_motion="reduce")
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready]")
    return page


def places(page: Page, xy: np.ndarray, view: int = 0) -> np.ndarray:
    """Where on the screen the points (n, 2) of a map must be: two of them are asked for, the others follow."""
    ends = [int(np.nanargmin(xy.sum(1))), int(np.nanargmax(xy.sum(1)))]
    seen = np.array(page.evaluate("""([lines, view]) => lines.map(line => {
        const { canvas } = app.views[view], box = canvas.getBoundingClientRect(), [x, y] = app.views[view].at(line);
        return [box.left + x, box.top + y];
    })""", [ends, view]))  # fmt: skip
    scale = (seen[1] - seen[0]) / (xy[ends[1]] - xy[ends[0]])
    assert scale[0] == pytest.approx(-scale[1], rel=1e-3)  # as long to the right as up
    return seen[0] + (xy - xy[ends[0]]) * scale


def alone(at: np.ndarray, lines: range) -> list[int]:
    """Those of these lines that no other point is near to."""
    return [i for i in lines if np.sort(np.hypot(*(at - at[i]).T))[1] > 12]


def until(page: Page, expression: str) -> None:
    """Waits until it is true (`wait_for_function` needs eval, which the page's own policy forbids)."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"not true within 10 s: {expression}")


def selected(page: Page) -> set[str]:
    return set(page.evaluate('[...app.state.selected].map(line => app.data.value("row", line))'))


def lasso(page: Page, polygon: np.ndarray) -> None:
    page.mouse.move(*polygon[0])
    page.mouse.down()
    for corner in polygon[1:]:
        page.mouse.move(*corner)
    page.mouse.up()


def test_hover_shows_the_right_item_after_a_filter_and_other_colours(shown: Page) -> None:
    at = places(shown, small().maps["map before"])
    shown.select_option("#colour", "modality")
    shown.select_option("#shape", "class")
    shown.get_by_label("speech").uncheck()
    for line in alone(at[:54], range(27))[:4]:
        shown.mouse.move(*(at[line] - 30))
        shown.mouse.move(*at[line])
        card = shown.locator("#card")
        assert card.get_attribute("data-line") == str(line)
        assert f"name of {line}" in card.inner_text() and "modality image" in card.inner_text()
        picture = Image.open(io.BytesIO(card.locator(".thumbnail").screenshot())).convert("RGB")
        pixel = picture.getpixel((picture.width // 2, picture.height // 2))
        assert isinstance(pixel, tuple)
        assert max(abs(a - b) for a, b in zip(pixel, colour(line), strict=True)) < 30
    hidden = next(i for i in range(54, 81) if np.hypot(*(at[:54] - at[i]).T).min() > 16)
    shown.mouse.move(*at[hidden])
    assert shown.locator("#card").is_hidden(), "what is filtered out cannot be pointed at"


def test_every_lasso_selects_what_a_polygon_test_says(shown: Page) -> None:
    at, rng = places(shown, small().maps["map before"]), np.random.default_rng(5)
    rows = small().points["row"].to_numpy()
    shown.click("#lasso")
    for _ in range(5):
        angles = np.sort(rng.uniform(0, 2 * math.pi, 9))
        middle, reach = rng.uniform(at.min(0) + 90, at.max(0) - 90), rng.uniform(60, 260, (9, 1))
        polygon = np.round(middle + reach * np.c_[np.cos(angles), np.sin(angles)])
        polygon = polygon.clip(at.min(0) - 15, at.max(0) + 15)
        inner, outer = (Polygon(polygon).contains_points(at, radius=r) for r in (-0.6, 0.6))
        lasso(shown, polygon)
        found = selected(shown)
        sure = inner == outer  # the others lie on the line itself
        assert sure.mean() > 0.95 and {r for r in found if sure[np.flatnonzero(rows == r)[0]]} == set(
            rows[inner & sure]
        )
        count = shown.locator("#selection-name").inner_text()
        assert count.startswith(f"Selection: {len(found)} point") or not found
        tiles = shown.locator("#panel .tile").evaluate_all("tiles => tiles.map(tile => Number(tile.dataset.line))")
        assert {rows[line] for line in tiles} == found


def nearest(z: np.ndarray) -> dict[str, np.ndarray]:
    """The five nearest lines of each modality to each line of `small()`."""
    kinds, lines = small().points["modality"].to_numpy(str), np.arange(len(z))
    return {m: neighbours.nearest_rows(neighbours.unit(z), lines, lines[kinds == m], 5) for m in KINDS}


def test_a_click_shows_the_item_and_plays_its_sound(shown: Page) -> None:
    at = places(shown, small().maps["map before"])
    line = alone(at, range(54, 81))[0]
    item = line - 54
    shown.mouse.click(*at[line])
    until(shown, "!!player && player.duration > 0.2 && (player.played.length > 0 || !player.paused)")
    assert shown.locator("#item-name").inner_text() == f"name of {item}"
    until(shown, "document.querySelector('#item audio').duration > 0.2")
    assert shown.locator("#item audio").evaluate("sound => sound.duration") == pytest.approx(
        len(tone(0)) / 16_000, abs=0.1
    )
    assert shown.locator("#item .modality:not(.near) .tile").evaluate_all(
        "tiles => tiles.map(tile => Number(tile.dataset.line))") == [item, 27 + item]  # fmt: skip
    near = nearest(small().spaces["before"])
    asked = shown.locator("#item .near").evaluate_all(
        "rows => rows.map(row => [...row.querySelectorAll('.tile')].map(tile => Number(tile.dataset.line)))"
    )
    assert asked == [near[m][line].tolist() for m in KINDS]


def test_search_select_save_and_open_again(shown: Page, tmp_path: Path) -> None:
    shown.fill("#query", "NAME of 12")
    assert shown.locator("#matches").inner_text() == "3 matches"
    shown.keyboard.press("Enter")
    assert selected(shown) == {"image:12", "text:12", "speech:12"}
    shown.click("#tab-Confusion")
    assert "3 of 3 are answered right" in shown.locator("#panel").inner_text()  # item 12 is of class 0
    shown.click("#tab-Table")
    shown.get_by_role("button", name="name or words").click()
    assert shown.locator("#panel tbody tr").count() == 3
    saved = {}
    for kind in ("csv", "json"):
        with shown.expect_download() as waiting:
            shown.click(f"#{kind}")
        saved[kind] = tmp_path / f"selection.{kind}"
        waiting.value.save_as(saved[kind])
    rows = list(csv.DictReader(io.StringIO(saved["csv"].read_text("utf-8-sig"))))
    points = small().points.set_index("row")
    assert {row["row"] for row in rows} == selected(shown)
    assert float(rows[0]["margin"]) == pytest.approx(points["margin"][rows[0]["row"]], rel=1e-4)
    assert json.loads(saved["json"].read_text())["selections"]["selection"] == [row["row"] for row in rows]
    shown.click("#clear")
    assert "Nothing is selected" in shown.locator("#panel").inner_text() and shown.locator("#csv").is_disabled()
    shown.set_input_files("#file", saved["json"])
    shown.wait_for_selector("#panel tbody tr")
    assert selected(shown) == {row["row"] for row in rows}


def test_two_maps_share_the_selection_and_show_what_changed(shown: Page) -> None:
    shown.click("#pair")
    assert shown.locator("figure select").evaluate_all("all => all.map(s => s.selectedOptions[0].text)") == [
        "map before", "map after"]  # fmt: skip
    at = places(shown, small().maps["map after"], view=1)
    left, right = at.min(0) - 12, at.max(0) + 12
    shown.keyboard.down("Shift")
    lasso(shown, np.array([left, [right[0], left[1]], right, [left[0], right[1]]]))
    shown.keyboard.up("Shift")
    assert len(selected(shown)) == 81
    shown.click("#tab-Changed")
    near = [nearest(z) for z in small().spaces.values()]
    kept = [np.mean([len(np.intersect1d(near[0][m][i], near[1][m][i])) / 5 for m in near[0]]) for i in range(81)]
    assert f"{round(100 * np.mean(kept))} % of the nearest neighbours stay" in shown.locator("#panel").inner_text()
    first = int(shown.locator("#panel .tile").first.get_attribute("data-line") or -1)
    assert kept[first] == pytest.approx(min(kept))
    assert "Trust the map after a little." in shown.locator("#maps").inner_text()
    assert "Modality gap in the space “after”: image to text" in shown.locator("#maps").inner_text()


def test_what_is_missing_is_said(page: Page, tmp_path: Path) -> None:
    xy = small().maps["map before"].copy()
    xy[1] = np.nan
    odd = "</script><img src=x onerror=document.title='broken'>"
    points = small().points.assign(name=odd).assign(**{"class": "only"})

    def gone(number: int) -> None:
        raise FileNotFoundError(number)

    folder = written(small(points=points, maps={"m": xy}, about={}, open={"image": gone, "speech": gone}), tmp_path)
    opening(page, folder)
    assert "1 of 81 points are not on this map" in page.locator("figcaption").inner_text()
    assert "Nothing is selected" in page.locator("#panel").inner_text() and page.locator("#pair").is_hidden()
    page.evaluate("app.open(0)")
    assert page.locator("#item-name").inner_text() == odd and page.title() == "A <small> world"
    for modality in ("image", "text", "speech"):
        assert f"{modality} missing" in page.locator("#item").inner_text()
    page.click("#select-shown")
    page.click("#tab-Counts")
    assert "81 of 81" in page.locator("#panel").inner_text() and len(selected(page)) == 81
    page.get_by_role("button", name="Hide all of class").click()
    page.click("#select-shown")
    assert not selected(page) and "0 of 81 points" in page.locator("#count").inner_text()


def test_everything_is_done_by_keys(shown: Page) -> None:
    focused = []
    for _ in range(40):
        shown.keyboard.press("Tab")
        focused.append(shown.evaluate("""() => {
            const e = document.activeElement, { outlineWidth, outlineStyle } = getComputedStyle(e);
            return [e.id || e.tagName, e === document.body || parseFloat(outlineWidth) >= 2 && outlineStyle !== "none"];
        }"""))  # fmt: skip
        if focused[-1][0] == "CANVAS":
            break
    assert all(seen for _, seen in focused), f"focus cannot be seen: {[name for name, seen in focused if not seen]}"
    assert {"query", "lasso", "pair", "help", "colour", "shape", "means", "gap"} <= {name for name, _ in focused}
    at, walked = places(shown, small().maps["map before"]), []
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "ArrowLeft", "ArrowDown"):
        shown.keyboard.press(key)
        walked.append(shown.evaluate("app.state.current"))
    way = [at[b] - at[a] for a, b in pairwise(walked)]
    assert way[0][0] > 0 and way[1][1] < 0 and way[2][0] < 0 and way[3][1] > 0
    assert shown.locator("#said").inner_text().startswith(small().points["modality"][walked[-1]])
    shown.keyboard.press(" ")
    assert selected(shown) == {small().points["row"][walked[-1]]}
    shown.keyboard.press("Enter")
    assert shown.evaluate("document.activeElement.id") == "item"
    shown.keyboard.press("Escape")
    assert not selected(shown)
    shown.locator("figure canvas").focus()
    shown.keyboard.press("+")
    assert shown.evaluate("app.views[0].zoom") > 1
    shown.keyboard.press("0")
    shown.keyboard.press("l")
    assert shown.evaluate("[app.views[0].zoom, app.state.tool]") == [1, "lasso"]
    assert "27 points, " in shown.locator("figcaption details p").text_content()


# contrast of each text with the nearest background that is not transparent, as WCAG defines it
CONTRAST = """() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const rgb = colour => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = c => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => sum + weight * linear(c[i] / 255), 0);
  const texts = [...document.querySelectorAll("body *")].filter(e => e.checkVisibility() && !e.disabled &&
    [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && !e.closest(".unseen, .skip, option"));
  return texts.flatMap(e => {
    let behind = e;
    while (behind && rgb(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(rgb(getComputedStyle(behind).backgroundColor))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    return ratio < 4.5 ? [`${e.tagName}.${e.className} ${e.textContent.slice(0, 30)}: ${ratio.toFixed(1)}`] : [];
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_and_fit_a_telephone(shown: Page, scheme: str) -> None:
    shown.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    shown.click("#select-shown")
    shown.evaluate("app.open(0)")
    for tab in ("Gallery", "Table", "Counts", "Confusion"):
        shown.click(f"#tab-{tab}")
        assert shown.evaluate(CONTRAST) == []
    for width in (1200, 400):
        shown.set_viewport_size({"width": width, "height": 900})
        shown.click("#tab-Gallery")
        wide = shown.evaluate("""() => [...document.querySelectorAll("body *")].filter(e => e.checkVisibility() &&
            e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, .unseen, #tabs, #card"))
            .map(e => e.tagName + "." + e.className).slice(0, 3)""")
        assert shown.evaluate("document.documentElement.scrollWidth") <= width and wide == []


def test_five_thousand_items_with_sound_are_one_file_under_14_mb(page: Page, tmp_path: Path) -> None:
    """Pictures and words are of 5,000 items; for time, 60 sounds, as small as those of 5,000 would be, take turns."""
    n, rng = 5000, np.random.default_rng(0)
    texture = Image.fromarray(rng.integers(0, 255, (400, 400, 3), np.uint8)).resize(
        (1600, 1600), Image.Resampling.BICUBIC
    )
    corners = rng.integers(0, 1500, (n, 2)).tolist()

    def texts(number: int) -> str:
        return f"the words of item {number}"

    def pictures(number: int) -> Image.Image:
        left, top = corners[number]
        return texture.crop((left, top, left + 64, top + 64))

    base = small(items=n, classes=40, open={"image": pictures, "text": texts}, about={})
    folder = base.save(tmp_path / "collection")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "SOUNDS", stored.SOUNDS * 60 // n)
        noise = rng.uniform(0.2, 1, 19_200).astype(np.float32)
        sounds = stored._sounds([(tone(i, 1.2) * np.roll(noise, 99 * i), 16_000) for i in range(60)])
    turn = [sounds[i % 60] for i in range(n)]
    (folder / "sounds.bin").write_bytes(b"".join(turn))
    arrays = load_file(folder / "arrays.safetensors")
    with safe_open(folder / "arrays.safetensors", "np") as file:
        about = file.metadata()
    arrays["ends"][2 * n :] = np.cumsum([len(sound) for sound in turn])
    save_file(arrays, folder / "arrays.safetensors", about)
    path = explore_page.write(folder, tmp_path / "explore.html")
    assert 9e6 < path.stat().st_size < 14e6
    opening(page, path)
    assert "15000 points · 5000 items" in page.locator("#count").inner_text()
    line = 2 * n + 4321
    page.evaluate(f"app.open({line})")
    until(page, "!!player && player.duration > 0.5")
