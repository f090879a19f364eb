"""The doors of `split_json` and `few_shot`: split files in CoOp's form, and published index files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.law import NAMES, altered, damaged, door, lawful
from xmodal_lib.sources import few_shot, picture_lists, split_json
from xmodal_lib.sources.source import Source

PARTS = {"train": 4, "val": 2, "test": 2}  # rows a class
ROWS = {part: [[f"{part}/{c}_{n}.jpg", c, f"class {c}"] for c in range(3) for n in range(count)]
        for part, count in PARTS.items()}  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    root = tmp_path_factory.mktemp("pictures")
    (root / "split.json").write_text(json.dumps(ROWS))
    for rows in ROWS.values():
        for file, _, _ in rows:
            (root / file).parent.mkdir(exist_ok=True)
            (root / file).write_bytes(b"x")  # nothing is opened
    return picture_lists.from_split(root / "split.json")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("given") / "given.json"


def write(path: Path, tree: object, data: st.DataObject) -> None:
    """A tree as JSON, its bytes damaged in half of the cases."""
    raw = json.dumps(tree, default=str, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "replace")
    path.write_bytes(data.draw(damaged(raw)) if data.draw(st.booleans()) else raw)


@given(names=st.lists(NAMES, min_size=1, max_size=4, unique=True), files=st.data())
@door
def test_what_was_put_in_comes_out(path: Path, names: list[str], files: st.DataObject) -> None:
    chars = st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"), exclude_characters="\\/.")
    paths = files.draw(st.lists(st.text(chars, min_size=1, max_size=9), min_size=len(names), max_size=9, unique=True))
    rows = [(f"a/{file}.jpg", n % len(names)) for n, file in enumerate(paths)]
    lists = split_json.Lists({"train": rows, "val": [], "test": rows[:0]}, tuple(names))
    split_json.write(path, lists)
    assert asdict(split_json.read(path)) == asdict(lists)


@given(st.data())
@door
def test_a_wrong_split_file_is_refused_in_a_line(path: Path, data: st.DataObject) -> None:
    tree = ROWS
    for _ in range(data.draw(st.integers(0, 2))):
        tree = data.draw(altered(tree))
    write(path, tree, data)
    with lawful():
        lists = split_json.read(path)
        where = {}
        for part, rows in lists.rows.items():
            for file, label in rows:
                assert 0 <= label < len(lists.names) and where.setdefault(Path(file), (part, label)) == (part, label)
                assert not Path(file).is_absolute() and ".." not in Path(file).parts


@given(shot=st.integers(1, 4), seed=st.integers(), prefix=st.sampled_from(["", "./data/x", "C:\\x\\"]))
@door
def test_a_draw_comes_back(source: Source, path: Path, shot: int, seed: int, prefix: str) -> None:
    drawn = few_shot.draw(source, shot=shot, seed=seed)
    few_shot.write(path, source, drawn, prefix)
    assert few_shot.read(path, source) == drawn


@given(st.data())
@door
def test_a_wrong_index_file_is_refused_in_a_line(source: Source, path: Path, data: st.DataObject) -> None:
    drawn = few_shot.draw(source, shot=2, seed=1)
    few_shot.write(path, source, drawn)
    tree = json.loads(path.read_text())
    for _ in range(data.draw(st.integers(0, 2))):
        tree = data.draw(altered(tree))
    write(path, tree, data)
    with lawful():
        read = few_shot.read(path, source)
        assert all(0 <= n < 12 for n in read.train) and all(0 <= n < 6 for n in read.val)
