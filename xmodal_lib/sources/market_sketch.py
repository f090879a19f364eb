"""Market-Sketch-1K (Lin et al., ACM MM 2023): persons seen by cameras and drawn by six artists; image and sketch.

`photo/{train,query}/IIII_cCsS_*.jpg`, photos of Market-1501 (I the person, C the camera), and
`sketch/{A..F}/{train,query}/IIII*.jpg`, the sketches of a style. 996 persons were drawn; others are left out.
Documented: 996 persons, six styles, and, by the authors' scripts, these folders and that a name begins with the number
of the person. Our reading: query persons are not in train, and photos keep their names of Market-1501.
"""

from __future__ import annotations

import re
from pathlib import Path

from xmodal_lib.sources import visual
from xmodal_lib.sources.listing import Item
from xmodal_lib.sources.source import Source

STYLES = "ABCDEF"
LISTS = {"train": "train", "query": "test"}
PHOTO, SKETCH = re.compile(r"(\d{4})_c(\d).*"), re.compile(r"(\d{4}).*")
LICENCE = "sketches: CC BY-NC-SA 4.0; photos: Market-1501, for research"


def load(root: str | Path, split: str = "published", seed: int = 0) -> Source:
    """A row a photo, with its camera, and a row a sketch, with its style; the class is the person.

    split: "published" (persons of query are novel), "random" (half of them, drawn with `seed`), or the path of a list
    of novel persons. Differs: the development code of GTL takes all 996 as novel and base persons from MSMT17.

    Raises:
        FileNotFoundError: there are no sketches, or no photos of who was drawn.
        ValueError: an unknown split, a file that is not named so, or a person in both train and query.
    """
    root = Path(root)
    sketches = [item for style in STYLES for part in LISTS for item in _sketches(root, style, part)]
    photos = [item for part in LISTS for item in _photos(root, part)]
    sides = {part: {item.label for item in sketches if item.listed == part} for part in LISTS.values()}
    if both := sorted(sides["train"] & sides["test"]):
        raise ValueError(f"{root}: {len(both)} persons are in train and in query (first: {both[0]}); fetch it again")
    drawn = sides["train"] | sides["test"]
    kept = [item for item in photos if item.label in drawn]
    if not sketches or not kept:
        raise FileNotFoundError(f"{root} has no {'photos' if sketches else 'sketches'} in "
                                f"{'photo/train' if sketches else 'sketch/A/train'}; `xmodal data get market_sketch` "
                                "says where they are from")  # fmt: skip
    lines = [f"style {s} has no sketches" for s in STYLES if not any(i.more["style"] == s for i in sketches)]
    lines += visual.some(drawn - {item.label for item in kept}, "persons have no photo")
    return visual.build("market_sketch", "pictures", [*kept, *sketches], ("image", "sketch"), LICENCE,
                        {"classes": 996}, split=split, known={"published": sides["test"]}, share=0.5,
                        seed=seed, lines=lines,
                        said=visual.left_out(len(photos) - len(kept), "photos of who was not drawn"))  # fmt: skip


def _photos(root: Path, part: str) -> list[Item]:
    rows = []
    for path in visual.pictures(root / "photo" / part):
        if not (match := PHOTO.fullmatch(path.stem)):
            raise ValueError(f"photo/{part}/{path.name} is no name such as 0002_c1s1_000451_03.jpg")
        rows.append(visual.row(root, "image", path, match[1], listed=LISTS[part], camera=int(match[2])))
    return rows


def _sketches(root: Path, style: str, part: str) -> list[Item]:
    rows = []
    for path in visual.pictures(root / "sketch" / style / part):
        if not (match := SKETCH.fullmatch(path.stem)):
            raise ValueError(f"sketch/{style}/{part}/{path.name} is no name such as 0002_{style}.jpg")
        rows.append(visual.row(root, "sketch", path, match[1], listed=LISTS[part], style=style))
    return rows
