"""Numbers that papers print, each with its source: shown beside ours, never on one axis with them."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd


def published(paper: str) -> pd.DataFrame:
    """The published numbers of one paper: columns table, method, shots, accuracy (per cent), source.

    Raises:
        ValueError: there is no such paper in the file.
    """
    with (files("xmodal_lib") / "published.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file)
    if paper not in set(table["paper"]):
        raise ValueError(f"no published numbers of {paper!r}; there are those of {', '.join(table['paper'].unique())}")
    return table[table["paper"] == paper].drop(columns="paper").reset_index(drop=True)
