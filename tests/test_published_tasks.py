"""The papers' data sets as tasks, on small files in their real layouts."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import open_clip
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from tests.sources.layouts import WRITERS
from xmodal_lib import published_tasks
from xmodal_lib.encoders import inputs
from xmodal_lib.encoders.masked import CAVMAE, M3AE
from xmodal_lib.encoders.towers import open_clip_towers
from xmodal_lib.methods import MLA, Joint
from xmodal_lib.methods.multimodal import Multimodal
from xmodal_lib.multimodal_tasks import ROLES, MultimodalTask
from xmodal_lib.published_tasks import Inputs
from xmodal_lib.runs.run import execute
from xmodal_lib.training import accuracy

Layouts = Mapping[str, Path]
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
TINY = Inputs(size=32, frames=2, sound=128)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def named(written: Layouts, key: str) -> tuple[str, str]:
    """Name in the catalogue, and the folder."""
    return key.partition("-")[0], str(written[key])


def task_of(written: Layouts, key: str, **given) -> MultimodalTask:
    name, root = named(written, key)
    return published_tasks.load(name, root, given=TINY, **given)


@pytest.mark.parametrize("key", WRITERS)
def test_every_layout_is_split_as_its_source_says_and_its_nets_take_it(written: Layouts, key: str) -> None:
    task = task_of(written, key, nets="small")
    modalities = task.source.tables.modalities
    for role, part in zip(ROLES, (task.episode.support, task.episode.val, task.episode.query), strict=True):
        for m in modalities:
            assert set(task.source.info[m]["split"].iloc[task.rows[role][m].x.tolist()]) == {role}
            assert torch.equal(part[m].y, task.rows[role][m].y) and torch.equal(part[m].pair, task.rows[role][m].pair)
            with torch.no_grad():
                assert task.encoders[m].eval()(part[m].x[:2]).shape == (2, 128)
    assert list(task.encoders) == list(modalities)


def test_small_nets_learn_what_is_in_the_files(written: Layouts) -> None:
    task = task_of(written, "cremad-raw", nets="small")
    fields = {"epochs": 30, "batch": 8, "lr": 0.05, "seed": 1}
    fitted = MLA(task.encoders, **fields).fit(task.episode.support, task.episode.val)
    assert accuracy(fitted, task.episode.query) > 0.5  # chance is a sixth


@pytest.mark.parametrize("key", ["cremad-ogm", "kinetics_sounds-raw"])
def test_the_published_resnets_train_on_views_that_are_drawn_by_seed(written: Layouts, key: str) -> None:
    task = task_of(written, key, nets="published")
    few = task.episode.support.items()[::2]
    method = Joint(task.encoders, epochs=1, batch=8, seed=3)
    support = task.episode.support.take(few)
    support = support.of_classes([c for i, c in enumerate(support.classes) if i in support.labels().tolist()])
    first, again = (method.fit(support) for _ in range(2))
    for a, b in zip(weights(first), weights(again), strict=True):
        assert torch.equal(a, b)
    look, rows = task.encoders["visual"][0], task.episode.support["visual"].x[:1]
    one, two, same = look.train()(rows), look(rows), look.eval()(rows)
    assert one.shape == (1, 3, 2, 32, 32) and not torch.equal(one, two) and torch.equal(same, look(rows))


@pytest.mark.parametrize(("sound_as", "kind", "shape"), [("mla spectrogram", "mla", (129, 626)),
                                                         ("ogm spectrogram", "ogm", (257, 188))])  # fmt: skip
def test_sound_may_be_seen_as_either_spectrogram(written: Layouts, sound_as: str, kind: str, shape: tuple) -> None:
    given = replace(TINY, sound_as=sound_as)
    for nets, width in (("published", 512), ("small", 128)):
        task = published_tasks.load(*named(written, "cremad-raw"), nets=nets, given=given)
        sounds = task.episode.query["audio"].x
        assert sounds.shape == (len(task.rows["test"]["audio"]), *shape)
        wave = task.source.open["audio"](int(task.rows["test"]["audio"].x[0]))
        torch.testing.assert_close(sounds[0], inputs.spectrogram(wave, kind), rtol=1e-3, atol=1e-2)  # cached as float16
        with torch.no_grad():
            assert task.encoders["audio"].eval()(sounds[:2]).shape == (2, width)
    fitted = MLA({"audio": task.encoders["audio"]}, epochs=30, batch=8, lr=0.05, seed=1).fit(
        task.episode.support.only("audio"), task.episode.val.only("audio")
    )
    assert accuracy(fitted, task.episode.query.only("audio")) > 0.5  # chance is a sixth


def test_a_spectrogram_that_cannot_be_is_refused(written: Layouts, tmp_path: Path) -> None:
    given = replace(TINY, sound_as="mla spectrogram")
    with pytest.raises(ValueError, match="this cremad has stored filter banks"):
        published_tasks.load(*named(written, "cremad-released"), nets="small", given=given)
    with pytest.raises(ValueError, match=r"CAV-MAE, which takes 'fbank'"):
        published_tasks.load(*named(written, "iemocap-raw"), checkpoint=str(tmp_path), given=given)
    with pytest.raises(ValueError, match="sound_as='mel'; there are fbank, mla spectrogram, ogm spectrogram"):
        Inputs(sound_as="mel")


def weights(method: Multimodal) -> list[torch.Tensor]:
    return [p.detach() for p in method.encoders_.parameters()]


def test_transformers_ask_for_their_weights(written: Layouts, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'image' is a transformer, which needs weights: give `checkpoint`"):
        task_of(written, "food101-raw")
    with pytest.raises(FileNotFoundError, match=r"has no image.safetensors and no image.pth"):
        task_of(written, "food101-raw", checkpoint=str(tmp_path))


def test_transformers_start_from_the_users_checkpoint(
    written: Layouts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All three modalities, with nets of the published kind that are small: base ones have 90 million weights each."""
    small = {"width": 16, "depth": 1, "heads": 4}
    monkeypatch.setattr(published_tasks, "M3AE", partial(M3AE, **small))
    monkeypatch.setattr(published_tasks, "CAVMAE", partial(CAVMAE, **small))
    theirs = {"audio": CAVMAE(**small, random=True, frames=TINY.sound), "visual": M3AE("image", **small, random=True),
              "text": M3AE("text", **small, random=True)}  # fmt: skip
    for m, net in theirs.items():
        save_file(net.state_dict(), tmp_path / f"{m}.safetensors")
    task = task_of(written, "iemocap-released", nets="published", checkpoint=str(tmp_path))
    few = task.episode.support.take(task.episode.support.items()[:8])
    few = few.of_classes([c for i, c in enumerate(few.classes) if i in few.labels().tolist()])
    begun = MLA(task.encoders, batch=8, lr=0.01).begin(few)
    for m, net in theirs.items():  # a net that starts anew by seed would have lost them
        held = {name.split(".", 1)[1] if m == "visual" else name: value
                for name, value in begun.encoders_[m].state_dict().items()}  # fmt: skip
        assert all(torch.equal(held[name], value) for name, value in net.state_dict().items())
    begun.step(next(begun.batches()))
    assert all(not torch.equal(net.cls if m != "audio" else net.type_embedding, learnt) for m, net in theirs.items()
               for name, learnt in begun.encoders_[m].named_parameters()
               if name.endswith("type_embedding" if m == "audio" else "cls"))  # fmt: skip


