"""The explorer in a real JupyterLab and a real Chromium: a gesture is checked by the row ids that arrive in Python."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.path import Path as Polygon
from playwright.sync_api import Browser

from tests.browser.lab import Lab, waited
from xmodal_lib.views.bench import WIDE

pytestmark = pytest.mark.slow

N = 120
SCENE = """import json, threading, time
from pathlib import Path
import numpy as np, pandas as pd
from PIL import Image
from xmodal_lib.views.collection import Collection
from xmodal_lib.views.explorer import Explorer
from xmodal_lib.views.what_if import Study

points, x = pd.read_parquet("points.parquet"), np.load("arrays.npz")
items, t = points["item"].tolist(), np.arange(4000) / 16000
opens = {"image": lambda i: None if i == 9 else Image.new("RGB", (40, 40), (i, 80, 160)),
         "text": lambda i: f"words of thing {items[i]}",
         "speech": lambda i: (np.sin(t * (2000 + 10 * i)), 16000)}
spaces, maps = {"before": x["z"], "after": x["z2"]}, {"first": x["xy"], "second": x["xy2"]}
about = {"first": {"space": "before", "note": "Half of the neighbours stay."}, "second": {"space": "after"}}
collection = Collection(points, spaces, maps, about, opens)
asked = np.flatnonzero(points["modality"] == "image")
true = points["class"].to_numpy()[asked]
study = Study({"alpha": (0.0, 0.5, 1.0)}, lambda alpha: np.where(np.arange(len(true)) < alpha * len(true), true, ""),
              asked, true)
explorer, seen = Explorer(collection, "first", height=420, studies={"mix": study}), []

def arrived(found):
    time.sleep(0.3)  # a slow observer
    seen.append(points["row"].iloc[found].tolist())

def tell():
    while True:
        state = dict(seen=seen, shown=points["row"][explorer.shown].tolist(), column=explorer.column)
        Path("state.part").write_text(json.dumps(state))
        Path("state.part").replace("state.json")
        time.sleep(0.1)

