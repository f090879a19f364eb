"""What the data sets of two visual modalities share: a row for each file, base and novel classes, broken files.

A photo and a sketch of a class, or of a person, are no pair: each is an item of its own. Colour and depth of one shot
are a pair: one item.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from xmodal_lib.sources import class_split, listing, media
from xmodal_lib.sources.listing import Item
from xmodal_lib.sources.manifest import MANY
from xmodal_lib.sources.source import Source

NAMED = 5  # broken files of a modality that a check names


def pictures(folder: Path) -> list[Path]:
    """The files of a folder that are named as pictures, 2.jpg before 10.jpg; none if there is no folder."""
    found = [f for f in folder.iterdir() if is_picture(f)] if folder.is_dir() else []
    return sorted(found, key=media.natural)


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in media.PICTURE and not path.name.startswith(".")


def row(root: Path, modality: str, path: Path, label: str, group: str = "", listed: str = "", **more: Any) -> Item:
    """A file as an item of its own; `more` are further columns of `info`."""
    id = f"{modality} {path.relative_to(root).as_posix()}"
    return Item(id, label, {modality: listing.picture(path)}, group, listed, more=more)


def class_folders(root: Path, where: Mapping[str, Sequence[str]], name: str) -> tuple[list[Item], list[str]]:
    """Rows of folders that hold a folder for each class, and a line for each modality that lacks classes.

    `where` names, for each modality, the folders that may hold it; the first that is there is read. A class takes its
    name from the first modality that has it, in whichever way another one spells it.

    Raises:
        FileNotFoundError: a modality has no folder.
    """
    items: list[Item] = []
    names: dict[str, str] = {}
    own: dict[str, set[str]] = {}
    for modality, folders in where.items():
        folder = next((root / f for f in folders if (root / f).is_dir()), None)
        if folder is None:
            raise FileNotFoundError(f"{root} has none of the folders {', '.join(folders)}; "
                                    f"`xmodal data get {name}` says where they are from")  # fmt: skip
        for below in sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith(".")):
            label = names.setdefault(class_split.spelling(below.name), below.name)
            found = [row(root, modality, path, label) for path in pictures(below)]
            items += found
            if found:
                own.setdefault(modality, set()).add(label)
    known = {item.label for item in items}
    return items, [line for m in where for line in some(known - own.get(m, set()), f"classes have no {m}")]


def build(name: str, title: str, items: Sequence[Item], modalities: Sequence[str], licence: str,
          expected: Mapping[str, int], *, split: str, known: Mapping[str, Collection[str]], share: float, seed: int,
          by: str = "group", apart: bool = True, said: str = "", lines: Sequence[str] = ()) -> Source:  # fmt: skip
    """The source of these items, each of base or novel (see `class_split.base_novel`, `listing.build`).

    The report's first line ends with the rule of the split and with `said`, and `lines` follow what is missing.

    Raises:
        FileNotFoundError: there are no items.
        ValueError: see `class_split.base_novel`.
    """
    if not items:
        raise FileNotFoundError(f"{name}: no {title} are found; `xmodal data get {name}` says where to put them")
    placed, rule = class_split.base_novel(items, split, known, share, seed)
    classes = sorted({item.label for item in items}, key=lambda label: media.natural(Path(label)))
    source = listing.build(name, title, placed, classes, modalities, licence, expected, by, class_split.PARTS, apart)
    first, *more = source.report.split("\n")
    return replace(source, report="\n".join(["; ".join(filter(None, [first, rule, said])), *more, *lines]))


def some(found: Collection[str], said: str) -> list[str]:
    """A line of the report that counts them and names the first, or none.

    >>> some({"ant", "bee"}, "classes have no sketch")
    ['2 classes have no sketch (first: ant)']
    """
    return [f"{len(found)} {said} (first: {min(found)})"] if found else []


def left_out(count: int, what: str) -> str:
    """A clause of the report's first line, or nothing."""
    return f"left out: {count} {what}" if count else ""


def unreadable(source: Source) -> list[str]:
    """Open every row, which may take minutes: a line a modality that counts what cannot be read, and names some."""
    lines = []
    for modality, door in source.open.items():
        rows, broken = len(source.tables[modality]), []
        for i in tqdm(source.tables[modality].x.tolist(), desc=f"opening {modality}", unit="row", disable=rows < MANY):
            try:
                door(i)
            except ValueError as error:
                broken.append(str(error))
        if broken:
            more = f"; and {len(broken) - NAMED} more" * (len(broken) > NAMED)
            lines.append(f"{len(broken)} of {rows} {modality} rows are broken: {'; '.join(broken[:NAMED])}{more}")
    return lines