def test_with_a_clip_nothing_but_heads_is_learnt(written: Layouts, tmp_path: Path) -> None:
    shape = {"embed_dim": 8, "vision_cfg": {"layers": 1, "width": 16, "head_width": 8, "image_size": 32,
             "patch_size": 8}, "text_cfg": {"context_length": 12, "width": 16, "heads": 2, "layers": 1}}  # fmt: skip
    (tmp_path / "tiny-published.json").write_text(json.dumps(shape))
    open_clip.add_model_config(tmp_path / "tiny-published.json")
    torch.manual_seed(0)
    logging.disable(logging.WARNING)  # it warns that weights are random: here they are meant to be
    save_file(open_clip.create_model("tiny-published").state_dict(), tmp_path / "weights.safetensors")
    logging.disable(logging.NOTSET)
    nets = f"tiny-published:{tmp_path / 'weights.safetensors'}"
    task = task_of(written, "food101-raw", nets=nets)
    towers = open_clip_towers(*nets.split(":"))
    for m, tower in towers.items():
        rows = tower.encode([task.source.open[m](i) for i in task.rows["test"][m].x.tolist()])
        torch.testing.assert_close(task.episode.query[m].x, rows, rtol=1e-4, atol=1e-5)
    assert task.encoders == {}
    fitted = MLA(epochs=2, batch=8).fit(task.episode.support, task.episode.val)
    assert not list(fitted.encoders_.parameters()) and len(fitted.predict(task.episode.query)) == 8
    with pytest.raises(ValueError, match="stored word pieces"):
        task_of(written, "food101-released", nets=nets)


def test_a_clip_has_no_ear(written: Layouts) -> None:
    with pytest.raises(ValueError, match="a CLIP has no tower for 'audio' of cremad"):
        task_of(written, "cremad-raw", nets="ViT-B-32:openai")


def test_no_data_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="cremad"):
        published_tasks.load("cremad", str(tmp_path))


@pytest.mark.parametrize(
    ("key", "more"),
    [
        ("cremad-raw", {}),
        ("cremad-released", {"nets": "published", "size": 32, "frames": 1, "epochs": 1, "split": "published"}),
        ("kinetics_sounds-released", {}),
        ("food101-mmbt", {}),
        ("mvsa-raw", {}),
        ("iemocap-released", {"split": "published"}),
    ],
)
def test_notebook_20_runs_to_its_end(written: Layouts, tmp_path: Path, key: str, more: dict) -> None:
    """As `xmodal run 20 -p source=NAME -p root=DIR` does it, with short trainings; the cells for readers once for each
    kind of items."""
    name, root = named(written, key)
    given = {"source": name, "root": root, "epochs": 2, "watched": 2, "sound": 128, "missing": [0.5]} | more
    seen = key in ("cremad-released", "food101-mmbt")  # stored sounds as of Kinetics, words and pictures as of MVSA
    execute(ROOT, ROOT / "notebooks" / "20_alternating_unimodal.ipynb", tmp_path, given, brief=seen)
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    arms = set(scores["method"])
    assert {"joint", "OGM-GE", "summed unimodal", "independent unimodal", "MLA, no projection", "MLA"} <= arms
    modalities = {"cremad": 2, "kinetics_sounds": 2, "food101": 2, "mvsa": 2, "iemocap": 3}[name]
    assert sum(m.startswith("accuracy ") for m in scores["metric"].unique()) == modalities
    assert (tmp_path / "notebook.html").stat().st_size > 50_000
