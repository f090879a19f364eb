"""TU-Berlin (Eitz et al. 2012) with the extended photos (Zhang et al. 2016): 250 classes; image and sketch.

`png/CLASS/N.png`, 80 sketches a class, and `ImageResized/CLASS/*`, 204,489 photos. Copies made for zero-shot retrieval
name these `png_ready/` and `ImageResized_ready/`, or `sketches/` and `images/`, and may write a class with underscores.
Documented: the folders and the numbers. Our reading: the extended photos have a folder for each of the 250 classes.
"""

from __future__ import annotations

from pathlib import Path

from xmodal_lib.sources import lists, visual
from xmodal_lib.sources.source import Source

WHERE = {
    "image": ("ImageResized", "ImageResized_ready", "images"),
    "sketch": ("png", "png_ready", "sketches"),
}
LICENCE = "sketches: CC BY 4.0; photos: of their authors"


def load(root: str | Path, split: str = "released", seed: int = 0) -> Source:
    """A row a photo and a row a sketch; classes are the 250.

    split: "released" (the 125 classes of `tuberlin_base.txt`, beside this file, are base, the rest novel), "random"
    (125 novel ones drawn with `seed`), or the path of a list of novel classes.
    Source: the released list is that of development code whose authors are, by all signs, those of GTL (arXiv
    2410.10663); that the paper has the same one is inferred.

    Raises:
        FileNotFoundError: there are no photos, or no sketches.
        ValueError: an unknown split.
    """
    items, lines = visual.class_folders(Path(root), WHERE, "tuberlin")
    novel = {visual.class_split.spelling(item.label) for item in items} - base()
    return visual.build("tuberlin", "pictures", items, tuple(WHERE), LICENCE,
                        {"classes": 250, "image": 204_489, "sketch": 20_000}, split=split, known={"released": novel},
                        share=0.5, seed=seed, lines=lines)  # fmt: skip


def base() -> set[str]:
    """The base classes of the released split, as `class_split.spelling` writes them."""
    return set(lists.parsed(Path(__file__).with_name("tuberlin_base.txt"), visual.class_split.spelling))
