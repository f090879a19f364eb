"""The linear toy: measured risks against the closed form, and where the lines cross."""

import math

import numpy as np
import pytest

from xmodal_lib import linear_toy
from xmodal_lib.linear_toy import FIRST, SECOND, Toy, compare, crossing, draw, exact, measured_crossing, rule


def test_the_estimators_are_least_squares_and_nothing_else() -> None:
    draws = draw(Toy(d=3, source=9, target=8, pairs=7), 2, np.random.default_rng(0))
    ours = linear_toy.supervised(draws), linear_toy.aligned(draws)
    for r in range(2):
        x1, y1 = (part[r] for part in draws.source)
        x2, y2 = (part[r] for part in draws.target)
        seen, hidden = (part[r] for part in draws.pairs)
        fit = np.linalg.lstsq
        np.testing.assert_allclose(ours[0][r], fit(x2, y2)[0], rtol=1e-9)
        np.testing.assert_allclose(ours[1][r], fit(seen, hidden)[0] @ fit(x1, y1)[0], rtol=1e-9)


def test_without_noise_both_find_the_truth() -> None:
    draws = draw(Toy(noise=0.0, pair_noise=0.0, pairs=30), 3, np.random.default_rng(1))
    for weights in (linear_toy.supervised(draws), linear_toy.aligned(draws)):
        np.testing.assert_allclose(linear_toy.excess_risk(weights, draws), 0, atol=1e-18)


def test_the_risk_is_that_of_fresh_rows() -> None:
    """E over x2 ~ N(0, I) and without label noise, by 200,000 rows."""
    draws = draw(Toy(), 1, np.random.default_rng(2))
    weights = linear_toy.supervised(draws)
    x = np.random.default_rng(3).standard_normal((200_000, 20))
    missed = x @ weights[0] - x @ draws.w[0].T @ draws.u[0]
    assert np.square(missed).mean() == pytest.approx(linear_toy.excess_risk(weights, draws)[0], rel=0.02)


@pytest.mark.parametrize("toy", [
    Toy(), Toy(pairs=200), Toy(pairs=40, target=60), Toy(source=60, pairs=60, noise=2.0),
    Toy(pair_noise=0.3, target=35), Toy(d=5, source=30, target=15, pairs=20, noise=0.5),
], ids=str)  # fmt: skip
def test_measured_is_the_exact_formula_within_its_error(toy: Toy) -> None:
    """Four standard errors: a right formula is refused in one of 16,000 cases."""
    for _, line in compare(toy, "pairs", [toy.pairs], repeats=1000, seed=5).iterrows():
        error = (line["high"] - line["measured"]) / 1.96
        assert abs(line["measured"] - line["exact"]) < 4 * error, line["estimator"]
        assert error < 0.05 * line["exact"], "too few repeats to tell"


def test_the_rule_is_the_limit_of_many_rows_and_wrong_for_few() -> None:
    many = Toy(source=10**7, target=10**6, pairs=10**8)
    for name in (FIRST, SECOND):
        assert rule(many)[name] == pytest.approx(exact(many)[name], rel=1e-3)
    assert exact(Toy())[FIRST] == pytest.approx(20 / 19) and rule(Toy())[FIRST] == pytest.approx(20 / 40)


@pytest.mark.parametrize("over", linear_toy.GRIDS)
def test_at_the_crossing_both_are_equal(over: str) -> None:
    for name, risks in (("exact", exact), ("rule", rule)):
        value = crossing(Toy(pairs=800), over)[name]
        there = Toy(pairs=800)
        object.__setattr__(there, over, value)  # a crossing need not be a whole number of pairs
        assert risks(there)[FIRST] == pytest.approx(risks(there)[SECOND], rel=1e-9)


def test_the_measured_lines_cross_where_the_exact_ones_do() -> None:
    toy = Toy()
    frame = compare(toy, "pairs", [200, 300, 400, 500, 650, 1000], repeats=600)
    told = crossing(toy)
    assert measured_crossing(frame) == pytest.approx(told["exact"], rel=0.08)
    assert told["rule"] > 2 * told["exact"] and measured_crossing(frame) < 0.6 * told["rule"]
    noise = compare(toy, "pair_noise", [0.5, 1.0, 1.5, 2.0, 3.0], repeats=300)
    assert measured_crossing(noise) == pytest.approx(crossing(toy, "pair_noise")["exact"], rel=0.08)


def test_alignment_cannot_win_with_fewer_source_labels_than_target_labels() -> None:
    toy = Toy(source=40, target=60)
    assert crossing(toy) == {"exact": math.inf, "rule": math.inf}
    assert crossing(toy, "pair_noise") == {"exact": 0.0, "rule": 0.0}
    assert math.isnan(measured_crossing(compare(toy, "pairs", [100, 1000], repeats=100)))


def test_the_same_seed_gives_the_same_frame() -> None:
    one, two, other = (compare(Toy(), "pairs", [100], repeats=20, seed=s) for s in (1, 1, 2))
    assert one.equals(two) and not one["measured"].equals(other["measured"])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pairs=21 rows for d=20: least squares has a finite risk from d \+ 2 = 22"):
        Toy(pairs=21)
    with pytest.raises(ValueError, match="over='source'; there are pairs, pair_noise"):
        compare(Toy(), "source", [100])
    with pytest.raises(ValueError, match="noise >= 0"):
        Toy(pair_noise=-1.0)
