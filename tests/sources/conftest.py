"""What tests of data sets share: small ones in the real layouts, each written once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sources.layouts import BY_CLASS, VISUAL, WRITERS


class Layouts(dict[str, Path]):
    """Folder of each layout, written when it is first asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def __missing__(self, key: str) -> Path:
        (WRITERS | BY_CLASS | VISUAL)[key](self.root / key)
        self[key] = self.root / key
        return self[key]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Layouts:
    """Every layout; tests that change one copy it."""
    return Layouts(tmp_path_factory.mktemp("data"))


@pytest.fixture
def copied(written: Layouts, tmp_path: Path) -> Callable[[str], Path]:
    """A layout that a test may change."""
    return lambda key: Path(shutil.copytree(written[key], tmp_path / key))
