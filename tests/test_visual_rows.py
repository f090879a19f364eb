"""The rows beside GTL on a task of two visual modalities, and notebook 40 on the data sets in their layouts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score

from tests.conftest import Layouts
from tests.sources.layouts import VISUAL
from xmodal_lib import visual_rows as vr
from xmodal_lib.methods import GTL
from xmodal_lib.methods.method import Method
from xmodal_lib.runs.run import Failed, execute
from xmodal_lib.tables import Tables
from xmodal_lib.training import accuracy
from xmodal_lib.visual_tasks import VisualTask, drawings

ROOT = Path(__file__).parents[1]
SMALL = GTL(concept=8, disturbance=4, domains=4, hidden=16, base_epochs=1, epochs=2, warmup=0, seed=1)


def flat(tables: Tables) -> Tables:
    return replace(tables, rows={m: replace(t, x=t.x.flatten(1)) for m, t in tables.rows.items()})


@pytest.fixture(scope="module")
def pictures() -> VisualTask:
    return drawings(1, pixels=16)


@pytest.fixture(scope="module")
def task(pictures: VisualTask) -> VisualTask:
    """Pixels as features, and fewer of them."""
    pools = {role: (flat(a), flat(b)) for role, (a, b) in pictures.pools.items()}
    base = flat(pictures.base).take(pictures.base.items()[::6])
    return replace(pictures, base=base, pools=pools, encoders={})


@pytest.fixture(scope="module")
def ready(task: VisualTask) -> dict[str, Method]:
    return vr.pretrained(vr.table(SMALL), task.base)[0]


def test_the_rows_that_every_number_of_gtl_stands_beside() -> None:
    made = vr.table(SMALL)
    assert set(vr.MAIN) <= set(made) and len(made) == 12
    assert set(vr.table(SMALL, "main")) == set(vr.MAIN) and set(vr.table(SMALL, "look")) == {"GTL", "plain VAE"}
    assert made["linear probe"].body is None  # type: ignore[attr-defined]
    behind = vr.table(replace(SMALL, encoders={"trunk": torch.nn.Flatten()}))
    assert behind["linear probe"].body == behind["cross-entropy alone"]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="rows='some'; there are all, main, look"):
        vr.table(SMALL, "some")


def test_a_base_stage_is_shared_by_rows_that_differ_later(ready: dict[str, Method]) -> None:
    nets = ready["GTL"].nets_  # type: ignore[attr-defined]
    for name, change in vr.LATE.items():
        assert ready[name].nets_ is nets and ready[name].generator == change["generator"]  # type: ignore[attr-defined]
    assert ready["class means of GTL's concept"].body.nets_ is nets  # type: ignore[attr-defined]
    assert ready["plain VAE"].nets_ is not nets and not hasattr(ready[vr.BARE], "base_")  # type: ignore[attr-defined]


def test_fields_are_chosen_on_held_out_base_classes(task: VisualTask, monkeypatch: pytest.MonkeyPatch) -> None:
    novel = {**task.pools, "novel": ()}  # whoever looked at new classes would fail
    rows = {"cache": vr.table(SMALL)["cache"]}
    trained = vr.train(rows, replace(task, pools=novel), shot=2, seed=3)  # type: ignore[arg-type]
    val = [vr.apart(e) for e in task.episodes("val", shot=2, seed=3, number=3)]
    found = {}
    for (beta,) in zip(vr.GRIDS[type(rows["cache"])]["beta"]):
        cache = replace(rows["cache"], beta=beta).pretrain(task.base)  # type: ignore[call-arg]
        found[beta] = sum(accuracy(cache.fit(e.support), e.query) for e in val) / 3
    assert trained.methods["cache"].beta == max(found, key=found.__getitem__)  # type: ignore[attr-defined]
    assert trained.chosen["val accuracy"].item() == pytest.approx(max(found.values()))


def test_scores_have_a_line_for_each_modality_and_episode(task: VisualTask, ready: dict[str, Method]) -> None:
    asked = vr.episodes(task, shots=[1, 2], seed=1, number=2, way=3)
    assert [c for c, _ in asked][:2] == [{"shot": 1, "way": "3", "task": 0}, {"shot": 1, "way": "3", "task": 1}]
    assert not vr.episodes(task, shots=[1], seed=1, way=9) and not vr.episodes(task, shots=[1], seed=1, number=0)
    frame = vr.score({name: ready[name] for name in ("GTL", "cache")}, asked, seed=7)
    assert set(frame["metric"]) == {"accuracy", "accuracy image", "accuracy ink", "fit seconds"}
    assert set(frame["seed"]) == {7} and len(frame) == 2 * 4 * 4
    wide = frame.set_index(["method", "shot", "task", "metric"])["value"]
    count = [len(t) for t in asked[0][1].query.rows.values()]
    parts = [wide["cache", 1, 0, f"accuracy {m}"] for m in ("image", "ink")]
    total = sum(n * a for n, a in zip(count, parts, strict=True)) / sum(count)
    assert wide["cache", 1, 0, "accuracy"] == pytest.approx(total)


def test_rows_of_one_item_are_asked_one_by_one(task: VisualTask) -> None:
    (episode,) = task.episodes("novel", shot=1, seed=1)
    query = episode.query
    same = replace(query, rows={m: replace(t, pair=query["image"].pair[: len(t)]) for m, t in query.rows.items()})
    parted = vr.apart(replace(episode, query=same))
    assert len(parted.query.items()) == sum(len(t) for t in query.rows.values())


def test_retrieval_against_scikit_learn() -> None:
    rng = torch.Generator().manual_seed(0)
    z = {m: torch.randn(n, 5, generator=rng) for m, n in (("image", 300), ("ink", 40))}
    y = {m: torch.randint(4, (len(x),), generator=rng) for m, x in z.items()}
    y["image"][:7] = 9  # no ink row is of this class
    found = vr.retrieval(z, y).set_index(["what", "of"])["value"]
    cosine = torch.nn.functional.cosine_similarity(z["image"][:, None], z["ink"][None], dim=2)
    right = y["image"][:, None] == y["ink"][None]
    means = [average_precision_score(r, c) for r, c in zip(right[7:], cosine[7:], strict=True)]
    assert found["mAP", "image -> ink"] == pytest.approx(sum(means) / len(means), abs=1e-6)
    first = right[torch.arange(300), cosine.argmax(1)][7:].double().mean()
    assert found["rank-1", "image -> ink"] == pytest.approx(float(first))
    assert vr.retrieval(z, {**y, "ink": y["ink"] + 20}).empty and vr.retrieval({"image": z["image"]}, y).empty


def test_a_generator_of_nothing_gives_nothing_back(task: VisualTask, ready: dict[str, Method]) -> None:
    trained = ready["GTL"].fit(task.episodes("novel", shot=1, seed=1)[0].support)
    last = trained.nets_["generator"].net[-1]  # type: ignore[attr-defined]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    lost = vr.reconstruction(trained, task.pools["novel"][1])  # type: ignore[arg-type]
    assert lost["of"].tolist() == ["image", "ink"] and lost["value"].tolist() == pytest.approx([1, 1])


def test_spaces_are_measured_in_all_they_have(task: VisualTask, ready: dict[str, Method]) -> None:
    ((_, episode),) = vr.episodes(task, shots=[1], seed=1)
    frame = vr.measures({name: ready[name] for name in ("cache", "cross-entropy alone", "GTL")}, episode, seed=1)
    of = {name: set(own["what"]) for name, own in frame.groupby("method")}
    assert of["cache"] == {"rank-1", "mAP"} and of["cross-entropy alone"] == {"rank-1", "mAP", "probe"}
    assert of["GTL"] == {"rank-1", "mAP", "probe", "within items", "not reconstructed"}
    assert frame["value"].between(0, 2).all()
    used = vr.structure(ready["GTL"], task.base)  # type: ignore[arg-type]
    assert used["of"].tolist() == [8, 4, 4, 4] and (used["in use"] <= used["of"]).all()


def test_a_modality_that_nobody_is_asked_in(task: VisualTask, ready: dict[str, Method]) -> None:
    ((columns, episode),) = vr.episodes(task, shots=[1], seed=1)
    none = episode.query["ink"][:0]
    without = replace(episode, query=replace(episode.query, rows={**episode.query.rows, "ink": none}))
    frame = vr.score({"GTL": ready["GTL"]}, [(columns, without)], seed=1)
    assert set(frame["metric"]) == {"accuracy", "accuracy image", "fit seconds"}
    spaces = vr.measures({"GTL": ready["GTL"]}, without, seed=1)
    assert set(spaces["what"]) == {"probe", "within items", "not reconstructed"}
    assert not spaces["of"].str.contains("modality|ink").any()
    assert set(vr.latents(ready["GTL"], without.query)[0]["modality"]) == {"image"}  # type: ignore[arg-type]


def test_pictures_come_back_as_pictures(pictures: VisualTask) -> None:
    few = pictures.base.take(pictures.base.items()[:40])
    method = replace(SMALL, encoders=pictures.encoders).pretrain(few)
    drawn = vr.redrawn(method, pictures.pools["novel"][0], classes=2)
    assert [text for text, _ in drawn][4:] == ["given back"] * 4 + ["disturbance swapped"] * 4
    assert {tuple(x.shape) for _, x in drawn} == {(3, 16, 16)}
    points, means = vr.latents(method, pictures.pools["novel"][0], classes=2, most=3)
    assert len(points) == len(means["concept"]) == len(means["disturbance"]) == 12
    assert points.groupby(["class", "modality"]).size().tolist() == [3] * 4


def test_what_cannot_be_asked_for_is_said_before_any_work(task: VisualTask, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="source='foo'; there are drawings, sketchy"):
        vr.task_of("foo", "", 1)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere; get 256x256/ of the Sketchy"):
        vr.task_of("sketchy", str(tmp_path / "nowhere"), 1)
    with pytest.raises(ValueError, match="'efficientnet' and MODEL:WEIGHTS"):
        vr.task_of("drawings", "", 1, encoder="ViT-B-16")
    with pytest.raises(ValueError, match="recipe='x'; there are ours, paper"):
        vr.fields("x")
    assert replace(GTL(), **vr.fields("paper", 3)).epochs == 3 and vr.fields("paper") == {}
    assert vr.possible(task, [1, 2, 1000]) == [1, 2]
    with pytest.raises(ValueError, match=r"shots=\[1000\]; some class has \d+ rows of a modality"):
        vr.possible(task, [1000])


LAYOUTS = [key for key in VISUAL if key not in ("tuberlin-raw", "nyud-mat")]


@pytest.mark.slow
@pytest.mark.parametrize("key", LAYOUTS)
def test_notebook_40_runs_to_its_end(key: str, written: Layouts, tmp_path: Path) -> None:
    """As `xmodal run 40 -p source=NAME -p root=DIR` does it, with short trainings; the cells for readers once for each
    pair of modalities."""
    given = {"source": key.partition("-")[0], "root": str(written[key]), "epochs": 1, "shots": [1, 5], "few": 1,
             "way": 2}  # fmt: skip
    seen = key in ("tuberlin-ready", "market_sketch-raw", "nyud-sunrgbd")  # sketches as of Sketchy, depth as of SUN
    execute(ROOT, ROOT / "notebooks" / "40_generative_transfer.ipynb", tmp_path, given, brief=seen)
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    assert set(vr.MAIN) <= set(scores["method"]) and set(scores["input"]) == {"features", "pixels"}
    between = set() if key.startswith("sksf_a") else {"class means"}  # retrieval; SKSF-A asks sketches alone
    assert set(pd.read_parquet(tmp_path / "measures.parquet")["method"]) >= {"plain VAE", "GTL"} | between
    assert json.loads((tmp_path / "metrics.json").read_text())
    assert (tmp_path / "notebook.html").stat().st_size > 50_000


@pytest.mark.slow
def test_notebook_40_says_in_a_line_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"there is no folder .*nowhere"):
        execute(ROOT, ROOT / "notebooks" / "40_generative_transfer.ipynb", tmp_path / "out",
                {"source": "sketchy", "root": str(tmp_path / "nowhere")})  # fmt: skip
