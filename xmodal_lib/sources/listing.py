"""Items with files a modality -> a source, and a count of all there is; nothing is opened here.

An item whose file is missing or empty has no row of that modality, and one without any file is left out; both are
counted in the source's `report`. Where each item has one modality only (`apart`), the others are not missing.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from xmodal_lib.sources import media
from xmodal_lib.sources.manifest import MANY
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables

WAV_HEADER = 44  # bytes of a WAV without samples


@dataclass(frozen=True)
class Media:
    """One item in one modality: how to open it, and the files that this needs."""

    open: Callable[[], Any]
    files: tuple[Path, ...] = ()
    least: int = 1  # bytes; a smaller file is empty
    detail: str = ""  # what is opened but in no file: a text, or which part of a video


@dataclass(frozen=True)
class Item:
    """One published item; `listed` is the list that names it (train, dev, test), "" where none does."""

    id: str
    label: str
    media: Mapping[str, Media]
    group: str = ""
    listed: str = ""
    split: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)  # further columns of `info`


def sound(path: Path) -> Media:
    return Media(partial(media.waveform, path), (path,), WAV_HEADER + 1)


def bank(path: Path) -> Media:
    """A stored filter bank."""
    return Media(partial(media.array, path), (path,))


def picture(path: Path) -> Media:
    return Media(partial(media.picture, path), (path,))


def folder(path: Path) -> Media:
    """Frames that are pictures in a folder."""
    return Media(partial(media.pictures, path), (path,))


def video(path: Path, fps: float, start: float = 0.0, end: float | None = None) -> Media:
    """Frames out of a video."""
    return Media(partial(media.frames, path, fps, start, end), (path,), detail=f"{fps} {start} {end}")


def words(text: str) -> Media:
    return Media(partial(str, text), detail=text)


def text(path: Path, read: Callable[[Path], str]) -> Media:
    """A text in a file of its own."""
    return Media(partial(read, path), (path,))


def tokens(root: Path, part: str, stem: str) -> Media:
    """A text as stored token ids, where MLA's lists expect it."""
    pair = tuple(root / "text_token" / f"{part}_token" / f"{stem}_{kind}.npy" for kind in ("token", "pm"))
    return Media(partial(media.tokens, *pair), pair)


def build(name: str, title: str, items: Sequence[Item], classes: Sequence[str], modalities: Sequence[str],
          licence: str, expected: Mapping[str, int], by: str = "group", parts: Sequence[str] = ("train", "val", "test"),
          apart: bool = False) -> Source:  # fmt: skip
    """The source of these items, sorted by id.

    `expected` are published counts: {"": of all items}, {"train": of that list, ...}, {"image": of that modality, ...}
    or {"classes": ...}. `parts` are the values of `split`, each of which must have an item. `digest` is of the listing:
    ids, labels, splits and the sizes of files, not of what is in gigabytes of media; features are keyed by ids and
    sizes alone, so that another split or seed finds them.

    Raises:
        FileNotFoundError: none of the files of any item is there.
        ValueError: an id is listed with two labels or in two lists, or a split has no item.
    """
    items, twice = _unique(items)
    rows: dict[str, list[tuple[int, Item]]] = {m: [] for m in modalities}
    lacking: dict[str, list[str]] = {m: [] for m in modalities}
    sums = {m: hashlib.sha256(f"listing 1 {name} {m}".encode()) for m in modalities}
    bare: list[str] = []
    for n, item in enumerate(tqdm(items, desc=f"looking for {title}", unit="item", disable=len(items) < MANY)):
        for m in modalities:
            sizes = _sizes(item.media[m]) if m in item.media else None
            if sizes is None:
                if m in item.media or not apart:
                    lacking[m].append(_where(item, m))
            else:
                rows[m].append((n, item))
                sums[m].update(json.dumps([item.id, sizes, item.media[m].detail]).encode())
        if not any(r and r[-1][0] == n for r in rows.values()):
            bare.append(item.id)
    if len(bare) == len(items):
        raise FileNotFoundError(f"none of the files of the {len(items)} listed {title} is there; "
                                f"the first would be {_where(items[0], modalities[0])}; "
                                f"`xmodal data get {name}` says where to put them")  # fmt: skip
    here = {item.id: item for listing in rows.values() for _, item in listing}
    splits = Counter(item.split for item in here.values())
    if empty := [s for s in parts if not splits[s]]:
        raise ValueError(f"{name}: none of the {title} that are here is of {empty[0]}; choose another split, or "
                         "add the missing ones")  # fmt: skip
    whole = hashlib.sha256(json.dumps([(i.id, i.label, i.split) for i in items]).encode())
    for digest in sums.values():
        whole.update(digest.digest())
    tables = {m: _table(listing, classes) for m, listing in rows.items()}
    return Source(
        name,
        Tables(tables, tuple(classes)),
        {m: _info([item for _, item in listing], m) for m, listing in rows.items()},
        {m: _door([item.media[m].open for _, item in listing]) for m, listing in rows.items()},
        whole.hexdigest(),
        licence,
        {m: digest.hexdigest() for m, digest in sums.items()},
        _report(name, title, items, here, lacking, bare, twice, expected, by, classes, parts, apart),
    )


