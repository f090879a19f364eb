"""Augmented views of pictures, every one a row of its own.

    support = with_views(episode.support, source, encoders["image"], views=10, kind="crop")

adds ten rows an item to the support's image rows; validation and query keep the centre crop. Lin et al. train on the
centre crop and one flipped view. A view is drawn from (seed, row, number), so it is the same in every run, and its
features are cached like any others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from PIL import Image, ImageOps

from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.features import extract
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables

View = Callable[[Image.Image, int, np.random.Generator], Image.Image]


def augmented(source: Source, views: int = 1, kind: str = "flip", *, size: int = 224, seed: int = 0,
              modality: str = "image") -> Source:  # fmt: skip
    """A source of the views alone: view v of row r is row r * views + v. Labels and item ids are those of the row.

    `kind` is one of KINDS; `size` is the side in pixels that crops are cut to, which is that of the encoder.

    Raises:
        ValueError: no such kind, no such modality, or fewer than one view.
    """
    if kind not in KINDS:
        raise ValueError(f"no views of kind {kind!r}; there are {', '.join(KINDS)}")
    if views < 1:
        raise ValueError(f"views={views}; at least 1 is needed")
    if modality not in source.tables.rows:
        raise ValueError(f"{source.name!r} has no {modality!r} rows to make views of")
    if kind == "flip" and views > 1:
        raise ValueError(f"views={views} of kind 'flip' would all be the same; take 1, or another kind")
    opened, view = source.open[modality], KINDS[kind]

    def open_view(i: int) -> Image.Image:
        row, number = divmod(i, views)
        return view(opened(row), size, np.random.default_rng([seed, row, number]))

    table, info = source.tables[modality], source.info[modality]
    rows = Tables({modality: _repeated(table, views)}, source.tables.classes)
    about = f"{source.digest_of(modality)} {kind} {views} {size} {seed}"
    return Source(f"{source.name}, views", rows, {modality: info.iloc[np.arange(len(info)).repeat(views)]},
                  {modality: open_view}, hashlib.sha256(about.encode()).hexdigest(), source.licence)  # fmt: skip


def with_views(support: Tables, source: Source, encoder: Encoder, views: int = 1, kind: str = "flip", *, seed: int = 0,
               modality: str = "image", progress: bool = True) -> Tables:  # fmt: skip
    """The rows of `support`, features by `encoder` of `source`'s items, and after them `views` more of each item.

    Raises:
        ValueError: as `augmented`; or an item of the support is none of the source.
    """
    size = encoder.sample.size[0] if isinstance(encoder.sample, Image.Image) else 224
    more = augmented(source, views, kind, size=size, seed=seed, modality=modality)
    mine, theirs = support[modality], source.tables[modality]
    row_of = dict(zip(theirs.pair.tolist(), theirs.x.tolist(), strict=True))
    if strange := [item for item in mine.pair.tolist() if item not in row_of]:
        raise ValueError(f"item {strange[0]} of the support has no {modality} row in {source.name!r}")
    rows = _repeated(replace(mine, x=torch.tensor([row_of[item] for item in mine.pair.tolist()])), views)
    wanted = Tables({modality: rows}, support.classes)
    return support | extract(more, {modality: encoder}, tables=wanted, progress=progress)


def _repeated(table: Table, views: int) -> Table:
    """Each row `views` times, its row number that of the view."""
    number = torch.arange(views).repeat(len(table))
    x, y, pair = (part.repeat_interleave(views) for part in (table.x, table.y, table.pair))
    return Table(x * views + number, y, pair)


def _flip(picture: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(picture)


def _crop(picture: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """The shorter side to `size`, a square of it anywhere, flipped half of the time."""
    w, h = picture.size
    w, h = round(w * size / min(w, h)), round(h * size / min(w, h))
    left, top = int(rng.integers(w - size + 1)), int(rng.integers(h - size + 1))
    whole = picture.resize((w, h), Image.Resampling.BICUBIC)
    return _perhaps_flipped(whole.crop((left, top, left + size, top + size)), rng)


def _resized_crop(picture: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """A part of 8 to 100 % of the area, sides 3:4 to 4:3, brought to a square, flipped half of the time."""
    w, h = picture.size
    for _ in range(10):
        area, ratio = w * h * rng.uniform(0.08, 1.0), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        width, height = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < width <= w and 0 < height <= h:
            break
    else:
        width = height = min(w, h)
    left, top = int(rng.integers(w - width + 1)), int(rng.integers(h - height + 1))
    box = (left, top, left + width, top + height)
    return _perhaps_flipped(picture.resize((size, size), Image.Resampling.BICUBIC, box=box), rng)


def _perhaps_flipped(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(picture) if rng.random() < 0.5 else picture


KINDS: dict[str, View] = {"flip": _flip, "crop": _crop, "resized crop": _resized_crop}
