"""When does alignment beat supervision? A linear world in which both can be computed, and counted out on paper.

d numbers are seen of an item in each modality. A source row is the target row turned, x1 = W x2 with W a rotation and
x2 ~ N(0, I), and the label follows the source: y = u.x1 + eps, eps ~ N(0, sigma^2), |u|^2 = d. What one has:

    source   n1 labelled rows (x1, y)
    target   n2 labelled rows (x2, y), few
    pairs    n_align rows (x1 + eta, x2) without a label, eta ~ N(0, sigma_W^2 I): how wrong a pair is

    supervised   regress y on x2 over the target rows                        v = (X2' X2)^-1 X2' y
    aligned      regress x1 on x2 over the pairs, y on x1 over the source    v = W^' u^

Both are scored by their excess risk in the target modality, E (v.x2 - u.W x2)^2 = |v - W' u|^2.

Source: the linear toy of Liang et al., "Cross-Modal Generalization", ACM MM 2021 (arXiv 2012.02813), appendix: d = 20,
n1 = 250, n2 = 40, and the rule of thumb d sigma_W^2 / n_align + sigma^2 / n1 < sigma^2 / n2 for alignment.
Differs: sigma, |u| and the law of W and x2 are not known to us; with |u|^2 = d the rule times d is the leading term of
what is exact. Nor do we know whether a label follows W x2 or the pair's W x2 + eta; the rule's right side has no
sigma_W, which fits the former.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

REPEATS = 200
FIRST, SECOND = "supervised", "aligned"  # the two estimators
GRIDS = ("pairs", "pair_noise")


@dataclass(frozen=True)
class Toy:
    """Sizes and noise, by default the paper's where it has them."""

    d: int = 20  # numbers of a row
    source: int = 250  # n1, labelled source rows
    target: int = 40  # n2, labelled target rows
    pairs: int = 1000  # n_align, unlabelled
    noise: float = 1.0  # sigma, of labels
    pair_noise: float = 1.0  # sigma_W, of pairs

    def __post_init__(self) -> None:
        for name in ("source", "target", "pairs"):
            if getattr(self, name) < self.d + 2:
                raise ValueError(f"{name}={getattr(self, name)} rows for d={self.d}: least squares has a finite risk "
                                 f"from d + 2 = {self.d + 2} rows on")  # fmt: skip
        if self.d < 1 or self.noise < 0 or self.pair_noise < 0:
            raise ValueError(f"d >= 1 and noise >= 0 are needed, not d={self.d}, noise={self.noise}, "
                             f"pair_noise={self.pair_noise}")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Draws:
    """R worlds with their data: regressors X (R, n, d), what is regressed on them (R, n) or (R, n, d)."""

    w: np.ndarray  # (R, d, d)
    u: np.ndarray  # (R, d)
    source: tuple[np.ndarray, np.ndarray]  # x1, y
    target: tuple[np.ndarray, np.ndarray]  # x2, y
    pairs: tuple[np.ndarray, np.ndarray]  # x2, x1 + eta


