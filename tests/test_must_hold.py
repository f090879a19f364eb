"""What must hold when a user errs or a file is broken: one clear line, an exit code, nothing half-written.

Each is met where a user meets it, at the command line. The same is tested closer to the code in runs/test_plan.py
(every mistake of a sheet), runs/test_engine.py (failed and killed jobs), sources/test_manifest.py, test_packages.py,
test_emoji.py (damaged drawings), test_features.py and encoders/test_bridge.py (damaged caches are made again).
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.runs.conftest import write_notebook
from xmodal_lib.cli import app
from xmodal_lib.sources import packages

PARAMETERS = """seed = 0  # of the draw
shot = 1  # items a class
name = "dog"  # a class
shots = [1, 2]  # labelled items a class
features = ""  # a file of features; "" makes them
out = ""  # where to write"""

WORK = """from pathlib import Path
import torch
from xmodal_lib import features as cache
from xmodal_lib.episodes import draw
from xmodal_lib.tables import Table, Tables

def rows(n, first):
    return Tables({"image": Table(torch.rand(2 * n, 4), torch.arange(2).repeat_interleave(n),
                                  torch.arange(first, first + 2 * n))}, ("cat", "dog"))

tables = cache.load(features) if features else rows(3, 0)
one = tables.of_classes([name])
episode = draw(tables, rows(3, 100), shot=shot, seed=seed)"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One notebook that reads features, takes a class and draws an episode, and its sheet."""
    root = tmp_path / "project"
    write_notebook(root / "notebooks" / "10_small.ipynb", PARAMETERS, WORK, "Path(out, 'worked').touch()")
    (root / "params").mkdir()
    (root / "params" / "10_small.yaml").write_text(
        "notebook: notebooks/10_small.ipynb\nparameters: {shot: 1}\noutputs: {worked: worked}\n"
    )
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")


def one_line(words: list[str], code: int = 2) -> str:
    """The only line that a command says; it ends with this exit code."""
    result = CliRunner().invoke(app, words)
    lines = result.output.splitlines()
    assert (result.exit_code, len(lines)) == (code, 1), result.output
    return lines[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["10", "-p", "sed=3"], "-p: unknown parameter 'sed'; did you mean 'seed'?"),
        (["10", "-p", "seed"], "-p seed: key=value is needed"),
        (["10", "-p", "seed=three"], "-p seed: 'three' is a str; the default 0 is a int"),
        (["10", "-p", "seed=1.5"], "-p seed: 1.5 is a float; the default 0 is a int"),
        (["10", "-p", "shots=3"], "-p shots: 3 is a int; the default [1, 2] is a list"),
        (["10", "-p", "shots=[1"], "-p shots: '[1' is no value in YAML"),
        (["10", "-p", "out=here"], "-p out: use --out FOLDER"),
        (["10", "-p", "features=absent.safetensors"], "-p features: there is no file 'absent.safetensors'"),
        (["11"], "unknown notebook '11'; there are: 10_small"),
        (["10", "--out", "params"], "has other files; give a new or empty folder"),
        (["10", "--out", "params/10_small.yaml"], "is a file; give a new or empty folder"),
        (["10", "--out", "results/10_small"], "belongs to `xmodal reproduce`"),
    ],
)
def test_run_refuses_before_a_kernel_starts(project: Path, words: list[str], said: str) -> None:
    before = files(project)
    line = one_line(["run", *words])
    assert line.startswith("xmodal: ") and said in line
    assert files(project) == before and not (project / "results").exists()


@pytest.mark.parametrize(
    ("sheet", "words", "said"),
    [
        ("{shott: 1}", [], "params/10_small.yaml: unknown parameter 'shott'; did you mean 'shot'?"),
        ("{shot: one}", [], "params/10_small.yaml: parameter shot: 'one' is a str; the default 1 is a int"),
        ("{shot: 1", [], "10_small.yaml, line"),
        ("{shot: 1}", ["20"], "unknown target '20'"),
        ("{shot: 1}", ["--profile", "quik"], "unknown profile 'quik'"),
        ("{shot: 1}", ["--engine", "slrm"], "unknown engine 'slrm'"),
    ],
)
def test_reproduce_refuses_before_any_job(project: Path, sheet: str, words: list[str], said: str) -> None:
    path = project / "params" / "10_small.yaml"
    path.write_text(path.read_text().replace("{shot: 1}", sheet))
    assert said in one_line(["reproduce", *words])
    assert not (project / "results").exists()


def test_reproduce_without_its_notebook(project: Path) -> None:
    (project / "notebooks" / "10_small.ipynb").rename(project / "notebooks" / "10_smal.ipynb")
    assert "there is no notebooks/10_small.ipynb; did you mean 10_smal?" in one_line(["reproduce"])
    assert not (project / "results").exists()


def test_a_cut_notebook(project: Path) -> None:
    path = project / "notebooks" / "10_small.ipynb"
    path.write_text(path.read_text()[:200])
    for words in (["reproduce"], ["run", "10"], ["params", "10"], ["notebooks", "--check"]):
        assert "10_small.ipynb is no notebook of format 4" in one_line(words)
    assert not (project / "results").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("name=dgo", "class 'dgo' is not one of the 2 classes"),
        ("shot=4", "class 'cat' has 3 items in the support pool; 4 are needed"),
        # a path is given from where the user stands, though the kernel works in notebooks/
        ("features=cut.safetensors", "cut.safetensors: not a file of features, or a damaged one"),
    ],
)
def test_what_only_the_notebook_can_know_is_said_before_its_work(project: Path, given: str, said: str) -> None:
    (project / "cut.safetensors").write_bytes(b"\x99" * 20)
    result = CliRunner().invoke(app, ["run", "10", "-p", given, "--out", "elsewhere"])
    lines = [line for line in result.stdout.splitlines() if "FAILED" in line]
    assert result.exit_code == 1 and len(lines) == 1 and said in lines[0], result.output
    assert files(project / "elsewhere") == ["failed.html", "failed.ipynb", "failed.json"]
    assert said in (project / "elsewhere" / "failed.ipynb").read_text()


