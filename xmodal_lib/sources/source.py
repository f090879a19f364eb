"""What every source hands over: which rows there are, what is known of each, and how to open one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from xmodal_lib.tables import Tables


@dataclass(frozen=True, eq=False)
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

    def column(self, modality: str, name: str) -> list:
        """Column `name` of `info[modality]`, for the rows of `tables[modality]`, in table order."""
        return self.info[modality][name].iloc[self.tables[modality].x.tolist()].tolist()

    def where(self, modality: str, **values: Any) -> torch.Tensor:
        """Item ids (sorted, each once) of the rows whose columns have these values (or one of a list of values)."""
        frame, keep = self.info[modality].iloc[self.tables[modality].x.tolist()], True
        for name, value in values.items():
            keep = keep & frame[name].isin(value if isinstance(value, list | tuple | set) else [value])
        return self.tables[modality].pair[torch.tensor(keep.to_numpy())].unique()

    def summary(self) -> pd.DataFrame:
        """One line a modality: rows, items and classes that have any."""
        return pd.DataFrame(
            {
                m: {"rows": len(t), "items": len(t.pair.unique()), "classes": len(t.y.unique())}
                for m, t in self.tables.rows.items()
            }
        ).T.rename_axis("modality")