def draw(toy: Toy, repeats: int, rng: np.random.Generator) -> Draws:
    """`repeats` worlds, independent of one another."""
    w, _ = np.linalg.qr(rng.standard_normal((repeats, toy.d, toy.d)))
    u = rng.standard_normal((repeats, toy.d))
    u *= math.sqrt(toy.d) / np.linalg.norm(u, axis=1, keepdims=True)

    def labelled(n: int, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = rng.standard_normal((repeats, n, toy.d))  # of either modality: a rotation of N(0, I) is N(0, I)
        return x, np.einsum("rnd,rd->rn", x, truth) + toy.noise * rng.standard_normal((repeats, n))

    x2 = rng.standard_normal((repeats, toy.pairs, toy.d))
    x1 = x2 @ w.transpose(0, 2, 1) + toy.pair_noise * rng.standard_normal(x2.shape)
    return Draws(w, u, labelled(toy.source, u), labelled(toy.target, transferred(w, u)), (x2, x1))


def least_squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(X' X)^-1 X' y of each repeat: (R, n, d), (R, n, k) -> (R, d, k)."""
    xt = x.transpose(0, 2, 1)
    return np.linalg.solve(xt @ x, xt @ y)


def transferred(w: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The source's weights in the target modality, W' u: (R, d, d), (R, d) -> (R, d)."""
    return np.einsum("rij,ri->rj", w, u)


def supervised(draws: Draws) -> np.ndarray:
    """Weights (R, d) from the labelled target rows alone."""
    x, y = draws.target
    return least_squares(x, y[..., None])[..., 0]


def aligned(draws: Draws) -> np.ndarray:
    """Weights (R, d) from pairs and labelled source rows: no target label is read."""
    x, y = draws.source
    u = least_squares(x, y[..., None])[..., 0]
    w = least_squares(*draws.pairs).transpose(0, 2, 1)  # x1 = W x2, so that the regression gives W'
    return transferred(w, u)


def excess_risk(weights: np.ndarray, draws: Draws) -> np.ndarray:
    """|v - W' u|^2 of each repeat: (R, d) -> (R,)."""
    return np.square(weights - transferred(draws.w, draws.u)).sum(1)


def exact(toy: Toy) -> dict[str, float]:
    """Expected excess risk of both estimators, without approximation.

    With Gaussian rows E (X' X)^-1 = I / (n - d - 1), so least squares with label noise sigma misses its d weights by
    sigma^2 d / (n - d - 1) in all: the supervised one. The aligned one has W^ = W + E and u^ = u + e, independent and
    without bias, and W^' u^ - W' u = W' e + E' u + E' e. The three parts are uncorrelated, W keeps lengths, and
    E |E' a|^2 = |a|^2 sigma_W^2 d / (n_align - d - 1), which gives with r = sigma^2 d / (n1 - d - 1)

        r + (d + r) sigma_W^2 d / (n_align - d - 1)
    """
    source = toy.noise**2 * toy.d / (toy.source - toy.d - 1)
    pairs = toy.pair_noise**2 * toy.d / (toy.pairs - toy.d - 1)
    return {FIRST: toy.noise**2 * toy.d / (toy.target - toy.d - 1), SECOND: source + (toy.d + source) * pairs}


def rule(toy: Toy) -> dict[str, float]:
    """The two sides of the paper's rule, times d: what `exact` becomes with far more rows than d of each kind."""
    aligned = toy.d * toy.pair_noise**2 / toy.pairs + toy.noise**2 / toy.source
    return {FIRST: toy.d * toy.noise**2 / toy.target, SECOND: toy.d * aligned}


def compare(toy: Toy, over: str, values: Sequence[float], repeats: int = REPEATS, seed: int = 0) -> pd.DataFrame:
    """Both estimators for each value of `over`, one of GRIDS: a line a value and estimator.

    Columns: `over`, estimator, measured (mean excess risk over the repeats) with its 95 % interval low and high, exact
    and rule.

    Raises:
        ValueError: `over` is neither of GRIDS, or a value does not fit.
    """
    _check(over)
    rng, lines = np.random.default_rng(seed), []
    for value in values:
        here = replace(toy, pairs=int(value)) if over == "pairs" else replace(toy, pair_noise=value)
        draws = draw(here, repeats, rng)
        for name, fit in ((FIRST, supervised), (SECOND, aligned)):
            risk = excess_risk(fit(draws), draws)
            mean, half = risk.mean(), 1.96 * risk.std(ddof=1) / math.sqrt(repeats)
            lines.append({over: value, "estimator": name, "measured": mean, "low": mean - half, "high": mean + half,
                          "exact": exact(here)[name], "rule": rule(here)[name]})  # fmt: skip
    return pd.DataFrame(lines)


def crossing(toy: Toy, over: str = "pairs") -> dict[str, float]:
    """Where the lines cross, by "exact" and by "rule": alignment is better with more pairs, or with less pair noise.

    Infinitely many pairs, or a noise of 0, where supervision is better in any case.
    """
    _check(over)
    d, free = toy.d, {"exact": toy.d + 1, "rule": 0}  # rows that least squares uses up
    found = {}
    for name, used in free.items():
        source, target = (toy.noise**2 * d / (n - used) for n in (toy.source, toy.target))
        slope = d * (d + source * (name == "exact"))  # of the aligned risk, in sigma_W^2 / rows
        gain = target - source
        if over == "pairs":
            found[name] = used + slope * toy.pair_noise**2 / gain if gain > 0 else math.inf
        else:
            found[name] = math.sqrt(max(gain, 0) * (toy.pairs - used) / slope)
    return found


def measured_crossing(frame: pd.DataFrame) -> float:
    """Where the measured lines of `compare` first cross, between two values of the grid; nan if they do not.

    The logarithm of their ratio is taken to be a straight line in the logarithm of the value.
    """
    over = next(name for name in GRIDS if name in frame)
    wide = frame.pivot(index=over, columns="estimator", values="measured")
    x, ratio = np.log(wide.index.to_numpy(float)), np.log((wide[SECOND] / wide[FIRST]).to_numpy())
    turns = np.flatnonzero(ratio[:-1] * ratio[1:] <= 0)
    if not len(turns):
        return math.nan
    k = turns[0]
    return float(np.exp(x[k] + (x[k + 1] - x[k]) * ratio[k] / (ratio[k] - ratio[k + 1])))


def _check(over: str) -> None:
    if over not in GRIDS:
        raise ValueError(f"over={over!r}; there are {', '.join(GRIDS)}")
