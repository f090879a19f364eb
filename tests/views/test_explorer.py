"""The explorer without a kernel: what is asked of a collection, what its widgets say, what is missing, in words."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image

from xmodal_lib.views import explorer as module
from xmodal_lib.views import neighbours, panels, selections
from xmodal_lib.views.collection import Collection
from xmodal_lib.views.colours import NONE, colouring, palette
from xmodal_lib.views.explorer import Explorer, front_end
from xmodal_lib.views.plots import COLOURS
from xmodal_lib.views.what_if import Study

KINDS = ("image", "text", "speech")


def collection(n: int = 60, classes: int = 3) -> Collection:
    """Items of a picture, words and a sound; picture 0 is missing, 3 is broken, point 5 is not on the second map."""
    rng = np.random.default_rng(0)
    items, modality = np.arange(n) // 3, np.array(KINDS, object)[np.arange(n) % 3]
    label = items % classes
    z = (np.eye(8)[label] * 3 + rng.normal(size=(n, 8)) * 0.3).astype(np.float32)
    xy = z[:, :2] + rng.normal(size=(n, 2)).astype(np.float32) * 0.1
    second = xy.copy()
    second[5] = np.nan

    def picture(i: int) -> Image.Image | None:
        if i == 3:
            raise RuntimeError("truncated file")
        return None if i == 0 else Image.new("RGB", (30, 20), (i, 0, 0))

    opens = {"image": picture, "text": lambda i: f"words <{i}>", "speech": lambda i: (np.zeros(200_000), 16_000)}
    points = pd.DataFrame({"row": [f"{m}:{i}" for i, m in enumerate(modality)], "item": items, "modality": modality,
                           "class": [f"class {c}" for c in label], "name": [f"thing {i}" for i in items],
                           "weight": rng.random(n), "correct": rng.random(n) < 0.5})  # fmt: skip
    about = {"first": {"space": "before", "note": "It keeps half."}, "second": {"space": "after"}}
    spaces = {"before": z, "after": z[rng.permutation(n)]}
    return Collection(points, spaces, {"first": xy, "second": second}, about, opens)


def test_nearest_neighbours_in_each_modality_by_a_slow_search() -> None:
    rng = np.random.default_rng(1)
    z, groups = neighbours.unit(rng.normal(size=(40, 6))), np.array(KINDS * 14, object)[:40]
    z[7] = np.nan
    found = neighbours.nearest(z, 4, groups, k=3)
    for kind in KINDS:
        own = [i for i in range(40) if groups[i] == kind and i not in (4, 7)]
        best = sorted(own, key=lambda i: -float(z[i] @ z[4]))[:3]
        assert found.loc[found["group"] == kind, "point"].tolist() == best
    assert neighbours.nearest(z, 7, groups).empty, "a point without a place has no neighbours"


def test_what_moved_is_what_was_moved() -> None:
    z = np.random.default_rng(2).normal(size=(80, 5))
    after = z.copy()
    after[[3, 50]] = -z[[3, 50]]  # to the other side
    table = neighbours.moved(neighbours.unit(z), neighbours.unit(after), k=5)
    assert set(table["point"][:2]) == {3, 50} and table["kept"].is_monotonic_increasing and len(table) == 80
    assert table["kept"].iloc[-1] == 1.0
    alone = np.full((2, 3), np.nan)
    assert neighbours.moved(alone, alone).empty


def test_prototypes_are_placed_among_their_class() -> None:
    found = collection()
    z, xy, labels = neighbours.unit(found.spaces["before"]), found.maps["first"], found.points["class"]
    names, means = neighbours.prototypes(z, labels)
    assert names == ["class 0", "class 1", "class 2"]
    for name, at in zip(names, neighbours.place(z, xy, means), strict=True):
        own = xy[labels == name]
        assert (own.min(0) <= at).all() and (at <= own.max(0)).all()
    assert np.isnan(neighbours.place(z, np.full_like(xy, np.nan), means)).all()


def test_a_vote_of_neighbours() -> None:
    found = collection()
    z, labels = neighbours.unit(found.spaces["before"]), found.points["class"].to_numpy(object)
    assert (neighbours.vote(z, labels, np.arange(60)) == labels).mean() > 0.9
    assert neighbours.vote(np.full((3, 2), np.nan), labels[:3], np.array([0])).tolist() == [""]


def test_selections_are_kept_by_row_id(tmp_path: Path) -> None:
    explorer = Explorer(collection())
    explorer.select([4, 9, 4])
    explorer.name_selection("two")
    explorer.save_selections(tmp_path / "s.json")
    other = collection()
    order = np.random.default_rng(0).permutation(60)[:50]
    order = order[order != 9]
    fewer = Collection(other.points.iloc[order], {}, {"first": other.maps["first"][order]}, {}, other.open)
    again = Explorer(fewer)
    again.load_selections(tmp_path / "s.json")
    assert again.recall("two") == 1, "row 9 is not in this one"
    assert again.selection["row"].tolist() == [other.points["row"][4]]
    (tmp_path / "bad.json").write_text(json.dumps([1]))
    for path, words in (("no.json", "no such file"), ("bad.json", "not a file of selections")):
        with pytest.raises(ValueError, match=words):
            selections.load(tmp_path / path)
    with pytest.raises(ValueError, match="no selection 'three'; there are two"):
        again.recall("three")
    again.select([])
    with pytest.raises(ValueError, match="select some points"):
        again.name_selection("none")


def test_colours_tell_names_apart_and_never_stand_alone() -> None:
    assert len(set(palette(20))) == 20 and palette(7) == list(COLOURS)
    names = colouring(pd.Series(["b", "a", None, "b"]))
    assert list(names.colours) == ["a", "b", NONE] and names.codes.tolist() == [1, 0, 2, 1]
    assert names.counts(np.array([True, False, True, True])) == {"a": 0, "b": 2, NONE: 1}
    truth = colouring(pd.Series([True, False]))
    assert truth.colours == {"no": COLOURS[1], "yes": COLOURS[0]}
    ramp = colouring(pd.Series([*range(30), np.nan], dtype=float))
    assert ramp.ramp and (ramp.low, ramp.high) == (0, 29) and ramp.codes[29] == 1 and ramp.codes[30] == 0
    assert len(colouring(pd.Series(["one"] * 3)).colours) == 1
    assert [*colouring(pd.Series([10, 2, 2])).colours] == ["2", "10"]


def test_search_and_filter() -> None:
    explorer = Explorer(collection())
    explorer.search("THING 19 speech")
    row = explorer.collection.points
    wanted = (row["name"] == "thing 19") & (row["modality"] == "speech")
    assert wanted.sum() == 1
    assert explorer.shown.tolist() == wanted.tolist()
    explorer.search("speech")
    explorer.keep("class", ["class 1"])
    assert explorer.shown.tolist() == ((row["modality"] == "speech") & (row["class"] == "class 1")).tolist()
    explorer.show_all()
    assert explorer.shown.all()
    with pytest.raises(ValueError, match="no column 'colour'; there are class, modality"):
        explorer.colour_by("colour")
    with pytest.raises(ValueError, match="no map 'third'; there are first, second"):
        explorer.set_maps("third")


def html(explorer: Explorer) -> str:
    """All words that the widgets show now."""
    found, todo = [], [explorer.widget]
    while todo:
        widget = todo.pop()
        if getattr(widget.layout, "display", None) != "none":
            todo += list(getattr(widget, "children", ()))
            found.append(str(getattr(widget, "value", "")))
    return " ".join(found)


def test_the_panels_say_what_is_there_and_what_is_missing() -> None:
    explorer = Explorer(collection(), "first", predicted="class")
    assert "draw around points" in html(explorer)
    explorer.open(4)  # words of item 1, whose picture is broken
    shown = html(explorer)
    assert "thing 1" in shown and "words &lt;4&gt;" in shown and "words <4>" not in shown
    assert "the image is missing or cannot be read" in shown
    assert shown.count("<audio") == 1 and "the first 10 of 12 s" in shown
    explorer.open(0)
    assert "the image is missing" in html(explorer)
    explorer.select([])
    explorer._bench.tabs.value = "Selection"
    assert "Nothing is selected" in html(explorer)
    explorer.search("no such words")
    assert "Nothing matches" in html(explorer)
    explorer.show_all()
    explorer.select([3, 12, 21])  # one class
    explorer._bench.selection.part.value = "Confusion"
    assert "All are of one class, class 1" in html(explorer) and "100%" in html(explorer)
    explorer._bench.tabs.value = "Moved"
    assert "Choose a second map" in html(explorer)
    explorer.set_maps("first", "first")
    assert "no neighbourhood can have changed" in html(explorer)
    explorer.set_maps("first", "second")
    shown = html(explorer)
    assert "Neighbourhoods that changed" in shown and "1 of 60 points are not on the map" in shown
    assert "It keeps half." in shown and "was not measured" in shown


def test_maps_of_the_bench_follow() -> None:
    explorer = Explorer(collection(), "first", beside="second")
    explorer.select([1, 5, 8])
    first, second = explorer.widget and explorer._bench.maps
    assert first.widget.selection.tolist() == [1, 5, 8]
    assert second.widget.selection.tolist() == [1, 8], "point 5 is not on it"
    seen: list[list[int]] = []
    explorer.on_select(lambda points: seen.append(points.tolist()))
    second.widget.selection = np.array([7, 2])  # as from the browser
    assert seen == [[2, 7]] and first.widget.selection.tolist() == [2, 7]
    explorer.keep("modality", ["text"])
    assert second.widget.filter.tolist() == [i for i in range(60) if i % 3 == 1 and i != 5]
    explorer.show_all()
    assert first.widget.filter is None and 5 not in second.widget.filter
    for column in ("weight", "modality", "correct", "class"):
        explorer.colour_by(column)
        codes = explorer.colouring().codes
        assert np.allclose(first.widget.points[:, 2], codes, atol=1e-6), "a point has its own colour"
    assert len(first.widget.annotations) > 0 and explorer.gaps().shape == (3, 4)
    second.widget.hovering = 3
    assert first.widget.hovering == 3 and len(seen) == 1


def test_a_study_recomputes_and_colours() -> None:
    found = collection()
    asked = np.arange(0, 60, 3)
    true = found.points["class"].to_numpy()[asked]
    study = Study({"k": (0, 10, 20)}, lambda k: np.where(np.arange(20) < k, true, "?"), asked, true)
    explorer = Explorer(found, studies={"mix": study})
    assert [accuracy for _, accuracy in study.sweep("k", {"k": 0})] == [0, 0.5, 1]
    assert "50.0%" in str(explorer.widget and explorer._bench.study.shown.value)
    explorer._bench.study.sliders["k"].value = 20
    assert "100.0%" in explorer._bench.study.shown.value
    explorer._bench.study.follow.value = True
    assert explorer.column == explorer.SLIDERS
    assert explorer.colouring().counts(np.ones(60, bool)) == {"right": 20, NONE: 40}
    with pytest.raises(ValueError, match="slider 'k' has no values"):
        Study({"k": ()}, lambda k: true, asked, true)


def test_a_slider_of_many_points_is_answered_in_half_a_second() -> None:
    """Accuracy, both curves and the colours of the map, at 50,000 points of which half are asked."""
    n, rng = 50_000, np.random.default_rng(0)
    z, label = rng.normal(size=(n, 64)).astype(np.float32), rng.integers(0, 20, n)
    names = np.array([f"class {c}" for c in range(20)], object)
    points = pd.DataFrame({"row": [f"image:{i}" for i in range(n)], "item": range(n), "modality": "image",
                           "class": names[label]})  # fmt: skip
    asked, heads = np.arange(0, n, 2), rng.normal(size=(2, 20, 64)).astype(np.float32)

    def mixed(shots: float, alpha: float) -> np.ndarray:
        return names[(z[asked] @ (alpha * heads[0] / shots + (1 - alpha) * heads[1]).T).argmax(1)]

    study = Study({"shots": (1, 2, 4, 8, 16), "alpha": [i / 20 for i in range(21)]}, mixed, asked, names[label[asked]])
    explorer = Explorer(Collection(points, {"space": z}, {"map": z[:, :2]}), studies={"mix": study})
    panel = explorer.widget and explorer._bench.study
    panel.follow.value = True
    shown, began = panel.curves.value, time.process_time()
    panel.sliders["alpha"].value = 0.8
    assert time.process_time() - began < 0.5 and panel.curves.value != shown


def test_a_saved_collection_is_shown_without_the_seconds_of_torch() -> None:
    code = """import sys
