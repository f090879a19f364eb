"""How long the explorer takes in a real JupyterLab and Chromium: Run All to picture, lasso to gallery, slider.

    python benchmarks/explorer.py                    # 50,000 and 200,000 points, three times each; writes explorer.md
    python benchmarks/explorer.py --points 50000 --repeats 1

Headless Chromium with software rendering, no graphics card. The clock is on the browser's side, and starts when the
kernel is there and has imported nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.browser.conftest import FLAGS
from tests.browser.lab import Lab, waited

SCENE = """import numpy as np, pandas as pd
from PIL import Image
from xmodal_lib.views.collection import Collection
from xmodal_lib.views.explorer import Explorer
from xmodal_lib.views.what_if import Study"""
MAKE = """from scene_imports import *
n, rng = {n}, np.random.default_rng(0)
items, y = np.arange(n) // 2, rng.integers(0, 20, n // 2 + 1)
label, modality = y[items], np.array(["image", "text"], object)[np.arange(n) % 2]
names = np.array([f"class {{c}}" for c in range(20)], object)
points = pd.DataFrame(dict(row=[f"{{m}}:{{i}}" for i, m in enumerate(modality)], item=items, modality=modality,
                           name=[f"thing {{i}}" for i in items], ))
points["predicted"], points["class"] = names[rng.integers(0, 20, n)], names[label]
means = rng.normal(size=(20, 64)).astype(np.float32)
z = (means[label] + rng.normal(size=(n, 64))).astype(np.float32)
xy = (rng.normal(size=(20, 2))[label] * 4 + rng.normal(size=(n, 2))).astype(np.float32)
opens = {{"image": lambda i: Image.new("RGB", (96, 96), (i % 255, 90, 160)), "text": lambda i: f"words {{i}}"}}
about = {{"map": {{"space": "space", "note": "Measured."}}}}
found = Collection(points, {{"space": z}}, {{"map": xy}}, about, opens)
asked = np.flatnonzero(modality == "image")
words = (means + rng.normal(size=means.shape)).astype(np.float32)
heads = {{k: (means + rng.normal(size=means.shape) / k).astype(np.float32) for k in (1, 2, 4, 8, 16)}}
def predict(shots, alpha):
    return names[(z[asked] @ (alpha * heads[shots] + (1 - alpha) * words).T).argmax(1)]
sliders = {{"shots": list(heads), "alpha": [i / 20 for i in range(21)]}}
study = Study(sliders, predict, asked, names[label[asked]])"""
CELLS = ["1 + 1  # there is a kernel", """import json, time
began = time.perf_counter()
from scene_imports import *
imported = time.perf_counter()""", """from scene import *
json.dump(dict(imports=imported - began, data=time.perf_counter() - imported), open("seconds.json", "w"))""",
         """explorer = Explorer(found, height=480, studies={"WiSE-FT": study})
