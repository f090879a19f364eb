"""Dividing the emoji: base and novel concept families, and items of several modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xmodal_lib.sources.emoji_concepts import concepts
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables

BASE = 0.4  # share of base families: so 15 categories keep the ten novel families that 16 different shots need


@dataclass(frozen=True, eq=False)
class BaseNovel:
    """A split of the concept families in two; near-duplicates are on one side."""

    base: frozenset[str]  # families to learn encoders and starting points from
    novel: frozenset[str]  # families kept for the experiments
    novel_count: Mapping[str, int]  # novel families a category of the source

    def items(self, source: Source, part: Literal["base", "novel"], *modalities: str) -> Tensor:
        """Ids of the items of one part, sorted: (n,) int64. Texts about a whole class are in neither."""
        families = self.base if part == "base" else self.novel
        found = [source.where(m, family=list(families)) for m in modalities or source.tables.modalities]
        return torch.cat(found).unique()

    def short(self, shots: int) -> dict[str, int]:
        """The categories with fewer novel families than `shots`, and how many they have."""
        return {category: n for category, n in self.novel_count.items() if n < shots}


def base_novel(source: Source, seed: int, *, base: float = BASE) -> BaseNovel:
    """Split the families of each category, drawn by `seed`: a share `base` of them, and the rest.

    All concepts are split, whichever the source holds: so one seed gives one split at both levels, and an encoder
    learnt from base concepts has seen no novel one. A family in several categories counts in its first.

    Raises:
        ValueError: `base` is not between 0 and 1.
    """
    if not 0 < base < 1:
        raise ValueError(f"base is {base}; a share between 0 and 1 is needed")
    of_category = concepts().drop_duplicates("family").groupby("category", sort=False)["family"].agg(list)
    picked: set[str] = set()
    for number, families in enumerate(of_category):
        order = np.random.default_rng([seed, number]).permutation(len(families))
        picked.update(families[i] for i in order[: max(1, round(base * len(families)))])
    novel = frozenset(family for families in of_category for family in families) - picked
    held = pd.concat([source.frame(m) for m in source.tables.modalities]).drop_duplicates(["category", "family"])
    here = held[held["family"].isin(novel)].groupby("category").size()
    counts = {category: int(here.get(category, 0)) for category in held["category"].unique()}
    return BaseNovel(frozenset(picked), novel, counts)


def pair_rows(
    source: Source,
    seed: int,
    *,
    modalities: Sequence[str] = ("image", "speech"),
    styles: Sequence[str] | None = None,
    held_out: bool | None = None,
) -> Tables:
    """Items of several modalities: each drawing of a concept with a spoken name (and, on wish, a tag) of the concept.

    Drawn by `seed`; a spoken row is used at most once, so no recording is in two items, nor is a tag. Drawings beyond
    the number of voices are left out, an item beyond the number of tags has none. An item has the id of its drawing.
    `styles` restricts the drawings, `held_out` the voices and tags: for training and test, give different ones.

    Raises:
        ValueError: a modality is not in the source, or "image" is not asked for.
    """
    if "image" not in modalities:
        raise ValueError(f"modalities are {', '.join(modalities)}; an item is a drawing, so image must be among them")
    rng = np.random.default_rng(seed)
    frames = {m: _candidates(source, m, styles, held_out) for m in modalities}
    items = frames["image"].sample(frac=1, random_state=rng)
    items = items.assign(turn=items.groupby("concept").cumcount())
    rows = {"image": items}
    for modality in modalities:
        if modality != "image":
            drawn = frames[modality].sample(frac=1, random_state=rng)
            drawn = drawn.assign(turn=drawn.groupby("concept").cumcount())
            rows[modality] = drawn.merge(items[["concept", "turn", "pair"]], on=["concept", "turn"])
    if "speech" in rows:
        rows = {m: frame[frame["pair"].isin(rows["speech"]["pair"])] for m, frame in rows.items()}
    tables = {m: _rows_of(source, m, frame.sort_values("pair")) for m, frame in rows.items()}
    return Tables(tables, source.tables.classes)


def _candidates(source: Source, modality: str, styles: Sequence[str] | None, held_out: bool | None) -> pd.DataFrame:
    """Rows to draw items from: concept, row (number in the source's table), pair (of the drawings only)."""
    table = source.tables[modality]
    frame = source.frame(modality).assign(row=np.arange(len(table)))
    if modality == "image":
        frame = frame.assign(pair=table.pair.numpy())
        return frame if styles is None else frame[frame["style"].isin(styles)]
    if modality == "text":
        frame = frame[frame["kind"] == "tag"]
    return (frame if held_out is None else frame[frame["held_out"] == held_out])[["concept", "row"]]


def _rows_of(source: Source, modality: str, frame: pd.DataFrame) -> Table:
    table = source.tables[modality][torch.tensor(frame["row"].to_numpy())]
    return Table(table.x, table.y, torch.tensor(frame["pair"].to_numpy()))
