"""The papers' three data sets, in their layouts, as alignment tasks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from tests.sources.layouts import BY_CLASS
from xmodal_lib.alignment_published import MODALITIES, published
from xmodal_lib.alignment_tasks import AlignmentTask

OPTIONS = {"yummly": {"least": 5}}
DRAW = {"way": 2, "shots": (1, 2), "tasks": 3, "val_tasks": 2, "queries": 2}


@pytest.fixture(scope="module", params=BY_CLASS)
def key(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def root(key: str, written: Mapping[str, Path]) -> Path:
    return written[key]


@pytest.fixture(scope="module", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMODAL_HOME", str(tmp_path_factory.mktemp("home")))
        yield


def make(key: str, root: Path, seed: int = 0, **more) -> AlignmentTask:
    name = key.partition("-")[0]
    return published(name, root, seed, **DRAW | OPTIONS.get(name, {}) | more)


@pytest.mark.slow
def test_every_layout_gives_a_task(key: str, root: Path) -> None:
    task = make(key, root)
    s, t = task.modalities
    assert (s, t) == MODALITIES[key.partition("-")[0]]
    classes = [set(tables.classes) for tables in task.rows.values()]
    assert all(not a & b for i, a in enumerate(classes) for b in classes[:i])
    source, target = task.base[s], task.base[t]
    paired = torch.isin(source.pair, target.pair)
    assert torch.isin(target.pair, source.pair).all() and 0.3 < float(paired.float().mean()) < 0.7
    kinds = [set(task.rows["base"][s].x[half].tolist()) for half in (paired, ~paired)]
    assert not kinds[0] & kinds[1]
    for tables in (task.base, *task.pools.values()):
        tables.labels()  # source and target of a pair are of one class
    for m in (s, t):
        assert task.encoders[m].eval()(task.base[m].x[:2]).shape == (2, 128)
    for own in (*task.val_episodes.values(), *task.episodes.values()):
        for episode in own:
            assert episode.query[t].y.bincount().tolist() == [2, 2]
    assert len(task.episodes[1]) == 3 and task.episodes[2][0].support[t].y.bincount().tolist() == [2, 2]
    sides = [{i for own in (task.val_episodes, task.episodes) for eps in own.values() for e in eps
              for i in getattr(e, side).items().tolist()} for side in ("support", "query")]  # fmt: skip
    assert not sides[0] & sides[1]  # in no task, not only in none of its own
    again = make(key, root)
    assert torch.equal(again.base[s].pair, source.pair) and torch.equal(again.base[s].x, source.x)
    number = len(target.pair.unique())
    assert (number < len(target)) == key.startswith("cifar")


@pytest.mark.slow
def test_weak_pairs_are_of_classes(key: str, root: Path) -> None:
    task = make(key, root, pairs="weak")
    target = task.base[task.modalities[1]]
    assert len(target.pair.unique()) == len(task.base.classes)


@pytest.mark.slow
def test_chapters_are_of_one_use(key: str, root: Path) -> None:
    if not key.startswith("wilderness"):
        pytest.skip("of CMU Wilderness alone")
    task = make(key, root)
    info = task.source.info["text"]
    s, t = (task.rows["base"][m] for m in task.modalities)
    paired = torch.isin(s.pair, t.pair)
    assert {*info["kind"].iloc[s.x[paired].tolist()]} == {"align"}
    assert {*info["kind"].iloc[s.x[~paired].tolist()]} == {"classify"}
    audio = task.source.info["audio"]["group"].str.rpartition("/")[2]
    for episode in task.episodes[2]:
        used = [{*audio.iloc[part["audio"].pair.tolist()]} for part in (episode.support, episode.query)]
        assert not used[0] & used[1]


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no data set 'mvsa' for alignment"):
        published("mvsa", tmp_path, 0)
    with pytest.raises(ValueError, match="cifar_esc has weak"):
        published("cifar_esc", tmp_path, 0, pairs="strong")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        published("yummly", tmp_path / "gone", 0)
