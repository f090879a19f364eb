"""`xmodal data` for what only its user can get: what it says of a data set that is here, lacks a file, or is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.sources.layouts import WRITERS
from xmodal_lib.cli import app, weights_and_data
from xmodal_lib.sources import catalogue


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where data sets are looked for; the cache is empty."""
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XMODAL_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["data", *words])


@pytest.mark.parametrize("name", catalogue.LISTED)
def test_what_is_not_here(data: Path, name: str) -> None:
    result, place = run("check", name), catalogue.place(name)
    assert result.exit_code == 1 and "Traceback" not in result.output and place.parent == data
    assert f"{name}: there is no folder {place}; get " in result.output and "put it all into" in result.output
    told = run("get", name)
    assert told.exit_code == 0 and f"put it all into {place}" in told.output
    assert not data.exists()  # nothing is made
    assert name in run("list").output


def test_the_default_place_is_the_cache(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XMODAL_DATA")
    assert catalogue.place("mvsa") == data.parent / "home" / "datasets" / "mvsa"
    with pytest.raises(FileNotFoundError, match="home/datasets/mvsa"):
        catalogue.load("mvsa")


def test_what_is_here(data: Path) -> None:
    WRITERS["kinetics_sounds-released"](data / "kinetics_sounds")  # these lists have no published count
    result = run("check", "kinetics_sounds")
    assert result.exit_code == 0
    assert result.output == (
        "kinetics_sounds: 32 clips of 4 classes; train 16, val 8, test 8; none of 16 videos in more than one split\n"
    )
    assert catalogue.load("kinetics_sounds").report == result.output.strip()
    assert weights_and_data()["data kinetics_sounds"][0] == ""


def test_what_is_here_in_part(data: Path, tmp_path: Path) -> None:
    root = tmp_path / "elsewhere"
    WRITERS["cremad-raw"](root)
    gone = sorted((root / "AudioWAV").iterdir())[0]
    gone.unlink()
    result = run("check", "cremad", "--root", str(root))
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0].startswith("cremad: 36 clips of 6 classes; train 24, val 6, test 6")
    assert f"  1 of 36 have no audio (first: elsewhere/AudioWAV/{gone.name})" in lines
    assert "  36 clips are known; published are 7442" in lines
    assert lines[-1].startswith("  get AudioWAV/ and VideoFlash/ of ") and str(root) in lines[-1]
    assert len(catalogue.load("cremad", root).tables["audio"]) == 35  # and can be used


def test_nobody_needs_to_have_them(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = [entry for entry in catalogue.entries() if not entry.fetches]  # as packages are not fetched here
    monkeypatch.setattr(catalogue, "entries", lambda: known)
    result = run("check")
    assert result.exit_code == 0
    assert result.output.count("not here (optional)") == len(catalogue.LISTED)
    assert not [name for name in weights_and_data() if name.removeprefix("data ") in catalogue.LISTED]
    WRITERS["cremad-raw"](data / "cremad")  # in part: named it would be 1
    result = run("check", "all")
    assert result.exit_code == 0 and "published are 7442" in result.output
    assert result.output.count("not here (optional)") == len(catalogue.LISTED) - 1


def test_a_wrong_line_is_named(data: Path) -> None:
    WRITERS["cremad-raw"](data / "cremad")
    with (data / "cremad" / "train.csv").open("a") as file:
        file.write("1001_IEO_ANG_XX\n")
    result = run("check", "cremad")
    assert result.exit_code == 1 and "train.csv, line 31: '1001_IEO_ANG_XX' has 1 fields" in result.output


def test_root_is_of_one_data_set(data: Path) -> None:
    for words in (["check", "--root", "x"], ["check", "cremad", "mvsa", "--root", "x"]):
        result = run(*words)
        assert result.exit_code == 2 and "name the one data set" in result.output
    result = run("check", "digits", "--root", "x")
    assert result.exit_code == 2 and "root is for cremad, kinetics_sounds" in result.output
    with pytest.raises(ValueError, match="digits takes no root, split; cremad"):
        catalogue.load("digits", "x", split="actor")


def test_doctor_does_not_count_what_is_not_its_own(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XMODAL_DATA")
    root = data.parent / "home" / "datasets" / "cremad" / "AudioWAV"
    root.mkdir(parents=True)
    (root / "a.wav").write_bytes(b"x" * 1000)
    said = CliRunner().invoke(app, ["doctor"]).output
    assert "(empty)" in said and "data cremad" in said and "data mvsa" not in said
