"""What goes wrong outside the program: a kernel that dies, two runs at once, a full disk, hostile files.

Nothing is lost or half-written, the user gets one line, and a second run completes.

Killed engines, endless notebooks: tests/runs/test_engine.py. Damaged downloads and caches, no network:
tests/test_must_hold.py and tests/sources/test_packages.py.
"""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import tarfile
import time
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from tests.runs.conftest import project, write_notebook  # noqa: F401  (a fixture)
from xmodal_lib.encoders.towers import open_clip_towers
from xmodal_lib.sources import catalogue, packages

REPRODUCE = [sys.executable, "-m", "xmodal_lib.cli", "reproduce"]


def test_a_kernel_that_is_killed_in_a_cell(project: Path) -> None:  # noqa: F811
    sheet = project / "params" / "10_small.yaml"
    sheet.write_text("notebook: notebooks/10_small.ipynb\nparameters: {die: true}\n")
    dies = "import os, signal\nif die:\n    os.kill(os.getpid(), signal.SIGKILL)"
    write_notebook(project / "notebooks" / "10_small.ipynb", 'die = True\nout = ""', dies)
    first = subprocess.run(REPRODUCE, cwd=project, capture_output=True, text=True, timeout=60)
    assert first.returncode == 1 and "1 failed" in first.stdout and "kernel" in first.stdout.lower(), first.stdout
    assert "Traceback" not in first.stdout + first.stderr
    sheet.write_text("notebook: notebooks/10_small.ipynb\nparameters: {die: false}\n")
    second = subprocess.run(REPRODUCE, cwd=project, capture_output=True, text=True, timeout=60)
    assert second.returncode == 0 and "1 done" in second.stdout, second.stdout


def test_two_at_once(project: Path) -> None:  # noqa: F811
    """The second stops before it touches anything; the first ends as if nothing had been."""
    (project / "params" / "10_small.yaml").write_text("notebook: notebooks/10_small.ipynb\n")
    write_notebook(project / "notebooks" / "10_small.ipynb", 'out = ""', "import time; time.sleep(4)")
    first = subprocess.Popen(REPRODUCE, cwd=project, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    while "started" not in first.stdout.readline():
        time.sleep(0.05)
    second = subprocess.run(REPRODUCE, cwd=project, capture_output=True, text=True, timeout=60)
    assert second.returncode == 2 and "another run is working on" in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1
    assert "1 done" in first.communicate(timeout=60)[0] and first.returncode == 0


FULL = """
import resource, signal, sys
import torch
from xmodal_lib import features
from xmodal_lib.tables import Table, Tables
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # as a disk that is full after 20 kB
table = Table(torch.zeros(100, 256), torch.zeros(100, dtype=torch.long), torch.arange(100))
try:
    features.save(Tables({"image": table}, ("a",)), sys.argv[1])
except Exception as problem:
    print(type(problem).__name__)
    sys.exit(2)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of file size to stand for a full disk")
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    (tmp_path / "kept.safetensors").write_bytes(b"what was there before")
    result = subprocess.run([sys.executable, "-c", FULL, tmp_path / "kept.safetensors"], capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["kept.safetensors"]  # no part of the new one
    assert (tmp_path / "kept.safetensors").read_bytes() == b"what was there before"


@pytest.mark.parametrize("name", ["cremad-raw", "sketchy-raw", "dtd", "fgvc_aircraft"])
def test_a_data_folder_is_only_read(name: str, written) -> None:
    """So that one that cannot be written to will do."""
    root, known = written[name], name.partition("-")[0]
    before = {p: p.stat().st_mtime_ns for p in (root, *root.rglob("*"))}
    with pytest.raises(FileNotFoundError, match="published"):  # these few files are not the whole set
        catalogue.entry(known, root).check()
    source = catalogue.load(known, root)
    modality = source.tables.modalities[-1]
    source.opened(modality, source.tables.only(modality).items()[:1].tolist())
    assert {p: p.stat().st_mtime_ns for p in (root, *root.rglob("*"))} == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_an_archive_with_a_link_out_of_its_folder(kind: bytes, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path / "home"))
    (tmp_path / "secret").write_text("not to be overwritten")
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        link = tarfile.TarInfo("package/chars.json")
        link.type, link.linkname = kind, str(tmp_path / "secret")
        tar.addfile(link)
        data = tarfile.TarInfo("package/chars.json")
        data.size = 2
        tar.addfile(data, io.BytesIO(b"{}"))
    checksum = sha256(content.getvalue()).hexdigest()
    package = packages.Package("@set/icons", "1.0.0", checksum, ("chars.json",), "MIT", "me")

    def get(_, folder: Path) -> Path:
        (folder / "source.tgz").write_bytes(content.getvalue())
        return folder / "source.tgz"

    folder = packages.fetch(package, get)  # a link is never unpacked; the file of the same name is
    assert not (folder / "chars.json").is_symlink() and (folder / "chars.json").read_text() == "{}"
    assert (tmp_path / "secret").read_text() == "not to be overwritten"


class Hostile:
    """A pickle that writes a file when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("written_by", ["torch.save", "pickle"])
def test_a_hostile_checkpoint_is_refused_and_not_run(written_by: str, tmp_path: Path) -> None:
    mark, path = tmp_path / "was run", tmp_path / "weights.pt"
    content = {"state_dict": Hostile(mark)}
    torch.save(content, path) if written_by == "torch.save" else path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match="is not a checkpoint of open_clip's 'RN50'"):
        open_clip_towers("RN50", path)
    assert not mark.exists()
