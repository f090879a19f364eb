"""Do results depend on how many jobs run at once? `make determinism` runs a whole profile twice and compares.

    python -m tests.runs.determinism [--profile quick] [--keep FOLDER] [TARGET ...]

Each of the two runs has a copy of the notebooks and params and caches of its own, so that every bridge and every
feature is made twice; only downloaded packages, which are checked by hash, are shared. The first runs a job at a time,
the second two. Every column of a table, JSON file and tensor that a job wrote must then be the same bit for bit.

One rule says what is left out: a number whose name (a column, a key, or a row's `metric`) has the word `seconds`,
`minutes` or `memory` tells how the machine fared, and is no result; neither is provenance.json, which keeps those.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import safe_open

from xmodal_lib.home import home

PROJECT = Path(__file__).parents[2]
OF_THE_MACHINE = re.compile(r"\b(?:seconds|minutes|memory)\b")


def clone(root: Path, project: Path = PROJECT) -> Path:
    """A folder with the notebooks and params of a project, in which nothing has run."""
    for part in ("notebooks", "params"):
        shutil.copytree(project / part, root / part, ignore=shutil.ignore_patterns(".*"))
    return root


def reproduced(root: Path, cache: Path, jobs: int, profile: str, targets: Sequence[str] = ()) -> Path:
    """The results of a run of `xmodal reproduce` in a clone, which says on its standard output what it does.

    Raises:
        RuntimeError: a job failed.
    """
    command = [sys.executable, "-m", "xmodal_lib.cli", "reproduce", *targets, "--jobs", str(jobs), "--profile", profile]
    path = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
    known = os.environ | {"XMODAL_HOME": str(cache), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    if code := subprocess.run(command, cwd=root, env=known).returncode:
        raise RuntimeError(f"`xmodal reproduce --jobs {jobs}` in {root} ended with exit code {code}")
    return root / "results"


def contents(results: Path) -> dict[str, str]:
    """{file: digest of the results in it} of all jobs; each column of a table and each tensor has its own."""
    found = {}
    for path in sorted(results.rglob("*")):
        name = path.relative_to(results).as_posix()
        if name.startswith(".") or path.name in ("provenance.json", "failed.json"):
            continue
        if path.suffix == ".parquet":
            frame = _settled(pd.read_parquet(path))
            found |= {f"{name}, column {c}": _digest(frame[[c]].to_parquet()) for c in frame}
            found[f"{name}, columns"] = _digest(repr((list(frame), len(frame))).encode())
        elif path.suffix == ".json":
            found[name] = _digest(json.dumps(_without(json.loads(path.read_text("utf-8"))), sort_keys=True).encode())
        elif path.suffix == ".safetensors":
            with safe_open(path, "np") as file:  # not the file itself: the order of its metadata is drawn at random
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                words = sorted((file.metadata() or {}).items())
            found |= {f"{name}, {key}": _digest(f"{x.dtype} {x.shape}".encode() + x.tobytes())
                      for key, x in tensors.items()}  # fmt: skip
            found[f"{name}, metadata"] = _digest(repr(words).encode())
        elif path.suffix == ".npy":
            found[name] = _digest(path.read_bytes())
    return found


def differences(one: Path, two: Path) -> list[str]:
    """Names of what two folders of results have not in common."""
    a, b = contents(one), contents(two)
    return [name for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)]


def _settled(frame: pd.DataFrame) -> pd.DataFrame:
    """A table without what the machine measured, whether it is a column or a row of a long table."""
    frame = frame.drop(columns=[c for c in frame if OF_THE_MACHINE.search(str(c))])
    if "metric" in frame:
        frame = frame[~frame["metric"].astype(str).str.contains(OF_THE_MACHINE)]
    return frame.rename(columns=str)


def _without(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without(value) for key, value in node.items() if not OF_THE_MACHINE.search(key)}
    return [_without(value) for value in node] if isinstance(node, list) else node


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description="Run a profile with one job at a time and with two, and compare.")
    parser.add_argument("targets", nargs="*", help="notebooks or jobs; all if none is given")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--keep", type=Path, help="folder for the two runs, which are deleted if it is not given")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        base, packages, made = given.keep or Path(scratch), home() / "packages", []
        for jobs in (1, 2):
            root, cache = base / f"jobs-{jobs}", base / f"cache-{jobs}"
            if not root.exists():  # else an earlier run is gone on with
                clone(root)
                cache.mkdir(parents=True)
                if packages.is_dir():
                    (cache / "packages").symlink_to(packages.resolve())
            made.append(reproduced(root.resolve(), cache.resolve(), jobs, given.profile, given.targets))
        different, count = differences(*made), len(contents(made[0]))
    for name in different:
        print(f"differs: {name}")
    print(f"{count - len(different)} of {count} are the same bit for bit: columns of tables, JSON files, tensors")
    return 1 if different or not count else 0


if __name__ == "__main__":
    sys.exit(main())
