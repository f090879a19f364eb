"""Claims of papers as rows: a statement, the difference that tests it, its 95 % interval over draws, a verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

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
    """supported: interval above 0 and mean at least the margin; contradicted: interval below 0 and mean beyond the
    margin; no effect: interval inside the margin; else inconclusive (also where there is no interval).

    >>> verdict(0.05, 0.02, 0.08), verdict(-0.02, -0.03, -0.01), verdict(0.0, -0.004, 0.004), verdict(0.05, -0.1, 0.2)
    ('supported', 'contradicted', 'no effect', 'inconclusive')
    """
    if low > 0 and mean >= margin:
        return "supported"
    if high < 0 and mean <= -margin:
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
