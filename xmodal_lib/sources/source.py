"""What every source hands over: which rows there are, what is known of each, and how to open one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from xmodal_lib.tables import Tables


@dataclass(frozen=True, eq=False, repr=False)
class Source:
    """A data set, opened lazily.

    `tables[m].x` (n,) int64 are row numbers 0..n-1 of modality m; `info[m]` has one line for each of them, in that
    order; `open[m](i)` opens row i: a PIL image (RGB), a string, or a waveform, float32 (T,) at 16 kHz in -1..1.
    """

    name: str
    tables: Tables
    info: Mapping[str, pd.DataFrame]
    open: Mapping[str, Callable[[int], Any]]
    digest: str  # of all content; keys the feature cache
    licence: str

    def __repr__(self) -> str:
        return f"Source({self.name!r}, {self.tables})"

    def column(self, modality: str, name: str) -> list:
        """Column `name` of `info[modality]`, for the rows of `tables[modality]`, in table order."""
        return self.info[modality][name].iloc[self.tables[modality].x.tolist()].tolist()

    def by_item(self, modality: str, name: str) -> dict[int, Any]:
        """{item id: value of column `name`} for the items that have a row of this modality."""
        return dict(zip(self.tables[modality].pair.tolist(), self.column(modality, name), strict=True))

    def where(self, modality: str, **values: Any) -> torch.Tensor:
        """Item ids (sorted, each once) of the rows whose columns have these values (or one of a list of values)."""
        frame = self.info[modality].iloc[self.tables[modality].x.tolist()]
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
