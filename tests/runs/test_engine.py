"""The whole way: sheet -> plan -> Snakemake -> papermill -> results/index.html."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from typer.testing import CliRunner

from tests.runs.conftest import sheet, write_notebook
from xmodal_lib.cli import app
from xmodal_lib.runs.run import SHORT


def xmodal(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == code, result.output
    return result.output


def value(project: Path, job: str) -> dict:
    return json.loads((project / "results" / job / "metrics.json").read_text())


def test_runs_what_is_needed_and_no_more(project: Path) -> None:
    """A first run in which a draw fails, a second that completes it, then changes that need a part of it again."""
    assert "3 of 3 jobs would run" in xmodal("reproduce", "--dry-run")
    assert not (project / "results" / "10_small").exists()
    (project / "broken").touch()
    said = xmodal("reproduce", "--jobs", "1", code=1)
    assert "RuntimeError: the second draw is broken" in said and "results/10_small/draw/seed=2/failed.ipynb" in said
    assert "1 not started" in said
    assert "[1/3] 10_small/draw/seed=1  done" in said and "a line for the terminal" in said
    failed = project / "results/10_small/draw/seed=2"
    assert "the second draw is broken" in (failed / "failed.ipynb").read_text()
    assert not (failed / "provenance.json").exists() and value(project, "10_small/draw/seed=1") == {"value": 1.0}
    index = (project / "results" / "index.html").read_text()
    assert "the second draw is broken" in index and "not run" in index

    (project / "broken").unlink()
    said = xmodal("reproduce")
    assert "2 done" in said and "seed=1" not in said
    assert not (failed / "failed.ipynb").exists() and value(project, "10_small/report") == {"sum": 3.0}
    record = json.loads((failed / "provenance.json").read_text())
    assert record["seed"] == 2 and record["parameters"] == {"scale": 1.0, "seed": 2} and record["seconds"] > 0
    index = (project / "results" / "index.html").read_text()
    assert "A title" in index and "<em>asked</em>" in index and 'href="10_small/report/notebook.html"' in index
    assert "http" not in index and "failed" not in index.partition("<body>")[2]
    assert str(project) not in (project / "results/10_small/report/notebook.ipynb").read_text()
    assert "nothing to be done" in xmodal("reproduce")

    sheet(project, seeds=[1, 3], scale=1.0)
    said = xmodal("reproduce")
    assert "seed=3  done" in said and "report  done" in said and "seed=1" not in said
    assert value(project, "10_small/report") == {"sum": 4.0}
    assert "Also on disk" in (project / "results" / "index.html").read_text()  # seed=2, of no job any more

    notebook = project / "notebooks" / "10_small.ipynb"
    notebook.write_text(notebook.read_text().replace("# A title", "# Another title"))  # no code
    assert "nothing to be done" in xmodal("reproduce", "--dry-run")
    notebook.write_text(notebook.read_text().replace("seed * scale", "seed + scale"))
    said = xmodal("reproduce", "10/draw", "--dry-run")
    assert "2 of 3 jobs would run" in said and "its parameters or code changed" in said


def test_a_missing_output_is_a_failure(project: Path) -> None:
    write_notebook(project / "notebooks" / "10_small.ipynb", 'out = ""', "1 + 1")
    text = "notebook: notebooks/10_small.ipynb\noutputs: {metrics: metrics.json}\n"
    (project / "params" / "10_small.yaml").write_text(text)
    assert "did not write metrics.json" in xmodal("reproduce", code=1)


def test_a_job_that_takes_too_long_is_stopped(project: Path) -> None:
    notebook = project / "notebooks" / "10_small.ipynb"
    write_notebook(notebook, 'out = ""', "import time", "time.sleep(60)")
    code = "import sys, pathlib; from xmodal_lib.runs.run import execute, Failed; n = pathlib.Path(sys.argv[1])\n"
    code += "try: execute(n.parent.parent, n, n.parent.parent / 'out', {}, minutes=0.01)\nexcept Failed as e: print(e)"
    result = subprocess.run([sys.executable, "-c", code, notebook], capture_output=True, text=True, timeout=30)
    assert "stopped after its 0.01 minutes" in result.stdout, result.stderr
    assert "import time" in (project / "out" / "failed.ipynb").read_text()


def test_what_was_killed_is_told_and_redone(project: Path) -> None:
    write_notebook(project / "notebooks" / "10_small.ipynb", 'sleep = 60\nout = ""', "import time; time.sleep(sleep)")
    (project / "params" / "10_small.yaml").write_text("notebook: notebooks/10_small.ipynb\n")
    command = [sys.executable, "-m", "xmodal_lib.cli", "reproduce"]
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    while "started" not in process.stdout.readline():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (project / "params" / "10_small.yaml").write_text("notebook: notebooks/10_small.ipynb\nparameters: {sleep: 0}\n")
    assert "1 done" in xmodal("reproduce")
    assert [p.name for p in (project / "results").glob("10*")] == ["10_small"]
    assert not list((project / "results").glob(".10*"))


def test_nothing_starts_when_a_sheet_is_wrong(project: Path) -> None:
    sheet_file = project / "params" / "10_small.yaml"
    sheet_file.write_text(sheet_file.read_text().replace("scale: 1.0", "scal: 1.0"))
    said = xmodal("reproduce", code=2)
    assert "params/10_small.yaml" in said and "did you mean 'scale'?" in said and len(said.splitlines()) == 1
    sheet_file.write_text(sheet_file.read_text().replace("scal: 1.0", "scale: 1e-3"))
    assert "write 0.001" in xmodal("reproduce", code=2)
    assert not (project / "results").exists()


def test_run_one_notebook(project: Path) -> None:
    said = xmodal("run", "10", "-p", "seed=3", "-p", "scale=1e-1", "--out", "elsewhere")
    assert "done" in said and json.loads((project / "elsewhere" / "value.json").read_text()) == 3 * 0.1
    assert "did you mean 'seed'?" in xmodal("run", "10", "-p", "sed=3", code=2)
    assert "is a str" in xmodal("run", "10", "-p", "seed=three", code=2)
    assert "of the draw" in xmodal("params", "10")


def test_refresh_in_place(project: Path) -> None:
    assert "out of date" in xmodal("notebooks", "--check", code=1)
    command = [sys.executable, "-m", "xmodal_lib.cli", "notebooks"]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    first = (project / "notebooks" / "10_small.ipynb").read_text()
    assert "a line for the terminal" in first and "execution" not in first.replace("execution_count", "")
    assert "up to date" in xmodal("notebooks")
    subprocess.run([*command, "--all"], cwd=project, check=True, capture_output=True)
    assert (project / "notebooks" / "10_small.ipynb").read_text() == first


def test_a_solution_is_for_readers(project: Path) -> None:
    """It runs where the notebook is refreshed, and is stored folded; a job leaves it out."""
    path = project / "notebooks" / "10_small.ipynb"
    book = nbformat.read(path, 4)
    solution = nbformat.v4.new_code_cell("# Solution: answer\n6 * 7", metadata={"tags": ["solution"]})
    book.cells.append(solution)
    nbformat.write(book, path)
    xmodal("notebooks", "10")
    kept = nbformat.read(path, 4).cells[-1]
    assert kept.outputs[0]["data"]["text/plain"] == "42"
    assert kept.metadata.jupyter == {"source_hidden": True, "outputs_hidden": True}
    xmodal("run", "10")
    ran = next((project / "results" / "adhoc").glob("10_small*/notebook.ipynb"))
    assert "Solution" not in ran.read_text() and "Solution" not in ran.with_suffix(".html").read_text()


def test_a_brief_job_leaves_out_the_cells_for_readers(project: Path) -> None:
    path = project / "notebooks" / "10_small.ipynb"
    book = nbformat.read(path, 4)
    book.cells.append(nbformat.v4.new_code_cell("print('a look')", metadata={"tags": ["reader"]}))
    nbformat.write(book, path)
    sheet = project / "params" / "10_small.yaml"
    sheet.write_text(sheet.read_text().replace("  draw:\n", "  draw:\n    brief: true\n"))
    assert "3 done" in xmodal("reproduce")
    looks = {name: nbformat.read(project / "results" / name / "notebook.ipynb", 4).cells[-1]
             for name in ("10_small/report", "10_small/draw/seed=1", "10_small/draw/seed=2")}  # fmt: skip
    assert looks.pop("10_small/report").outputs[0].text == "a look\n"
    for name, cell in looks.items():
        assert [output.data["text/markdown"] for output in cell.outputs] == [SHORT]
        assert "which is brief" in (project / "results" / name / "notebook.html").read_text()
    sheet.write_text(sheet.read_text().replace("brief: true", "brief: false"))
    said = xmodal("reproduce", "--dry-run")
    assert "3 of 3 jobs would run" in said, "a job that is no longer brief is another one"


def test_a_partial_report_runs_on_what_is_there_and_again_when_the_rest_comes(project: Path) -> None:
    path = project / "params" / "10_small.yaml"
    path.write_text(path.read_text().replace("  report:\n", "  report:\n    partial: true\n"))
    (project / "broken").touch()
    said = xmodal("reproduce", code=1)
    assert "1 to run on what there is: 10_small/report" in said and "not started" not in said
    assert value(project, "10_small/report") == {"sum": 1.0}
    said = xmodal("reproduce", code=1)  # the broken draw is tried again, the report has nothing new
    assert "seed=2  started" in said and "report  started" not in said
    (project / "broken").unlink()
    said = xmodal("reproduce")
    assert "2 done" in said and value(project, "10_small/report") == {"sum": 3.0}
    assert "nothing to be done" in xmodal("reproduce", "--dry-run")


def test_a_file_that_a_parameter_names_counts_by_its_content(project: Path) -> None:
    """A checkpoint behind "MODEL:", another one under the same name."""
    weights = project / "notebooks" / "weights.pt"
    weights.write_text("old")
    write_notebook(project / "notebooks" / "10_small.ipynb", 'encoder = "bridge"', "1 + 1")
    sheet_file = project / "params" / "10_small.yaml"
    sheet_file.write_text(f'notebook: notebooks/10_small.ipynb\nparameters: {{encoder: "RN50:{weights}"}}\n')
    assert "1 done" in xmodal("reproduce") and "nothing to be done" in xmodal("reproduce", "--dry-run")
    weights.write_text("new")
    assert "its parameters or code changed" in xmodal("reproduce", "--dry-run")
