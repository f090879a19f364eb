"""A classifier out and in again: saved with its encoder named, asked with real files through the command."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from xmodal_lib import predict
from xmodal_lib.cli import app
from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.encoders.towers import open_clip_towers, split
from xmodal_lib.home import Unusable
from xmodal_lib.methods import LinearProbe, NearestMean, PartialFinetuning, Prompting, ZeroShot, store
from xmodal_lib.tables import Table, Tables

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}
CONFIG = {
    "embed_dim": 8,
    "vision_cfg": {"layers": 2, "width": 16, "head_width": 8, "image_size": 32, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """Random weights of a small CLIP on disk, registered as "tiny-predict"."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "tiny-predict.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / "tiny-predict.json")
    torch.manual_seed(0)
    logging.disable(logging.WARNING)  # it warns that weights are random: here they are meant to be
    model = open_clip.create_model("tiny-predict")
    logging.disable(logging.NOTSET)
    save_file(model.state_dict(), folder / "tiny.safetensors")
    return folder / "tiny.safetensors"


def towers(checkpoint: Path) -> dict[str, Encoder]:
    return open_clip_towers("tiny-predict", checkpoint)


def picture(colour: str, seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(-25, 25, (40, 48, 3))
    return Image.fromarray((np.array(COLOURS[colour]) + noise).clip(0, 255).astype(np.uint8))


def support(encoder: Encoder, text: Encoder | None = None) -> Tables:
    """Five pictures a colour, and a text a colour."""
    x = encoder.encode([picture(c, i) for c in COLOURS for i in range(5)])
    rows = {"image": Table(x, torch.arange(3).repeat_interleave(5), torch.arange(15))}
    if text is not None:
        words = text.encode([f"a photo of {c}" for c in COLOURS])
        rows["text"] = Table(words, torch.arange(3), torch.arange(3) + 100)
    return Tables(rows, tuple(COLOURS))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """New pictures in folders, one that is none, and a file of another kind."""
    root = tmp_path_factory.mktemp("photos")
    for i, colour in enumerate(COLOURS):
        (root / f"some {i}").mkdir()
        for n in range(2):
            picture(colour, 50 + n).save(root / f"some {i}" / f"{colour}-{n}.png")
    (root / "broken.jpg").write_bytes(b"no picture at all")
    (root / "notes.txt").write_text("nothing")
    return root


@pytest.fixture(scope="module")
def model(checkpoint, tmp_path_factory) -> Path:
    image = towers(checkpoint)["image"]
    path = tmp_path_factory.mktemp("saved") / "colours"
    predict.save(NearestMean().fit(support(image)), path, {"image": image})
    return path


def run(*words: object):
    return CliRunner().invoke(app, ["predict", *map(str, words)])


def test_a_folder_through_the_command(model, photos, checkpoint, tmp_path) -> None:
    """Every picture gets its colour; the numbers are those of the method; the broken file is named and passed over."""
    done = run(model, photos, "--out", tmp_path / "deep" / "answers.csv", "--batch", 4)
    assert done.exit_code == 0, done.output
    assert "6 classified, 1 skipped" in done.output and "skipped broken.jpg: no picture can be" in done.output
    table = pd.read_csv(tmp_path / "deep" / "answers.csv")
    assert list(table) == ["file", "class", "probability"] and len(table) == 6
    assert all(file.split("/")[1].startswith(c) for file, c in zip(table["file"], table["class"], strict=True))
    fitted, image = store.load(model), towers(checkpoint)["image"]
    rows = image.encode([picture("red", 50), picture("red", 51)])
    query = Tables({"image": Table(rows, torch.tensor([-1, -1]), torch.arange(2))}, fitted.classes_)
    assert table["probability"][:2].tolist() == pytest.approx(fitted.proba(query).amax(1).tolist(), abs=1e-3)


def test_one_picture_is_printed(model, photos) -> None:
    done = run(model, photos / "some 1" / "green-0.png")
    answer = pd.read_csv(io.StringIO(done.output))
    assert done.exit_code == 0 and answer.loc[0, ["file", "class"]].tolist() == ["green-0.png", "green"]


def test_a_csv_keeps_its_columns_and_fuses_what_a_line_has(checkpoint, photos, tmp_path) -> None:
    both = towers(checkpoint)
    fitted = LinearProbe(iterations=300, batch=4, lr=1e-2).fit(support(both["image"], both["text"]))
    predict.save(fitted, tmp_path / "m", both)
    lines = ["id;image;text", "a;some 0/red-0.png;", "b;;a photo of blue", "c;some 2/blue-1.png;a photo of blue", "d;;",
             "e;some 9/none.png;"]  # fmt: skip
    (photos / "items.csv").write_text("\n".join(lines), encoding="utf-8")
    done = run(tmp_path / "m", photos / "items.csv", "--out", tmp_path / "out.csv")
    table = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    assert done.exit_code == 0 and table["id"].tolist() == ["a", "b", "c"], done.output
    assert table["class"].tolist() == ["red", "blue", "blue"]
    assert "skipped line 5: nothing to read" in done.output and "skipped some 9/none.png: " in done.output


def test_a_finetuned_encoder_and_learnt_prompts_come_back(checkpoint, photos, tmp_path) -> None:
    both = towers(checkpoint)
    trunk, tail = split(both["image"])
    partial = PartialFinetuning({"image": tail}, iterations=40, batch=4, lr=1e-3)
    fits = {
        "partial": (partial.fit(support(trunk, both["text"])), trunk),
        "prompts": (Prompting({"prompt": both["text"]}, tokens=2, epochs=2).fit(support(both["image"], both["text"])),
                    both["image"]),
    }  # fmt: skip
    for name, (fitted, encoder) in fits.items():
        predict.save(fitted, tmp_path / name, {"image": encoder})
        answers, _ = predict.load(tmp_path / name).folder(photos / "some 0")
        rows = encoder.encode([Image.open(photos / "some 0" / f"red-{n}.png") for n in range(2)])
        query = Tables({"image": Table(rows, torch.tensor([-1, -1]), torch.arange(2))}, fitted.classes_)
        assert answers["probability"].tolist() == pytest.approx(fitted.proba(query).amax(1).tolist(), abs=1e-3)
    assert (tmp_path / "prompts.safetensors").stat().st_size < 20_000  # the text tower is not copied


@pytest.mark.slow
def test_a_head_on_a_packaged_encoder_comes_back(photos, tmp_path) -> None:
    """As the bridge is: weights of the head in the file, the frozen tower by name."""
    from xmodal_lib.encoders.frozen import efficientnet

    head = nn.Linear(1280, 12, bias=False)
    image = Encoder("bridge-image", head, trunk=efficientnet(64))
    predict.save(NearestMean().fit(support(image)), tmp_path / "m", {"image": image})
    answers, skipped = predict.load(tmp_path / "m").folder(photos)
    assert len(answers) == 6 and len(skipped) == 1
    assert all(file.split("/")[1].startswith(c) for file, c in zip(answers["file"], answers["class"], strict=True))
    assert (tmp_path / "m.safetensors").stat().st_size < 100_000


def test_weights_that_moved_or_changed(model, checkpoint, photos, tmp_path) -> None:
    kept = checkpoint.read_bytes()
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes(kept)
    checkpoint.unlink()
    try:
        done = run(model, photos)
        assert done.exit_code == 2 and "image tower of 'tiny-predict'" in done.output and "is needed" in done.output
        assert "Traceback" not in done.output and done.output.count("\n") == 1
        assert run(model, photos, "--checkpoint", moved).exit_code == 0
        other = open_clip.create_model("tiny-predict", pretrained=str(moved)).state_dict()
        other["visual.proj"] = other["visual.proj"] + 1
        save_file(other, moved)
        done = run(model, photos, "--checkpoint", moved)
        assert done.exit_code == 2 and "has other weights or another preprocessing" in done.output.replace("\n", " ")
    finally:
        checkpoint.write_bytes(kept)


def test_errors_are_one_clear_line(model, checkpoint, photos, tmp_path) -> None:
    image = towers(checkpoint)["image"]
    fitted = NearestMean().fit(support(image))
    narrow = ZeroShot().fit(Tables({"text": Table(torch.randn(3, 5), torch.arange(3), torch.arange(3))}, tuple("abc")))
    hand = Encoder("mine", nn.Flatten(), image.prepare, sample=image.sample)
    for method, encoders, said in (
        (narrow, {"image": image}, r"ZeroShot cannot take the image rows of .*of shape \(8,\)"),
        (fitted, {"image": hand}, "'mine' was made by hand"),
        (fitted, {}, "no encoder is named"),
    ):
        with pytest.raises(ValueError, match=said):
            predict.save(method, tmp_path / "no", encoders)
    store.save(fitted, tmp_path / "bare")
    with pytest.raises(Unusable, match="names no encoder"):
        predict.load(tmp_path / "bare")
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "other.csv").write_text("name,age\na,3\n")
    (tmp_path / "taken.csv").write_text("image,class\na.png,dog\n")
    (tmp_path / "bad.csv").write_text("image\nnone.png\n")
    (tmp_path / "comma.csv").write_text("image,text\na.png,a dog, sitting\n")
    for items, said in (
        (tmp_path / "absent", "there is no"),
        (empty, "no folder with pictures in it"),
        (tmp_path / "other.csv", "has the columns name, age; this method needs one of: image"),
        (tmp_path / "taken.csv", "a column 'class' of its own"),
        (tmp_path / "bad.csv", "nothing in"),
        (tmp_path / "comma.csv", "line 2 has 3 cells and the header 2"),  # and no text is cut at its comma
    ):
        done = run(model, items)
        assert done.exit_code == 2 and said in done.output and "Traceback" not in done.output
    assert "there is no" in run(tmp_path / "absent", photos).output
