"""ESC-50 by folds, and the benchmark that links it with ImageNet: classes, draws, what is refused."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.test_data_check import run
from xmodal_lib.sources import catalogue, esc50, few_shot, imagenet_esc
from xmodal_lib.sources.source import Source


@pytest.fixture(scope="module")
def linked(written) -> Source:
    return catalogue.load("imagenet_esc", written["imagenet_esc"])


def folds(source: Source) -> dict[str, set[str]]:
    """{split: folds}"""
    frame = source.info["audio"]
    return {part: set(own["fold"]) for part, own in frame.groupby("split")}


def test_folds(written: dict[str, Path]) -> None:
    source = catalogue.load("esc50", written["esc50"])
    assert folds(source) == {"train": {"1", "2", "3"}, "val": {"4"}, "test": {"5"}}
    assert folds(catalogue.load("esc50", written["esc50"], fold=1)) == {
        "test": {"1"},
        "val": {"5"},
        "train": set("234"),
    }
    assert source.tables.classes == ("dog", "rain", "rooster", "sea_waves") and len(source.tables["audio"]) == 160
    assert source.open["audio"](0).shape == (1600,)
    assert sorted(source.column("audio", "order")) == list(range(160))
    assert len(esc50.load(written["esc50"] / "ESC-50-master").tables["audio"]) == 160  # the folder itself
    with pytest.raises(ValueError, match="fold is 6; ESC-50 has 1, 2"):
        esc50.load(written["esc50"], fold=6)


def test_lines_of_the_table(copied) -> None:
    root = copied("esc50")
    path = root / "ESC-50-master" / "meta" / "esc50.csv"
    text = path.read_text()
    for line in ("../x.wav,1,0,dog", "x.mp3,1,0,dog", "x.wav,6,0,dog", "x.wav,1,0,"):
        path.write_text(f"{text}{line},False,1,A\n")
        with pytest.raises(ValueError, match=re.escape("esc50.csv, line 162: needed are filename, NAME.wav, fold, 1")):
            esc50.load(root)
    path.write_text(text)
    sorted((root / "ESC-50-master" / "audio").iterdir())[0].unlink()
    said = run("check", "esc50", "--root", str(root)).output
    assert "1 of 160 have no audio" in said and "published are 2000" in said and "esc50: 159 clips" in said
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"meta/esc50.csv; get ESC-50"):
        esc50.load(root)


def test_pairs() -> None:
    every, close = imagenet_esc.pairs(), imagenet_esc.pairs(19)
    assert (len(every), len(close)) == (27, 19) and set(close) < set(every)
    labels = [pair.imagenet for pair in every]
    assert labels == sorted(set(labels)) and len({pair.sound for pair in every}) == 27
    assert {p.imagenet for p in every if not p.close} == {473, 497, 556, 861, 896, 898, 899, 977}
    with pytest.raises(ValueError, match="classes is 20; ImageNet-ESC has 27 and 19"):
        imagenet_esc.pairs(20)


def test_classes_are_linked(linked: Source, written: dict[str, Path]) -> None:
    of = {f"thing {pair.imagenet}": pair.sound for pair in imagenet_esc.pairs()}
    assert linked.tables.classes == tuple(of)
    assert [of[c] for c in linked.column("audio", "label")] == linked.column("audio", "member")
    assert set(linked.column("image", "label")) == set(of) and len(linked.info["image"]) == 980 * 11
    assert linked.opened("text", linked.tables["text"].pair.tolist()) == list(of)  # class names, as published
    items = [set(table.pair.tolist()) for table in linked.tables.rows.values()]
    assert sum(map(len, items)) == len(set.union(*items)) == 27 * (11 + 40 + 1)  # no row is another's pair
    assert linked.tables.labels().bincount().tolist() == [52] * 27
    fewer = catalogue.load("imagenet_esc", written["imagenet_esc"], classes=19)
    assert len(fewer.tables.classes) == 19 and fewer.digest != linked.digest
    checked = run("check", "imagenet_esc", "--root", str(written["imagenet_esc"]))
    assert checked.exit_code == 0 and "imagenet_esc: 27 classes; image 297, audio 1080, text 27\n" in checked.output


@pytest.mark.parametrize("shot", [1, 2, 4])
def test_pictures_helped_by_sounds(linked: Source, shot: int) -> None:
    episode = imagenet_esc.episode(linked, "image", shot=shot, split=2, seed=3)
    drawn = few_shot.draw(linked, shot=shot, seed=2)  # of all 980 classes
    assert len(drawn.train) == 980 * shot
    shown = linked.info["image"].iloc[episode.support["image"].pair.tolist()]
    assert set(shown["index"]) < set(drawn.train) and set(shown["split"]) == {"train"} and len(shown) == 27 * shot
    rows = linked.info["audio"].iloc[episode.support["audio"].x.tolist()]
    assert set(rows["fold"]) == {"3"} and len(rows) == 27
    first = linked.info["audio"].query("fold == '3'").groupby("label")["order"].min()
    assert rows.set_index("label")["order"].sort_index().equals(first.sort_index())
    assert len(episode.support["text"]) == 27 and episode.val is not None
    assert len(episode.val["image"]) == 27 * shot and episode.val.modalities == episode.query.modalities == ("image",)
    assert Counter(episode.query.labels().tolist()) == dict.fromkeys(range(27), 2)


@pytest.mark.parametrize("shot", [1, 4])
def test_sounds_helped_by_pictures(linked: Source, shot: int) -> None:
    episode = imagenet_esc.episode(linked, "audio", shot=shot, split=5, seed=1)
    assert episode.val is not None
    frame = linked.info["audio"]
    heard, checked, asked = (frame.iloc[t["audio"].x.tolist()] for t in (episode.support, episode.val, episode.query))
    assert set(heard["fold"]) == set(checked["fold"]) == {"5"} and set(asked["fold"]) == {"1", "2", "3", "4"}
    assert len(asked) == 27 * 32
    for label, own in frame[frame["fold"] == "5"].sort_values("order").groupby("label")["order"]:
        assert sorted(heard[heard["label"] == label]["order"]) == own.tolist()[:shot]
        assert sorted(checked[checked["label"] == label]["order"]) == own.tolist()[shot : 2 * shot]
    one = few_shot.draw(linked, shot=1, seed=1)
    shown = linked.info["image"].iloc[episode.support["image"].pair.tolist()]
    assert len(shown) == 27 and set(shown["index"]) < set(one.train)


def test_what_cannot_be(linked: Source, copied, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="task is 'text'; there are image, audio"):
        imagenet_esc.episode(linked, "text", shot=1, split=1, seed=1)
    with pytest.raises(ValueError, match=r"class 'thing \d+' has 8 clips in fold 1; 10 are needed"):
        imagenet_esc.episode(linked, "audio", shot=5, split=1, seed=1)
    with pytest.raises(ValueError, match="has 0 clips in fold 6"):
        imagenet_esc.episode(linked, "audio", shot=1, split=6, seed=1)
    with pytest.raises(FileNotFoundError, match="needed are imagenet/ and esc-50/ side by side"):
        imagenet_esc.load(tmp_path)
    root = copied("imagenet").parent
    copied("esc50").rename(root / "esc-50")
    with pytest.raises(ValueError, match="ImageNet has 6 classes here; labels up to 977 are needed"):
        imagenet_esc.load(root)
