"""The paper's table from image sets in their real layouts: features, training, selection, averages, what is missing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import open_clip
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.sources.layouts import write_jpg
from tests.sources.picture_layouts import image_set
from xmodal_lib.adaptation_tasks import MISSING, NOT_RUN, ROWS, against_paper, by_data_set, here_and_missing, load
from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.episodes import Episode
from xmodal_lib.evaluate import evaluate
from xmodal_lib.methods import LinearProbe
from xmodal_lib.runs import provenance
from xmodal_lib.runs.run import READER, execute
from xmodal_lib.sources import catalogue
from xmodal_lib.sources.image_sets import TARGETS
from xmodal_lib.tables import Tables
from xmodal_lib.training import seeded

ROOT = Path(__file__).parents[1]
SETS = ("caltech101", "dtd")
SMALL = {"train": 2, "val": 1, "test": 1}  # pictures a class


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two image sets, in the folders that the catalogue looks for them in."""
    root = tmp_path_factory.mktemp("image_sets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMODAL_DATA", str(root))
        for name in SETS:
            image_set(catalogue.place(name), name, more=1, count=SMALL)
    for path in root.rglob("*.jpg"):  # wide, so that crops differ
        Image.open(path).resize((64, 16)).save(path)
    return root


@pytest.fixture(autouse=True)
def places(data: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMODAL_DATA", str(data))
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path_factory.getbasetemp() / "image_sets_cache"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An RN50 of open_clip with random weights, as a file."""
    path = tmp_path_factory.mktemp("weights") / "rn50.safetensors"
    with seeded(0):
        model = open_clip.create_model("RN50")
    save_file({k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}, path)
    yield path
    path.unlink()  # 200 MB


def scores_of(notebook: Path, to: Path, **given: object) -> Path:
    """The code of a draw up to its results, in this process: saves a kernel each."""
    names: dict[str, object] = {}
    for source, tags in provenance.code_cells(notebook):
        if source.startswith("accuracy = frame"):
            break
        if READER in tags:
            continue
        exec(source, names)
        if "parameters" in tags:
            assert set(given) <= set(names), "a parameter is misspelt"
            names |= given
    frame = names["frame"]
    assert isinstance(frame, pd.DataFrame)
    frame.to_parquet(to)
    return to


@pytest.mark.slow
def test_the_table_of_the_paper_from_data_sets_in_their_layouts(checkpoint: Path, tiny: str, tmp_path: Path) -> None:
    """Notebook 10 on two data sets with the rows of `params/profiles/paper.yaml`, then the report over them: the last
    set with the paper's tower, which takes seconds to make and to load, the rest with one of some thousand weights."""
    notebook = ROOT / "notebooks" / "10_cross_modal_adaptation.ipynb"
    given = {"shots": [1], "views": 1, "iterations": 2}
    fits = {"partial_shots": [1], "partial_iterations": 1, "prompt_epochs": 1}
    towers = dict.fromkeys(SETS, tiny) | {SETS[-1]: f"RN50:{checkpoint}"}
    files = [str(scores_of(notebook, tmp_path / f"{name}.parquet", source=name, encoder=tower, **given, **fits))
             for name, tower in towers.items()]  # fmt: skip
    out = tmp_path / "report"
    execute(ROOT, notebook, out, {**given, "encoder": tiny, "source": "any", "scores": files})
    table = pd.read_parquet(out / "paper_table.parquet").set_index(["method", "from"])
    assert set(table.index) == {(row, whose) for row in ROWS for whose in ("paper", "here")}
    here = table.xs("here", level="from")["1"]
    assert (here.astype(float).between(0, 100)).all() and set(here.index) == set(ROWS)  # every cell has a number
    assert table.loc[("Cross-modal linear", "paper"), "1"] == "64.1"
    frame = pd.concat([pd.read_parquet(file) for file in files])
    each = by_data_set(frame, 1)
    logged = each.pop("Zero-shot CLIP, logged")
    assert set(logged.index[logged != ""]) == set(TARGETS) and logged["eurosat"] == "37.5"
    assert (each.loc[[name for name in TARGETS if name not in SETS]] == MISSING).all(axis=None)
    assert not each.loc[[*SETS, "mean of 2"]].isin([MISSING, NOT_RUN]).any(axis=None)
    assert each.loc[list(SETS), "ProGrad"].astype(float).mean() == pytest.approx(float(here["ProGrad"]), abs=0.1)
    text = (out / "notebook.html").read_text()
    assert "Ours: mean of 2 of 11 data sets. Not among these scores: imagenet, eurosat" in text


def test_numbers_of_the_table() -> None:
    """Two draws of one data set and one of another: means over draws first; what was not run says so."""
    cells = [("dtd", 1, 0.4), ("dtd", 2, 0.6), ("ucf101", 1, 0.9)]
    frame = pd.DataFrame([{"method": "zero-shot", "track": "few-shot val", "seed": s, "source": name, "shot": 4,
                           "metric": "accuracy", "value": v} for name, s, v in cells])  # fmt: skip
    table = against_paper(frame)
    assert table.loc[("Zero-shot CLIP", "here"), 4] == "70.0" and table.loc[("Zero-shot CLIP", "paper"), 4] == "58.8"
    assert table.loc[("CoOp", "here"), 4] == NOT_RUN and table.loc[("Zero-shot CLIP", "here"), 8] == NOT_RUN
    each = by_data_set(frame, 4)["Zero-shot CLIP"]
    assert each["dtd"] == "50.0 ± 127.1" and each["ucf101"] == "90.0" and each["imagenet"] == MISSING
    assert each["mean of 2"] == "70.0" and "mean of 2 of 11" in here_and_missing(frame)
    drawings = against_paper(frame.assign(source="drawings"))
    assert set(drawings.index.get_level_values("from")) == {"paper"}
    assert list(by_data_set(frame.assign(source="drawings"), 4).index) == ["drawings"]
    assert here_and_missing(frame.assign(source="drawings")) == "Ours: no scores of the 11 data sets are here."


def test_views_give_so_many_times_the_rows(tiny: str) -> None:
    plain, ten = (load("dtd", seed=1, shots=[2], encoder=tiny, views=n).episodes([2])[0][1] for n in (0, 10))
    rows = [len(episode.support["image"]) for episode in (plain, ten)]
    assert rows == [10, 10 + 10 * 10]
    more = ten.support["image"].x[10:]
    assert len(more.unique(dim=0)) > 70  # all views, of which chance repeats some: not ten times the last one
    assert torch.equal(ten.support["image"].x[:10], plain.support["image"].x)
    for part in ("val", "query"):
        assert torch.equal(getattr(ten, part)["image"].x, getattr(plain, part)["image"].x)


def test_the_cut_tower_is_the_tower(tiny: str) -> None:
    """With `deep` features come from the cached maps; the episodes on the maps are the same ones, item by item."""
    whole, cut = (load("dtd", seed=1, shots=[1, 2], encoder=tiny, views=1, deep=deep) for deep in (False, True))
    (_, episode), (_, other) = whole.episodes([1])[0], cut.episodes([1])[0]
    assert torch.allclose(episode.support["image"].x, other.support["image"].x, atol=1e-5)
    tail, ((_, maps), (_, second)) = cut.deep_episodes([1, 2])
    assert second.query is maps.query and torch.equal(maps.query["image"].pair, episode.query["image"].pair)
    assert torch.equal(maps.support["image"].pair, other.support["image"].pair)
    with torch.no_grad():
        assert torch.allclose(tail(maps.support["image"].x), other.support["image"].x, atol=1e-5)
    assert all(p.requires_grad for p in tail.parameters())
    with pytest.raises(ValueError, match="load the task with deep=True"):
        whole.deep_episodes([1])


def test_features_are_kept_by_all_that_matters(tiny: str, data: Path, tmp_path: Path, monkeypatch) -> None:
    """A second run computes nothing; other weights, templates, views or pictures are computed, wherever they lie."""
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path / "cache"))
    counted: list[int] = []
    encode = Encoder.encode
    monkeypatch.setattr(Encoder, "encode", lambda self, items: counted.append(len(items)) or encode(self, items))

    def computed(root: str = "", encoder: str = tiny, views: int = 0, **options: object) -> bool:
        counted.clear()
        load("dtd", root, seed=1, shots=[1], encoder=encoder, views=views, **options).episodes([1])  # type: ignore
        return sum(counted) > 3  # an encoder looks at its own width once

    assert computed() and not computed()
    assert computed(prompts="vanilla") and not computed(prompts="vanilla")
    assert computed(views=1) and not computed(views=1) and computed(views=2) and not computed(views=1)
    moved = shutil.copytree(catalogue.place("dtd"), tmp_path / "elsewhere")
    assert not computed(str(moved))  # the same pictures at another place
    picture = next((moved / "images").rglob("train_*.jpg"))
    picture.write_bytes(picture.read_bytes() + b" ")
    assert computed(str(moved))
    other = Path(shutil.copytree(tiny.partition(":")[2], tmp_path / "other"))
    weights = load_file(other / "open_clip_model.safetensors")
    save_file({k: v + 1e-3 for k, v in weights.items()}, other / "open_clip_model.safetensors")
    assert computed(encoder=f"local-dir:{other}") and not computed()


