"""Rows of a source as a collection: points with what is known of them, their spaces and maps, and how to open them.

found = collect(source, rows, {"before": before, "after": after}, {"t-SNE": xy}, columns=["name"], item="concept")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Tables
from xmodal_lib.views.collection import NEEDED, Collection

RATE = 16_000  # of the sounds of a Source
Placed = np.ndarray | Tensor | Mapping[str, np.ndarray | Tensor]  # for all points in line order, or {modality: rows}


def collect(
    source: Source, tables: Tables, spaces: Mapping[str, Placed], maps: Mapping[str, Placed], *,
    about: Mapping[str, dict[str, Any]] | None = None, columns: Sequence[str] = (), item: str = "",
    more: Mapping[str, Sequence[Any]] | None = None,
) -> Collection:  # fmt: skip
    """The rows of `tables`, modality after modality, as points that a source can open.

    `tables` hold row numbers of the source, or features of rows whose pair ids are the source's own. A space or map
    given as {modality: (n_m, d)} is NaN for the modalities it lacks. `columns` of the source's frames are taken along
    where a modality has them; `item` names the one whose equal values are one item ("" = the pair ids); `more` gives
    columns of your own, in line order.

    Raises:
        ValueError: features whose pair ids do not name one row of the source each.
    """
    parts = []
    for m, table in tables.rows.items():
        numbers = table.x if table.x.dtype == torch.int64 and table.x.ndim == 1 else _numbers(source, m, table.pair)
        frame = source.info[m].iloc[numbers.tolist()]
        names = [*tables.classes, ""]
        part = {"row": [f"{m}:{i}" for i in numbers.tolist()], "item": table.pair.tolist(), "modality": m,
                "class": [names[y] for y in table.y.tolist()]}  # fmt: skip
        taken = {c: frame[c].to_numpy() for c in dict.fromkeys([*columns, *([item] if item else [])]) if c in frame}
        parts.append(pd.DataFrame(part | taken, index=range(len(table))))
    points = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=NEEDED)
    if item:
        points["item"] = pd.factorize(points[item])[0]
        points = points if item in columns else points.drop(columns=item)
    points = points.assign(**{k: list(v) for k, v in (more or {}).items()})
    sizes = {m: len(t) for m, t in tables.rows.items()}
    own_spaces, own_maps = ({k: _placed(v, sizes) for k, v in given.items()} for given in (spaces, maps))
    return Collection(points, own_spaces, own_maps, about or {}, {m: _opener(source.open[m]) for m in sizes})


def _numbers(source: Source, modality: str, pair: Tensor) -> Tensor:
    """Row numbers of the rows with these pair ids."""
    own = source.tables[modality]
    order = torch.argsort(own.pair)
    place = torch.searchsorted(own.pair[order], pair).clamp(max=max(len(order) - 1, 0))
    if not len(order) or (own.pair[order][place] != pair).any() or len(own.pair.unique()) < len(own):
        raise ValueError(f"{modality}: the pair ids do not name one row of {source.name!r} each; give row numbers as x")
    return own.x[order][place]


def _placed(given: Placed, sizes: Mapping[str, int]) -> np.ndarray:
    if not isinstance(given, Mapping):
        return np.asarray(given, np.float32)
    width = next(iter(given.values())).shape[1]
    return np.concatenate([np.asarray(given[m], np.float32) if m in given else np.full((n, width), np.nan, np.float32)
                           for m, n in sizes.items()])  # fmt: skip


def _opener(open_row: Callable[[int], Any]) -> Callable[[int], Any]:
    """The opener of a source, with sounds as (samples, rate) and the middle one of several pictures."""

    def opened(number: int) -> Any:
        x = open_row(number)
        if isinstance(x, list | tuple) and x and isinstance(x[0], Image.Image):
            return x[len(x) // 2]
        if isinstance(x, Tensor | np.ndarray):
            return (np.asarray(x, np.float32), RATE) if x.ndim == 1 else None
        return x if isinstance(x, Image.Image | str) else None

    return opened
