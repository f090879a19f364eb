"""Where caches live, and how a file is written so that a crash leaves the old one or none, never a half."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import platformdirs


class Unusable(RuntimeError):
    """Something the user can mend (a missing file, a wrong hash): one clear line says what, and what to do."""


def home() -> Path:
    """The cache folder: $XMODAL_HOME, or the platform's cache folder for this user."""
    return Path(os.environ.get("XMODAL_HOME") or platformdirs.user_cache_path("xmodal"))


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def said_by(error: Exception, most: int = 400) -> str:
    """What an error says, in one line; the middle of a long one is left out."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= most else f"{said[: most // 2]} … {said[-most // 2 :]}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` (file or folder to be made), renamed to it on success and removed on failure.

    A folder that is already at `path` is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}.partial")
    try:
        yield partial
        if partial.is_dir() and path.is_dir():
            shutil.rmtree(path)
        partial.replace(path)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
