"""SKSF-A (Yun et al., Eurographics 2024): 134 faces, each a photo and seven sketches; image and sketch.

`Photo/N.png` and `style1/N.png` to `style7/N.png`, in the folder given or in the one folder that it holds; other
folders and the table of attributes are not read. Documented: 134 persons, seven styles, 938 pairs. Our reading, from
scripts that use the archive: the names of the folders, and that a file is named by the person's number.
"""

from __future__ import annotations

from pathlib import Path

from xmodal_lib.sources import visual
from xmodal_lib.sources.source import Source

PHOTOS = ("Photo", "photo")
STYLES = tuple(f"style{n}" for n in range(1, 8))
LICENCE = "none is stated; ask the authors"


def load(root: str | Path, split: str = "random", seed: int = 0) -> Source:
    """A row a photo and a row a sketch, with its style; the class is the person.

    split: "random" (half of the persons are novel, drawn with `seed`: no split is published) or the path of a list of
    novel persons. Differs: the development code of GTL takes all 134 as novel and base persons from CelebA-HQ.

    Raises:
        FileNotFoundError: there are no photos.
        ValueError: an unknown split.
    """
    root = Path(root)
    folders = [f / name for f in (root, *sorted(root.glob("*/"))) for name in PHOTOS]
    photos = next((f for f in folders if f.is_dir()), None)
    if photos is None:
        raise FileNotFoundError(f"{root} has no folder Photo; `xmodal data get sksf_a` says where it is from")
    items = [visual.row(root, "image", path, path.stem) for path in visual.pictures(photos)]
    persons = {item.label for item in items}
    lines = []
    for style in STYLES:
        found = visual.pictures(photos.parent / style)
        items += [visual.row(root, "sketch", path, path.stem, style=style) for path in found]
        lines += visual.some(persons - {path.stem for path in found}, f"of {len(persons)} persons lack {style}")
    lines += visual.some({item.label for item in items} - persons, "persons have no photo")
    return visual.build("sksf_a", "pictures", items, ("image", "sketch"), LICENCE,
                        {"classes": 134, "image": 134, "sketch": 938}, split=split, known={}, share=0.5,
                        seed=seed, lines=lines)  # fmt: skip
