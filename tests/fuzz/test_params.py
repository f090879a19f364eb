"""The doors of the engine: sheets, profiles, notebooks' parameters, and `-p name=value`."""

from __future__ import annotations

import json
import math
import os
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.fuzz.law import NASTY_TEXTS, altered, damaged, door, lawful
from tests.runs.conftest import write_notebook
from xmodal_lib.cli import app
from xmodal_lib.runs.plan import Plan, make_plan, parameters

CELL = """seed = 0  # of the draw
scale = 1.0  # of the value
word = "a"  # any
flag = False  # yes or no
shots = [1, 2]  # a list
names = ["a"]  # of texts
any = None  # of any kind
values = []  # upstream
out = "" """
SHEET = {
    "notebook": "notebooks/10_small.ipynb",
    "parameters": {"scale": 2.5, "word": "b"},
    "jobs": {
        "draw": {
            "matrix": {"seed": [1, 2], "shots": [[1], [2, 4]]},
            "outputs": {"value": "value.json", "metrics": "metrics.json"},
            "resources": {"threads": 1, "mem_mb": 4000, "minutes": 5},
        },
        "report": {"needs": {"values": "10_small/draw/value"}, "outputs": {"metrics": "metrics.json"}, "partial": True},
    },
}
OVER = {"10_small": {"parameters": {"word": "c"}, "jobs": {"draw": {"matrix": {"shots": None, "seed": [3]}}}}}
BOMB = "[&a [x], " + ", ".join(f"&{b} [{','.join(['*' + a] * 9)}]" for a, b in pairwise("abcdefghij")) + "]"
NASTY_YAML = st.sampled_from([
    "&a [*a]", "{<<: {a: 1}}", "? [1]\n: 2", "{[1]: 2}", "!!python/object:os.system x", "!!set {a}", "!!binary =",
    "!!int x", "!!bool x", "!!timestamp x", "!!float ''", "2001-99-99", "2001-01-01", "1:60", "\t", "--- 1\n--- 2",
    "{a: 1, a: 2}", "[" * 2000, "- " * 2000, "*b", "'", "\x00", "\ud7ff", "1" * 5000, "0x" + "f" * 5000,
    "%YAML 9.9\n--- 1", "&a [1, 1]", BOMB,
])  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    write_notebook(folder / "notebooks" / "10_small.ipynb", CELL, "1 + 1")
    (folder / "params" / "profiles").mkdir(parents=True)
    return folder


def write(root: Path, sheet: str | bytes, over: str | bytes = "") -> None:
    for path, text in ((root / "params/10_small.yaml", sheet), (root / "params/profiles/quick.yaml", over)):
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "replace"))


def planned(root: Path) -> Plan:
    """The plan, which is the same after it was written and read."""
    plan = make_plan(root, "quick")
    plan.save(root / "plan.json")
    again = Plan.load(root / "plan.json")
    assert [job.given for job in again.jobs] == [job.given for job in plan.jobs]
    for job in plan.jobs:
        assert ".." not in Path(job.name).parts and not Path(job.name).is_absolute() and job.name.isprintable()
        assert json.loads(job.given)["parameters"].keys() == job.parameters.keys()
    return plan


WORDS = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Cn", "Zl", "Zp"), exclude_characters="\ufeff"), max_size=9
)


@given(seed=st.lists(st.integers(), min_size=1, max_size=3, unique=True), word=WORDS, names=st.lists(WORDS, min_size=1),
       scale=st.floats(allow_nan=False, allow_infinity=False), any=st.none() | st.booleans() | WORDS)  # fmt: skip
@door
def test_what_was_put_in_comes_out(root: Path, seed, word, names, scale, any) -> None:
    values = {"word": word, "names": names, "scale": scale, "any": any}
    sheet = {"notebook": SHEET["notebook"], "matrix": {"seed": seed}, "parameters": values}
    write(root, yaml.safe_dump(sheet, allow_unicode=True))
    assert [job.parameters for job in planned(root).jobs] == [{**values, "seed": s} for s in seed]


@given(st.data())
@door
def test_a_wrong_sheet_or_profile_is_refused_in_a_line(root: Path, data: st.DataObject) -> None:
    sheet, over = SHEET, OVER
    for _ in range(data.draw(st.integers(0, 2))):
        sheet = data.draw(altered(sheet))
    if data.draw(st.booleans()):
        over = data.draw(altered(over))
    texts = [yaml.safe_dump(tree, allow_unicode=data.draw(st.booleans())) for tree in (sheet, over)]
    which = data.draw(st.integers(0, 1))
    if data.draw(st.booleans()):  # a value that only YAML has
        lines = texts[which].splitlines()
        at = data.draw(st.integers(0, len(lines) - 1))
        lines[at] = lines[at].partition(":")[0] + ": " + data.draw(NASTY_YAML)
        texts[which] = "\n".join(lines)
    raw = [text.encode("utf-8", "replace") for text in texts]
    if data.draw(st.booleans()):
        raw[which] = data.draw(damaged(raw[which]))
    write(root, *raw)
    with lawful(ValueError, FileNotFoundError):
        planned(root)


@given(data=st.data())
@door
def test_a_wrong_notebook_is_refused_in_a_line(root: Path, data: st.DataObject) -> None:
    book = json.loads((root / "notebooks" / "10_small.ipynb").read_text())
    cell = data.draw(damaged(CELL.encode()))
    book["cells"][1]["source"] = cell.decode("utf-8", "replace")
    if data.draw(st.booleans()):
        book = data.draw(altered(book))
    raw = json.dumps(book, default=str).encode()
    (root / "notebooks" / "own.ipynb").write_bytes(data.draw(damaged(raw)) if data.draw(st.booleans()) else raw)
    with lawful(ValueError, FileNotFoundError):
        parameters(root, "notebooks/own.ipynb")


def run(root: Path, *words: str) -> str:
    """What `xmodal run 10` says; nothing runs."""
    before = Path.cwd()
    os.chdir(root)
    try:
        result = CliRunner().invoke(app, ["run", "10", "--dry-run", *words])
    finally:
        os.chdir(before)
    assert result.exit_code in (0, 2) and not isinstance(result.exception, Exception), (words, result.exception)
    assert len(result.output.splitlines()) == 1, result.output
    return result.output


@given(name=st.sampled_from(["seed", "scale", "word", "flag", "shots", "names", "any", "values", "out"]) | NASTY_TEXTS,
       value=NASTY_TEXTS | NASTY_YAML | st.floats().map(repr) | st.lists(st.integers()).map(repr))  # fmt: skip
@door
def test_a_parameter_of_the_command_line(root: Path, name: str, value: str) -> None:
    run(root, "-p", f"{name}={value}")


@given(seed=st.integers(), scale=st.floats(allow_nan=False))
@door
def test_a_number_of_the_command_line_is_kept(root: Path, seed: int, scale: float) -> None:
    said = run(root, "-p", f"seed={seed}", "-p", f"scale={scale}")
    assert f"seed={seed}, scale={float(scale)!r}," in said, said
    assert math.isnan(scale) or "nan" not in said.split(", into")[0]
