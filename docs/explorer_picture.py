"""docs/explorer.png: the explorer of notebook 61 in a real JupyterLab, with one item open.

python docs/explorer_picture.py            # needs chromium; about a minute beside what the notebook takes
"""

from __future__ import annotations

import io
import re
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.browser.conftest import FLAGS
from tests.browser.lab import ROOT, Lab

FIGURES = re.compile(r"^results\.figure.*$", re.MULTILINE)
LAST = """drawings = points[(points["modality"] == "image") & points["correct"]]
explorer.set_maps("t-SNE, bridge")
explorer.open(drawings.index[drawings["name"] == "{item}"][0])
explorer"""


def picture(browser: Browser, path: Path, item: str = "tiger", width: int = 1560) -> Path:
    """Run the code of notebook 61, open an item, and save what is shown as a PNG under 300 kB."""
    book = nbformat.read(ROOT / "notebooks" / "61_explorer.ipynb", 4)
    cells = [c.source for c in book.cells if c.cell_type == "code"]
    last = next(i for i, source in enumerate(cells) if source.startswith("explorer.show("))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "scene.py").write_text(FIGURES.sub("", "\n\n".join(cells[:last])), "utf-8")
        with Lab(Path(folder), browser, ["from scene import *", LAST.format(item=item)], width, 1200) as lab:
            lab.run_all(timeout=900)
            lab.canvas().wait_for()
            lab.page.wait_for_timeout(5000)  # labels, lines and fonts
            raw = lab.page.locator(".xm-all").screenshot()
    image = Image.open(io.BytesIO(raw)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    path.parent.mkdir(exist_ok=True)
    image.save(path, optimize=True)
    return path


if __name__ == "__main__":
    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        print(picture(chromium, ROOT / "docs" / "explorer.png"))
        chromium.close()
