import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.views.collections import KINDS, RATE, colour, small, tone
from xmodal_lib import cli
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables
from xmodal_lib.views import explore_page, neighbours, stored
from xmodal_lib.views.collect import collect
from xmodal_lib.views.collection import Collection


def source() -> Source:
    """Two pictures and three words; item 7 has a picture and two words."""
    images = Table(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([7, 8]))
    words = Table(torch.arange(3), torch.tensor([0, 0, 1]), torch.tensor([7, 7, 9]))
    tables = Tables({"image": images, "text": words}, ("cat", "dog"))
    info = {"image": pd.DataFrame({"name": ["tom", "rex"], "style": ["ink", "oil"]}),
            "text": pd.DataFrame({"name": ["tom", "tom", "rex"]})}  # fmt: skip
    opens = {"image": lambda i: Image.new("RGB", (8, 8), colour(i)), "text": ["a cat", "Tom", "a dog"].__getitem__}
    return Source("pets", tables, info, opens, digest="", licence="")


def test_collect_keeps_each_point_with_its_row():
    found = collect(source(), source().tables, {"z": {"image": torch.eye(2)}}, {"m": np.zeros((5, 2))},
                    columns=["name", "style"], more={"correct": [True] * 5})  # fmt: skip
    assert found.points["row"].tolist() == ["image:0", "image:1", "text:0", "text:1", "text:2"]
    assert found.points["item"].tolist() == [7, 8, 7, 7, 9] and found.points["class"].tolist()[-1] == "dog"
    assert [found.opened(i) for i in (2, 3, 4)] == ["a cat", "Tom", "a dog"]
    assert np.isnan(found.spaces["z"][2:]).all() and found.points["style"].isna().tolist() == [False] * 2 + [True] * 3
    named = collect(source(), source().tables, {}, {"m": np.zeros((5, 2))}, item="name")
    assert named.points["item"].tolist() == [0, 1, 0, 0, 1] and "name" not in named.points


def test_features_are_traced_to_their_rows_by_pair_id():
    images = Tables({"image": Table(torch.randn(2, 4), torch.tensor([1, 0]), torch.tensor([8, 7]))}, ("cat", "dog"))
    found = collect(source(), images, {}, {"m": np.zeros((2, 2))}, columns=["name"])
    assert found.points["row"].tolist() == ["image:1", "image:0"] and found.points["name"].tolist() == ["rex", "tom"]
    words = Tables({"text": Table(torch.randn(1, 4), torch.tensor([0]), torch.tensor([7]))}, ("cat", "dog"))
    with pytest.raises(ValueError, match="do not name one row of 'pets' each"):
        collect(source(), words, {}, {"m": np.zeros((1, 2))})


def test_a_saved_collection_comes_back(tmp_path):
    given = small()
    back = Collection.load(given.save(tmp_path / "kept"))
    pd.testing.assert_frame_equal(back.points, given.points)
    for kind in ("spaces", "maps"):
        for name, x in getattr(given, kind).items():
            np.testing.assert_array_equal(getattr(back, kind)[name], x)
    assert dict(back.about) == dict(given.about) and list(back.maps) == list(given.maps)
    for line in (0, 13, 26):
        pixel = back.opened(line).getpixel((64, 64))
        assert max(abs(a - b) for a, b in zip(pixel, colour(line), strict=True)) < 30
        samples, rate = back.opened(54 + line)
        assert rate == RATE and len(samples) == len(tone(line)) and np.abs(samples).max() > 0.1
    assert back.opened(27) == "name of 0" and not list(tmp_path.glob(".*"))
    (tmp_path / "kept" / "arrays.safetensors").write_bytes(b"x")
    with pytest.raises(ValueError, match="damaged collection"):
        Collection.load(tmp_path / "kept")


