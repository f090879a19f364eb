"""Domain shift: domains of the drawings, and what is asked in them."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.sources.picture_layouts import imagenet
from tests.sources.picture_layouts import shift as shift_set
from xmodal_lib.episodes import Episode
from xmodal_lib.evaluate import evaluate
from xmodal_lib.methods import LinearProbe, ZeroShot
from xmodal_lib.runs.run import execute
from xmodal_lib.shift import LEARNT, OTHERS, drawing_styles, load
from xmodal_lib.sources import emoji
from xmodal_lib.sources.image_sets import SETS, SHIFTS
from xmodal_lib.tables import Table, Tables

ROOT = Path(__file__).parents[1]
RNG = torch.Generator().manual_seed(0)
MEANS = torch.randn(4, 16, generator=RNG)


def rows(n: int, noise: float, first: int, classes: int = 4) -> Table:
    y = torch.arange(n) % classes
    return Table(MEANS[y] + noise * torch.randn(n, 16, generator=RNG), y, torch.arange(first, first + n))


NAMES = ("ant", "bee", "cat", "dog")
TEXT = Tables({"text": rows(4, 0.3, 900)}, NAMES)
SUPPORT = Tables({"image": rows(16, 0.5, 0)}, NAMES) | TEXT
NEAR, FAR = Tables({"image": rows(80, 0.5, 100)}, NAMES), Tables({"image": rows(80, 2.0, 200)}, NAMES)
EPISODE = Episode(SUPPORT, None, NEAR, seed=3)
PROBE = LinearProbe(iterations=100, batch=6)


def across(methods, domains, **given) -> pd.DataFrame:
    return evaluate(methods, [({"shot": 4}, EPISODE)], domains=domains, progress=False, **given)


def test_the_own_domain_is_what_evaluate_says() -> None:
    frame = across({"probe": PROBE}, {"near": NEAR, "far": FAR})
    plain = evaluate({"probe": PROBE}, [EPISODE], progress=False)
    for metric in ("accuracy", "macro accuracy", "macro F1", "ECE", "accuracy image"):
        ours = frame[(frame["domain"] == "near") & (frame["metric"] == metric)]["value"].item()
        assert ours == plain[plain["metric"] == metric]["value"].item()
    found = frame[frame["metric"] == "accuracy"].set_index("domain")["value"]
    assert found["far"] < found["near"]


def test_fewer_classes_are_answered_among_themselves() -> None:
    """Two classes in another order: their labels are places in the domain's own list."""
    both = Tables({"image": replace(rows(60, 2.0, 300, 2), y=1 - torch.arange(60) % 2)}, ("bee", "ant"))
    frame = across({"zero-shot": ZeroShot()}, {"two": both})
    z = torch.nn.functional.normalize
    cosine = z(both["image"].x, dim=1) @ z(TEXT["text"].x[[1, 0]], dim=1).T
    assert frame["value"].iloc[0] == pytest.approx((cosine.argmax(1) == both["image"].y).double().mean().item())


def test_labels_of_a_domain_are_not_read_before_the_answers() -> None:
    wrong = Tables({"image": replace(NEAR["image"], y=(NEAR["image"].y + 1) % 4)}, NAMES)
    right, poisoned = (across({"p": PROBE}, {"d": d})["value"].iloc[0] for d in (NEAR, wrong))
    assert right > 0.5 > poisoned


def test_a_class_that_was_not_learnt_is_named() -> None:
    other = Tables({"image": rows(8, 1.0, 0)}, ("ant", "bee", "cat", "emu"))
    with pytest.raises(ValueError, match=r"domain 'd': 1 of 4 classes were not learnt \(first: emu\)"):
        across({"z": ZeroShot()}, {"d": other})


def test_variants_are_asked_too() -> None:
    variants = {"probe": {"zero-shot, mixed": lambda fitted: fitted.at(0.0)}}
    frame = across({"probe": PROBE, "zero": ZeroShot()}, {"far": FAR}, variants=variants)
    found = frame[frame["metric"] == "accuracy"].set_index("method")["value"]
    assert found["zero-shot, mixed"] == found["zero"]


@pytest.mark.slow
def test_domains_of_the_drawings_ask_the_same_concepts_and_share_none_with_the_support() -> None:
    source = emoji.load("category", modalities=("image", "text"))
    halves = emoji.base_novel(source, 1)
    task, domains = drawing_styles(source, halves, source.tables, seed=1)
    concept, style = source.by_item("image", "concept"), source.by_item("image", "style")
    asked = [{concept[i] for i in query.items().tolist()} for query in domains.values()]
    assert len(asked[0]) > 30 and all(other == asked[0] for other in asked)
    learnt = task.pools["support"].items().tolist() + task.pools["validation"].items().tolist()
    assert {style[i] for i in learnt} == set(LEARNT)
    assert not {concept[i] for i in learnt} & asked[0]
    assert {style[i] for i in domains["line"].items().tolist()} == set(OTHERS["line"])
    assert all(query.classes == task.classes for query in domains.values())


@pytest.fixture
def shifts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small ImageNet and its shifts beside it, in their usual folders."""
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path / "cache"))
    imagenet(tmp_path / "data" / "imagenet")
    for name in SHIFTS:
        shift_set(tmp_path / "data" / SETS[name].folder, name)
    return tmp_path / "data"


def test_notebook_12_runs_on_imagenet_and_its_shifts(shifts: Path, tiny: str, tmp_path: Path) -> None:
    """As `xmodal run 12 -p source=imagenet -p root=DIR -p encoder=NAME`, one shift missing and one of other classes."""
    shutil.rmtree(shifts / "imagenet-sketch")
    names = (shifts / "imagenet-rendition" / "classnames.txt").read_text()
    (shifts / "imagenet-rendition" / "classnames.txt").write_text(names.replace("orange", "lemon"))
    given = {"source": "imagenet", "root": str(shifts / "imagenet"), "encoder": tiny, "views": 1, "shots": [2]}
    out = tmp_path / "out"
    execute(ROOT, ROOT / "notebooks" / "12_domain_shift.ipynb", out, given | {"iterations": 60})
    frame = pd.read_parquet(out / "scores.parquet").query("metric == 'accuracy'")
    assert set(frame["domain"]) == {"imagenet", "imagenetv2", "imagenet_a"}
    assert not frame.duplicated(["method", "domain"]).any() and frame["value"].between(0, 1).all()
    page = (out / "notebook.html").read_text()
    assert re.search(r"imagenet_sketch is left out: there is no folder .*imagenet-sketch", page)
    assert "imagenet_r is left out: imagenet_r beside imagenet: 1 of 3 classes were not learnt (first: lemon)" in page


def test_imagenet_without_any_shift(shifts: Path, tiny: str) -> None:
    for name in SHIFTS:
        shutil.rmtree(shifts / SETS[name].folder)
    with pytest.raises(FileNotFoundError, match=r"none of imagenetv2, .* is here: there is no folder .*; get "):
        load("imagenet", str(shifts / "imagenet"), seed=1, shots=[1], encoder=tiny)
    with pytest.raises(ValueError, match="source='dtd'; there are drawings and imagenet"):
        load("dtd", seed=1, shots=[1])
