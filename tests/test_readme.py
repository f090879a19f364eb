"""The README's examples, run as they stand: the dozen lines, your own data, your own method."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from xmodal_lib.methods import METHODS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def block(after: str) -> str:
    """The first fenced block after these words."""
    found = re.search(r"```\w*\n(.*?)```", README.partition(after)[2], re.S)
    assert found, f"README has no block after {after!r}"
    return found[1]


def run(command: list[str], where: Path, **env: str) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, env=os.environ | env, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_library_in_a_dozen_lines(tmp_path: Path) -> None:
    code = block("## The library in a dozen lines")
    assert len([line for line in code.splitlines() if line and not line.startswith("from ")]) <= 12
    assert "image + text" in run([sys.executable, "-c", code], tmp_path)


@pytest.mark.slow  # two notebooks
def test_own_data_to_a_table_a_map_and_an_explorer(tmp_path: Path) -> None:
    for folder in ("notebooks", "params"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    run([sys.executable, "-c", block("example: own data, shapes.py")], tmp_path)
    commands = block("example: own data, commands").splitlines()
    assert len(commands) == 3
    for command in commands:
        run([sys.executable, "-m", "xmodal_lib.cli", *shlex.split(command)[1:]], tmp_path)
    table, maps = (tmp_path / "results" / "adhoc" / name for name in ("10_cross_modal_adaptation", "60_latent_views"))
    scores = pd.read_parquet(table / "scores.parquet")
    assert set(scores["source"]) == {"shapes"} and scores["method"].nunique() > 8
    assert (maps / "by_class.png").is_file()
    points = pd.read_parquet(maps / "latents.parquet")
    assert set(points["class"]) == {"circle", "triangle", "square"} and set(points["modality"]) == {"image", "text"}
    assert "<title>60 latent views</title>" in (maps / "explore.html").read_text()


@pytest.mark.slow  # a process of its own, with a copy of the library
def test_own_method_comes_into_the_laws_by_its_entry(tmp_path: Path) -> None:
    for folder in ("xmodal_lib", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    methods = tmp_path / "xmodal_lib" / "methods"
    (methods / "midpoint.py").write_text(block("example: own method, midpoint.py"))
    listed = (methods / "__init__.py").read_text()
    entry = block("example: own method, entry").strip()
    listed = listed.replace('    "zero-shot": ZeroShot,\n', f'    "zero-shot": ZeroShot,\n    {entry}\n')
    first = "from xmodal_lib.methods.mla import MLA\n"
    (methods / "__init__.py").write_text(
        listed.replace(first, f"from xmodal_lib.methods.midpoint import Midpoint\n{first}")
    )
    laws = [
        sys.executable,
        "-m",
        "pytest",
        "tests/methods/test_laws.py",
        "-q",
        "-k",
        "midpoint",
        "-p",
        "no:cacheprovider",
    ]
    assert re.search(r"^\d\d passed", run(laws, tmp_path, PYTHONPATH=str(tmp_path)), re.M)


def test_the_table_of_methods_names_every_class_its_file_and_its_notebooks() -> None:
    table = README.partition("| method | paper | file | notebook |")[2].partition("\n\n")[0]
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]
    numbers = {path.name[:2] for path in (ROOT / "notebooks").glob("*.ipynb")}
    named: dict[str, str] = {}  # class -> the lines of its file
    for method, _, files, notebooks, *_ in lines:
        names = re.findall(r"\w+\.py", files)
        assert all((ROOT / "xmodal_lib" / "methods" / name).is_file() for name in names), files
        assert set(re.findall(r"\d\d", notebooks)) <= numbers, notebooks
        text = "\n".join((ROOT / "xmodal_lib" / "methods" / name).read_text("utf-8") for name in names)
        named |= {name: named.get(name, "") + method for name in re.findall(r"^class (\w+)", text, re.M)}
    missing = {kind.__name__ for kind in METHODS.values() if f"`{kind.__name__}`" not in named.get(kind.__name__, "")}
    assert not missing, f"not in the line of their file: {missing}"


def test_the_papers_numbers_and_ours_are_those_of_the_ledger() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "ledger_table.py"))["table"]()
    assert made in README, "print the table anew: python docs/ledger_table.py"
