"""The rows of CroMA's tables on a task, and notebook 30 on the papers' data in their layouts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.sources.layouts import BY_CLASS
from xmodal_lib import alignment_rows as ar
from xmodal_lib.alignment_tasks import AlignmentTask
from xmodal_lib.methods import CroMA, SourceOnly
from xmodal_lib.runs.run import Failed, execute

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
DRAW = {"way": 2, "shots": [1, 2], "tasks": 2, "val_tasks": 1, "queries": 2}
OPTIONS = {"yummly": {"least": 5}}
TINY = {"iterations": 2, "shot": 2, "batch": 4, "steps": 2}


@pytest.fixture(scope="module", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMODAL_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module", params=BY_CLASS)
def key(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def root(key: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / key
    BY_CLASS[key](path)
    return str(path)


@pytest.fixture(scope="module")
def task(key: str, root: str) -> AlignmentTask:
    name = key.partition("-")[0]
    return ar.task_of(name, root, 1, "default", options=OPTIONS.get(name, {}), **DRAW)


def test_every_row_learns_and_answers(task: AlignmentTask) -> None:
    given = ar.fields("ours", way=2) | TINY
    rows = ar.table(task, given, seed=1)
    assert ("weak labels" in rows) == ar.is_weak(task) and len(rows) == 16 + ar.is_weak(task)
    for row in rows.values():
        assert {k: getattr(row.method, k) for k in ("way", "batch", "steps", "iterations", "inner", "seed")} == {
            "way": 2, "batch": 4, "steps": 2, "iterations": 2, "inner": 5, "seed": 1}  # fmt: skip
    trained = ar.meta_train(rows, task.val_episodes, looks=2, few=[{"adapt": "head", "lr": 0.01}])
    assert list(trained.methods) == list(rows) == trained.chosen["method"].tolist()
    assert set(trained.curve["method"]) == set(rows) - {"from scratch"}
    some = {name: trained.methods[name] for name in ("from scratch", "CroMA", "shared + align")}
    frame = ar.score(some, task.episodes, 1)
    assert len(frame) == 3 * (2 + 2) * 2 * 2 and set(frame["seed"]) == {1}
    assert frame.loc[frame["metric"] == "accuracy", "value"].between(0, 1).all()
    found = ar.found(trained.methods, task, 1)
    assert "CroMA, identity pairs" not in set(found["method"]) and "shared + align" in set(found["method"])
    spread = ar.spreads(frame).set_index(["method", "shot"])["deviation"]
    own = frame.query("method == 'CroMA' and shot == 1 and metric == 'accuracy'")["value"]
    assert spread["CroMA", 1] == pytest.approx(own.std())


def test_without_alignment_steps_croma_is_the_row_without_alignment(task: AlignmentTask) -> None:
    rows = ar.table(task, ar.fields("ours", way=2) | TINY | {"align_inner": 0}, seed=1, only=ar.LOOK)
    episode = task.episodes[2][0]
    a, b = (row.method.pretrain(row.base).fit(episode.support).proba(episode.query) for row in rows.values())
    assert torch.equal(a, b)


def test_sweeps_start_from_the_same_and_end_at_the_shares(task: AlignmentTask) -> None:
    rows = ar.table(task, ar.fields("ours", way=2) | TINY, seed=1, only=("CroMA", "oracle"))
    frame = ar.sweeps(task, None, rows["CroMA"].method, rows["oracle"].method, seed=1, points=2, shot=2)
    shares = frame.groupby("sweep")["share"].unique().map(sorted).to_dict()
    assert shares == {"pairs kept": [0.02, 1.0], "wrong pairs": [0.0, 1.0], "wrong labels": [0.0, 0.6]}
    untouched = frame["share"] == frame["sweep"].eq("pairs kept").astype(float)
    whole = frame[untouched & (frame["method"] != "oracle")]
    assert len(whole) == 3 and whole["value"].nunique() == 1  # nothing is changed there


def test_the_nearest_row_has_the_highest_cosine(task: AlignmentTask) -> None:
    rows = ar.table(task, ar.fields("ours", way=2) | TINY, seed=1, only=("CroMA",))
    method = rows["CroMA"].method.pretrain(task.base)
    s, t = task.modalities
    first = ar.nearest(method, task, [0, 1], 2)
    z = method.embed(task.pools["test"])
    cosine = torch.cosine_similarity(z[s][1:2], z[t])
    assert first[1, 0] == cosine.argmax() and cosine[first[1, 0]] >= cosine[first[1, 1]]
    place = ar.partner(task, 3)
    assert task.pools["test"][s].pair[place] == task.pools["test"][t].pair[3]
    frame, z = ar.placed(method, task, classes=1)
    assert set(frame["modality"]) == {s, t} and frame["class"].nunique() == 1 and len(frame) == len(z)


def test_what_a_source_opens_can_be_drawn_and_heard() -> None:
    assert ar.as_picture(torch.rand(3, 8, 9)).size == (9, 8)
    picture = Image.new("RGB", (4, 4))
    assert ar.as_picture(picture) is picture
    wave = torch.sin(torch.arange(16_000) / 5)
    assert ar.as_picture(wave).shape == (40, 100)
    small = ar.small_sound(wave, seconds=0.5)
    assert small.dtype == np.int16 and len(small) == 4000 and 30_000 < abs(small).max() <= 32_000


def test_recipes_are_fields_and_the_readme_is_the_command_of_the_original() -> None:
    for name in ar.RECIPES:
        assert replace(CroMA(), **ar.fields(name)).way == (3 if name == "readme" else 5)
        assert SourceOnly(**ar.fields(name, iterations=7)).iterations == 7
    assert len(ar.ways_to_learn("ours")) == 2 and ar.ways_to_learn("readme") == ({"adapt": "all", "lr": 1e-4},)
    given = ar.fields("readme")
    known = {"way": 3, "shot": 5, "batch": 8, "inner": 9, "steps": 9, "margin": 0.5, "rate": 1e-4, "loss": "centroid"}
    assert {k: given[k] for k in known} == known
    with pytest.raises(ValueError, match="there is no recipe 'x'; there are ours, paper, released, readme"):
        ar.fields("x")
    assert ar.fields("ours", source="words")["iterations"] == ar.ITERATIONS["words"] > ar.fields("ours")["iterations"]


def test_what_cannot_be_asked_for_is_said_before_any_training() -> None:
    assert ar.names_of("main", 2) == ar.MAIN and not ar.names_of("all")
    with pytest.raises(ValueError, match="rows='some'; there are main, look, all"):
        ar.names_of("some")
    with pytest.raises(ValueError, match="points=1; a sweep has at least 2"):
        ar.names_of("look", 1)
    with pytest.raises(ValueError, match="source='foo'; there are words, pixels, languages, yummly"):
        ar.task_of("foo", "", 1, "default", shots=[1], queries=1, options={})


def test_notebook_30_runs_to_its_end(key: str, root: str, tmp_path: Path) -> None:
    """As `xmodal run 30 -p source=NAME -p root=DIR` does it, with short trainings (Yummly's second layout without the
    cells for readers); then once more with its tasks, and with others."""
    name, notebook = key.partition("-")[0], ROOT / "notebooks" / "30_meta_alignment.ipynb"
    given = DRAW | {"source": name, "root": root, "iterations": 2, "options": OPTIONS.get(name, {})}
    more = {"rows": "all", "points": 2} if key == "cifar_esc-raw" else {}
    out = tmp_path / "out"
    execute(ROOT, notebook, out, given | more, brief=key == "yummly-released")
    scores = pd.read_parquet(out / "scores.parquet")
    assert {"from scratch", "source only", "align + classify", "CroMA", "oracle"} <= set(scores["method"])
    assert ("weak labels" in set(scores["method"])) == bool(more)
    assert len(pd.read_parquet(out / "retrieval.parquet")) and (out / "notebook.html").stat().st_size > 50_000
    assert len(json.loads((out / "metrics.json").read_text())) == 2 * (17 if more else 5)
    if key == "wilderness-raw":
        with pytest.raises(Failed, match="holds other tasks: seeds"):
            again = given | {"tasks_file": str(out / "tasks.json"), "seed": 2, "rows": "look"}
            execute(ROOT, notebook, tmp_path / "again", again)
