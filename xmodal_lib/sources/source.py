"""What every source hands over: which rows there are, what is known of each, and how to open one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch

from xmodal_lib.tables import Tables


@dataclass(frozen=True, eq=False, repr=False)
class Source:
    """A data set, opened lazily.

    `tables[m].x` (n,) int64 are row numbers of modality m; line i of `info[m]` says what is known of row i, and
    `open[m](i)` opens it: a PIL image (RGB), a string, or a waveform, float32 (T,) at 16 kHz in -1..1. There may be
    rows that are in no table.
    """

    name: str
    tables: Tables
    info: Mapping[str, pd.DataFrame]
    open: Mapping[str, Callable[[int], Any]]
    digest: str  # of all content
    licence: str
    digests: Mapping[str, str] = field(default_factory=dict)  # of one modality's rows, where sources share them
    report: str = ""  # what is here on the first line; what is missing or unexpected on those below

    def __repr__(self) -> str:
        return f"Source({self.name!r}, {self.tables})"

    def digest_of(self, modality: str) -> str:
        """What keys the feature cache of one modality."""
        return self.digests.get(modality, self.digest)

    def frame(self, modality: str) -> pd.DataFrame:
        """What is known of each row of `tables[modality]`, in table order."""
        return self.info[modality].iloc[self.tables[modality].x.tolist()]

    def column(self, modality: str, name: str) -> list:
        """Column `name` of `info[modality]`, for the rows of `tables[modality]`, in table order."""
        return self.frame(modality)[name].tolist()

    def by_item(self, modality: str, name: str) -> dict[int, Any]:
        """{item id: value of column `name`} for the items that have a row of this modality."""
        return dict(zip(self.tables[modality].pair.tolist(), self.column(modality, name), strict=True))

    def opened(self, modality: str, items: Iterable[int], tables: Tables | None = None) -> list[Any]:
        """Open the row of each of these items of the tables (its own, or others of its row numbers)."""
        table = (self.tables if tables is None else tables)[modality]
        row = dict(zip(table.pair.tolist(), table.x.tolist(), strict=True))
        return [self.open[modality](row[item]) for item in items]

    def where(self, modality: str, **values: Any) -> torch.Tensor:
        """Item ids (sorted, each once) of the rows whose columns have these values (or one of a list of values)."""
        frame = self.frame(modality)
        keep = torch.ones(len(frame), dtype=torch.bool)
        for name, value in values.items():
            allowed = value if isinstance(value, list | tuple | set | frozenset) else [value]
            keep &= torch.tensor(frame[name].isin(allowed).to_numpy())
        return self.tables[modality].pair[keep].unique()

    def summary(self) -> pd.DataFrame:
        """One line a modality: rows, items and classes that have any."""
        return pd.DataFrame(
            {
                m: {"rows": len(t), "items": len(t.pair.unique()), "classes": len(t.y.unique())}
                for m, t in self.tables.rows.items()
            }
        ).T.rename_axis("modality")