def _unique(items: Sequence[Item]) -> tuple[list[Item], int]:
    """Items by id, and how many lines say again what one said before."""
    first: dict[str, Item] = {}
    for item in items:
        other = first.setdefault(item.id, item)
        for what in ("label", "listed"):
            if getattr(item, what) != getattr(other, what):
                raise ValueError(f"{item.id} is listed twice, with {what} {getattr(other, what)!r} and "
                                 f"{getattr(item, what)!r}; remove one of the two lines")  # fmt: skip
    return [first[id] for id in sorted(first)], len(items) - len(first)


def _sizes(piece: Media) -> list[int] | None:
    """Bytes of each file, or of all pictures of a folder; None if one is missing or empty."""
    sizes = []
    for path in piece.files:
        try:
            info = path.stat()
            size = info.st_size
            if stat.S_ISDIR(info.st_mode):
                size = sum(f.stat().st_size for f in path.iterdir() if f.suffix.lower() in media.PICTURE)
        except OSError:
            return None
        if size < piece.least:
            return None
        sizes.append(size)
    return sizes


def _where(item: Item, modality: str) -> str:
    """A path below the root, as far as it tells one item from another."""
    files = item.media[modality].files if modality in item.media else ()
    return "/".join(files[0].parts[-3:]) if files else item.id


def _table(listing: Sequence[tuple[int, Item]], classes: Sequence[str]) -> Table:
    index = {c: i for i, c in enumerate(classes)}
    y = torch.tensor([index[item.label] for _, item in listing], dtype=torch.int64)
    return Table(torch.arange(len(listing)), y, torch.tensor([n for n, _ in listing], dtype=torch.int64))


def _info(items: Sequence[Item], modality: str) -> pd.DataFrame:
    columns = ("id", "label", "split", "group", "listed")
    frame = pd.DataFrame({c: [getattr(item, c) for item in items] for c in columns}).rename(columns={"id": "item"})
    frame["path"] = [str(item.media[modality].files[0]) if item.media[modality].files else "" for item in items]
    for key in items[0].more if items else ():
        frame[key] = [item.more.get(key) for item in items]
    return frame


def _door(openers: Sequence[Callable[[], Any]]) -> Callable[[int], Any]:
    return lambda row: openers[row]()


def _report(name: str, title: str, items: Sequence[Item], here: Mapping[str, Item], lacking: Mapping[str, list[str]],
            bare: Sequence[str], twice: int, expected: Mapping[str, int], by: str, classes: Sequence[str],
            parts: Sequence[str], apart: bool) -> str:  # fmt: skip
    """What is here on the first line, and a line for each thing that is missing or unexpected."""
    splits = Counter(item.split for item in here.values())
    sides: dict[str, set[str]] = {}
    for item in here.values():
        sides.setdefault(item.group, set()).add(item.split)
    shared = sum(len(s) > 1 for group, s in sides.items() if group)
    said = f"{name}: {len(here)} {title} of {len(classes)} classes; "
    said += ", ".join(f"{split} {splits[split]}" for split in parts)
    if apart:
        said += "; " + ", ".join(f"{m} {sum(m in item.media for item in here.values())}" for m in lacking)
    if any(sides):
        said += f"; {shared or 'none'} of {len(sides)} {by}s in more than one split"
    lines = [said]
    for modality, missing in lacking.items():
        if missing and apart:
            known = sum(modality in item.media for item in items)
            lines.append(f"{len(missing)} of {known} {modality} files are empty and left out (first: {missing[0]})")
        elif missing:
            lines.append(f"{len(missing)} of {len(items)} have no {modality} (first: {missing[0]})")
    if bare and not apart:
        lines.append(f"{len(bare)} of {len(items)} have nothing and are left out (first: {bare[0]})")
    if twice:
        lines.append(f"{twice} lines of the lists repeat another and are left out")
    for what, count in expected.items():
        if what == "classes":
            found, kind = len(classes), "classes are known"
        elif what in lacking:
            found, kind = sum(what in item.media for item in items), f"{title} are {what}"
        elif what:
            found, kind = sum(item.listed == what for item in items), f"{title} are listed as {what}"
        else:
            found, kind = len(items), f"{title} are known"
        if found != count:
            lines.append(f"{found} {kind}; published are {count}")
    return "\n".join(lines)