@pytest.mark.parametrize(
    ("csv", "said"),
    [
        ("image,label\nred.png,a\ngone.png,b\n", "line 3, column image: there is no file 'gone.png'"),
        ("image,label\nred.png,a\ncut.png,b\n", "line 3, column image: 'cut.png' cannot be read"),
        ("image,lable\nred.png,a\n", "line 1 has an unknown column 'lable'; did you mean 'label'?"),
        ("image,label\nred.png,\n", "line 2, column label: empty"),
    ],
)
def test_your_own_data_with_a_mistake(tmp_path: Path, csv: str, said: str) -> None:
    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "red.png").read_bytes()[:60])
    (tmp_path / "my.csv").write_text(csv)
    line = one_line(["data", "check", str(tmp_path / "my.csv")], code=1)
    assert line.startswith("my.csv: ") and said in line and line.count("my.csv") == 1


def test_your_own_data_by_csv_and_by_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a" / "red.png")
    assert "class folder b holds no picture" in one_line(["data", "check", str(tmp_path)], code=1)
    Image.new("RGB", (40, 40), "blue").save(tmp_path / "b" / "blue.png")
    assert "2 items of 2 classes; rows: image 2." in one_line(["data", "check", str(tmp_path)], code=0)
    (tmp_path / "my.csv").write_text("image,text,label\na/red.png,a red thing,warm\nb/blue.png,,cold\n")
    assert "2 items of 2 classes" in one_line(["data", "check", str(tmp_path / "my.csv")], code=0)
    absent = str(tmp_path / "absent.csv")
    assert f"there is no data set, file or folder '{absent}'" in one_line(["data", "check", absent])


def test_a_truncated_download(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(package: packages.Package, folder: Path) -> Path:
        (folder / "half.tgz").write_bytes(b"\x1f\x8b half of it")
        return folder / "half.tgz"

    monkeypatch.setattr(packages, "npm_pack", half)
    result = CliRunner().invoke(app, ["data", "get", "emoji"])
    said = [line for line in result.stderr.splitlines() if line.startswith("xmodal: ")]
    assert result.exit_code == 2 and len(said) == 1 and "Traceback" not in result.output
    assert "(13 bytes) has SHA-256" in said[0] and "was thrown away; run this again" in said[0]
    assert files(home) == []


def test_a_corrupt_cached_file(home: Path) -> None:
    for package in packages.PACKAGES.values():
        (package.folder / "en").mkdir(parents=True)
        (package.folder / "en" / "data.json").write_text("[]")
        (package.folder / packages.STAMP).write_text(json.dumps({"sha256": "", "files": {"en/data.json": "0" * 64}}))
    before = files(home)
    line = one_line(["data", "check", "emoji"], code=1)
    assert line.startswith("emoji: ") and "data.json is damaged or gone; delete" in line
    assert "data.json is damaged or gone; delete" in one_line(["data", "get", "emoji"])
    assert files(home) == before


def test_data_that_are_not_here(home: Path) -> None:
    assert "10 of 10 packages are missing" in one_line(["data", "check", "emoji"], code=1)
    assert "there is no data set, file or folder 'emojy'; did you mean 'emoji'?" in one_line(["data", "get", "emojy"])
    assert not home.exists()


def test_doctor_says_what_to_do(home: Path) -> None:
    said = " ".join(CliRunner().invoke(app, ["doctor"]).output.split())
    assert "none is trained yet; run: xmodal reproduce 02" in said and "run: xmodal data get emoji" in said
    assert all(f"{m} encoder yes" in said for m in ("image", "text", "speech")) and not home.exists()
    (home / "bridge").mkdir(parents=True)
    (home / "bridge" / "bridge-seed1-0.safetensors").write_bytes(b"cut")
    assert "is damaged; it will be trained again" in " ".join(CliRunner().invoke(app, ["doctor"]).output.split())


def test_doctor_is_quick(home: Path) -> None:
    """It takes seconds to import these, so it does without."""
    code = "import sys; from xmodal_lib.cli import weights_and_data as w; w(); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"timm", "open_clip", "transformers", "sklearn", "matplotlib"} & set(found)


@pytest.mark.slow
def test_no_network_is_needed_where_the_cache_is_present(monkeypatch: pytest.MonkeyPatch) -> None:
    from xmodal_lib.encoders import frozen
    from xmodal_lib.sources import emoji, emoji_drawings

    def load() -> emoji.Source:
        return emoji.load("category", modalities=("image", "text"), styles=("twemoji",), size=32)

    load()  # whoever is first fetches

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(packages, "npm_pack", refuse)
    emoji_drawings._index.cache_clear()
    source = load()
    picture, text = source.open["image"](0), source.open["text"](0)
    assert frozen.efficientnet(32).encode([picture]).shape == (1, 1280)
    assert frozen.minilm().encode([text]).shape == (1, 384)