explorer.on_select(arrived)
threading.Thread(target=tell, daemon=True).start()
"""


WORDS = """canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some(v => v)"""


class World:
    """What the notebook shows, known here too: coordinates, ids, and the frame that each map is drawn in."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        cell = np.stack(np.meshgrid(np.arange(12), np.arange(10)), -1).reshape(-1, 2)  # apart, so that lassos are clear
        self.xy = (cell + rng.uniform(-0.3, 0.3, (N, 2))).astype(np.float32)
        self.xy2 = (self.xy[:, ::-1] * [1, -1]).astype(np.float32)
        self.xy2[4] = np.nan  # not on the second map
        items, self.modality = np.arange(N) // 3, np.array(["image", "text", "speech"], object)[np.arange(N) % 3]
        self.points = pd.DataFrame({"row": [f"{m}:{i}" for i, m in enumerate(self.modality)], "item": items,
                                    "modality": self.modality, "class": [f"class {i % 5}" for i in items],
                                    "name": [f"thing {i}" for i in items], "weight": rng.random(N)})  # fmt: skip
        self.z = rng.normal(size=(N, 8)).astype(np.float32)

    def write(self, folder: Path) -> None:
        self.points.to_parquet(folder / "points.parquet")
        (folder / "scene.py").write_text(SCENE, "utf-8")
        np.savez(folder / "arrays.npz", xy=self.xy, xy2=self.xy2, z=self.z, z2=self.z[::-1])

    def ids(self, points: np.ndarray) -> set[str]:
        return set(self.points["row"][points])

    def on_screen(self, lab: Lab, number: int = 0) -> np.ndarray:
        xy = (self.xy, self.xy2)[number]
        low, high = np.nanmin(xy, axis=0), np.nanmax(xy, axis=0)
        wide, long = WIDE[lab.page.locator(".xm-map").count() - 1], high - low
        return lab.pixels((xy - (low + high) / 2) / max(long[0] / wide, long[1]) * 2 * 0.94, number)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def lab(browser: Browser, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    world.write(folder)
    with Lab(folder, browser, ["from scene import explorer", "explorer"]) as lab:
        lab.run_all()
        lab.canvas().wait_for()
        lab.page.get_by_text(f"{N} of {N} points shown").wait_for()
        waited(lambda: (folder / "state.json").exists(), 60, "no state")
        lab.page.wait_for_timeout(1500)  # the first drawing
        yield lab
        assert not lab.errors


def polygon(rng: np.random.Generator, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners on the screen of a lasso that no point lies near, and the points (numbers) inside it."""
    seen = np.isfinite(at).all(1)
    for _ in range(50_000):
        turn = np.sort(rng.uniform(0, 2 * np.pi, 7))
        centre = at[rng.choice(np.flatnonzero(seen))]
        corners = centre + rng.uniform(30, 90) * np.c_[np.cos(turn), np.sin(turn)]
        ends = np.roll(corners, -1, 0)
        along = np.clip(((at[:, None] - corners) * (ends - corners)).sum(2) / ((ends - corners) ** 2).sum(1), 0, 1)
        away = np.linalg.norm(at[:, None] - corners - along[..., None] * (ends - corners), axis=2).min(1)
        inside = np.flatnonzero(Polygon(corners).contains_points(at) & seen)
        low, high = np.nanmin(at, axis=0), np.nanmax(at, axis=0)
        apart = np.linalg.norm(corners - ends, axis=1).min() > 12
        if apart and np.nanmin(away) > 4 and len(inside) > 2 and (low < corners).all() and (corners < high).all():
            return corners, inside
    raise AssertionError("no polygon")


def arrivals(lab: Lab, n: int) -> list[list[str]]:
    """What has arrived in Python, when that is `n` selections."""
    return waited(lambda: (seen := lab.state()["seen"]) and len(seen) >= n and seen, 60, f"{n} selections")


def choose(lab: Lab, label: str, value: str) -> None:
    lab.page.locator(".widget-dropdown", has_text=label).locator("select").select_option(value)


def state(lab: Lab, **wanted: Any) -> None:
    waited(lambda: all(lab.state()[k] == v for k, v in wanted.items()), 60, f"{lab.state()} is not {wanted}")


def test_twenty_lassos_in_a_row_arrive_as_they_were_drawn(lab: Lab, world: World) -> None:
    rng, at = np.random.default_rng(1), world.on_screen(lab)
    before = len(lab.state()["seen"])
    drawn = []
    for k in range(20):
        corners, inside = polygon(rng, at)
        lab.lasso(corners)
        drawn.append(world.ids(inside))
        arrivals(lab, before + k + 1)
    assert [set(ids) for ids in lab.state()["seen"][before:]] == drawn
    assert lab.page.get_by_text(f"{len(drawn[-1])} points selected").is_visible()


def test_filter_colour_and_order_keep_the_link_to_the_item(lab: Lab, world: World) -> None:
    rng, at = np.random.default_rng(2), world.on_screen(lab)
    for column, words in (("modality", "thing 1"), ("weight", "text"), ("class", "class 3")):
        choose(lab, "Colour", column)
        lab.page.get_by_placeholder("words, then Enter").fill(words)
        lab.page.keyboard.press("Enter")
        text = world.points[["modality", "class", "name"]].agg(" ".join, axis=1)
        shown = np.array([all(w in t for w in words.split()) for t in text])
        state(lab, column=column, shown=world.points["row"][shown].tolist())
        before = len(lab.state()["seen"])
        while True:
            corners, inside = polygon(rng, at)
            if shown[inside].sum() > 2:  # one point would be an item
                break
        lab.lasso(corners)
        assert set(arrivals(lab, before + 1)[-1]) == world.ids(inside[shown[inside]])
    lab.page.get_by_role("button", name="Show all").click()
    state(lab, shown=world.points["row"].tolist())
    choose(lab, "Sorted by", "weight")
    last = lab.state()["seen"][-1]
    lightest = world.points.set_index("row").loc[last].sort_values("weight").index[0]
    lab.page.locator(".widget-dropdown", has_text="Open one").locator("select").select_option(index=1)
    assert arrivals(lab, before + 2)[-1] == [lightest]


def test_a_click_opens_the_item_in_all_modalities(lab: Lab, world: World) -> None:
    at = world.on_screen(lab)
    lab.tool("pan")
    for point in (33, 61, 9):  # an image, a text, and an image that is missing
        before, item = len(lab.state()["seen"]), world.points["item"][point]
        lab.page.mouse.move(*(at[point] + [9, 9]))
        lab.page.mouse.move(*at[point], steps=4)
        lab.page.wait_for_timeout(200)
        lab.page.mouse.click(*at[point])
        assert arrivals(lab, before + 1)[-1] == [world.points["row"][point]]
        panel = lab.page.locator(".xm-panel")
        panel.get_by_role("heading", name=f"thing {item}", exact=True).wait_for()
        panel.get_by_text(f"words of thing {item}", exact=True).first.wait_for()
        assert panel.locator("audio").first.get_attribute("src").startswith("data:audio/wav;base64,UklGR")  # type: ignore[union-attr]
        if point == 9:
            panel.get_by_text("the image is missing or cannot be read").wait_for()
        else:
            assert panel.locator(".seen img").evaluate("i => i.naturalWidth") > 0
        near = [panel.get_by_text(f"nearest {m}", exact=True).count() for m in ("image", "text", "speech")]
        assert near == [1, 1, 1]
    lab.page.mouse.move(*(at[33] + [9, 9]))
    lab.page.mouse.move(*at[33], steps=4)  # hovering shows the picture of the item
    picture = "div[style*='data:image/webp']"
    waited(lambda: lab.page.locator(".xm-map").locator(picture).count(), 60, "no thumbnail on hover")


def test_a_second_map_shares_the_selection(lab: Lab, world: World) -> None:
    choose(lab, "Beside it", "second")
    lab.page.locator(".xm-map canvas").nth(1).wait_for()
    lab.page.get_by_text("1 of 120 points are not on the map").wait_for()
    named = lab.page.locator(".xm-map").nth(1).locator("canvas").nth(1)
    waited(lambda: named.evaluate(WORDS), 60, "no labels on the second map")
    lab.page.wait_for_timeout(1500)
    rng = np.random.default_rng(3)
    for number in (1, 0):
        before = len(lab.state()["seen"])
        corners, inside = polygon(rng, world.on_screen(lab, number))
        lab.lasso(corners, number)
        assert set(arrivals(lab, before + 1)[-1]) == world.ids(inside)
    lab.page.get_by_role("button", name="Moved", exact=True).click()
    lab.page.get_by_text("Neighbourhoods that changed").wait_for()
    choose(lab, "Beside it", "one map only")
    lab.canvas(1).wait_for(state="hidden")


def test_a_selection_is_named_and_saved(lab: Lab, world: World) -> None:
    lab.page.get_by_role("button", name="Selection", exact=True).click()
    lab.page.get_by_placeholder("for this selection").fill("odd ones")
    lab.page.get_by_role("button", name="Keep", exact=True).click()
    lab.page.get_by_text("Kept as “odd ones”.").wait_for()
    lab.page.get_by_role("button", name="Save", exact=True).click()
    lab.page.get_by_text("Saved to selections.json.").wait_for()
    saved = json.loads((lab.folder / "selections.json").read_text("utf-8"))
    assert saved["selections"] == {"odd ones": lab.state()["seen"][-1]}


def test_a_slider_changes_the_accuracy_at_once(lab: Lab) -> None:
    lab.page.get_by_role("button", name="What if", exact=True).click()
    big = lab.page.locator(".xm-panel .big")
    assert big.inner_text() == "50.0%"
    handle = lab.page.locator(".xm-panel .noUi-handle").first

    def pressed(key: str, before: str | None) -> bool:
        """The handle took the key. One that comes while the panel is still being laid out is lost, as any user's is."""
        handle.press(key)
        lab.page.wait_for_timeout(1000)
        return handle.get_attribute("aria-valuenow") != before

    for key, accuracy in (("ArrowRight", "100.0%"), ("ArrowLeft", "50.0%"), ("ArrowLeft", "0.0%")):
        before = handle.get_attribute("aria-valuenow")
        waited(lambda key=key, before=before: pressed(key, before), 20, f"the slider does not take {key}")
        lab.page.locator(".xm-panel .big", has_text=accuracy).wait_for()


def test_every_control_has_a_name_and_is_reached_by_key(lab: Lab) -> None:
    found = lab.page.locator(".xm-all").locator("select:visible, input:visible, button:visible").evaluate_all(
        """controls => controls.map(c => [c.labels?.length ? c.labels[0].innerText : c.innerText || c.title,
                                          c.disabled || c.tabIndex])"""
    )  # fmt: skip
    assert len(found) > 20
    assert not [entry for entry in found if not (entry[0] or "").strip() or entry[1] == -1], "no name, or out of reach"
