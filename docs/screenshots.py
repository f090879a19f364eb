"""The pictures of the README, of real results in headless Chromium:  python docs/screenshots.py [RESULT]

RESULT is a job that keeps a collection, such as 61_explorer/seed=1; without it, the first in results/.
"""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
from pathlib import Path

from explorer_picture import FLAGS
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from xmodal_lib.cli import collection_of
from xmodal_lib.views import explore_page

HERE = Path(__file__).parent


def main() -> None:
    found = sorted(p.parent for p in (HERE.parent / "results").rglob("points.parquet"))
    if len(sys.argv) < 2 and not found:
        raise SystemExit("no job has kept a collection; run: xmodal reproduce 60")
    collection = collection_of(sys.argv[1]) if len(sys.argv) > 1 else found[0]
    with sync_playwright() as p, tempfile.TemporaryDirectory() as scratch:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = explore_page.write(collection, Path(scratch, "explore.html"), title="Drawings, names and spoken names")
        explore(browser, page)
        browser.close()


def explore(browser: Browser, path: Path) -> None:
    """explore_page.png: an item in all its modalities, its neighbours, and the gallery of a lasso around it."""
    page = browser.new_page(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready]")
    page.evaluate("app.open(app.data.tiles.findIndex(tile => tile >= 0), false, true)")
    draw_lasso(page)
    page.wait_for_timeout(500)
    save(page, HERE / "explore_page.png")


def draw_lasso(page: Page) -> None:
    """Around the item that is open."""
    x, y = page.evaluate("""() => {
        const view = app.views[0], box = view.canvas.getBoundingClientRect(), [x, y] = view.at(app.state.current);
        return [box.left + x, box.top + y];
    }""")
    page.keyboard.down("Shift")
    page.mouse.move(x + 50, y)
    page.mouse.down()
    for angle in range(0, 360, 12):
        page.mouse.move(x + 50 * math.cos(math.radians(angle)), y + 50 * math.sin(math.radians(angle)))
    page.mouse.up()
    page.keyboard.up("Shift")
    page.mouse.move(5, 5)


def save(page: Page, path: Path) -> None:
    """A PNG of few colours, which is small."""
    page.screenshot(path=path)
    picture = Image.open(path).convert("RGB")
    picture.quantize(256, kmeans=3, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}  {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