import xmodal_lib.views.bench, xmodal_lib.views.explore_page
from xmodal_lib.views.collection import Collection
from xmodal_lib.views.explorer import Explorer
print({"torch", "sklearn", "scipy.stats", "transformers", "plotly"} & set(sys.modules))"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ran.stdout == "set()\n", ran.stdout + ran.stderr


def test_without_a_front_end_only_a_picture_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []
    monkeypatch.setattr("xmodal_lib.views.notebook.display", lambda thing, **_: shown.append(thing))
    explorer = Explorer(collection())
    assert not front_end()
    explorer.show()
    assert explorer._bench is None, "no widget is made"
    bundle = InteractiveShell.instance().display_formatter.format(shown[0])[0]
    assert len(shown) == 1 and "image/png" in bundle and not [kind for kind in bundle if "widget" in kind]
    monkeypatch.setenv("XMODAL_LIVE", "1")
    assert front_end()
    monkeypatch.setattr(module, "display", shown.append)
    explorer.show()
    assert shown[1] is explorer.widget


def test_a_confusion_in_words() -> None:
    shown = panels.confusion(["a", "a", "b"], ["a", "b", "b"], "by a test")
    assert "67% of these 3 points are answered with their class, by a test." in shown and "50%" in shown
    assert "No class is taken for another" in panels.confusion(["a"], ["a"], "by a test")
