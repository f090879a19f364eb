"""The bridge on a handful of concepts: trained once, loaded after, and the open_clip model it is."""

import json
from collections import Counter
from dataclasses import replace

import open_clip
import pytest
import torch
from safetensors import safe_open
from torch.nn.functional import normalize

from xmodal_lib.encoders import frozen
from xmodal_lib.encoders.bridge import CONTEXT, Recipe, bridge, bridge_model, clip_loss
from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.encoders.towers import split
from xmodal_lib.features import extract
from xmodal_lib.home import home
from xmodal_lib.sources import emoji

pytestmark = pytest.mark.slow
QUICK = Recipe(steps=40, voices=1)


@pytest.fixture(scope="module")
def source():
    return emoji.load("concept", styles=("twemoji", "noto"), categories=("food-fruit", "tool"), per_category=8, size=64,
                      voices=("en-us+f1",))  # fmt: skip


@pytest.fixture(scope="module")
def base(source):
    return emoji.base_novel(source, 0, base=0.7).items(source, "base")


@pytest.fixture(autouse=True)
def apart(source, base, tmp_path, monkeypatch):
    """A cache folder of this test's own; the data is opened already."""
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path))


def towers_of(source, base, **options):
    return bridge(source, base, size=64, recipe=QUICK, progress=False, **options)


def about(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["about"])


def test_it_learns_its_base_concepts_and_is_kept(source, base, monkeypatch):
    towers = towers_of(source, base)
    assert {m: tower.width for m, tower in towers.items()} == {"image": (384,), "text": (384,), "speech": (384,)}
    tables = source.tables.take(base)
    features = extract(source, towers, tables=tables, progress=False)
    names = torch.tensor([kind == "name" for kind in source.column("text", "kind")])[tables["text"].x]
    text = features["text"][names]
    for modality in ("image", "speech"):
        nearest = (normalize(features[modality].x, dim=1) @ normalize(text.x, dim=1).T).argmax(1)
        assert (text.y[nearest] == features[modality].y).float().mean() > 0.6

    (path,) = (home() / "bridge").glob("*.safetensors")
    kept = about(path)
    assert kept["seed"] == 0 and kept["image_loss"][-1] < kept["image_loss"][0] and len(kept["held_out_accuracy"]) == 2
    written = path.stat().st_mtime_ns
    again = towers_of(source, base)
    assert {m: tower.digest for m, tower in again.items()} == {m: tower.digest for m, tower in towers.items()}
    assert path.stat().st_mtime_ns == written

    for tower in ("_efficientnet", "_minilm", "_SpeechWindows"):  # nor is a tower made, whose library takes seconds
        monkeypatch.setattr(frozen, tower, lambda tower=tower: pytest.fail(f"{tower} was made"))
    stored = extract(source, towers_of(source, base), tables=tables, progress=False)
    assert all(torch.equal(stored[m].x, features[m].x) for m in features.modalities)


def test_seeds_differ_and_share_the_frozen_features(source, base, monkeypatch):
    opened: Counter[str] = Counter()
    for modality, original in dict(source.open).items():
        monkeypatch.setitem(source.open, modality, lambda i, m=modality, o=original: (opened.update([m]), o(i))[1])
    first = towers_of(source, base, seed=0)
    once = dict(opened)
    second = towers_of(source, base, seed=1)
    assert dict(opened) == once
    assert first["image"].digest != second["image"].digest and first["text"].digest == second["text"].digest


def test_a_caption_is_encoded_once_for_all_bases_and_concepts_that_have_it(source, base, monkeypatch):
    said: list[str] = []
    encode = Encoder.encode

    def spy(self, items):
        said.extend(item for item in items if isinstance(item, str))
        return encode(self, items)

    monkeypatch.setattr(Encoder, "encode", spy)
    towers_of(source, emoji.base_novel(source, 1, base=0.7).items(source, "base"))
    first = len(said)
    towers_of(source, base)
    assert 0 < first < len(said) == len(set(said))


def test_novel_items_are_not_opened(source, base, monkeypatch):
    seen: list[int] = []
    original = source.open["image"]
    monkeypatch.setitem(source.open, "image", lambda i: original(seen.append(i) or i))  # type: ignore[func-returns-value]
    towers_of(source, base)
    assert set(seen) == set(source.tables.take(base)["image"].x.tolist())


def test_a_damaged_file_is_trained_again(source, base, capsys):
    digest = towers_of(source, base)["image"].digest
    (path,) = (home() / "bridge").glob("*.safetensors")
    good = path.read_bytes()
    for damaged in (good[:-50], b"", good[:-50] + b"\0" * 50):
        path.write_bytes(damaged)
        assert towers_of(source, base)["image"].digest == digest
        assert "the cached bridge is damaged" in capsys.readouterr().err
        assert path.read_bytes() == good


def test_the_loss_is_that_of_open_clip():
    rng = torch.Generator().manual_seed(0)
    ours, theirs = ([normalize(torch.randn(7, 5, generator=rng.manual_seed(k)), dim=1).requires_grad_() for k in (1, 2)]
                    + [torch.tensor(9.0, requires_grad=True)] for _ in range(2))  # fmt: skip
    losses = clip_loss(*ours), open_clip.ClipLoss()(*theirs)
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(ours, theirs, strict=True))


def test_it_is_an_open_clip_model(source, base):
    towers = towers_of(source, base)
    model = bridge_model(towers)
    assert isinstance(model, open_clip.CustomTextCLIP)
    pictures = [source.open["image"](i) for i in range(3)]
    image = model.encode_image(towers["image"].prepare(pictures))
    torch.testing.assert_close(image, towers["image"].encode(pictures))
    tokenize = open_clip.tokenizer.HFTokenizer(model.text.config._name_or_path, context_length=CONTEXT)
    words = ["a banana", "a drawing of an axe on a table"]
    torch.testing.assert_close(model.encode_text(tokenize(words)), towers["text"].encode(words), rtol=1e-4, atol=1e-5)


def test_its_image_tower_splits(source, base):
    image = towers_of(source, base)["image"]
    pictures = [source.open["image"](i) for i in range(3)]
    for last_blocks, width in ((0, (320, 2, 2)), (1, (192, 2, 2))):
        trunk, tail = split(image, last_blocks)
        assert trunk.width == width
        torch.testing.assert_close(tail(trunk.encode(pictures)), image.encode(pictures), rtol=1e-4, atol=1e-5)


def test_what_it_needs(source, base):
    with pytest.raises(ValueError, match="has no 'text'"):
        towers_of(replace(source, tables=source.tables.only("image")), base)
    with pytest.raises(ValueError, match="1 concept families; at least three"):
        towers_of(source, base[:1])
