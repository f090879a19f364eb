"""docs/commands.md: every flag of the papers' READMEs is there, and every command of ours can be run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from xmodal_lib.cli import app
from xmodal_lib.sources import catalogue

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "commands.md").read_text("utf-8")
README = {  # heading of the page -> the README whose commands stand there
    "Cross-modal adaptation": "cross_modal_adaptation_readme.md",
    "MLA": "mla_readme.md",
    "CroMA": "cross_modal_generalization_readme.md",
}
OURS = sorted(set(re.findall(r"`(xmodal (?:run|reproduce|data) [^`]+)`", PAGE)))


def section(heading: str) -> str:
    return next(part for part in re.split(r"(?m)^## ", PAGE) if part.startswith(heading))


def flags(text: str) -> set[str]:
    """What looks like an option: --train-shot, -n."""
    return set(re.findall(r"(?<![\w-])(--?[a-z][\w-]*)", text))


@pytest.mark.parametrize("heading", README)
def test_every_flag_of_a_readme_is_mapped(heading: str, shared: Path) -> None:
    text = (shared / "specs" / "sources" / README[heading]).read_text("utf-8")
    code = re.findall(r"```.*?```|`[^`\n]+`", text, re.S)
    theirs = flags("\n".join(line for block in code for line in block.splitlines()
                             if re.search(r"\.(py|sh)\b|^`-", line)))  # fmt: skip
    assert theirs and not theirs - flags(section(heading)), (
        f"not in docs/commands.md: {theirs - flags(section(heading))}"
    )
    scripts = set(re.findall(r"[\w]+\.(?:py|sh)\b", "\n".join(code)))
    assert not scripts - set(re.findall(r"[\w]+\.(?:py|sh)\b", section(heading)))


@pytest.mark.parametrize("command", OURS)
def test_every_command_of_ours_is_one(command: str, tmp_path: Path) -> None:
    words = shlex.split(command.replace("DIR", str(tmp_path)).replace("...", "").replace("NAME", "dtd"))[1:]
    if words[0] == "data":
        assert words[2] in {entry.name for entry in catalogue.entries()}
    else:
        result = CliRunner().invoke(app, [*words, "--dry-run"])
        assert result.exit_code == 0, result.output
        assert "would run" in result.output or "nothing to be done" in result.output
