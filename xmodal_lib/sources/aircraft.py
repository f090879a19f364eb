"""FGVC-Aircraft (Maji et al. 2013): lists of its own, read as split lists.

`variants.txt`, whose line number is the label, and `images_variant_{train,val,test}.txt`, a line a photo: its number
of seven digits and the variant's name, which may hold blanks and a slash. All of it is documented.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from xmodal_lib.sources import lists, split_json
from xmodal_lib.sources.image_sets import ImageSet


def read(root: Path, known: ImageSet) -> split_json.Lists:
    """The lists of a folder `data/` of the archive.

    Raises:
        FileNotFoundError: a list is missing.
        ValueError: a line is not of its form, a variant is unknown or has no photo, or a photo is in two lists.
    """
    names = list(lists.parsed(_there(root / "variants.txt", known), str))
    place = {name: label for label, name in enumerate(names)}
    if len(place) < len(names):
        raise ValueError("variants.txt names a variant twice; fetch it again")
    rows = {}
    for part in split_json.PARTS:
        path = _there(root / f"images_variant_{part}.txt", known)
        rows[part] = list(lists.parsed(path, partial(_photo, place)))
    return split_json.checked(rows)


def _photo(place: dict[str, int], line: str) -> tuple[str, int, str]:
    number, _, name = line.partition(" ")
    if not number.isdigit() or name not in place:
        raise ValueError(f"{line[:60]!r} is no number and variant of variants.txt")
    return f"{number}.jpg", place[name], name


def _there(path: Path, known: ImageSet) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; `xmodal data get {known.name}` says where it is from")
    return path
