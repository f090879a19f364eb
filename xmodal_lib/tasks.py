"""Tasks that several notebooks share: which rows of the embedded data are learnt from, and which are asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from xmodal_lib.episodes import Episode, draw, split
from xmodal_lib.sources.emoji import BaseNovel
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Tables

POOLS = {"support": 0.5, "validation": 0.2, "query": 0.3}  # shares of the novel families of each class


@dataclass(frozen=True, eq=False)
class CategoryTask:
    """Classify drawings of novel concepts by category: three pools that share no concept family, and the prompts."""

    pools: dict[str, Tables]  # of POOLS: image rows
    prompts: Tables  # text rows, one sentence a class
    concept: dict[int, str]  # item id -> concept
    left_out: dict[str, int]  # class -> its novel families, too few
    seed: int

    @property
    def classes(self) -> tuple[str, ...]:
        return self.prompts.classes

    def items(self) -> Tensor:
        """Ids of the items of all pools."""
        return torch.cat([pool.items() for pool in self.pools.values()])

    def episode(self, shot: int) -> Episode:
        """`shot` drawings a class, of different concepts while there are; min(shot, 4) for validation; all queries."""
        support, val, query = self.pools.values()
        return draw(support, query, val, shot=shot, seed=self.seed, spread=dict(self.concept), always=self.prompts)

    def concepts(self, shots: Sequence[int]) -> pd.DataFrame:
        """Distinct concepts among the shots of each class: one line a class, one column a number of shots."""
        columns = {}
        for shot in shots:
            table = self.episode(shot).support["image"]
            columns[shot] = [
                len({self.concept[i] for i in table.pair[table.y == c].tolist()}) for c in range(len(self.classes))
            ]
        return pd.DataFrame(columns, index=pd.Index(self.classes, name="class")).rename_axis(columns="shots")


def categories(
    source: Source, halves: BaseNovel, tables: Tables, *, seed: int, min_families: int = 10, ink: str = "colour"
) -> CategoryTask:
    """The category task on `tables`: features (or trunk outputs) of `source`'s image rows, and features of its texts.

    Takes the drawings of novel families in this `ink`. Categories with fewer than `min_families` novel families are
    left out, at every number of shots, so that the points of a curve are about the same classes.

    Raises:
        ValueError: no category has so many novel families.
    """
    left_out = halves.short(min_families)
    classes = [name for name in tables.classes if name not in left_out]
    if not classes:
        raise ValueError(f"no category has {min_families} novel families; the most is {max(left_out.values())}")
    novel = source.where("image", ink=ink, family=list(halves.novel))
    images = tables.only("image").take(novel).of_classes(classes)
    family = source.by_item("image", "family")
    parts = split(images, [family[i] for i in images.items().tolist()], list(POOLS.values()), seed=seed)
    prompts = tables.only("text").take(source.where("text", kind="prompt")).of_classes(classes)
    return CategoryTask(
        dict(zip(POOLS, parts, strict=True)), prompts, source.by_item("image", "concept"), left_out, seed
    )
