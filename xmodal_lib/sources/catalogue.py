"""The data sets that are known by name, and the door for your own: what `xmodal data list|get|check` shows."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xmodal_lib.sources.source import Source

# a source is imported when it is first asked for: each brings libraries of its own


@dataclass(frozen=True)
class Entry:
    """One data set: `get` fetches and builds what is missing, `check` looks without fetching; both say what is here.

    `check` raises FileNotFoundError where something is missing, and ValueError or Unusable where it is damaged.
    """

    name: str
    description: str
    licence: str
    get: Callable[[], str]
    check: Callable[[], str]
    fetches: bool = False  # whether `get` has anything to fetch, so that something can be missing


def entries() -> list[Entry]:
    """The data sets that are known by name."""
    return [
        Entry(
            "emoji",
            "861 concepts drawn in nine styles, named in words, spoken; fetches about 30 MB of pinned npm packages",
            "by drawing set: Apache-2.0, MIT, CC BY 4.0, CC BY-SA 4.0; speech by eSpeak NG (GPL-3)",
            _get_emoji,
            _check_emoji,
            fetches=True,
        ),
        Entry(
            "digits",
            "1,797 handwritten digits of 8x8 pixels, phrases that name them, spoken names; fetches nothing",
            "scans CC BY 4.0 (UCI); speech by eSpeak NG (GPL-3)",
            lambda: _said(_digits()),
            lambda: _said(_digits()),
        ),
        Entry(
            "manifest",
            "your own data: give a path in place of a name. A CSV with columns image,text,audio,label,split,item (any "
            "of the first three may be empty, paths relative to the CSV), or a folder of pictures for each class",
            "yours to state",
            lambda: "nothing to fetch; `xmodal data check PATH` reads your CSV or folder and says what it found",
            lambda: "nothing to look at; `xmodal data check PATH` reads your CSV or folder and says what it found",
        ),
    ]


def entry(name: str) -> Entry:
    """The entry of a name, or one made for the path of a CSV or of a folder.

    Raises:
        ValueError: there is neither such a name nor such a path.
    """
    known = {e.name: e for e in entries()}
    if name in known:
        return known[name]
    if Path(name).exists():
        look = partial(_found, Path(name))
        return Entry(name, "your own data", "yours to state", look, look)
    near = difflib.get_close_matches(name, known, 1)
    hint = (
        f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}, or give the path of a CSV or folder"
    )
    raise ValueError(f"there is no data set, file or folder {name!r}; {hint}")


def load(name: str) -> Source:
    """The source of a name, or of the path of a CSV or of a folder with a folder of pictures for each class.

    Raises:
        ValueError: there is neither such a name nor such a path, or the data are not what they should be.
    """
    if name == "emoji":
        from xmodal_lib.sources import emoji

        return emoji.load()
    if name == "digits":
        return _digits()
    return _own(Path(entry(name).name))


def _own(path: Path) -> Source:
    from xmodal_lib.sources import manifest

    if path.name == "manifest" and not path.exists():
        raise ValueError("manifest stands for your own data: give the path of a CSV or of a folder instead")
    return manifest.folders(path) if path.is_dir() else manifest.read(path)


def _found(path: Path) -> str:
    from xmodal_lib.sources import manifest

    return manifest.found(_own(path))


def _digits() -> Source:
    from xmodal_lib.sources import digits

    return digits.load()


def _get_emoji() -> str:
    from xmodal_lib.sources import emoji, packages

    packages.fetch_all(packages.PACKAGES.values())
    return _said(emoji.load())


def _check_emoji() -> str:
    """Every file of every package against the checksum it was unpacked with."""
    from xmodal_lib.sources import packages

    known = list(packages.PACKAGES.values())
    missing = [str(package) for package in known if not (package.folder / packages.STAMP).is_file()]
    if missing:
        raise FileNotFoundError(f"{len(missing)} of {len(known)} packages are missing ({missing[0]}, ...)")
    count = 0
    for package in known:
        paths = packages.files(package)
        packages.read_many(package, paths)
        count += len(paths)
    return f"{len(known)} packages, {count} files, all as fetched"


def _said(source: Source) -> str:
    rows = ", ".join(f"{m} {len(t)}" for m, t in source.tables.rows.items())
    return f"{len(source.tables.classes)} classes; rows: {rows}"
