"""Your own pictures and words as a few-shot task: pools by the splits that you name, or dealt; words, or class names.

    source = with_words(catalogue.load("my.csv"))             # pictures, and at least one text a class
    task = own_task(source, tables, seed=1)                   # tables: features of its rows; an episode at k shots

A line with a text and no picture is a word of its class. A class without one is called "a photo of a NAME.". Texts
beside a picture are captions of that picture, and are left out: they would say more of it than its label does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd
import torch

from xmodal_lib.episodes import Episode, draw, split
from xmodal_lib.sources import image_sets
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables
from xmodal_lib.tasks import POOLS, CategoryTask

CALLED = {  # what a split may be called -> the pool
    **dict.fromkeys(("train", "training", "support", "base"), "support"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "query", "novel"), "query"),
}


def with_words(source: Source) -> Source:
    """The pictures of a source of `manifest` and its words, with a sentence for each class that has none.

    Raises:
        ValueError: there is no picture.
    """
    if "image" not in source.tables.modalities:
        raise ValueError(f"{source.name} has no picture; this task classifies pictures: fill the column image")
    images, classes = source.tables.only("image"), source.tables.classes
    said: list[tuple[str, int]] = []  # text, class
    if "text" in source.tables.modalities:
        texts = source.tables["text"]
        alone = ~torch.isin(texts.pair, images["image"].pair)
        said = [(source.open["text"](int(i)), int(y)) for i, y in zip(texts.x[alone], texts.y[alone], strict=True)]
    bare = sorted(set(range(len(classes))) - {y for _, y in said})
    said += [(image_sets.sentence(image_sets.PHOTO[0], classes[c]), c) for c in bare]
    first = int(images["image"].pair.max()) + 1
    y = torch.tensor([c for _, c in said])
    rows = images | Tables({"text": Table(torch.arange(len(said)), y, first + torch.arange(len(said)))}, classes)
    frame = pd.DataFrame({"string": [text for text, _ in said], "label": [classes[c] for _, c in said]})
    sha = hashlib.sha256(repr((source.digest, said)).encode()).hexdigest()
    words = f"{len(said) - len(bare)} words" + (f", {len(bare)} classes called by their names" if bare else "")
    opened = {"image": source.open["image"], "text": frame["string"].tolist().__getitem__}
    return replace(
        source, tables=rows, info={"image": source.info["image"], "text": frame}, open=opened, digest=sha,
        report=f"{source.name}: {len(images['image'])} pictures of {len(classes)} classes; {words}",
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class OwnTask(CategoryTask):
    """Classify your own pictures. Each item is a concept of its own."""

    def episode(self, shot: int) -> Episode:
        """`shot` items a class; min(shot, 4) for validation, or as many as each class has there; all queries."""
        support, val, query = self.pools.values()
        fewest = int(val.labels().bincount(minlength=len(val.classes)).min())
        return draw(support, query, val if fewest else None, shot=shot, seed=self.seed, always=self.prompts,
                    val_shot=min(shot, 4, max(fewest, 1)))  # fmt: skip


def own_task(source: Source, tables: Tables, *, seed: int) -> OwnTask:
    """The task on `tables`, features of the rows of a source of `with_words`.

    The pools are the splits of the source (see CALLED). A validation pool that is not named takes two sevenths of the
    items to learn from; without any name all items are dealt, in the shares of POOLS. What is dealt varies with `seed`.

    Raises:
        ValueError: a split is not named or is none of CALLED, while others are; nothing is to be asked or learnt from.
    """
    images = tables.only("image")
    named = {name: str(name).lower() for name in sorted(set(source.column("image", "split")))}
    if set(named) == {""}:
        parts = split(images, images.items().tolist(), list(POOLS.values()), seed=seed)
        return _task(dict(zip(POOLS, parts, strict=True)), tables, seed)
    if strange := [name for name, low in named.items() if low not in CALLED]:
        raise ValueError(f"{source.name} has the split {strange[0]!r}; write train, val or test on every line of a "
                         "picture, or on none")  # fmt: skip
    pools = {pool: images.take(source.where("image", split=[n for n, low in named.items() if CALLED[low] == pool]))
             for pool in POOLS}  # fmt: skip
    if empty := [pool for pool in ("support", "query") if not len(pools[pool]["image"])]:
        word = {"support": "train", "query": "test"}[empty[0]]
        raise ValueError(f"{source.name} has no picture of the split {word}; write it, or leave the column empty")
    if not len(pools["validation"]["image"]):
        items = pools["support"].items().tolist()
        pools["support"], pools["validation"] = split(pools["support"], items, (5 / 7, 2 / 7), seed=seed)
    return _task(pools, tables, seed)


def _task(pools: Mapping[str, Tables], tables: Tables, seed: int) -> OwnTask:
    itself = {i: str(i) for pool in pools.values() for i in pool.items().tolist()}
    return OwnTask(dict(pools), tables.only("text"), itself, {}, seed)