def test_labels_of_the_test_list_are_not_read_before_the_answers(tiny: str) -> None:
    """Poisoned test labels, all of them wrong for what was fitted, change the scores and nothing that was chosen."""
    (columns, episode), kept = load("dtd", seed=1, shots=[2], encoder=tiny, views=1).episodes([2])[0], []
    keep = {"p": {"kept": lambda fitted: kept.append(fitted) or fitted}}

    def accuracy(asked: Episode) -> float:
        frame = evaluate({"p": LinearProbe(iterations=200)}, [(columns, asked)], variants=keep, progress=False)
        return frame.loc[frame["metric"] == "accuracy", "value"].iloc[0]

    first = accuracy(episode)
    poison = replace(episode.query["image"], y=(kept[0].predict(episode.query) + 1) % 5)
    assert accuracy(replace(episode, query=Tables({"image": poison}, episode.query.classes))) == 0 < first
    assert torch.equal(kept[0].head_, kept[1].head_) and kept[0].cells_.equals(kept[1].cells_)


def test_what_is_not_here_or_too_little_is_said(tiny: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*eurosat; get 2750/"):
        load("eurosat", seed=1, shots=[1], encoder=tiny)
    with pytest.raises(ValueError, match=r"dtd: class '.*' has 2 rows in train; 16 are needed"):
        load("dtd", seed=1, shots=[1, 16], encoder=tiny)
    fewer = load("dtd", seed=1, shots=[16], encoder=tiny, fewer=True).episodes([16])[0][1]
    assert len(fewer.support["image"]) == 10
    with pytest.raises(ValueError, match="source='dtt'; there are drawings, any, imagenet, caltech101"):
        load("dtt", seed=1, shots=[1])
    with pytest.raises(ValueError, match="no weights are named for 'RN50'"):
        load("dtd", seed=1, shots=[1], encoder="RN50")
    assert load("any", seed=1, shots=[1], encoder=tiny).name == "caltech101"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMODAL_DATA", str(tmp_path))
        with pytest.raises(FileNotFoundError, match=r"none of imagenet, caltech101, .* is here"):
            load("any", seed=1, shots=[1], encoder=tiny)


def test_the_published_draw_of_a_real_split_file(shared: Path, tiny: str, tmp_path: Path) -> None:
    """DTD's own lists with pictures for one draw and some of the test list: the episode has the published pictures."""
    name = "split_zhou_DescribableTextures.json"
    (tmp_path / name).write_bytes((shared / "data/coop" / name).read_bytes())
    index = json.loads((shared / "data/coop/indices/dtd/shot_1-seed_1.json").read_text())
    published = {part: [row["impath"].partition("/images/")[2] for row in index[part]["data"]] for part in index}
    test = [path for path, *_ in json.loads((tmp_path / name).read_text())["test"]][:100]
    for n, path in enumerate([*published["train"], *published["val"], *test]):
        write_jpg(tmp_path / "images" / path, Image.new("RGB", (16, 16), (n % 256, 2 * n % 256, 0)))
    given = load("dtd", str(tmp_path), seed=1, shots=[1], encoder=tiny)
    ((_, episode),) = given.episodes([1])
    shown = given.source.by_item("image", "item")
    for part, tables in (("train", episode.support), ("val", episode.val), ("test", episode.query)):
        assert tables is not None
        assert sorted(shown[i] for i in tables["image"].pair.tolist()) == sorted(published.get(part, test))
    assert len(given.classes) == 47 and "pictures are missing" in given.report
