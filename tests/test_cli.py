"""The command line: quick to start, and clear when a user errs."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from xmodal_lib.cli import app


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, xmodal_lib.cli; print([m for m in ('torch', 'pandas', 'papermill', 'numpy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_help_names_every_command() -> None:
    said = CliRunner().invoke(app, ["--help"]).output
    assert all(command in said for command in ("reproduce", "run", "params", "data", "doctor", "notebooks", "predict"))


def test_outside_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["reproduce"])
    assert result.exit_code == 2 and "is not inside a project" in result.output and "Traceback" not in result.output


def test_data() -> None:
    assert "emoji" in CliRunner().invoke(app, ["data", "list"]).output
    result = CliRunner().invoke(app, ["data", "check", "digts"])
    assert result.exit_code == 2 and "did you mean 'digits'" in result.output
