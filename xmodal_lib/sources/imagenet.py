"""ImageNet (Deng et al. 2009) by its split file, and its shifts V2, Sketch, A and R by their folders; all as lists.

`classnames.txt` has a line a class: its WordNet id and its name, sorted by id, so that the line number is the label.
Folders of V2 are labels, those of the others ids. A and R have 200 of the 1,000 classes: `label_map`.
"""

from __future__ import annotations

import re
from pathlib import Path

from xmodal_lib.sources import lists, split_json, visual
from xmodal_lib.sources.image_sets import ImageSet
from xmodal_lib.sources.source import Source
from xmodal_lib.sources.split_json import Lists
from xmodal_lib.tables import Table, Tables, places

SYNSET = re.compile(r"n\d{8}")


def read(root: Path, known: ImageSet) -> Lists:
    """The lists of ImageNet or of one of its shifts.

    Raises:
        FileNotFoundError: the split file or the class names are missing.
        ValueError: they are damaged, or disagree with each other or with the folders.
    """
    return _split(root, known) if known.split else _folders(root, known)


def class_names(path: Path) -> dict[str, str]:
    """{WordNet id: name} of `classnames.txt`; two ids may have one name.

    Raises:
        ValueError: a line is not of its form, or ids are not sorted.
    """
    names: dict[str, str] = {}
    for synset, name in lists.parsed(path, _named):
        if names and synset <= next(reversed(names)):
            raise ValueError(f"{path.name}: {synset} comes after {next(reversed(names))}; ids must be sorted, as the "
                             "line number is the label")  # fmt: skip
        names[synset] = name
    if not names:
        raise ValueError(f"{path.name} is empty; fetch it again")
    return names


def label_map(source: Source, shift: Source) -> list[int]:
    """Place of each class of a shift among those of the source that was learnt from: 200 of the 1,000 for A and R.

    So `logits[:, label_map(source, shift)]` is the classifier with the rows of these classes alone, as published.

    Raises:
        ValueError: the source lacks a class.
    """
    try:
        return places(shift.tables.classes, source.tables.classes)
    except ValueError as error:
        raise ValueError(f"{shift.name} beside {source.name}: {error}; use one classnames.txt for both") from None


def query(source: Source, shift: Source, tables: Tables | None = None) -> Tables:
    """The pictures of a shift, as a domain to ask (see `evaluate`) beside episodes of the source.

    `tables` are features of the shift's rows; by default its row numbers. Items have ids that the source has not, and
    classes stay those of the shift, among which it is answered.

    Raises:
        ValueError: the source lacks a class.
    """
    label_map(source, shift)
    table = (shift.tables if tables is None else tables)["image"]
    first = sum(len(frame) for frame in source.info.values())
    return Tables({"image": Table(table.x, table.y, table.pair + first)}, shift.tables.classes)


def _split(root: Path, known: ImageSet) -> Lists:
    """The lists of the split file, which agree with `classnames.txt` where that is there."""
    path = root / known.split
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; `xmodal data get {known.name}` says where it is from")
    found = split_json.read(path)
    if (root / "classnames.txt").is_file():
        names = class_names(root / "classnames.txt")
        if list(names.values()) != list(found.names):
            pairs = enumerate(zip(names.values(), found.names, strict=False))
            n = next((n for n, (a, b) in pairs if a != b), min(len(names), len(found.names)))
            raise ValueError(f"classnames.txt with {len(names)} classes and {known.split} with {len(found.names)} "
                             f"differ from label {n} on; fetch both anew")  # fmt: skip
        ids = list(names)
        for rows in found.rows.values():
            for file, label in rows:
                if ids[label] not in file.split("/"):
                    raise ValueError(f"{known.split}: {file!r} has label {label}, which is {ids[label]} in "
                                     "classnames.txt; fetch both anew")  # fmt: skip
    return found


def _folders(root: Path, known: ImageSet) -> Lists:
    """Every picture of every class folder, as a test list; classes are those that have a folder."""
    path = next((p for f in (root, root.parent / "imagenet") if (p := f / "classnames.txt").is_file()), None)
    if path is None:
        raise FileNotFoundError(f"there is no {root / 'classnames.txt'}; copy that of ImageNet there")
    names = class_names(path)
    numbers = {str(label) if known.name == "imagenetv2" else s: label for label, s in enumerate(names)}
    below = {f.name: f for f in (root / known.images).iterdir() if f.is_dir() and not f.name.startswith(".")}
    if unknown := sorted(set(below) - set(numbers)):
        raise ValueError(f"{len(unknown)} folders of {known.images} are no class of {path.name} "
                         f"({split_json.some(unknown)})")  # fmt: skip
    labels = {numbers[name]: folder for name, folder in below.items()}
    kept = sorted(labels)  # of ImageNet
    every, own = split_json.distinct(list(names.values())), list(names.values())
    rows = [(f"{labels[label].name}/{file.name}", n) for n, label in enumerate(kept)
            for file in visual.pictures(labels[label])]  # fmt: skip
    return Lists({"test": rows}, tuple(own[n] for n in kept), tuple(every[n] for n in kept))


def _named(line: str) -> tuple[str, str]:
    synset, _, name = line.partition(" ")
    if not SYNSET.fullmatch(synset) or not name.strip():
        raise ValueError(f"{line[:60]!r} is no WordNet id, such as n01440764, and name")
    return synset, name.strip()
