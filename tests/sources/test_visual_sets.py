"""The seven data sets of two visual modalities: layouts, base and novel classes, depth, and what is refused."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from tests.sources import layouts
from tests.sources.layouts import VISUAL
from tests.test_data_check import run
from xmodal_lib.sources import (
    catalogue,
    class_split,
    depth,
    market_sketch,
    matlab,
    sketchy,
    sysu_mm01,
    tuberlin,
    visual,
)
from xmodal_lib.sources.listing import Item
from xmodal_lib.sources.source import Source

OTHER = {"sysu_mm01": "infrared", "nyud": "depth", "sunrgbd": "depth"}  # than image; or else sketch
CLASSES = {"sketchy": 10, "tuberlin": 8, "market_sketch": 12, "sksf_a": 10, "sysu_mm01": 12, "nyud": 6, "sunrgbd": 6}
NOVEL = {"sketchy": 5, "tuberlin": 4, "market_sketch": 6, "sksf_a": 5, "sysu_mm01": 4, "nyud": 3, "sunrgbd": 3}

# of Sketchy, beside the 21
OTHERS = """airplane alarm_clock ant ape apple armor axe banana bear bee beetle bell bench bicycle blimp bread
    butterfly camel candle cannon car_(sedan) castle cat chair chicken church couch crab crocodilian cup deer dog
    duck elephant eyeglasses fan fish flower frog geyser guitar hamburger hammer harp hat hedgehog hermit_crab horse
    hot-air_balloon hotdog hourglass jack-o-lantern jellyfish kangaroo knife lion lizard lobster motorcycle mushroom
    owl parrot penguin piano pickup_truck pig pineapple pistol pizza pretzel rabbit racket ray rifle rocket sailboat
    saxophone scorpion sea_turtle seal shark sheep shoe snail snake spider spoon squirrel starfish strawberry swan
    table tank teapot teddy_bear tiger trumpet turtle umbrella violin volcano wading_bird wine_bottle zebra"""


@pytest.fixture(autouse=True)
def _hdf5(request: pytest.FixtureRequest) -> None:
    if "nyud-mat" in request.node.name or "hdf5" in request.node.name:
        pytest.importorskip("h5py", reason="NYU Depth V2 as distributed is an HDF5 file")


def load(key: str, root: Path, **options) -> Source:
    return catalogue.load(key.partition("-")[0], root, **options)


def sides(source: Source) -> dict[str, set[str]]:
    """{split: classes}"""
    found: dict[str, set[str]] = {}
    for info in source.info.values():
        for label, split in zip(info["label"], info["split"], strict=True):
            found.setdefault(split, set()).add(label)
    return found


@pytest.mark.parametrize("key", VISUAL)
def test_every_layout_loads_and_no_class_is_base_and_novel(written: dict[str, Path], key: str) -> None:
    source = load(key, written[key])
    other = OTHER.get(source.name, "sketch")
    assert source.tables.modalities == ("image", other)
    assert len(source.tables.classes) == CLASSES[source.name]
    for m, table in source.tables.rows.items():
        assert source.column(m, "label") == [source.tables.classes[y] for y in table.y.tolist()]
        assert set(table.y.tolist()) == set(range(len(source.tables.classes)))
        picture = source.open[m](0)
        assert picture.mode == "RGB" and picture.size[0] == 32
    found = sides(source)
    assert set(found) == {"base", "novel"} and not found["base"] & found["novel"]
    assert found["base"] | found["novel"] == set(source.tables.classes) and len(found["novel"]) == NOVEL[source.name]
    paired = other == "depth"
    assert (set(source.tables["image"].pair.tolist()) == set(source.tables[other].pair.tolist())) == paired
    assert paired or not set(source.tables["image"].pair.tolist()) & set(source.tables[other].pair.tolist())
    assert source.licence == catalogue.LISTED[source.name][1]
    again = load(key, written[key])
    drawn, redrawn = (load(key, written[key], split="random", seed=s) for s in (1, 2))
    assert again.digest == source.digest and sides(drawn) != sides(redrawn)
    assert again.digests == source.digests == drawn.digests  # features are found again
    assert "(ours)" in drawn.report.split("\n")[0]
    with pytest.raises(ValueError, match="split is 'class'; give "):
        load(key, written[key], split="class")


@pytest.mark.parametrize("key", VISUAL)
def test_pictures_are_those_of_their_class(written: dict[str, Path], key: str) -> None:
    """Colour, bar and depth of each row are those the class was written with."""
    source = load(key, written[key])
    written_as = {"sketchy": layouts.SKETCHY, "tuberlin": layouts.TUBERLIN, "nyud": layouts.ROOMS,
                  "sunrgbd": layouts.ROOMS, "sksf_a": [str(c + 1) for c in range(10)],
                  "market_sketch": [f"{3 * c + 2:04d}" for c in range(13)],
                  "sysu_mm01": [f"{2 * c + 1:04d}" for c in range(13)]}[source.name]  # fmt: skip
    place = {class_split.spelling(name): c for c, name in enumerate(written_as)}
    for m in source.tables.modalities:
        for i in range(0, len(source.info[m]), 5):
            c = place[class_split.spelling(source.info[m]["label"][i])]
            seen = np.asarray(source.open[m](i), float)
            colour = np.array(layouts.colour(c, len(written_as)))
            if m == "image":
                assert np.abs(np.median(seen, (0, 1)) - colour).max() < 14
            elif m == "infrared":
                assert np.ptp(np.median(seen, (0, 1))) == 0
                assert abs(np.median(seen) - colour @ (0.299, 0.587, 0.114)) < 14
            elif m == "depth":
                assert np.abs(seen[-8:] - (255 - 254 * 0.9 * (c + 1) / depth.FAR)).max() < 2
                assert (seen[:5, :5] == 0).all()  # not measured
            else:
                assert seen.mean(2).mean(1).argmin() == pytest.approx(round(c * 32 / len(written_as)), abs=2)


def test_columns_say_who_drew_and_which_camera(written: dict[str, Path]) -> None:
    drawn = load("market_sketch-raw", written["market_sketch-raw"])
    assert set(drawn.info["sketch"]["style"]) == set("ABCDEF") and set(drawn.info["image"]["camera"]) == {1, 3, 6}
    assert drawn.report.split("\n")[0].endswith("left out: 6 photos of who was not drawn")
    faces = load("sksf_a-raw", written["sksf_a-raw"]).info["sketch"]
    assert Counter(faces["style"]) == {f"style{n}": 10 for n in range(1, 8)}
    seen = load("sysu_mm01-raw", written["sysu_mm01-raw"])
    assert set(seen.info["infrared"]["camera"]) == {3, 6} and set(seen.info["image"]["camera"]) == {1, 2, 4, 5}
    assert ((seen.info["image"]["listed"] == "test") == (seen.info["image"]["split"] == "novel")).all()
    assert set(seen.info["image"]["listed"]) == {"train", "val", "test"} and "0025" not in seen.tables.classes
    rooms = load("sunrgbd-raw", written["sunrgbd-raw"])
    assert set(rooms.info["depth"]["camera"]) == {"kv1", "kv2", "realsense", "xtion"}
    assert Counter(rooms.info["depth"]["listed"]) == {"train": 18, "test": 18}


# which classes are novel


def test_sketchy_splits() -> None:
    assert len(set(sketchy.ZERO_SHOT)) == 21
    others = OTHERS.split()
    assert len(others) == 104 and not set(others) & set(sketchy.ZERO_SHOT)
    novel = sketchy.novel({*others, *sketchy.ZERO_SHOT})
    assert len(novel) == 61 and novel > set(sketchy.ZERO_SHOT) and others.index("piano") == 63


def test_sketchy_zero_shot_and_photos_of_sketches(written: dict[str, Path]) -> None:
    root = written["sketchy-raw"]
    assert sides(load("sketchy-raw", root))["novel"] == {"bat", "pig", "songbird", "window", "zebra"}
    source = load("sketchy-raw", root, split="zero-shot")
    assert sides(source)["novel"] == {"bat", "songbird", "window"}
    photos, drawn = source.info["image"], source.info["sketch"]
    assert photos["group"].is_unique and Counter(drawn["group"]) == dict.fromkeys(photos["group"], 2)


def test_tuberlin_base_is_a_list_of_125(written: dict[str, Path]) -> None:
    assert len(tuberlin.base()) == 125
    for key in ("tuberlin-raw", "tuberlin-ready"):  # one of which writes photos with underscores
        found = sides(load(key, written[key]))
        assert {class_split.spelling(c) for c in found["novel"]} == {"alarmclock", "mouseanimal", "sun", "zebra"}


def test_a_list_of_novel_classes(written: dict[str, Path], tmp_path: Path) -> None:
    names = tmp_path / "novel.txt"
    names.write_text("hot_air balloon\nSun\n")
    source = load("tuberlin-raw", written["tuberlin-raw"], split=str(names))
    assert (
        sides(source)["novel"] == {"hot air balloon", "sun"}
        and "split of novel.txt: 6 classes base, 2" in source.report
    )
    names.write_text("sun\nunicorn\n")
    with pytest.raises(ValueError, match=r"novel\.txt, line 2: 'unicorn' is no class; there are 8, such as airplane"):
        load("tuberlin-raw", written["tuberlin-raw"], split=str(names))
    for text, novel in (("", 0), ("\n".join(layouts.TUBERLIN), 8)):
        names.write_text(text)
        with pytest.raises(ValueError, match=f"of 8 classes {novel} are novel; some must be"):
            load("tuberlin-raw", written["tuberlin-raw"], split=str(names))


def test_base_novel_draws_as_many_as_it_says() -> None:
    items = [Item(f"{c}{i}", c, {}) for c in "abcdef" for i in range(2)]
    for seed in range(3):
        placed, rule = class_split.base_novel(items, "random", {}, 1 / 3, seed)
        assert Counter(item.split for item in placed) == {"base": 8, "novel": 4}
        assert rule == f"split 'random' with seed {seed} (ours): 4 classes base, 2 novel"
    with pytest.raises(ValueError, match="of 1 classes 0 are novel"):
        class_split.base_novel(items[:2], "random", {}, 0.5, 0)


# rooms


def test_kinds_of_room(written: dict[str, Path]) -> None:
    for key, kind in (("sunrgbd-raw", "idk"), ("nyud-sunrgbd", "cafe")):
        some, every = load(key, written[key]), load(key, written[key], every=True)
        assert set(every.tables.classes) - set(some.tables.classes) == {kind}
        assert len(every.tables["image"]) == 38 and "left out: 2 shots of other rooms" in some.report


def test_both_layouts_of_nyud_are_the_same_shots_hdf5(written: dict[str, Path]) -> None:
    stored, copy = (load(key, written[key]) for key in ("nyud-mat", "nyud-sunrgbd"))
    for column in ("label", "listed", "split"):
        assert stored.info["depth"][column].tolist() == copy.info["depth"][column].tolist()
    assert stored.info["image"]["group"][0] == "bathroom_0000" and stored.open["image"](0).size == (32, 24)
    with pytest.raises(ValueError, match="layout is 'raw'; give 'mat', 'sunrgbd'"):
        load("nyud-mat", written["nyud-mat"], layout="raw")
    with pytest.raises(FileNotFoundError, match="the one that `layout` asks for"):
        load("nyud-mat", written["nyud-mat"], layout="sunrgbd")


def test_shots_without_lists(copied) -> None:
    for key, name in (("nyud-sunrgbd", "splits.mat"), ("sunrgbd-raw", "SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat")):
        root = copied(key)
        whole = (root / name).read_bytes()
        (root / name).unlink()
        source = load(key, root)
        assert f"no {Path(name).name}" in source.report and set(source.info["image"]["listed"]) == {""}
        for damaged in (b"", b"MATLAB 5.0", whole[:200], whole[:-40]):
            (root / name).write_bytes(damaged)
            with pytest.raises(ValueError, match=rf"{Path(name).name} is no MATLAB file with .*fetch it again"):
                load(key, root)


# depth


def test_depth_as_sun_rgbd_stores_it(tmp_path: Path) -> None:
    millimetres = np.array([[0, 1, 7999], [8191, 12345, 65535]], np.uint16)
    for rotated in (False, True):
        stored = [
            [int(f"{v:016b}"[3:] + f"{v:016b}"[:3], 2) if rotated else v for v in row] for row in millimetres.tolist()
        ]
        layouts.write_png(tmp_path / "d.png", np.array(stored, np.uint16))
        assert np.allclose(depth.metres(tmp_path / "d.png", rotated), millimetres / 1000)


def test_depth_as_a_picture() -> None:
    metres = np.array([[0.0, np.nan, -1.0, 1e-6, 2.0, 4.0, 8.0, 60.0, np.inf]])
    seen = np.asarray(depth.shown(metres))
    assert seen.shape == (1, 9, 3) and (seen == seen[:, :, :1]).all()
    assert seen[0, :, 0].tolist() == [0, 0, 0, 255, 192, 128, 1, 1, 0]


def test_depth_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "d.png"
    for write, said in ((lambda: Image.new("L", (4, 4)).save(path), "no picture of 16 bits, but of mode L"),
                        (lambda: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40)), "no depth can be read"),
                        (lambda: path.unlink(), "No such file")):  # fmt: skip
        write()
        with pytest.raises(ValueError, match=said) as told:
            depth.metres(path)
        assert str(path) in str(told.value) and "\n" not in str(told.value)


# what is missing, damaged or hostile


@pytest.mark.parametrize("key", VISUAL)
def test_nothing_there(tmp_path: Path, key: str) -> None:
    with pytest.raises(
        FileNotFoundError, match=rf"`xmodal data get {key.partition('-')[0]}`|there is no .*exp/train_id"
    ):
        load(key, tmp_path)


@pytest.mark.parametrize("key", VISUAL)
def test_check_counts_and_names_what_is_broken(copied, key: str) -> None:
    root = copied(key)
    name = key.partition("-")[0]
    said = run("check", name, "--root", str(root))
    assert said.exit_code == 1 and "Traceback" not in said.output
    assert f"{CLASSES[name]} classes are known; published are " in said.output and "rows are broken" not in said.output
    if key == "nyud-mat":  # one file holds all
        return
    files = load(key, root).info["image"]["path"]
    cut, empty, torn = (Path(files[i]) for i in (0, 1, 2))
    cut.write_bytes(cut.read_bytes()[:300])
    torn.write_bytes(b"no picture")
    empty.write_bytes(b"")
    said = run("check", name, "--root", str(root))
    lines = [line.strip() for line in said.output.splitlines()]
    assert said.exit_code == 1 and "Traceback" not in said.output
    (broken,) = [line for line in lines if "image rows are broken" in line]
    assert broken.startswith("2 of ") and f"{cut}: no picture" in broken and f"{torn}: no picture" in broken
    (left,) = [line for line in lines if "image files are empty" in line or "have no image" in line]
    assert left.startswith("1 of ") and "/".join(empty.parts[-3:]) in left


def test_a_class_of_one_modality_is_named(copied) -> None:
    root = copied("sketchy-raw")
    shutil.rmtree(root / "EXTEND_image_sketchy" / "bat")
    for drawing in (root / "256x256" / "sketch" / "tx_000000000000" / "cat").iterdir():
        drawing.unlink()
    lines = load("sketchy-raw", root).report.split("\n")
    assert "1 classes have no image (first: bat)" in lines and "1 classes have no sketch (first: cat)" in lines
    (root / "EXTEND_image_sketchy").rename(root / "256x256" / "photo")
    (root / "256x256" / "photo").rename(root / "tx")
    (root / "256x256" / "photo").mkdir()
    (root / "tx").rename(root / "256x256" / "photo" / "tx_000000000000")  # the archive's own photos
    assert len(load("sketchy-raw", root).tables["image"]) == 54
    shutil.rmtree(root / "256x256" / "photo")
    with pytest.raises(FileNotFoundError, match="has none of the folders EXTEND_image_sketchy, extended_photo"):
        load("sketchy-raw", root)


def test_market_sketch_with_wrong_files(copied) -> None:
    root = copied("market_sketch-raw")
    shutil.rmtree(root / "sketch" / "F")
    stray = root / "photo" / "train" / "-1_c1.jpg"
    report = load("market_sketch-raw", root).report
    assert "style F has no sketches" in report
    stray.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"photo/train/-1_c1\.jpg is no name such as 0002_c1s1_000451_03\.jpg"):
        load("market_sketch-raw", root)
    stray.rename(root / "sketch" / "A" / "train" / "0005_A.jpg")  # who is of query
    with pytest.raises(ValueError, match=r"1 persons are in train and in query \(first: 0005\)"):
        load("market_sketch-raw", root)
    (root / "sketch" / "A" / "train" / "0005_A.jpg").rename(root / "sketch" / "A" / "train" / "x.jpg")
    with pytest.raises(ValueError, match=r"sketch/A/train/x\.jpg is no name such as 0002_A\.jpg"):
        market_sketch.load(root)
    shutil.rmtree(root / "sketch")
    with pytest.raises(FileNotFoundError, match="has no sketches in sketch/A/train"):
        market_sketch.load(root)


def test_sksf_a_without_a_style_or_a_photo(copied) -> None:
    root = copied("sksf_a-raw") / "SKSF-A"
    shutil.rmtree(root / "style3")
    (root / "style1" / "4.png").unlink()
    (root / "Photo" / "7.png").unlink()
    lines = load("sksf_a-raw", root).report.split("\n")  # the folder itself will do as well
    assert "9 of 9 persons lack style3 (first: 1)" in lines and "1 of 9 persons lack style1 (first: 4)" in lines
    assert "1 persons have no photo (first: 7)" in lines and "9 pictures are image; published are 134" in lines


def test_sysu_mm01_lists(copied) -> None:
    root = copied("sysu_mm01-raw")
    path = root / "exp" / "val_id.txt"
    shutil.rmtree(root / "cam3")
    for camera in (4, 5, 6):
        shutil.rmtree(root / f"cam{camera}" / "0001")
    lines = load("sysu_mm01-raw", root).report.split("\n")
    assert "cam3 (infrared) is missing or empty" in lines and "1 listed persons have no picture (first: 0001)" in lines
    for text in ("", "1;2", "1,../2", "12345"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"val_id\.txt: .* is no list of numbers with commas between"):
            load("sysu_mm01-raw", root)
    path.write_text("1, 3")
    with pytest.raises(ValueError, match=r"person 0003 is in train_id\.txt and in val_id\.txt"):
        load("sysu_mm01-raw", root)
    assert sysu_mm01.persons(path) == ["0001", "0003"]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no .*val_id\.txt"):
        load("sysu_mm01-raw", root)


def test_shots_that_lack_something(copied) -> None:
    root = copied("sunrgbd-raw")
    kv1 = root / "SUNRGBD" / "kv1" / "NYUdata"
    shutil.rmtree(root / "SUNRGBD" / "realsense")
    shutil.rmtree(kv1 / "NYU0000" / "depth_bfx")  # the sensor's own depth stands in
    shutil.rmtree(kv1 / "NYU0004" / "depth_bfx")
    shutil.rmtree(kv1 / "NYU0004" / "depth")
    (kv1 / "NYU0010" / "scene.txt").unlink()
    source = load("sunrgbd-raw", root)
    lines = source.report.split("\n")
    assert "realsense is missing or holds no shots" in lines
    assert "1 of 29 have no depth (first: NYU0004/depth_bfx/NYU0004.png)" in lines
    assert any(line.startswith("1 shots have no scene.txt") and "kv1/NYUdata/NYU0010" in line for line in lines)
    assert source.info["depth"]["path"][0].endswith("NYU0000/depth/NYU0000.png")
    (kv1 / "NYU0010" / "scene.txt").write_text("../../etc\nroot")
    with pytest.raises(ValueError, match=r"scene\.txt: '../../etc.nroot' is no kind of room"):
        load("sunrgbd-raw", root / "SUNRGBD")  # the inner folder will do as well


def test_nyud_damaged_hdf5(copied, monkeypatch: pytest.MonkeyPatch) -> None:
    import h5py

    root = copied("nyud-mat")
    path = root / "nyu_depth_v2_labeled.mat"
    whole = path.read_bytes()
    for damaged in (b"", b"MATLAB 5.0 MAT-file", whole[:1000], whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"labeled\.mat is damaged, or is not what its name says .*fetch it again"):
            load("nyud-mat", root)
    path.write_bytes(whole)
    source = load("nyud-mat", root)
    with h5py.File(path, "a") as file:
        del file["depths"]
        file["depths"] = np.zeros((3, 4, 5), np.float32)
    with pytest.raises(ValueError, match=r"depths \(3, 4, 5\), 38 sceneTypes and 38 scenes do not fit together"):
        load("nyud-mat", root)
    assert visual.unreadable(source)[0].startswith("33 of 36 depth rows are broken: ")  # what a check would have said
    assert "and 28 more" in visual.unreadable(source)[0]
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ImportError, match="install h5py to read it"):
        load("nyud-mat", root)


def test_matlab_file_without_the_variable(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"x": [1]})
    assert matlab.variables(tmp_path / "a.mat", "x")[0].tolist() == [1]
    with pytest.raises(ValueError, match=r"a\.mat is no MATLAB file with x, y \(KeyError: 'y'\)"):
        matlab.variables(tmp_path / "a.mat", "x", "y")
