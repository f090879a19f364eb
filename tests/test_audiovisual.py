"""Audio-visual few-shot: what each row reads, what selection sees, and the benchmark on small files in its layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import normalize

from xmodal_lib import audiovisual_tasks
from xmodal_lib.audiovisual_rows import Helped, rows, score
from xmodal_lib.audiovisual_tasks import AudioVisualTask
from xmodal_lib.encoders.audioclip import write
from xmodal_lib.episodes import Episode
from xmodal_lib.methods import LinearProbe
from xmodal_lib.runs.run import execute
from xmodal_lib.sources import imagenet_esc
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables

ROOT = Path(__file__).resolve().parent.parent
C, D = 6, 12
MEANS = torch.randn(C, D, generator=torch.Generator().manual_seed(0))


def world(own: int, other: int, asked: str, helper: str, shot: int = 2) -> Episode:
    """Support of three modalities, validation and query of the one asked; all rows of a class lie around its mean."""
    rng = torch.Generator().manual_seed(100 * own + other)

    def table(each: int, first: int) -> Table:
        y = torch.arange(C).repeat_interleave(each)
        x = normalize(MEANS[y] + 0.8 * torch.randn(len(y), D, generator=rng), dim=1)
        return Table(x, y, torch.arange(first, first + len(y)))

    names = tuple("abcdef")
    support = Tables({asked: table(shot, 0), helper: table(1, 100), "text": table(1, 200)}, names)
    return Episode(support, Tables({asked: table(2, 300)}, names), Tables({asked: table(10, 400)}, names), own)


def task(poisoned: bool = False) -> AudioVisualTask:
    def draw(asked: str, shot: int, own: int, other: int) -> Episode:
        run = world(own, other, asked, "speech" if asked == "image" else "image", shot)
        query = run.query[asked]
        wrong = Tables({asked: replace(query, y=(query.y + 1) % C)}, run.query.classes)
        return replace(run, query=wrong) if poisoned else run

    empty = Tables({}, ())
    return AudioVisualTask(Source("small", empty, {}, {}, "", ""), empty, "speech", draw)


@pytest.mark.parametrize("asked", ["image", "speech"])
def test_each_row_reads_exactly_what_it_says(asked: str) -> None:
    """Rows that a row of the table does not claim may be anything; a change of those it claims changes its head."""
    run = task().episode(asked, shot=3, own=1, other=1)
    other = task().helper(asked)
    claims = {"uni": {asked}, "cross": {asked, other}, "plus text": {asked, "text"}, "all": {asked, other, "text"},
              "start only": {asked, other}, "rows only": {asked, other}, "text prototypes": {"text"},
              "other prototypes": {other}, "own prototypes": {asked}}  # fmt: skip
    for name, (method, roles) in rows(iterations=20).items():
        helped = Helped(method, asked, tuple({"other": other, "text": "text"}[r] for r in roles))
        head = helped.fit(run.support, run.val).fitted_.head_
        for m, table in run.support.rows.items():
            changed = Tables({**run.support.rows, m: replace(table, x=table.x.roll(1, 1))}, run.support.classes)
            same = torch.equal(helped.fit(changed, run.val).fitted_.head_, head)
            assert same == (m not in claims[name]), f"{name} and the rows of {m}"


def test_the_start_is_the_mean_of_unit_rows_and_the_batch_half_help() -> None:
    run = task().episode("image", shot=3, own=1, other=1)
    method, _ = rows(iterations=20)["all"]
    pooled = Helped(method, "image", ("speech", "text")).by_role(run.support)
    assert [len(t) for t in pooled.rows.values()] == [18, 12]
    long = Tables({**pooled.rows, "help": replace(pooled["help"], x=3 * pooled["help"].x)}, pooled.classes)
    starts = [method.fit(p).start_ for p in (pooled, long)]
    mean = torch.stack([normalize(pooled["help"].x[pooled["help"].y == c], dim=1).mean(0) for c in range(C)])
    assert torch.allclose(starts[0], normalize(mean, dim=1), atol=1e-6) and torch.allclose(*starts, atol=1e-6)
    assert isinstance(method, LinearProbe) and method.modalities == ("asked", "help") and not method.shares


def test_labels_of_the_query_reach_nothing_but_the_score() -> None:
    made = rows(iterations=20)
    right, poisoned = (score(task(p), made, shots=[3], runs=1, seed=3) for p in (False, True))
    keys = ["method", "asks", "own", "other"]
    assert right[keys].equals(poisoned[keys]) and (right["seed"] == 3).all()
    assert right["value"].mean() > 0.5 > poisoned["value"].mean()
    run, other = (task(p).episode("image", shot=3, own=1, other=2) for p in (False, True))
    heads = [Helped(made["cross"][0], "image", ("speech",)).fit(e.support, e.val).fitted_.head_ for e in (run, other)]
    assert torch.equal(*heads)


def test_runs_that_nothing_of_the_other_modality_enters_are_made_once() -> None:
    frame = score(task(), rows(iterations=20), shots=[3, 4], runs=3, seed=1, asks=["image"])
    count = frame.groupby(["method", "shot"]).size().unstack()
    alone = {"uni", "plus text", "text prototypes", "own prototypes"}
    assert all((count.loc[name] == (3 if name in alone else 9)).all() for name in count.index)
    assert rows(iterations=20).keys() == set(count.index)
    with pytest.raises(ValueError, match="grid='slow'; there are fast, published"):
        rows(grid="slow")
    with pytest.raises(ValueError, match="asked is 'text'; there are image and speech"):
        task().episode("text", shot=1, own=1, other=1)


def test_the_benchmark_on_small_files(written: dict[str, Path], tiny: str, tmp_path: Path) -> None:
    """Pictures and names by a tower from a local checkpoint, sounds from a file: 19 classes, both tasks."""
    root = written["imagenet_esc"]
    source = imagenet_esc.load(root, 19)
    heard = source.tables["audio"]
    one = normalize(torch.eye(19)[heard.y, :16] + 0.01 * torch.randn(len(heard), 16), dim=1)
    write(tmp_path / "features.pt", source, replace(heard, x=one))
    found = audiovisual_tasks.imagenet_esc(root, tiny, tmp_path / "features.pt", 19)
    about = found.about((1, 4))
    assert about["asks"].tolist() == ["image", "image", "audio", "audio"]
    assert about[["learnt", "helping", "names", "validation", "asked"]].to_numpy().tolist() == [
        [19, 19, 19, 19, 38], [76, 19, 19, 76, 38], [19, 19, 19, 19, 19 * 32], [76, 19, 19, 76, 19 * 32]]  # fmt: skip
    frame = score(found, rows(iterations=20), shots=[1], runs=1, seed=1)
    assert set(frame["asks"]) == {"image", "sound"} and np.isfinite(frame["value"]).all()
    with pytest.raises(ValueError, match=r"no features of \d+ of 1080 clips"):
        audiovisual_tasks.imagenet_esc(root, tiny, tmp_path / "features.pt", 27)


@pytest.mark.slow
def test_notebook_11_runs_on_the_benchmark(written: dict[str, Path], tiny: str, tmp_path: Path) -> None:
    """As `xmodal run 11 -p source=imagenet_esc -p root=DIR -p sounds=FILE -p encoder=NAME`."""
    source = imagenet_esc.load(written["imagenet_esc"], 19)
    heard = source.tables["audio"]
    write(tmp_path / "features.pt", source, replace(heard, x=normalize(torch.randn(len(heard), 16), dim=1)))
    given = {"source": "imagenet_esc", "root": str(written["imagenet_esc"]), "sounds": str(tmp_path / "features.pt")}
    given |= {"encoder": tiny, "classes": 19, "shots": [1], "runs": 1, "iterations": 20}
    execute(ROOT, ROOT / "notebooks" / "11_audio_visual.ipynb", tmp_path / "out", given)
    frame = pd.read_parquet(tmp_path / "out" / "scores.parquet").query("metric == 'accuracy'")
    assert set(frame["asks"]) == {"image", "sound"} and {"uni", "cross", "plus text", "all"} <= set(frame["method"])