explorer"""]  # fmt: skip
CURVE = ".xm-panel svg[aria-label^='accuracy along alpha']"
INK = """() => {  // share of pixels of the first map that are not white, as the screen has them
    const canvas = document.querySelector(".xm-map canvas");
    if (!canvas || !canvas.width) return 0;
    const small = document.createElement("canvas");
    small.width = small.height = 64;
    const pen = small.getContext("2d");
    pen.drawImage(canvas, 0, 0, 64, 64);
    const seen = pen.getImageData(0, 0, 64, 64).data;
    let ink = 0;
    for (let i = 0; i < seen.length; i += 4) ink += seen[i + 3] > 0 && seen[i] + seen[i + 1] + seen[i + 2] < 750;
    return ink / 4096;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, nargs="+", default=[50_000, 200_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    chosen = parser.parse_args()
    load = os.getloadavg()[0]
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        lines = []
        for n in chosen.points:
            runs = pd.DataFrame([once(browser, n) for _ in range(chosen.repeats)])
            print(n, runs.round(2).to_dict("list"), flush=True)
            lines.append({"points": f"{n:,}", **runs.min().map("{:.1f}".format)})
        browser.close()
    table = pd.DataFrame(lines)
    rows = ["| " + " | ".join(table.columns) + " |", "|" + " ---: |" * len(table.columns)]
    rows += ["| " + " | ".join(map(str, line)) + " |" for line in table.itertuples(index=False)]
    chosen.out.write_text(TEXT.format(
        cores=os.cpu_count(), python=platform.python_version(), jscatter=version("jupyter-scatter"),
        lab=version("jupyterlab"), load=load, end=os.getloadavg()[0], repeats=chosen.repeats, table="\n".join(rows),
    ), "utf-8")  # fmt: skip
    print(chosen.out.read_text("utf-8"))


def once(browser: Browser, n: int) -> dict[str, float]:
    """Seconds of each step, in a JupyterLab and a kernel of their own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "scene_imports.py").write_text(SCENE, "utf-8")
        Path(folder, "scene.py").write_text(MAKE.format(n=n), "utf-8")
        with Lab(Path(folder), browser, CELLS) as lab:
            page = lab.page
            page.locator(".jp-CodeCell .jp-Editor").first.click()
            page.keyboard.press("Shift+Enter")
            waited(lambda: "[1]:" in page.locator(".jp-InputPrompt").all_inner_texts(), 300, "no kernel")
            page.get_by_role("menuitem", name="Run", exact=True).click()
            page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
            began = time.monotonic()
            page.wait_for_function(f"({INK})() > 0.01", polling=100, timeout=300_000)  # reading a canvas costs
            seconds = {"Run All to picture": time.monotonic() - began}
            seconds |= json.loads(Path(folder, "seconds.json").read_text("utf-8"))
            page.wait_for_timeout(2000)
            seconds |= {name: lasso(lab, radius) for name, radius in (("small lasso", 0.12), ("big lasso", 0.7))}
            page.get_by_role("button", name="What if", exact=True).click()
            seconds["slider"] = slider(page)
            page.get_by_label("Colour the map by right and wrong").check()
            page.wait_for_timeout(2000)
            return seconds | {"slider, recoloured": slider(page)}


def lasso(lab: Lab, radius: float) -> float:
    turn = np.linspace(0, 2 * np.pi, 12)[:-1]
    said = lab.page.locator(".xm-panel h3").all_inner_texts()
    lab.lasso(lab.pixels(radius * np.c_[np.cos(turn), np.sin(turn)]))
    began = time.monotonic()
    waited(lambda: lab.page.locator(".xm-panel h3").all_inner_texts() != said, 120, "no selection")
    lab.page.locator(".xm-panel .gallery figure").first.wait_for()
    return time.monotonic() - began


def slider(page: Page) -> float:
    """Of a key on the slider alpha until accuracy and curves are of the new value: the median of five."""
    handle, taken = page.locator(".xm-panel .noUi-handle").nth(1), []
    for _ in range(5):
        now = page.locator(CURVE).get_attribute("aria-label")
        began = time.monotonic()
        handle.press("ArrowRight")
        page.wait_for_function("([at, now]) => document.querySelector(at).ariaLabel !== now", arg=[CURVE, now])
        taken.append(time.monotonic() - began)
    return statistics.median(taken)


TEXT = """# The explorer in JupyterLab

Written by `python benchmarks/explorer.py`: headless Chromium with software rendering, {cores} cores, Python {python},
jupyter-scatter {jscatter}, jupyterlab {lab}; load average {load:.1f} at the start and {end:.1f} at the end. Seconds of
wall clock, the least of {repeats}, each in a JupyterLab and a kernel of its own.

{table}

* **Run All to picture**: from choosing *Run All* until the canvas of the explorer holds ink, with the two steps that
  follow. **imports**: the library and what it needs, in a kernel that has imported nothing. **data**: making the
  points and the classifier behind the sliders.
* **lasso**: from the end of the gesture until the gallery of the selection is there; the big one holds most points.
* **slider**: from a key on a slider until the accuracy and both curves (26 values) are of the new value, of a
  classifier that answers half of the points; median of five. **recoloured**: while the map follows, too.
* Asked for at 50,000 points, on a machine that does nothing else: a picture under 4, a gallery under 1.5, a slider
  under 0.5 seconds.
"""


if __name__ == "__main__":
    main()
