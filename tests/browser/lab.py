"""A real JupyterLab with one notebook, driven by a real Chromium: for the tests and the benchmark of the explorer.

with Lab(folder, browser, cells) as lab:      # the last cell shows an explorer
    lab.run_all()
    lab.lasso(polygon)                        # corners (x, y) in the map's own coordinates
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from playwright.sync_api import Browser, Locator, Page

ROOT = Path(__file__).parents[2]

# the browser hands on the last move of a frame only, and the map takes a corner every 10 ms: each has its own frame
PAUSE = """() => new Promise(done => {
    requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 12)));
})"""


class Lab:
    """JupyterLab on a free port with settings of its own, and the notebook opened in it."""

    def __init__(self, folder: Path, browser: Browser, cells: Sequence[str], width: int = 1280, height: int = 1080):
        self.folder, self.cells = folder, list(cells)
        kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells], metadata=kernel)
        nbformat.write(book, folder / "lab.ipynb")
        quiet = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}  # it asks a server
        (folder / "config" / "labconfig").mkdir(parents=True)
        (folder / "config" / "labconfig" / "page_config.json").write_text(json.dumps(quiet), "utf-8")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        own = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "RUNTIME", "DATA")}
        own |= {"IPYTHONDIR": str(folder / "ipython"), "PYTHONPATH": str(ROOT), "JUPYTER_PREFER_ENV_PATH": "1"}
        env = {k: v for k, v in os.environ.items() if k not in ("XMODAL_HEADLESS", "XMODAL_LIVE")} | own
        options = ["--no-browser", "--allow-root", f"--port={self.port}", "--ServerApp.port_retries=0",
                   "--IdentityProvider.token=", "--ServerApp.password=", f"--ServerApp.root_dir={folder}"]  # fmt: skip
        self.log = (folder / "lab.log").open("w")
        self.server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], env=env, cwd=folder,
                                       stdout=self.log, stderr=subprocess.STDOUT)  # fmt: skip
        self.context = browser.new_context(viewport={"width": width, "height": height})
        self.context.set_default_timeout(60_000)  # a machine may be busy; a wait ends as soon as it can
        self.page: Page = self.context.new_page()
        self.errors: list[str] = []
        self.tools: dict[int, str] = {}  # taken, by map
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def __enter__(self) -> Lab:
        try:
            waited(self._answers, 90, "JupyterLab does not answer")
            self.page.goto(f"http://127.0.0.1:{self.port}/lab/tree/lab.ipynb")
            self.page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=90_000)
            self._accept()
            for box in self.page.locator(".jp-SideBar .lm-mod-current").all():  # room for the notebook
                box.click()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()
        self.server.terminate()  # kernels end too
        try:
            self.server.wait(15)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()
        self.log.close()

    def run_all(self, timeout: float = 300) -> float:
        """Run all cells from the menu; returns the seconds until the last one has ended.

        Counts prove that they ran: JupyterLab does nothing, and says idle, while its "Select Kernel" dialog is open.
        """
        prompts = self.page.locator(".jp-CodeCell .jp-InputPrompt")
        counts = [f"[{i + 1}]:" for i in range(len(self.cells))]
        for _ in range(20):  # without a kernel nothing is run, nor said
            self._accept()
            self.page.get_by_role("menuitem", name="Run", exact=True).click()
            self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
            began = time.monotonic()
            self.page.wait_for_timeout(3000)
            if set(prompts.all_inner_texts()) != {"[ ]:"}:
                break
        waited(lambda: prompts.all_inner_texts() == counts, timeout,
               f"cells did not run; {self.page.locator('.jp-OutputArea').all_inner_texts()}")  # fmt: skip
        return time.monotonic() - began

    def _accept(self) -> None:
        with contextlib.suppress(Exception):  # the dialog "Select Kernel" comes now, later or not at all
            self.page.locator(".jp-Dialog .jp-mod-accept").click(timeout=2000)

    def canvas(self, number: int = 0) -> Locator:
        """The points of map `number`."""
        return self.page.locator(".xm-map").nth(number).locator("canvas").first

    def pixels(self, frame: np.ndarray, number: int = 0) -> np.ndarray:
        """Where on the screen coordinates (m, 2) of the unzoomed frame -1..1 of a map are: (m, 2)."""
        self.canvas(number).scroll_into_view_if_needed()  # whole, or a part of the gesture would be lost
        box = self.canvas(number).bounding_box()
        assert box
        half = min(box["width"], box["height"]) / 2
        centre = np.array([box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])
        return centre + np.asarray(frame) * half * [1, -1]

    def lasso(self, corners: np.ndarray, number: int = 0) -> None:
        """Draw a lasso through corners (m, 2) on the screen; one that ends where it began would be a click.

        With the lasso of the map's toolbar: Shift, its key, is taken by JupyterLab to select cells.
        """
        self.tool("lasso", number)
        mouse = self.page.mouse
        mouse.move(*corners[0])
        self.page.evaluate(PAUSE)
        mouse.down()
        for x, y in [corners[0] + [1, 0], *corners[1:]]:  # it begins at the first move, not at the press
            mouse.move(x, y)
            self.page.evaluate(PAUSE)
        mouse.up()

    def tool(self, name: str, number: int = 0) -> None:
        """Take a tool of the toolbar of map `number`: "pan" or "lasso"."""
        if self.tools.get(number) != name:
            place = {"pan": 0, "lasso": 1}[name]
            self.page.locator(".xm-map").nth(number).locator("button").nth(place).click()
            self.tools[number] = name

    def state(self) -> dict[str, Any]:
        """What a cell wrote last to state.json."""
        return json.loads((self.folder / "state.json").read_text("utf-8"))

    def _answers(self) -> bool:
        if self.server.poll() is not None:
            raise RuntimeError((self.folder / "lab.log").read_text("utf-8")[-2000:])
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api", timeout=10) as answer:
                return answer.status == 200
        except OSError:
            return False


def waited(ready: Callable[[], Any], seconds: float, otherwise: str) -> Any:
    """The first true answer of `ready`, asked again and again."""
    end = time.monotonic() + seconds
    while not (answer := ready()):
        if time.monotonic() > end:
            raise AssertionError(f"{otherwise} (after {seconds:g} s)")
        time.sleep(0.05)
    return answer
