"""One browser for the tests of this folder, and the rule for a machine without it: skip and say so, but fail in CI."""

import os
import re
import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="session")
def chromium() -> str:
    """The program; .ci/run installs it where it is root."""
    if program := shutil.which("chromium"):
        return program
    reason = "needs the program `chromium` (Debian: apt install chromium)"
    if os.environ.get("CI") == "true":
        pytest.fail(f"in CI a browser test may not be skipped: it {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page without a network; at the end nothing has failed, and nothing from outside was asked for."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    trouble: list[str] = []
    context.route(re.compile("^(http|ws)s?:"), lambda route: route.abort())
    page = context.new_page()
    page.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda r: trouble.append(r.url) if urlsplit(r.url).scheme in ("http", "https") else None)
    page.on("requestfailed", lambda request: trouble.append(f"{request.url[:200]}: {request.failure}"))
    yield page
    context.close()
    assert not trouble
