"""SYSU-MM01 (Wu et al. 2017, 2020): persons seen by four colour and two infrared cameras; image and infrared.

`cam1/` to `cam6/`, in each a folder a person (`0001/NNNN.jpg`); cameras 3 and 6 are infrared. `exp/train_id.txt`,
`val_id.txt` and `test_id.txt` list the 491 valid persons: numbers with commas between. All of it is documented.
Not checked: the 30,071 colour and 15,792 infrared files of the release, as some may be of persons in no list.
"""

from __future__ import annotations

import re
from pathlib import Path

from xmodal_lib.sources import lists, visual
from xmodal_lib.sources.listing import Item
from xmodal_lib.sources.source import Source

CAMERAS = {n: "infrared" if n in (3, 6) else "image" for n in range(1, 7)}
PARTS = ("train", "val", "test")
LICENCE = "on request from its authors, by a signed agreement: for research, not to be passed on"


def load(root: str | Path, split: str = "published", seed: int = 0) -> Source:
    """A row a picture, with its camera; the class is the person, and `listed` the list that names the person.

    split: "published" (persons of the test list are novel, those of train and val base), "random" (96 of them, drawn
    with `seed`), or the path of a list of novel persons.
    Differs: the development code of GTL takes persons of this set as novel only.

    Raises:
        FileNotFoundError: a list, or all cameras, are not there.
        ValueError: an unknown split, a list that is not of its form, or a person in two of them.
    """
    root = Path(root)
    listed: dict[str, str] = {}
    for part in PARTS:
        for person in persons(root / "exp" / f"{part}_id.txt"):
            if listed.setdefault(person, part) != part:
                raise ValueError(f"person {person} is in {listed[person]}_id.txt and in {part}_id.txt; fetch them anew")
    items: list[Item] = []
    lines: list[str] = []
    others: set[str] = set()
    for camera, modality in CAMERAS.items():
        folders = sorted(f for f in root.glob(f"cam{camera}/*") if f.is_dir())
        if not folders:
            lines.append(f"cam{camera} ({modality}) is missing or empty")
        others |= {f.name for f in folders} - set(listed)
        items += [
            visual.row(root, modality, path, folder.name, listed=listed[folder.name], camera=camera)
            for folder in folders if folder.name in listed for path in visual.pictures(folder)
        ]  # fmt: skip
    lines += visual.some(set(listed) - {item.label for item in items}, "listed persons have no picture")
    test = [person for person, part in listed.items() if part == "test"]
    return visual.build("sysu_mm01", "pictures", items, ("image", "infrared"), LICENCE, {"classes": 491}, split=split,
                        known={"published": test}, share=96 / 491, seed=seed, lines=lines,
                        said=visual.left_out(len(others), "persons of no list"))  # fmt: skip


def persons(path: Path) -> list[str]:
    """The persons of a list, as their folders are named: "1,2,4" -> ["0001", "0002", "0004"]."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; exp/ is part of the archive of SYSU-MM01")
    text = lists.text_of(path)
    if not re.fullmatch(r"\s*\d{1,4}(\s*[,\s]\s*\d{1,4})*[\s,]*", text):
        raise ValueError(f"{path.name}: {text[:40]!r} is no list of numbers with commas between")
    return [f"{int(number):04d}" for number in re.findall(r"\d+", text)]
