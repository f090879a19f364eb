"""Split files in CoOp's form: {"train": [[path, label, class name], ...], "val": [...], "test": [...]}.

Paths are relative to a folder of pictures, labels are 0..C-1 in whichever order. The order of the lines matters: the
published few-shot draws are positions in these lists (see `few_shot`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from xmodal_lib.home import is_file, replacing, said_by

PARTS = ("train", "val", "test")
NO_TEXT = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # backslashes, controls, halves of characters
NAMED = 3  # of many paths, how many a message names


@dataclass(frozen=True)
class Lists:
    """What lists of pictures say: for each part its (path, label) in order, and the name of each label."""

    rows: Mapping[str, Sequence[tuple[str, int]]]
    names: Sequence[str]
    classes: tuple[str, ...] = ()  # names that differ; made of `names` unless given

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", self.classes or distinct(self.names))


def read(path: str | Path) -> Lists:
    """The lists of a split file; a path that one list names twice is kept twice, so that positions hold.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or not of this form, labels of train are not 0..C-1, a label has two names, or a
            path leaves the folder, has two labels or is in two lists.
    """
    path = Path(path)
    content = parsed(path, "fetch it again")
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in PARTS):
        raise ValueError(f"{path.name} is no split file: it needs the lists train, val and test")
    try:
        return checked({part: [_row(part, n, row) for n, row in enumerate(content[part])] for part in PARTS})
    except ValueError as error:
        raise ValueError(f"{path.name}: {said_by(error)}") from None


def parsed(path: Path, remedy: str) -> Any:
    """What a JSON file says, in which no key stands twice.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged; `remedy` says what to do.
    """
    if not is_file(path):
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return json.loads(path.read_text("utf-8-sig"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is damaged: {said_by(error, 120)}; {remedy}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return found


def checked(rows: Mapping[str, Sequence[tuple[str, int, str]]]) -> Lists:
    """Lists of (path, label, class name), if they agree (see `read`)."""
    name_of: dict[int, str] = {}
    home: dict[str, tuple[str, int]] = {}
    for part, listed in rows.items():
        for path, label, name in listed:
            if name_of.setdefault(label, name) != name:
                raise ValueError(f"label {label} is {name_of[label]!r} and, in {part}, {name!r}; keep one name")
            file = PurePosixPath(path).as_posix()  # ./a.jpg and a.jpg are one file
            if home.setdefault(file, (part, label)) != (part, label):
                other = home[file]
                what = "in two lists" if other[0] != part else "of two labels"
                raise ValueError(f"{path!r} is {what}: {other[0]} {other[1]} and {part} {label}; remove one of the two")
    seen = {label for _, label, _ in rows.get("train", [])}
    if not seen:
        raise ValueError("the list train is empty")
    gap = next((label for label in range(len(seen)) if label not in seen), None)
    if gap is not None:
        raise ValueError(f"labels of the {len(seen)} classes of train must be 0..{len(seen) - 1}; {gap} is missing")
    if others := sorted(set(name_of) - seen):
        raise ValueError(f"{len(others)} labels have no row in train (first: {others[0]}, {name_of[others[0]]!r})")
    short = {part: [(path, label) for path, label, _ in listed] for part, listed in rows.items()}
    return Lists(short, tuple(name_of[label] for label in range(len(name_of))))


def write(path: str | Path, lists: Lists) -> None:
    """Write a split file that `read` reads."""
    content = {part: [[file, label, lists.names[label]] for file, label in rows] for part, rows in lists.rows.items()}
    with replacing(Path(path)) as partial:
        partial.write_text(json.dumps(content), "utf-8")


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Names with the label behind those that several classes have: ImageNet has two each of missile and sunglasses.

    >>> distinct(["missile", "mitten", "missile"])
    ('missile [0]', 'mitten', 'missile [2]')
    """
    count = Counter(names)
    made = tuple(f"{name} [{label}]" if count[name] > 1 else name for label, name in enumerate(names))
    if len(set(made)) < len(made):
        twice = next(name for name in made if made.count(name) > 1)
        raise ValueError(f"class {twice!r} is named twice; class names must differ")
    return made


def repeated(lists: Lists) -> list[str]:
    """Paths that one list names more than once."""
    count = Counter(path for rows in lists.rows.values() for path, _ in rows)
    return [path for path, n in count.items() if n > 1]


def some(found: Sequence[str]) -> str:
    """The first of many, for a message."""
    return "first: " + ", ".join(found[:NAMED])


def _row(part: str, number: int, row: Any) -> tuple[str, int, str]:
    where = f"{part}, row {number}"
    typed = isinstance(row, list) and [type(cell) for cell in row] == [str, int, str]
    if not typed or row[1] < 0 or not row[2].strip() or NO_TEXT.search(row[2]):
        raise ValueError(f"{where}: {json.dumps(row)[:60]} is no [path, label, class name], with a label from 0 on")
    path = PurePosixPath(row[0])
    if path.is_absolute() or ".." in path.parts or not path.name or NO_TEXT.search(row[0]):
        raise ValueError(f"{where}: {row[0][:60]!r} is no path below the folder of pictures, written with /")
    return row[0], row[1], row[2]
