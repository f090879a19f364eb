"""What the numbers behind a map say: nearest neighbours across modalities, what moved between two spaces, prototypes.

Arrays in, arrays out. Rows with a value that is not finite are no neighbours and have none: a space may lack points.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

BLOCK = 512  # rows compared with all others at once


def unit(z: np.ndarray) -> np.ndarray:
    """Rows (n, d) of length 1, float32; a row with a value that is not finite becomes NaN."""
    z = np.asarray(z, np.float32)
    z = z / np.linalg.norm(z, axis=1, keepdims=True).clip(1e-12)
    return np.where(np.isfinite(z).all(1, keepdims=True), z, np.float32("nan"))


def nearest(z: np.ndarray, point: int, groups: Sequence[str] | np.ndarray, k: int = 5) -> pd.DataFrame:
    """The k rows of each group with the highest cosine to row `point`, which is itself left out.

    z (n, d) unit rows (of `unit`), groups (n,). Columns point, group, cosine; best first within each group. There are
    fewer lines where a group has fewer rows, and none where `point` has no place in the space.
    """
    groups, cosine = np.asarray(groups), z @ z[point]  # (n,)
    cosine[point] = np.nan
    lines = []
    for group in pd.unique(groups):
        own = np.flatnonzero((groups == group) & np.isfinite(cosine))
        best = own[np.argsort(-cosine[own], kind="stable")[:k]]
        lines += [(int(i), str(group), float(cosine[i])) for i in best]
    return pd.DataFrame(lines, columns=["point", "group", "cosine"])


def nearest_rows(z: np.ndarray, asked: np.ndarray, among: np.ndarray, k: int) -> np.ndarray:
    """The k rows of `among` with the highest cosine to each of the rows `asked`, itself left out, best first: (m, k).

    z (n, d) of `unit`; asked (m,) and among, ascending, are row numbers. -1 where there are no more rows, and for a
    row without a place in the space, which is nobody's neighbour either.
    """
    among = among[np.isfinite(z[among]).all(1)]
    found, most = np.full((len(asked), k), -1), min(k, len(among))
    rows = z[among].T
    for at in range(0, len(asked) if most else 0, BLOCK):
        part = asked[at : at + BLOCK]
        cosine = z[part] @ rows  # (block, among)
        own = np.searchsorted(among, part).clip(max=len(among) - 1)
        mine = np.flatnonzero(among[own] == part)
        cosine[mine, own[mine]] = -np.inf
        best = np.argpartition(-cosine, most - 1, axis=1)[:, :most]
        near = np.take_along_axis(cosine, best, 1)
        order = np.argsort(-near, axis=1, kind="stable")
        there = np.isfinite(np.take_along_axis(near, order, 1))
        found[at : at + len(part), :most] = np.where(there, among[np.take_along_axis(best, order, 1)], -1)
    return found


def moved(before: np.ndarray, after: np.ndarray, *, k: int = 10, most: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Whose neighbourhoods changed most between two spaces of the same rows: (n, d), (n, e), both of `unit`.

    Columns point and kept: the share of its k nearest neighbours before that are still among the k nearest after.
    Most changed first. At most `most` rows, drawn by `seed`, are looked at; their neighbours are among all rows.
    """
    there = np.flatnonzero(np.isfinite(before).all(1) & np.isfinite(after).all(1))
    k = min(k, len(there) - 1)
    if k < 1:
        return pd.DataFrame({"point": np.array([], int), "kept": np.array([], float)})
    asked = there[np.sort(np.random.default_rng(seed).permutation(len(there))[:most])]
    table = pd.DataFrame({"point": asked, "kept": kept(before, after, asked, there, k)})
    return table.sort_values("kept", kind="stable", ignore_index=True)


def kept(before: np.ndarray, after: np.ndarray, asked: np.ndarray, among: np.ndarray, k: int) -> np.ndarray:
    """The share of each asked row's k nearest rows `among` these in one space that are so in another, (m,)."""
    a, b = (nearest_rows(z, asked, among, k) for z in (before, after))
    return (a[:, :, None] == b[:, None, :]).any(2).mean(1)


def vote(z: np.ndarray, labels: Sequence[str] | np.ndarray, points: np.ndarray, k: int = 5) -> np.ndarray:
    """What the k nearest other rows say: the most frequent label (the nearest one wins ties) for each of `points`.

    z (n, d) of `unit`, labels (n,). A point without a place in the space, or without a neighbour, answers "".
    """
    labels = np.asarray(labels, object)
    there = np.flatnonzero(np.isfinite(z).all(1))
    answer = np.full(len(points), "", object)
    for i, near in enumerate(nearest_rows(z, points, there, k)):
        if len(row := labels[near[near >= 0]].tolist()):
            answer[i] = max(dict.fromkeys(row), key=row.count)
    return answer


def prototypes(z: np.ndarray, labels: Sequence[str] | np.ndarray) -> tuple[list[str], np.ndarray]:
    """Class names in order of appearance, and the mean (C, d) of the unit rows z (n, d) of each.

    Absent rows are no part of it; a class without a row in the space is left out.
    """
    labels, there = np.asarray(labels, object), np.isfinite(z).all(1)
    names = [str(name) for name in pd.unique(labels[there])]
    means = [z[there & (labels == name)].mean(0) for name in names]
    return names, np.array(means, np.float32).reshape(len(names), z.shape[1])


def place(z: np.ndarray, xy: np.ndarray, vectors: np.ndarray, k: int = 7) -> np.ndarray:
    """Where on a map vectors (m, d) of its space belong: the median place of their k nearest rows, (m, 2).

    z (n, d) of `unit`, xy (n, 2) the map, NaN where a row is not on it. Any map can be used, also one whose
    projection takes no new points; the place is only as good as the map is near there.
    """
    there = np.flatnonzero(np.isfinite(z).all(1) & np.isfinite(xy).all(1))
    if not len(there) or not len(vectors):
        return np.full((len(vectors), 2), np.nan)
    cosine = unit(vectors) @ z[there].T  # (m, n)
    near = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    return np.median(xy[there][near], axis=1)
