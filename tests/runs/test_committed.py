"""The committed notebooks: their outputs are of their present code, and each runs with values that are not its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from xmodal_lib.cli import up_to_date
from xmodal_lib.runs.plan import Job, make_plan, parameters
from xmodal_lib.runs.run import LIMIT

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[!.]*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_are_of_the_present_code(notebook: Path) -> None:
    assert up_to_date(notebook), f"code or library changed: run `make notebooks`, or `xmodal notebooks {notebook.stem}`"
    assert notebook.stat().st_size <= LIMIT
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    assert not [o for c in cells for o in c.get("outputs", []) if o["output_type"] == "error"]
    assert all(p.help for p in parameters(ROOT, str(notebook.relative_to(ROOT))).values())


@pytest.mark.parametrize("profile", ["quick", "default", "full", "claims", "paper"])
def test_sheets_fit_their_notebooks(profile: str) -> None:
    plan = make_plan(ROOT, profile)
    assert {job.notebook for job in plan.jobs} <= {str(path.relative_to(ROOT)) for path in NOTEBOOKS}


def firsts() -> list[Job]:
    """The first job of each sheet, at the size of the profile `quick`."""
    found = {job.notebook: job for job in reversed(make_plan(ROOT, "quick").jobs) if not job.needs}
    return [*reversed(found.values())]


@pytest.mark.slow
@pytest.mark.parametrize("job", firsts(), ids=lambda job: job.name)
def test_runs_through_papermill_and_reports_flat_metrics(job: Job, tmp_path: Path) -> None:
    given = [
        word for name, value in job.parameters.items() for word in ("-p", f"{name}={json.dumps(value).strip(chr(34))}")
    ]
    command = [sys.executable, "-m", "xmodal_lib.cli", "run", job.notebook, *given, "--out", str(tmp_path / "out")]
    command += ["--brief"] * job.brief  # the cells for readers run in `make validate`
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    for file in job.outputs.values():
        assert (tmp_path / "out" / file).is_file()
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics and all(isinstance(value, int | float) for value in metrics.values())
