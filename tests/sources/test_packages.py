"""Packages: verified, all or nothing, used offline, and damage is named."""

import io
import subprocess
import sys
import tarfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from xmodal_lib.home import Unusable, home
from xmodal_lib.sources import packages
from xmodal_lib.sources.packages import Package

FILES = {"package/icons.json": b'{"icons": {}}', "package/chars.json": b"{}", "package/secret.js": b"no"}


def archive(files: dict[str, bytes] = FILES) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class Getter:
    """Writes `content` as the archive, and counts how often it was asked to."""

    def __init__(self, content: bytes) -> None:
        self.content, self.asked = content, 0

    def __call__(self, package: Package, folder: Path) -> Path:
        self.asked += 1
        (folder / "a.tgz").write_bytes(self.content)
        return folder / "a.tgz"


@pytest.fixture
def good(tmp_path, monkeypatch):
    """An archive, and the package that is pinned to it, with an empty cache."""
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path))
    content = archive()
    package = Package("@set/icons", "1.0.0", sha256(content).hexdigest(), ("icons.json", "chars.json"), "MIT", "me")
    return content, package


def left() -> list[str]:
    return sorted(str(p.relative_to(home())) for p in home().rglob("*") if p.is_file() and p.suffix != ".lock")


def test_fetched_once_then_used_offline(good):
    content, package = good
    get = Getter(content)
    folder = packages.fetch(package, get)
    assert packages.fetch(package, get) == folder
    assert get.asked == 1
    assert packages.read(package, "icons.json") == FILES["package/icons.json"]
    assert packages.files(package) == ["chars.json", "icons.json"]  # and no secret.js


def test_wrong_hash_leaves_nothing(good):
    content, package = good
    with pytest.raises(Unusable, match="SHA-256"):
        packages.fetch(replace(package, sha256="0" * 64), Getter(content))
    assert left() == []


def test_truncated_download_leaves_nothing(good):
    content, package = good
    with pytest.raises(Unusable, match="download is broken"):
        packages.fetch(package, Getter(content[: len(content) // 2]))
    assert left() == []


def test_archive_that_does_not_unpack_leaves_nothing(good):
    content, package = good
    broken = content[: len(content) // 2]
    with pytest.raises(Unusable, match="does not unpack"):
        packages.fetch(replace(package, sha256=sha256(broken).hexdigest()), Getter(broken))
    assert left() == []


def test_archive_that_lacks_a_file_leaves_nothing(good):
    content, package = good
    with pytest.raises(Unusable, match=r"holds no data\.json"):
        packages.fetch(replace(package, wanted=("data.json",)), Getter(content))
    assert left() == []


def test_no_file_is_written_outside_the_folder(good):
    content = archive({"package/../../icons.json": b"{}", "package/chars.json": b"{}"})
    package = replace(good[1], sha256=sha256(content).hexdigest(), wanted=("*",))
    with pytest.raises(Unusable, match="does not unpack"):
        packages.fetch(package, Getter(content))
    assert left() == []


@pytest.mark.parametrize("damage", ["change", "remove"])
def test_damage_to_an_unpacked_file_is_noticed(good, damage):
    content, package = good
    path = packages.fetch(package, Getter(content)) / "icons.json"
    path.write_bytes(b'{"icons": []}') if damage == "change" else path.unlink()
    with pytest.raises(Unusable, match=r"icons\.json is damaged or gone; delete .* and run this again"):
        packages.read(package, "icons.json")


def test_damage_to_the_stamp_is_noticed(good):
    content, package = good
    (packages.fetch(package, Getter(content)) / packages.STAMP).write_text("{")
    with pytest.raises(Unusable, match="is damaged; delete"):
        packages.read(package, "icons.json")


def test_two_processes_at_once(good, tmp_path):
    """Both get the folder; only one asks for the archive."""
    content, package = good
    (tmp_path / "source.tgz").write_bytes(content)
    code = f"""
import shutil, time
from pathlib import Path
from xmodal_lib.sources import packages
def get(package, folder):
    print("asked")
    time.sleep(0.3)
    return Path(shutil.copy({str(tmp_path / "source.tgz")!r}, folder))
packages.fetch(packages.{package!r}, get)
"""
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert "".join(said).split() == ["asked"]


def test_pins_are_complete():
    assert len(packages.PACKAGES) == 10
    assert all(len(package.sha256) == 64 for package in packages.PACKAGES.values())
    assert len({package.folder for package in packages.PACKAGES.values()}) == 10


@pytest.mark.slow
@pytest.mark.parametrize("own_npm", [True, False])
def test_no_network_is_one_clear_line(good, monkeypatch, own_npm):
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.setattr(packages.shutil, "which", packages.shutil.which if own_npm else lambda name: None)
    with pytest.raises(Unusable, match=r"^npm could not fetch @set/icons@1\.0\.0 \(.*\); check the network") as error:
        packages.fetch(good[1])
    assert "\n" not in str(error.value)
    assert left() == []
