"""environment.yml lists the direct dependencies of pyproject.toml, by their conda names."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
CONDA = {
    "torch": "pytorch",
    "soundfile": "pysoundfile",
    "matplotlib": "matplotlib-base",
    "snakemake": "snakemake-minimal",
}


def split(requirement: str) -> tuple[str, str]:
    """ "open_clip_torch>=3.2" -> ("open-clip-torch", ">=3.2")"""
    name, bounds = re.fullmatch(r"([\w.-]+?)\s*([<>=!~].*)?", requirement.split("#")[0].strip()).groups("")  # type: ignore[union-attr]
    return re.sub(r"[-_.]+", "-", name).lower(), bounds


def test_environment_has_every_dependency_and_no_other() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = dict(split(r) for r in project["dependencies"] + project["optional-dependencies"]["dev"])
    entries = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    conda = dict(split(entry) for entry in entries if isinstance(entry, str))
    by_pip = [entry for extra in entries if isinstance(extra, dict) for entry in extra["pip"]]
    assert "--editable ." in by_pip
    assert conda.pop("python") == project["requires-python"]
    conda.pop("pip")
    given = conda | dict(split(entry) for entry in by_pip if not entry.startswith("-"))
    wanted = {CONDA.get(name, name): bounds for name, bounds in asked.items()}
    assert sorted(given) == sorted(wanted)
    assert {name: given[name] for name in wanted if name != "pysoundfile"} == {
        name: bounds for name, bounds in wanted.items() if name != "pysoundfile"
    }
