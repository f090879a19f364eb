"""What `--engine` says where it cannot run. No cluster is needed."""

import os
import subprocess
from pathlib import Path

import pytest

from xmodal_lib.runs.engine import check_engine, lost, unshared
from xmodal_lib.runs.plan import make_plan

ROOT = Path(__file__).parents[2]
SLURM = ROOT / "params" / "engine" / "slurm"
REFUSED = """[Sun Nov 22 15:28:15 2026]
Error in rule job000_00_start_here:
    message: SLURM sbatch failed. The error message was 'sbatch: error: Memory specification can not be satisfied
sbatch: error: Batch job submission failed: Requested node configuration is not available'.
    sbatch call:
        sbatch --parsable --wrap="…"
    jobid: 3
"""
ENDED = """Error in rule job000_00_start_here:
    message: SLURM-job '7' failed, SLURM status is: 'OUT_OF_MEMORY'. Detailed failure reason unavailable.
    jobid: 1
"""


def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown engine 'slrum': there is no params/engine/slrum"):
        check_engine(SLURM.with_name("slrum"))
    (tmp_path / "config.yaml").write_text("executor: no-such\n")
    with pytest.raises(ValueError, match="pip install snakemake-executor-plugin-no-such"):
        check_engine(tmp_path)


def test_no_sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "snakemake_executor_plugin_slurm").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="no `sbatch` here"):
        check_engine(SLURM)


def test_a_disk_that_other_nodes_may_not_see(tmp_path: Path) -> None:
    here = os.uname().nodename.partition(".")[0]
    assert unshared(tmp_path, []) == unshared(tmp_path, [here]) == ""
    kind = subprocess.run(["stat", "--file-system", "--format=%T", tmp_path], capture_output=True, text=True)
    if kind.stdout.strip() not in ("ext2/ext3", "xfs", "btrfs", "zfs", "tmpfs", "overlayfs"):
        pytest.skip("temporary files lie on a network's disk")
    assert "jobs fail on node7 unless it is there too" in unshared(tmp_path, [here, "node7"])


def test_what_slurm_did_with_a_job() -> None:
    """Words of Snakemake's log, as this version and its plugin wrote them."""
    plan = make_plan(ROOT)
    rule = next(job for job in plan.jobs if job.name == "00_start_here").rule
    words = "SLURM refused it: Memory specification can not be satisfied; Batch job submission failed: Requested node"
    assert lost(plan, REFUSED.replace("job000_00_start_here", rule))["00_start_here"].startswith(words)
    ended = lost(plan, ENDED.replace("job000_00_start_here", rule))
    assert ended == {"00_start_here": "SLURM ended its job 7: out of memory"}
