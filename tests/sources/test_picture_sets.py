"""The image sets of few-shot adaptation: layouts, split files, published draws, shifts, prompts, what is refused."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sources.picture_layouts import EACH, NAMES, PICTURES, SHIFTED, SYNSETS
from tests.test_data_check import run
from xmodal_lib.evaluate import evaluate
from xmodal_lib.methods import NearestMean
from xmodal_lib.sources import catalogue, few_shot, image_sets, imagenet, picture_lists, split_json
from xmodal_lib.sources.source import Source
from xmodal_lib.sources.split_json import Lists
from xmodal_lib.tables import Table, Tables, shared_items

COOP = {"dtd": "DescribableTextures", "eurosat": "EuroSAT"}


@pytest.mark.parametrize("name", image_sets.SETS)
def test_every_layout_loads(written: dict[str, Path], name: str) -> None:
    source = catalogue.load(name, written[name])
    names = NAMES.get(name, tuple(SYNSETS.values()))
    assert source.name == name and source.licence == catalogue.LISTED[name][1]
    table, frame = source.tables["image"], source.frame("image")
    assert [source.tables.classes[y] for y in table.y.tolist()] == frame["label"].tolist()
    assert frame["item"].is_unique and set(frame["name"]) <= set(names)
    if name in image_sets.SHIFTS:
        assert set(frame["split"]) == {"test"} and len(table) == 2 * len(source.tables.classes)
    else:
        count = Counter(zip(frame["split"], frame["label"], strict=True))
        assert count == {(part, c): n for part, n in EACH.items() for c in source.tables.classes}
        for part, n in EACH.items():  # in the order of the list
            listed = source.info["image"]
            positions = listed[listed["split"] == part]["index"].tolist()
            assert positions == list(range(n * len(source.tables.classes)))
    picture = source.open["image"](int(table.x[-1]))
    assert picture.mode == "RGB" and picture.size == (16, 16)
    said = source.tables["text"]
    assert len(said) == len(image_sets.SETS[name].templates) * len(source.tables.classes)
    assert set(source.tables.labels().tolist()) == set(range(len(source.tables.classes)))
    again = catalogue.load(name, written[name])
    assert again.digest == source.digest and again.digests == source.digests


def test_prompts(written: dict[str, Path], tmp_path: Path) -> None:
    """Underscores become blanks, capitals stay, and no sentence stands for two classes but where names are the same."""

    def said(name: str, **options) -> list[str]:
        source = catalogue.load(name, written[name], **options)
        return source.opened("text", source.where("text", kind="prompt").tolist())

    assert "a photo of a Egyptian Mau, a type of pet." in said("oxford_pets")
    assert said("dtd")[1] == "polka-dotted texture." and "a photo of a person doing Archery." in said("ucf101")
    assert said("eurosat")[0] == "a centered satellite photo of Annual Crop Land."
    assert said("eth_food101", prompts="classname")[0] == "apple pie"
    assert said("eth_food101", prompts="vanilla")[0] == "a photo of a apple pie."
    assert Counter(said("imagenet"))["a missile in a video game."] == 2 and "art of the toilet paper." in said(
        "imagenet"
    )
    own = tmp_path / "own.txt"
    own.write_text("a {} here\n\n{} and more\n")
    assert said("dtd", prompts=str(own))[:2] == ["a banded here", "banded and more"]
    assert said("dtd", prompts=["{}!"])[3] == "dotted!"
    wrong = {"prompts='nice'; give hand_crafted, vanilla": "nice", "prompts=''": "", "there are no templates": [],
             "'no place' needs one {}": ["no place"], "'{0}{}' needs one {}": ["{0}{}"]}  # fmt: skip
    for words, prompts in wrong.items():
        with pytest.raises(ValueError, match=re.escape(words)):
            said("dtd", prompts=prompts)


@pytest.mark.parametrize("name", COOP)
def test_published_splits_and_draws(shared: Path, tmp_path: Path, name: str) -> None:
    """The real split files are as the table of facts says, and give the published index files, byte for byte."""
    known = image_sets.SETS[name]
    raw = (shared / "data/coop" / known.split).read_bytes()
    (tmp_path / known.split).write_bytes(raw)
    lists = split_json.read(tmp_path / known.split)
    first = tmp_path / known.images / lists.rows["test"][0][0]
    first.parent.mkdir(parents=True)
    first.write_bytes(b"x")  # nothing is opened
    source = catalogue.load(name, tmp_path)
    lines = source.report.splitlines()
    total = sum(known.sizes.values())
    assert lines[1].startswith(f"{total - 1} of {total} pictures are missing or empty (first: ")
    assert lines[0].startswith(f"{name}: 1 pictures of {known.classes} classes") and "published" not in source.report
    files = sorted((shared / "data/coop/indices" / name).glob("shot_*-seed_*.json"))
    assert len(files) == 6
    for file in files:
        shot, seed = (int(part.split("_")[1]) for part in file.stem.split("-"))
        drawn = few_shot.draw(source, shot=shot, seed=seed)
        assert few_shot.read(file, source) == drawn
        few_shot.write(tmp_path / "own.json", source, drawn, prefix=f"./data/{name}/{known.images}")
        assert (tmp_path / "own.json").read_text() == file.read_text()
    other = shared / "data/coop/indices" / next(n for n in COOP if n != name) / "shot_4-seed_1.json"
    with pytest.raises(ValueError, match=rf"shot_4-seed_1.json, with the lists of {name}: ind"):
        few_shot.read(other, source)


def colours(source: Source) -> Tables:
    """The mean colour of each picture."""
    table = source.tables["image"]
    seen = [torch.tensor(source.open["image"](i).resize((1, 1)).getpixel((0, 0))) / 255 for i in table.x.tolist()]
    return Tables({"image": Table(torch.stack(seen), table.y, table.pair)}, source.tables.classes)


def test_an_episode_of_a_draw(written: dict[str, Path]) -> None:
    """The features of its rows, whatever they are; here the mean colour, which tells the classes."""
    source = catalogue.load("eurosat", written["eurosat"])
    table, features = source.tables["image"], colours(source)
    drawn = few_shot.draw(source, shot=2, seed=1)
    episode = few_shot.episode(source, drawn, seed=1, tables=features)
    frame = source.info["image"]
    assert episode.support.modalities == ("image",) and episode.seed == 1 and episode.val is not None
    for part, tables, positions in (("train", episode.support, drawn.train), ("val", episode.val, drawn.val)):
        rows = frame[frame["split"] == part].iloc[list(positions)]
        assert sorted(rows.index) == sorted(tables.items().tolist())
        assert Counter(tables.labels().tolist()) == dict.fromkeys(range(4), 2)
    assert set(frame["split"].iloc[episode.query.items().tolist()]) == {"test"} and len(episode.query.items()) == 8
    method = NearestMean().fit(episode.support, None)
    assert (method.predict(episode.query) == episode.query.labels()).all()
    few = few_shot.wanted(source, [drawn, few_shot.draw(source, shot=1, seed=2)])
    assert len(few["text"]) == 4 and len(few["image"]) < len(table)
    assert (
        few_shot.episode(source, drawn, seed=1, tables=few).query["image"].x.tolist() == episode.query.items().tolist()
    )
    with pytest.raises(ValueError, match="eurosat: the tables given lack 1 of 8 rows of train; extract"):
        lacking = features.take(features.items()[features.items() != episode.support.items()[0]])
        few_shot.episode(source, drawn, seed=1, tables=lacking)
    whole = few_shot.episode(source, drawn, seed=1)
    assert len(whole.support["text"]) == 4 and whole.query.modalities == ("image",)


def test_draws_that_cannot_be(copied) -> None:
    root = copied("dtd")
    source = catalogue.load("dtd", root)
    with pytest.raises(ValueError, match=r"dtd: class '\w.*' has 4 rows in train; 5 are needed \(fewer=True"):
        few_shot.draw(source, shot=5, seed=1)
    assert len(few_shot.draw(source, shot=5, seed=1, fewer=True).train) == 16
    drawn = few_shot.draw(source, shot=1, seed=3)
    frame = source.info["image"].query("split == 'val'")
    lost = Path(frame["path"].iloc[drawn.val[2]])
    lost.unlink()
    short = catalogue.load("dtd", root)
    assert few_shot.draw(short, shot=1, seed=3) == drawn  # of the lists as they are
    assert len(short.tables["image"]) == len(source.tables["image"]) - 1
    with pytest.raises(ValueError, match=rf"1 of 4 drawn pictures of val are not there \(first: .*{lost.name}\)"):
        few_shot.episode(short, drawn, seed=3)
    sketch = catalogue.load("imagenet_sketch", copied("imagenet_sketch"))
    with pytest.raises(ValueError, match="imagenet_sketch has no rows to learn from"):
        few_shot.draw(sketch, shot=1, seed=1)
    with pytest.raises(ValueError, match="digits is no data set of lists"):
        few_shot.draw(catalogue.load("digits"), shot=1, seed=1)


def test_index_files_of_any_folder_and_damaged_ones(written: dict[str, Path], tmp_path: Path) -> None:
    source = catalogue.load("sun397", written["sun397"])
    drawn, path = few_shot.draw(source, shot=2, seed=1), tmp_path / "draw.json"
    for prefix in ("", "/mnt/d", "C:\\data\\sun397\\SUN397", "./data/sun397/SUN397/"):
        few_shot.write(path, source, drawn, prefix)
        assert few_shot.read(path, source) == drawn
    good = json.loads(path.read_text())
    row = good["train"]["data"][0]

    def hurt(part: str, key: str, value) -> str:
        return json.dumps(good | {part: good[part] | {key: value}})

    cases = {
        "draw.json is damaged: Expecting": path.read_text()[:-3],
        "train needs the lists data and indices": "[]",
        "val needs the lists data and indices": json.dumps({"train": good["train"]}),
        "indices of train must be positions 0..15": hurt("train", "indices", [16]),
        "train has 8 rows of data and 1 different indices": hurt("train", "indices", [0] * 8),
        f"index {drawn.train[0]} of train is 'x.jpg' of class ": hurt("train", "data", [row | {"impath": "x.jpg"}] * 8),
        "of class 'abbey '; the list": hurt("train", "data", [row | {"classname": "abbey "}] * 8),
        f"index {drawn.train[0]} of train is '' of class 'None'": hurt("train", "data", [1] * 8),
    }  # fmt: skip
    for words, text in cases.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=re.escape(words)) as caught:
            few_shot.read(path, source)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="makes the same draw"):
        few_shot.read(tmp_path / "none.json", source)


ROW = ["a/1.jpg", 0, "ant"]
GOOD = {"train": [ROW, ["b/1.jpg", 1, "bee"]], "val": [["b/2.jpg", 1, "bee"]], "test": [["a/3.jpg", 0, "ant"]]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (json.dumps(GOOD)[:-9], "split.json is damaged: "),
        ("\ufffe", "split.json is damaged: "),
        ("[" * 100_000, "split.json is damaged: "),
        ([1], "needs the lists train, val and test"),
        ({"train": [], "val": []}, "needs the lists train, val and test"),
        (GOOD | {"train": []}, "the list train is empty"),
        (GOOD | {"train": [["b/1.jpg", 1, "bee"]]}, "labels of the 1 classes of train must be 0..0; 0 is missing"),
        (GOOD | {"train": [ROW, ["b/1.jpg", 10**20, "bee"]]}, "labels of the 2 classes of train must be 0..1; 1 is"),
        (GOOD | {"test": [["c/1.jpg", 2, "cat"]]}, "1 labels have no row in train (first: 2, 'cat')"),
        (GOOD | {"val": [["b/2.jpg", 1, "Bee"]]}, "label 1 is 'bee' and, in val, 'Bee'"),
        (GOOD | {"test": [ROW]}, "'a/1.jpg' is in two lists: train 0 and test 0"),
        (GOOD | {"train": [ROW, ["a/1.jpg", 1, "bee"]]}, "'a/1.jpg' is of two labels: train 0 and train 1"),
        (GOOD | {"val": [["b/2.jpg", "1", "bee"]]}, 'val, row 0: ["b/2.jpg", "1", "bee"] is no [path, label'),
        (GOOD | {"val": [["b/2.jpg", True, "bee"]]}, "val, row 0"),
        (GOOD | {"val": [["b/2.jpg", -1, "bee"]]}, "val, row 0"),
        (GOOD | {"val": [["b/2.jpg", 1]]}, "val, row 0"),
        (GOOD | {"val": [["../b.jpg", 1, "bee"]]}, "val, row 0: '../b.jpg' is no path below"),
        (GOOD | {"val": [["/etc/passwd", 1, "bee"]]}, "is no path below"),
        (GOOD | {"val": [["b\\2.jpg", 1, "bee"]]}, "written with /"),
        (GOOD | {"val": [["", 1, "bee"]]}, "is no path below"),
        (GOOD | {"val": [["b/2.jpg", 1, "bee\n"]]}, "is no [path, label"),
        (GOOD | {"train": [ROW, ["b/1.jpg", 1, "ant"]], "val": [], "test": [["b/4.jpg", 1, "ant"]]}, ""),  # is fine
    ],
)  # fmt: skip
def test_split_files(tmp_path: Path, content, words: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    if not words:
        assert split_json.read(path).classes == ("ant [0]", "ant [1]")
        return
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        split_json.read(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


CELL = st.one_of(st.none(), st.integers(-2, 4), st.booleans(), st.floats(), st.sampled_from(["a/1.jpg", "b", "ant"]),
                 st.text(max_size=6))  # fmt: skip
ROWS = st.lists(st.tuples(st.sampled_from(["a.jpg", "b.jpg", "c/d.jpg", "e.jpg", "\ud800", "x\x00"]),
                          st.integers(0, 2), st.sampled_from(["ant", "bee", "a_c"])) | st.lists(CELL, max_size=4),
                max_size=4)  # fmt: skip


@given(st.fixed_dictionaries({"train": ROWS, "val": ROWS, "test": ROWS}) | st.dictionaries(CELL.map(str), CELL))
@settings(max_examples=60, deadline=None)
def test_a_split_file_is_read_or_refused_in_one_line(tmp_path_factory, content) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(content))
    try:
        lists = split_json.read(path)
    except ValueError as error:
        assert str(error).startswith("any.json") and "\n" not in str(error)
        return
    labels = {label for rows in lists.rows.values() for _, label in rows}
    assert labels == set(range(len(lists.names))) == {label for _, label in lists.rows["train"]}
    assert len(set(lists.classes)) == len(lists.names)
    split_json.write(path, lists)
    assert split_json.read(path) == lists
    try:
        picture_lists.from_split(path)
    except FileNotFoundError as error:  # no file of these names is there
        assert "none of the " in str(error) and "images=DIR" in str(error)


def test_what_is_missing_is_counted_and_named(copied, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XMODAL_DATA", str(tmp_path))
    root = copied("caltech101").rename(tmp_path / "caltech-101")
    known = image_sets.SETS["caltech101"]
    files = sorted((root / known.images / "crab").iterdir())
    files[0].unlink()
    files[1].write_bytes(b"")
    files[2].write_bytes(files[2].read_bytes()[:100])
    result = run("check", "caltech101")
    assert result.exit_code == 1
    assert "1 of 34 image rows are broken: " in result.output and f"{files[2]}: no picture can be read" in result.output
    assert "caltech101: 34 pictures of 4 classes; train 16, val 12, test 6" in result.output
    assert "  2 of 36 pictures are missing or empty (first: crab/test_1_" in result.output
    assert "  16 pictures are listed as train; published are 4128" in result.output
    assert "split_zhou_Caltech101.json of github.com/" in result.output and f"put it all into {root}" in result.output
    assert len(catalogue.load("caltech101").tables["image"]) == 34  # and can be used
    (root / known.split).unlink()
    assert f"there is no {root / known.split}" in run("check", "caltech101").output
    (root / known.images).rename(root / "elsewhere")
    assert f"there is no folder {root / known.images}" in run("check", "caltech101").output
    others = run("check", "caltech101", "esc50", "digits")
    assert others.exit_code == 1 and "digits: 10 classes" in others.output  # one that is missing stops no other


def test_your_own_split_file(copied) -> None:
    root = copied("ucf101")
    path = (root / "split_zhou_UCF101.json").rename(root / "UCF-101-midframes" / "own.json")
    source = catalogue.load(str(path))
    assert len(source.tables["image"]) == 36 and source.opened("text", [36]) == ["a photo of a Apply Eye Makeup."]
    checked = run("check", str(path))
    assert checked.exit_code == 0 and checked.output == "own: 36 pictures of 4 classes; train 16, val 12, test 8\n"
    next((root / "UCF-101-midframes" / "Archery").iterdir()).unlink()
    checked = run("check", str(path))
    assert checked.exit_code == 1 and "1 of 36 pictures are missing" in checked.output
    moved = path.rename(root / "own.json")
    with pytest.raises(FileNotFoundError, match="images=DIR"):
        catalogue.load(str(moved))
    assert len(picture_lists.from_split(moved, root / "UCF-101-midframes", "").tables["image"]) == 35


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("images_variant_val.txt", "12x4567 707-320\n", "val.txt, line 13: '12x4567 707-320' is no number"),
        ("images_variant_val.txt", "1234567 Boeing\n", "'1234567 Boeing' is no number and variant of variants.txt"),
        ("images_variant_val.txt", "0034316 707-320\n", "'0034316.jpg' is in two lists: train 0 and val 0"),
        ("variants.txt", "F/A-18\n", "names a variant twice"),
        ("variants.txt", "DH-82\n", ""),
    ],
)  # fmt: skip
def test_lists_of_aircraft(copied, file: str, change: str, words: str) -> None:
    root = copied("fgvc_aircraft")
    assert catalogue.load("fgvc_aircraft", root).tables.classes == NAMES["fgvc_aircraft"]
    with (root / file).open("a") as opened:
        opened.write(change)
    if not words:  # a variant that no photo shows is no class
        assert catalogue.load("fgvc_aircraft", root).tables.classes == NAMES["fgvc_aircraft"]
        return
    with pytest.raises(ValueError, match=re.escape(words)):
        catalogue.load("fgvc_aircraft", root)
    (root / file).unlink()
    with pytest.raises(FileNotFoundError, match=f"there is no .*{file}"):
        catalogue.load("fgvc_aircraft", root)


def test_two_classes_of_one_name(written: dict[str, Path]) -> None:
    """As ImageNet has two each of missile and sunglasses: classes differ, prompts do not."""
    source = catalogue.load("imagenet", written["imagenet"], prompts="classname")
    assert source.tables.classes == ("tench", "missile [1]", "missile [2]", "sunglasses", "orange", "toilet paper")
    assert source.opened("text", source.tables["text"].pair.tolist()) == list(SYNSETS.values())


def test_shifts_have_a_place_among_the_classes(written: dict[str, Path]) -> None:
    source = catalogue.load("imagenet", written["imagenet"])
    for name in image_sets.SHIFTS:
        shifted = catalogue.load(name, written[name])
        places = imagenet.label_map(source, shifted)
        ids = list(SYNSETS)
        expected = [ids.index(s) for s in SHIFTED] if name[-1] in "ar" else list(range(6))
        assert places == expected
        for path, label in zip(shifted.column("image", "item"), shifted.tables["image"].y.tolist(), strict=True):
            folder = path.split("/")[0]  # a label, or an id
            assert folder == (str(places[label]) if name == "imagenetv2" else ids[places[label]])
        episode = few_shot.episode(source, few_shot.draw(source, shot=2, seed=1), seed=1, tables=colours(source))
        asked = imagenet.query(source, shifted, colours(shifted))
        assert asked.classes == shifted.tables.classes and not len(shared_items(asked, source.tables))
        found = evaluate({"m": NearestMean()}, [replace(episode, val=None)], domains={name: asked}, progress=False)
        assert found.query("metric == 'accuracy'")["value"].item() == 1
    with pytest.raises(ValueError, match=r"dtd beside imagenet: 4 of 4 classes were not learnt \(first: banded, "):
        imagenet.label_map(source, catalogue.load("dtd", written["dtd"]))


def test_class_names_that_disagree(copied) -> None:
    root, lines = copied("imagenet"), [f"{s} {name}" for s, name in SYNSETS.items()]
    sketch = copied("imagenet_sketch")

    def refused(at: Path, name: str, changed: list[str], words: str) -> None:
        (at / "classnames.txt").write_text("\n".join(changed))
        with pytest.raises(ValueError, match=re.escape(words)) as caught:
            catalogue.load(name, at)
        assert "\n" not in str(caught.value)

    refused(root, "imagenet", lines[:-1], "with 5 classes and split_ImageNet.json with 6 differ from label 5 on")
    refused(root, "imagenet", [*lines[:4], "n07747608 lemon", lines[5]], "differ from label 4 on")
    refused(root, "imagenet", [*lines[:4], "n07747608 orange", lines[5]], "has label 4, which is n07747608 in")
    refused(root, "imagenet", lines[::-1], "n07747607 comes after n15075141; ids must be sorted")
    refused(root, "imagenet", ["tench"], "classnames.txt, line 1: 'tench' is no WordNet id")
    refused(root, "imagenet", [], "classnames.txt is empty")
    refused(sketch, "imagenet_sketch", lines[1:], "1 folders of images are no class of classnames.txt (first: n01")
    (root / "classnames.txt").unlink()  # ImageNet's own split file says it all
    assert len(catalogue.load("imagenet", root).tables.classes) == 6
    (sketch / "classnames.txt").unlink()
    with pytest.raises(FileNotFoundError, match="copy that of ImageNet there"):
        catalogue.load("imagenet_sketch", sketch)
    (root / "classnames.txt").write_text("\n".join(lines))  # of a folder beside it
    assert len(catalogue.load("imagenet_sketch", sketch).tables.classes) == 6
    for file in (sketch / "images" / "n07747607").iterdir():
        file.unlink()
    assert "\n1 classes have no picture (first: orange)" in catalogue.load("imagenet_sketch", sketch).report
    (sketch / "images" / "n07747607").rename(sketch / "images" / "4")
    with pytest.raises(ValueError, match=r"1 folders of images are no class of classnames.txt \(first: 4\)"):
        catalogue.load("imagenet_sketch", sketch)


def test_facts() -> None:
    assert len(image_sets.TARGETS) == 11 and len(image_sets.SHIFTS) == 4
    assert sum(image_sets.SETS[n].classes for n in image_sets.TARGETS) == 1000 + 100 + 47 + 10 + 100 + 101 + 102 + 37 \
        + 196 + 397 + 101  # fmt: skip
    assert set(PICTURES) == {*image_sets.SETS, "esc50", "imagenet_esc"}
    assert split_json.repeated(Lists({"train": [("a", 0), ("a", 0)]}, ["x"])) == ["a"]
