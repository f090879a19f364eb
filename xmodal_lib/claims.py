"""Claims of papers: a statement, the difference that tests it, its 95 % interval over draws, and a verdict.

judge(scores, [Claim("text rows help", "Lin et al.", "image + text", "image", {"shot": 1})])

The claims of one notebook, judged by its own draws; those of all papers together are in `ledger`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from xmodal_lib.evaluate import paired

MARGIN = 0.01  # accuracy; a smaller difference is no effect


@dataclass(frozen=True)
class Claim:
    """`a` is better than `b` where the columns have these values."""

    statement: str
    source: str
    a: str  # method
    b: str  # method
    where: dict[str, Any]  # column -> value, such as {"shot": 1, "track": "few-shot val"}


def verdict(mean: float, low: float, high: float, margin: float = MARGIN) -> str:
    """supported: interval above 0 and mean at least the margin; contradicted: interval below 0; no effect: interval
    inside the margin; else inconclusive (also where there is no interval).

    >>> verdict(0.05, 0.02, 0.08), verdict(-0.02, -0.03, -0.01), verdict(0.0, -0.004, 0.004), verdict(0.05, -0.1, 0.2)
    ('supported', 'contradicted', 'no effect', 'inconclusive')
    """
    if low > 0 and mean >= margin:
        return "supported"
    if high < 0:
        return "contradicted"
    if -margin < low and high < margin:
        return "no effect"
    return "inconclusive"


def judge(scores: pd.DataFrame, claims: Iterable[Claim], metric: str = "accuracy") -> pd.DataFrame:
    """One line a claim: statement, source, a, b, where, difference (mean, low, high), draws, verdict.

    A claim whose methods or values `scores` does not hold is "not run".
    """
    lines = []
    for claim in claims:
        rows = scores[scores["metric"] == metric]
        for column, value in claim.where.items():
            rows = rows[rows[column] == value]
        line = {"statement": claim.statement, "source": claim.source, "a": claim.a, "b": claim.b,
                "where": ", ".join(f"{k} {v}" for k, v in claim.where.items())}  # fmt: skip
        if {claim.a, claim.b} <= set(rows["method"]):
            found = paired(rows, claim.a, claim.b, by=[]).iloc[0]
            mean, low, high = (float(found[k]) for k in ("mean", "low", "high"))
            lines.append(line | {"mean": mean, "low": low, "high": high, "draws": int(found["n"]),
                                 "verdict": verdict(mean, low, high)})  # fmt: skip
        else:
            lines.append(line | {"draws": 0, "verdict": "not run"})
    return pd.DataFrame(lines)


def in_words(judged: pd.DataFrame) -> list[str]:
    """Each line of `judge` as "supported 5.0 (2.0 to 8.0)": verdict, mean and interval in points."""
    said = []
    for line in judged.to_dict("records"):
        mean, *ends = [f"{100 * line[k]:.1f}" for k in ("mean", "low", "high") if line.get(k) == line.get(k)] or [""]
        said.append(" ".join([line["verdict"], mean, *([f"({' to '.join(ends)})"] if ends else [])]).strip())
    return said


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment of p values (n,); NaN (not tested) stays, and does not count.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979).

    >>> holm(np.array([0.01, 0.04, np.nan, 0.03])).round(2).tolist()
    [0.03, 0.06, nan, 0.06]
    """
    adjusted, order = np.full(len(p), np.nan), [i for i in np.argsort(p) if not np.isnan(p[i])]
    largest = 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - place) * p[i]))
        adjusted[i] = largest
    return adjusted