def test_what_is_missing_is_none_and_nothing_else_moves(tmp_path):
    def gone(item):
        raise FileNotFoundError("no such file")

    def text(item):
        return None if item == 3 else f"words {item}"

    given = small(open={"image": gone, "text": text})  # and no way to open speech
    back = Collection.load(given.save(tmp_path / "kept"))
    for found in (given, back):
        assert [found.opened(i) for i in (0, 30, 31, 60)] == [None, None, "words 4", None]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"points": small().points.iloc[:0]}, "0 points"),
        ({"maps": {}}, "0 maps"),
        ({"points": small().points.drop(columns="item")}, "no column 'item'"),
        ({"points": small().points.assign(row="image:0")}, "'image:0' is there twice"),
        ({"maps": {"m": np.zeros((5, 2))}}, r"map 'm' is of shape \(5, 2\)"),
        ({"about": {"m": {}}}, "no such map"),
    ],
)
def test_what_cannot_be_shown_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        small(**changes)


def test_points_off_a_map_are_counted():
    xy = small().maps["map before"].copy()
    xy[[2, 5], 0] = np.nan
    assert "2 of 81 points are not on the map 'm'" in small(maps={"m": xy}, about={}).off("m")
    assert small().off("map before") == ""


def test_many_pictures_and_sounds_are_kept_smaller(monkeypatch):
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)) for _ in range(40)]
    sounds = [(rng.normal(size=2 * RATE).astype(np.float32) / 5, RATE) for _ in range(8)]
    assert stored._sheet(pictures)[1] == 128
    fine = sum(map(len, stored._sounds(sounds)))
    monkeypatch.setattr(stored, "PICTURES", 40_000)
    monkeypatch.setattr(stored, "SOUNDS", 8_000)
    sheet, side = stored._sheet(pictures)
    assert side < 128 and len(sheet) <= 40_000
    coarse = stored._sounds(sounds)
    assert sum(map(len, coarse)) < 16_000 < fine and min(map(len, coarse)) > 500


def test_neighbours_are_those_of_a_plain_loop(monkeypatch):
    rng = np.random.default_rng(1)
    z, modality = rng.normal(size=(40, 6)), np.array(list(KINDS))[rng.integers(0, 3, 40)]
    modality[modality == "text"] = "image"
    modality[:3] = "text"  # fewer than are asked for
    z[7] = np.nan
    monkeypatch.setattr(neighbours, "BLOCK", 7)
    unit, lines = neighbours.unit(z), np.arange(40)
    found = {m: neighbours.nearest_rows(unit, lines, lines[modality == m], 4) for m in ("text", "image", "speech")}
    for line in range(40):
        for m in ("text", "image", "speech"):
            others = [i for i in range(40) if modality[i] == m and i not in (line, 7)]
            best = sorted(others, key=lambda i: -(unit[line] @ unit[i]))[:4] if line != 7 else []
            assert found[m][line].tolist() == best + [-1] * (4 - len(best))


def test_the_page_is_the_same_each_time_and_holds_no_words_as_html(tmp_path):
    points = small().points.assign(name="</script><script>alert(1)</script>")
    folder = small(points=points).save(tmp_path / "collection")
    first, again = (explore_page.write(folder, tmp_path / f"{i}.html", title="<b> & \\1 {{style}}") for i in "ab")
    assert first.read_bytes() == again.read_bytes()
    page = first.read_text("utf-8")
    assert "alert(1)" not in page and "&lt;b&gt; &amp; \\1 {{style}}" in page and page.count("</script>") == 2


def test_the_command_finds_the_collection_of_a_result(tmp_path, monkeypatch):
    folder = tmp_path / "results" / "60_views" / "seed=1"
    monkeypatch.setattr(cli, "_root", lambda: tmp_path)
    for result, words in (("60_views/seed=1", "xmodal reproduce 60_views/seed=1"), (str(tmp_path), "it holds none")):
        with pytest.raises((ValueError, OSError), match=words):
            cli.collection_of(result)
    small().save(folder / "collection")
    for result in ("60_views/seed=1", str(folder), str(folder / "collection")):
        assert cli.collection_of(result) == folder / "collection"
    from typer.testing import CliRunner

    done = CliRunner().invoke(cli.app, ["explore", "60_views/seed=1", "--html"])
    assert done.exit_code == 0 and (folder / "explore.html").stat().st_size > 20_000
    assert CliRunner().invoke(cli.app, ["explore", "60_views/seed=1"]).exit_code == 2
