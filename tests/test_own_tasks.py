"""Your own data: words and sentences, pools by splits or dealt, and what is said of what cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from xmodal_lib.adaptation_tasks import load
from xmodal_lib.own_tasks import OwnTask, own_task, with_words
from xmodal_lib.sources import manifest
from xmodal_lib.sources.source import Source

PICTURES = {"t-shirt": 7, "hat": 7}


def listed(folder: Path, split: dict[int, str] | None = None, extra: str = "") -> Source:
    """A CSV of seven pictures a class; `split` by number of the picture within its class."""
    lines = ["image,text,label,split"]
    for name, count in PICTURES.items():
        for n in range(count):
            Image.new("RGB", (8, 8), (n, len(name), 0)).save(folder / f"{name}{n}.png")
            lines.append(f"{name}{n}.png,,{name},{(split or {}).get(n, '')}")
    (folder / "mine.csv").write_text("\n".join(lines) + "\n" + extra)
    return manifest.read(folder / "mine.csv")


def task(source: Source, seed: int = 1) -> OwnTask:
    source = with_words(source)
    return own_task(source, source.tables, seed=seed)


def test_words_captions_and_sentences(tmp_path: Path) -> None:
    """A word of its own is a text row, a caption is none, and a class without a word is named in a sentence."""
    source = with_words(listed(tmp_path, extra=",a felt hat,hat,\nhat0.png,a caption,hat,\n"))
    text = source.tables["text"]
    said = {source.tables.classes[y]: source.open["text"](int(i)) for i, y in zip(text.x, text.y, strict=True)}
    assert said == {"hat": "a felt hat", "t-shirt": "a photo of a t-shirt."}
    assert not set(text.pair.tolist()) & set(source.tables["image"].pair.tolist())
    assert source.report == "mine: 15 pictures of 2 classes; 1 words, 1 classes called by their names"
    assert source.frame("text")["label"].tolist() == ["hat", "t-shirt"]
    assert source.digest != listed(tmp_path).digest


def test_dealt_pools_share_nothing_and_change_with_the_seed(tmp_path: Path) -> None:
    given = listed(tmp_path)
    first, other = task(given), task(given, seed=2)
    items = [set(pool.items().tolist()) for pool in first.pools.values()]
    assert sum(map(len, items)) == 14 == len(set.union(*items)) and all(items)
    assert items != [set(pool.items().tolist()) for pool in other.pools.values()]
    episode = first.episode(2)
    assert len(episode.support["image"]) == 4 and len(episode.support["text"]) == 2
    assert episode.val is not None and set(episode.val.items().tolist()) <= items[1]
    assert set(episode.query.items().tolist()) == items[2]


def test_named_splits_are_kept_and_validation_is_taken_from_training(tmp_path: Path) -> None:
    splits = {0: "train", 1: "Train", 2: "train", 3: "train", 4: "val", 5: "test", 6: "test"}
    named = task(listed(tmp_path, splits))
    assert [len(pool.items()) for pool in named.pools.values()] == [8, 2, 4]
    assert named.episode(4).val is not None and len(named.episode(4).val.items()) == 2  # type: ignore[union-attr]
    without = task(listed(tmp_path, splits | {4: "train"}))
    assert [len(pool.items()) for pool in without.pools.values()] == [8, 2, 4]
    assert set(without.pools["query"].items().tolist()) == set(named.pools["query"].items().tolist())


@pytest.mark.parametrize(
    ("split", "said"),
    [
        (dict.fromkeys(range(7), "train"), "no picture of the split test"),
        (dict.fromkeys(range(7), "test"), "no picture of the split train"),
        (dict.fromkeys(range(7), "fold 1"), "has the split 'fold 1'; write train, val or test"),
        ({0: "train", 1: "test"}, "has the split ''; write train, val or test"),
    ],
)
def test_splits_that_are_no_task(tmp_path: Path, split: dict[int, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        task(listed(tmp_path, split))


def test_what_is_wrong_is_said_before_any_feature_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xmodal_lib.adaptation_tasks._towers", lambda *_: ({}, None))
    listed(tmp_path)
    with pytest.raises(ValueError, match=r"class 'hat' has \d items in the support pool; 16 are needed"):
        load(str(tmp_path / "mine.csv"), seed=1, shots=[1, 16])
    with pytest.raises(ValueError, match=r"source=.mine.csv.; there are drawings, any, .* or the path of your own"):
        load("mine.csv", seed=1, shots=[1])
    (tmp_path / "words.csv").write_text("text,label\na hat,hat\n")
    with pytest.raises(ValueError, match="words has no picture"):
        load(str(tmp_path / "words.csv"), seed=1, shots=[1])
