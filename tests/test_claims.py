"""Verdicts follow from the interval alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmodal_lib.claims import Claim, holm, in_words, judge, verdict


@given(st.floats(-1, 1), st.floats(0, 1))
def test_a_verdict_and_its_opposite_never_both_hold(mean: float, half: float) -> None:
    one, other = verdict(mean, mean - half, mean + half), verdict(-mean, -mean - half, -mean + half)
    assert not (one == other == "supported")
    if one == "supported":
        assert other == "contradicted"
    if one == "no effect":
        assert other in ("no effect", "contradicted")  # a sure loss, however small, speaks against "better"


def test_one_draw_proves_nothing() -> None:
    assert verdict(0.5, float("nan"), float("nan")) == "inconclusive"


def scores(a: list[float], b: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"method": m, "seed": s, "shot": 1, "metric": "accuracy", "value": v}
            for m, values in (("a", a), ("b", b))
            for s, v in enumerate(values)
        ]
    )


def test_judge_pairs_within_draws() -> None:
    """Draws differ by far more than the methods: only pairing shows the difference."""
    table = judge(scores([0.1, 0.5, 0.93], [0.05, 0.45, 0.9]), [Claim("a beats b", "here", "a", "b", {"shot": 1})])
    assert table.loc[0, "verdict"] == "supported"
    assert table.loc[0, "mean"] == pytest.approx(0.13 / 3)
    assert table.loc[0, "draws"] == 3


def test_a_line_in_words() -> None:
    claims = [Claim("c", "here", "a", b, {"shot": 1}) for b in ("b", "c")]
    assert in_words(judge(scores([0.1, 0.5, 0.93], [0.05, 0.45, 0.9]), claims)) == [
        "supported 4.3 (1.5 to 7.2)",
        "not run",
    ]
    assert in_words(judge(scores([0.5], [0.4]), claims[:1])) == ["inconclusive 10.0"]


def test_a_claim_about_what_was_not_run_says_so() -> None:
    claims = [Claim("c", "here", "a", "c", {"shot": 1}), Claim("d", "here", "a", "b", {"shot": 16})]
    assert judge(scores([1.0], [0.0]), claims)["verdict"].tolist() == ["not run", "not run"]


def test_holm_is_the_slow_obvious_form() -> None:
    p = np.array([0.04, 0.001, np.nan, 0.02, 0.02])
    order = sorted((v, i) for i, v in enumerate(p) if v == v)
    slow = np.full(5, np.nan)
    for place, (_, i) in enumerate(order):
        slow[i] = min(1, max((len(order) - k) * order[k][0] for k in range(place + 1)))
    assert np.allclose(holm(p), slow, equal_nan=True)
