"""How far a map can be trusted, how alike two maps or two spaces are, and what is measured in the space itself.

A map of two dimensions loses neighbours; `quality` says how many, and `map_words.trust` says it in words.
`kept_neighbours` and `disparity` compare a space or a map before and after training; `alike` needs no map at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import procrustes
from sklearn.metrics import pairwise_distances, silhouette_score
from torch import Tensor

from xmodal_lib.gap import by_modality, modality_gap
from xmodal_lib.views import neighbours

Array = np.ndarray | Tensor
CHUNK = 256  # rows whose distances to all others are held at once


def quality(
    x: Array, xy: Array, *, k: int = 10, labels: Sequence | Array | None = None,
    modality: Sequence | Array | None = None, metric: str = "cosine", most: int = 2000, seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """How faithful a map xy (n, 2) is to its rows x (n, d).

    "trustworthiness": 1 = no map neighbour is far away in the space (Venna and Kaski, 2001); "overlap": the share of
    the k nearest neighbours in the space that are among the k nearest on the map; "class silhouette" and "modality
    silhouette" on the map and, with " in space", in the space: 1 = apart, 0 = mixed. Measured on `most` rows.

    Raises:
        ValueError: rows and points differ in number, or a value is not finite.
    """
    high, low = _same(x, xy)
    pick = np.sort(np.random.default_rng(seed).permutation(len(high))[:most])
    high, low = high[pick], low[pick]
    k = _fitting(k, len(pick) - 1)
    trusted, shared = _compared(high, low, k, metric)
    result = {"trustworthiness": trusted, "overlap": float(shared.mean())}
    for name, values in (("class", labels), ("modality", modality)):
        if values is not None:
            groups = np.unique(np.asarray(values)[pick], return_inverse=True)[1]
            if 1 < len(np.unique(groups)) < len(groups):
                result[f"{name} silhouette"] = float(silhouette_score(low, groups))
                result[f"{name} silhouette in space"] = float(silhouette_score(high, groups, metric=metric))
    return result | {"k": float(k), "rows": float(len(pick))}


def placed_quality(
    new: Array, placed: Array, x: Array, xy: Array, *, k: int = 10, metric: str = "cosine", most: int = 2000,
    seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """The same of points placed (m, 2) for new rows (m, d) on a map xy (n, 2) of rows x (n, d).

    The neighbours of a new row are looked for among the rows of the map alone: trustworthiness, overlap, k, rows.
    """
    high, low = _same(new, placed, least=1)
    pick = np.sort(np.random.default_rng(seed).permutation(len(high))[:most])
    against = _same(x, xy)
    k = _fitting(k, len(against[0]))
    trusted, shared = _compared(high[pick], low[pick], k, metric, against)
    return {"trustworthiness": trusted, "overlap": float(shared.mean()), "k": float(k), "rows": float(len(pick))}


def kept_neighbours(before: Array, after: Array, *, k: int = 10) -> np.ndarray:
    """Of each row's k nearest neighbours by cosine in one space, the share it still has in another: (n, d) x 2 -> (n,).

    1 = the neighbourhood is the same, 0 = another one altogether. Small values are the rows that moved most, among
    their neighbours, and so whatever a map does.
    """
    a, b = _same(before, after)
    lines = np.arange(len(a))
    return neighbours.kept(neighbours.unit(a), neighbours.unit(b), lines, lines, _fitting(k, len(a) - 1))


def disparity(a: Array, b: Array) -> float:
    """How unlike two maps of the same rows are when one is moved, turned, mirrored and scaled onto the other.

    The share of the spread that stays unexplained (Procrustes; Gower, 1975): 0 = the same picture, 1 = nothing alike.
    """
    return float(procrustes(*_same(a, b))[2])


def alike(
    x: Array, labels: Sequence | Array, *, k: int = 10, metric: str = "cosine", across: Sequence | Array | None = None
) -> tuple[float, float]:
    """The share of a row's k nearest neighbours that have its label, mean over rows; and what chance would give.

    With `across`, neighbours are sought among the rows of another value of it only: of the other modalities, say.

    Raises:
        ValueError: a row has fewer than k rows to be compared with.
    """
    rows, same, chance = finite_rows(x), [], []
    groups = np.unique(np.asarray(labels), return_inverse=True)[1]
    sides = np.asarray(across)
    for part in _chunks(len(rows)):
        d = _distances(rows[part], rows, metric, own=part)
        if across is not None:
            d[sides[part, None] == sides] = np.inf
        candidates = np.isfinite(d)
        if candidates.sum(1).min() < k:
            raise ValueError(f"{k} neighbours are asked for; a row has {candidates.sum(1).min()} to choose from")
        hit = groups[part, None] == groups
        near = d.argsort(1, kind="stable")[:, :k]
        same.append(np.take_along_axis(hit, near, 1).mean(1))
        chance.append((hit & candidates).sum(1) / candidates.sum(1))
    return float(np.concatenate(same).mean()), float(np.concatenate(chance).mean())


def measured(x: Array, labels: Sequence, modality: Sequence, *, k: int = 1, metric: str = "cosine") -> dict[str, float]:
    """What is true of a space, whatever a map of it shows: {name: number}, of rows (n, d) of several modalities.

    "gap": distance of the modalities' centres on the unit sphere (the mean over pairs), "spread" of a row around its
    own centre; "same class" and "same modality": shares of the k nearest rows; "class across": of the k nearest rows of
    *another* modality. Each share is followed by what chance gives. With one modality, NaN where a second is needed.
    """
    rows = finite_rows(x)
    gaps = modality_gap(by_modality(rows, modality))
    found = {"gap": float(gaps["gap"].mean()), "spread": float(gaps["spread"].mean())}
    asked: list[tuple[str, Sequence, Sequence | None]] = [
        ("same class", labels, None), ("class across", labels, modality), ("same modality", modality, None)
    ]  # fmt: skip
    for name, values, across in asked:
        share = (np.nan, np.nan) if across and not len(gaps) else alike(rows, values, k=k, metric=metric, across=across)
        found |= dict(zip((name, f"{name}, chance"), share, strict=True))
    return found


def finite_rows(x: Array, least: int = 4) -> np.ndarray:
    """A contiguous float32 matrix of finite values.

    Raises:
        ValueError: it is no matrix of at least so many rows, or a value is not finite.
    """
    rows = np.ascontiguousarray(x.detach().cpu().numpy() if isinstance(x, Tensor) else x, dtype=np.float32)
    if rows.ndim != 2 or len(rows) < least:
        raise ValueError(f"rows of shape {rows.shape}; a map needs a matrix (n, d) of at least {least} rows")
    if not np.isfinite(rows).all():
        raise ValueError("some values are not finite; look for NaN in what was embedded")
    return rows


def _same(a: Array, b: Array, least: int = 4) -> tuple[np.ndarray, np.ndarray]:
    a, b = finite_rows(a, least), finite_rows(b, least)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} rows and {len(b)} points; a map has a point for each row")
    return a, b


def _fitting(k: int, others: int) -> int:
    """As many neighbours as fewer than half of the others allow."""
    return max(1, min(k, others // 2 - 1))


def _compared(
    high: np.ndarray, low: np.ndarray, k: int, metric: str, against: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[float, np.ndarray]:
    """Trustworthiness, and of each row the share of its k nearest in `high` that are among the k nearest in `low`.

    Neighbours are sought among the other rows, or among those of `against`. With r_ij the rank of j from i in the
    space (1 = nearest) and N candidates, T = 1 - 2 / (n k (2N - 3k + 1)) sum of max(0, r_ij - k) over i and the j that
    are near i on the map.
    """
    all_high, all_low = against or (high, low)
    candidates = len(all_high) - (against is None)
    penalty, shares = 0.0, []
    for part in _chunks(len(high)):
        own = part if against is None else None
        order = _distances(high[part], all_high, metric, own).argsort(1, kind="stable")
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.arange(order.shape[1])[None], 1)
        near = _distances(low[part], all_low, "euclidean", own).argsort(1, kind="stable")[:, :k]
        found = np.take_along_axis(rank, near, 1) + 1  # (b, k) ranks in the space of the neighbours on the map
        shares.append((found <= k).mean(1))
        penalty += float((found - k).clip(0).sum())
    return 1 - 2 * penalty / (len(high) * k * (2 * candidates - 3 * k + 1)), np.concatenate(shares)


def _chunks(n: int) -> list[np.ndarray]:
    return np.array_split(np.arange(n), -(-n // CHUNK))


def _distances(a: np.ndarray, b: np.ndarray, metric: str, own: np.ndarray | None) -> np.ndarray:
    """(a, b); of a row to itself, which is row own[i] of b, infinite."""
    d = pairwise_distances(a.astype(np.float64), b.astype(np.float64), metric=metric)
    if own is not None:
        d[np.arange(len(a)), own] = np.inf
    return d
