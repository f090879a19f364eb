"""The same jobs on a real SLURM of one node, some ten minutes of `make test-cluster`. Skipped in `make test`.

It needs SLURM's programs (cluster.sh names the packages) and the package's extra `cluster`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.runs.conftest import project, write_notebook  # noqa: F401  (a fixture)

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
REPRODUCE = [sys.executable, "-m", "xmodal_lib.cli", "reproduce"]
SWEEP = """
notebook: notebooks/00_start_here.ipynb
jobs:
  draw:
    matrix: {iterations: [10, 20, 30, 40], shots: [[1], [2], [4], [8], [16]]}
    parameters: {draws: 1}
    outputs: {metrics: metrics.json, scores: scores.parquet}
    resources: {mem_mb: 1500, minutes: 20}
"""
TABLE = """
notebook: notebooks/10_table.ipynb
needs: {scores: 00_start_here/draw/scores}
outputs: {table: table.parquet}
"""


@pytest.fixture(scope="module")
def slurm() -> Iterator[Callable[..., str]]:
    """A command of SLURM -> what it says. The cluster is there as long as the tests of this file run."""
    if not os.environ.get("XMODAL_CLUSTER"):
        pytest.skip("asked for by `make test-cluster`")
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("snakemake-executor-plugin-slurm is not installed: pip install -e '.[cluster]'")
    folder = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))  # sockets need a short path
    start = subprocess.run(["sh", HERE / "cluster.sh", "start", folder], capture_output=True, text=True)
    if start.returncode == 3:
        pytest.skip(start.stdout.strip())
    assert start.returncode == 0, start.stdout + start.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "etc" / "slurm.conf"))
        patch.setenv("PATH", str(folder / "bin"), prepend=os.pathsep)
        yield lambda *words: subprocess.run(words, capture_output=True, text=True, check=True).stdout
        subprocess.run(["sh", HERE / "cluster.sh", "stop", folder], check=True)
    shutil.rmtree(folder)


def sweep(root: Path) -> Path:
    """A project of a real notebook, 20 jobs of it, and a table over all of them."""
    (root / "params").mkdir(parents=True)
    (root / "notebooks").mkdir()
    with_engine(root)
    shutil.copy(ROOT / "notebooks" / "00_start_here.ipynb", root / "notebooks")
    together = "import pandas as pd\ntable = pd.concat([pd.read_parquet(path) for path in scores])"
    write_notebook(root / "notebooks" / "10_table.ipynb", 'scores = []\nout = ""', together,
                   'table.to_parquet(f"{out}/table.parquet")')  # fmt: skip
    (root / "params" / "00_start_here.yaml").write_text(SWEEP)
    (root / "params" / "10_table.yaml").write_text(TABLE)
    return root


def with_engine(root: Path) -> None:
    shutil.copytree(ROOT / "params" / "engine" / "slurm", root / "params" / "engine" / "slurm")


def reproduce(root: Path, *words: str) -> tuple[str, float]:
    began = time.monotonic()
    result = subprocess.run([*REPRODUCE, *words], cwd=root, capture_output=True, text=True, timeout=1200)
    assert "Traceback" not in result.stdout + result.stderr
    return result.stdout + result.stderr, time.monotonic() - began


def told(said: str, what: str) -> set[str]:
    return set(re.findall(rf"(?m)^\[.*\] (\S+)  {what}", said))


def wait_for(there: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.2)


def events(root: Path, rule: str) -> list[str]:
    path = root / "results" / ".engine" / "events" / f"{rule}.jsonl"
    return [json.loads(line)["event"] for line in path.read_text().splitlines()] if path.is_file() else []


def test_a_sweep_is_submitted_killed_in_part_and_resumed(slurm, tmp_path: Path) -> None:
    """21 jobs, one of them cancelled while it runs; then only it and what needs it. The numbers are those of here."""
    there, here = sweep(tmp_path / "slurm"), sweep(tmp_path / "local")
    began = time.monotonic()
    first = subprocess.Popen([*REPRODUCE, "--engine", "slurm"], cwd=there, stdout=subprocess.PIPE, text=True)
    victims: dict[str, str] = {}  # SLURM's number -> rule, of those in a notebook

    def some_work() -> bool:
        jobs = dict(line.split(" rule_") for line in slurm("squeue", "-h", "-t", "R", "-o", "%i %k").splitlines())
        victims.update({n: rule for n, rule in jobs.items() if events(there, rule.strip())[-1:] == ["started"]})
        return bool(victims)

    wait_for(some_work)
    number, rule = next(iter(victims.items()))
    slurm("scancel", number)
    said, _ = first.communicate(timeout=1200)
    took = time.monotonic() - began
    failed = told(said, "FAILED")
    assert first.returncode == 1 and len(failed) == 1 and f"SLURM ended its job {number}: cancelled" in said, said
    killed = failed.pop()
    assert re.sub(r"\W+", "_", killed) in rule
    assert len(told(said, "started")) == 20 and len(told(said, "done")) == 19 and "1 not started" in said

    said, again = reproduce(there, "--engine", "slurm")
    assert told(said, "started") == told(said, "done") == {killed, "10_table"}, said
    assert "nothing to be done" in reproduce(there, "--engine", "slurm")[0]
    assert "nothing to be done" in reproduce(there, "--dry-run")[0]  # what was done there counts here

    said, locally = reproduce(here, "--jobs", "2")
    assert len(told(said, "done")) == 21, said
    files = [p.relative_to(here) for p in here.glob("results/*/**/*") if p.suffix in (".parquet", ".json")]
    assert len([p for p in files if p.name == "metrics.json"]) == 20
    for file in files:
        if file.suffix == ".parquet":
            pd.testing.assert_frame_equal(timeless(there / file), timeless(here / file), check_exact=True)
        elif file.name == "metrics.json":
            assert (there / file).read_bytes() == (here / file).read_bytes(), file
    print(
        f"\n20 jobs and a table: SLURM {took:.0f} s, {killed} cancelled; the rest {again:.0f} s; here {locally:.0f} s"
    )


def timeless(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path).query("metric != 'fit seconds'")


def small(root: Path, resources: str = "{}", sleep: float = 0) -> Path:
    """A project of one short job."""
    write_notebook(
        root / "notebooks" / "10_small.ipynb", f'sleep = {sleep}\nout = ""', "import time; time.sleep(sleep)"
    )
    (root / "params" / "10_small.yaml").write_text(f"notebook: notebooks/10_small.ipynb\nresources: {resources}\n")
    with_engine(root)
    return root


def test_resources_reach_sbatch(slurm, project: Path) -> None:  # noqa: F811
    small(project, "{threads: 2, mem_mb: 1234, gpu: 1, minutes: 7}")
    said, _ = reproduce(project, "--engine", "slurm")
    assert "1 done" in said, said
    log = (project / "results" / ".engine" / "engine.log").read_text()
    job = slurm("scontrol", "show", "job", re.findall(r"SLURM jobid (\d+)", log)[0])
    assert "CPUs/Task=2" in job and "MinMemoryNode=1234M" in job and "TimeLimit=00:12:00" in job
    assert "gpu:1" in re.findall(r"TresPerJob=(\S+)", job)[0]


def test_what_slurm_refuses_is_told_in_a_line(slurm, project: Path) -> None:  # noqa: F811
    small(project, "{mem_mb: 900000000}")
    said, _ = reproduce(project, "--engine", "slurm")
    assert "FAILED: SLURM refused it: Memory specification can not be satisfied" in said, said
    assert "1 failed" in said and "results/10_small" in said


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_engine_leaves_what_can_be_resumed(slurm, by: signal.Signals, project: Path) -> None:  # noqa: F811
    """Killed hard, its jobs go on, and a second run waits for them; by Ctrl-C they are cancelled, and run again."""
    small(project, sleep=15)
    command = [*REPRODUCE, "--engine", "slurm"]
    engine = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert engine.stdout is not None
    while "10_small  started" not in engine.stdout.readline():
        assert engine.poll() is None
    os.killpg(engine.pid, by)
    said, _ = engine.communicate(timeout=60)
    if by == signal.SIGKILL:
        again, _ = reproduce(project, "--engine", "slurm")
        assert "xmodal: SLURM still has jobs of an earlier run" in again and "started" not in again, again
    else:
        assert "what is done is kept" in said and engine.returncode == 1, said
    wait_for(lambda: not slurm("squeue", "-h"))
    again, _ = reproduce(project, "--engine", "slurm")
    assert ("nothing to be done" if by == signal.SIGKILL else "1 done") in again, again
    assert (project / "results" / "10_small" / "provenance.json").is_file()
