"""Sketchy (Sangkloy et al. 2016) with the extended photos (Liu et al. 2017): 125 classes; image and sketch.

`EXTEND_image_sketchy/CLASS/*.jpg` (or `extended_photo/`), 73,002 photos, and of the Sketchy archive
`256x256/sketch/tx_000000000000/CLASS/N-K.png` (or without `256x256/`), the K-th sketch of photo N. Without the extended
photos those of the archive, `256x256/photo/tx_000000000000/`, are read, and a check says how many are missing.
Documented: the folders, the 21 zero-shot classes, the number of photos. Our reading: the extended photos hold the
12,500 that were drawn, under their own names. Not checked: the number of sketches, which publications give as 75,471,
75,479 and 75,481.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from xmodal_lib.sources import visual
from xmodal_lib.sources.source import Source

ZERO_SHOT = (
    "bat", "cabin", "cow", "dolphin", "door", "giraffe", "helicopter", "mouse", "pear", "raccoon", "rhinoceros", "saw",
    "scissors", "seagull", "skyscraper", "songbird", "sword", "tree", "wheelchair", "windmill", "window",
)  # fmt: skip
LAST_BASE = "piano"  # the last of the 64, by the alphabet
WHERE = {
    "image": ("EXTEND_image_sketchy", "extended_photo", "256x256/EXTEND_image_sketchy",
              "256x256/photo/tx_000000000000", "photo/tx_000000000000"),
    "sketch": ("256x256/sketch/tx_000000000000", "sketch/tx_000000000000"),
}  # fmt: skip
LICENCE = "terms of its authors (sketchy.eye.gatech.edu); photos are of ImageNet"


def load(root: str | Path, split: str = "published", seed: int = 0) -> Source:
    """A row a photo and a row a sketch; `group` is the photo, also that a sketch was drawn from.

    split: "published" (61 novel: the 21 zero-shot classes and the 40 others that come after "piano"), "zero-shot" (the
    21 alone), "random" (61 drawn with `seed`), or the path of a list of novel classes.
    Source: the 64 / 61 split is that of development code whose authors are, by all signs, those of GTL (arXiv
    2410.10663); that the paper has the same one is inferred.

    Raises:
        FileNotFoundError: there are no photos, or no sketches.
        ValueError: an unknown split.
    """
    root = Path(root)
    items, lines = visual.class_folders(root, WHERE, "sketchy")
    items = [replace(item, group=photo(item.label, item.id)) for item in items]
    return visual.build("sketchy", "pictures", items, tuple(WHERE), LICENCE, {"classes": 125, "image": 73_002},
                        split=split, known={"published": novel({item.label for item in items}), "zero-shot": ZERO_SHOT},
                        share=61 / 125, seed=seed, by="photo", lines=lines)  # fmt: skip


def novel(classes: set[str]) -> set[str]:
    """The classes that the 61 / 64 split keeps for later."""
    return {name for name in classes if name in ZERO_SHOT or name.casefold() > LAST_BASE}


def photo(label: str, id: str) -> str:
    """Which photo a file is, or was drawn from.

    >>> photo("ant", "sketch 256x256/sketch/tx_000000000000/ant/n02219486_113-4.png")
    'ant/n02219486_113'
    """
    return f"{label}/{re.sub(r'-[0-9]+$', '', Path(id).stem)}"
