"""Results do not depend on how many jobs run at once. Of whole profiles this is shown by `make determinism`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from tests.runs.determinism import clone, contents, differences, reproduced
from xmodal_lib.home import home

TINY = """
53_ablations_croma:
  jobs: {draw: {matrix: {seed: [1]}, parameters: {few: true, iterations: 2, tasks: 1, shots: [1], rounds: 1}}}
54_ablations_gtl:
  jobs: {draw: {matrix: {only: [synthetic], seed: [1]}, parameters: {few: true, epochs: 1, shots: [1]}}}
"""


@pytest.mark.slow
def test_real_notebooks_with_one_job_and_with_two(tmp_path: Path) -> None:
    made = []
    for jobs in (1, 2):
        root = clone(tmp_path / f"jobs-{jobs}")
        (root / "params" / "profiles" / "tiny.yaml").write_text(TINY)
        made.append(reproduced(root, home(), jobs, "tiny", ["53/draw", "54/draw"]))
    assert len({name.split("/")[0] for name in contents(made[0])}) == 2
    assert differences(*made) == []


def write(folder: Path, accuracy: float, seconds: float, more: str = "same") -> Path:
    """Results in which times are a column, a row of a long table, and a key."""
    folder.mkdir()
    words = {"note": more, "order": "a b", "third": "3"}  # which are written in another order each time
    save_file({"x": np.array([accuracy]), "n": np.arange(3)}, folder / "rows.safetensors", words)
    long = pd.DataFrame({"metric": ["accuracy", "fit seconds"], "value": [accuracy, seconds], "CPU seconds": seconds})
    long.to_parquet(folder / "scores.parquet")
    (folder / "metrics.json").write_text(json.dumps({"accuracy": accuracy, "seconds": seconds, "more": [more]}))
    return folder


def test_a_bit_is_a_difference_and_a_time_is_none(tmp_path: Path) -> None:
    one = write(tmp_path / "one", 0.5, 1.0)
    assert differences(one, write(tmp_path / "two", 0.5, 2.0)) == []
    assert differences(one, write(tmp_path / "three", 0.5000000000000001, 1.0)) == [
        "metrics.json", "rows.safetensors, x", "scores.parquet, column value"]  # fmt: skip
    assert differences(one, write(tmp_path / "four", 0.5, 1.0, more="other")) == [
        "metrics.json", "rows.safetensors, metadata"]  # fmt: skip
    (one / "metrics.json").unlink()
    assert differences(one, tmp_path / "two") == ["metrics.json"]
