"""Maps of a latent space: PCA, t-SNE and UMAP in two dimensions; several that can be compared; new rows on an old map.

xy = project(z, "umap", n_neighbors=30)                          # computed once, then read from the cache
trust(quality(z, xy, labels=y))                                  # a sentence to put beside the map
maps = project_together({"before": z0, "after": z1}, "tsne")     # from one start, so that a row can be followed
placed = place(new, z, xy, "umap", n_neighbors=30)               # the map stays as it is
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from sklearn.decomposition import PCA
from torch import Tensor

from xmodal_lib.home import home, replacing
from xmodal_lib.views.map_quality import (
    Array,
    alike,
    disparity,
    finite_rows,
    kept_neighbours,
    measured,
    placed_quality,
    quality,
)
from xmodal_lib.views.map_words import brief, trust

__all__ = [
    "DEFAULTS", "METRICS", "alike", "along_gap", "brief", "disparity", "kept_neighbours", "measured", "place",
    "placed_quality", "project", "project_together", "quality", "trust", "turned",
]  # fmt: skip

DEFAULTS: Mapping[str, dict[str, Any]] = {
    "pca": {"metric": "cosine"},
    "tsne": {"perplexity": 30.0, "metric": "cosine", "n_iter": 500},
    "umap": {"n_neighbors": 15, "min_dist": 0.1, "metric": "cosine"},
}
PACKAGES = {"pca": "scikit-learn", "tsne": "openTSNE", "umap": "umap-learn"}
METRICS = ("cosine", "euclidean")
WIDE = 50  # dimensions that PCA leaves for t-SNE and UMAP


def project(
    x: Array, method: str = "umap", *, seed: int = 0, start: Array | None = None, **settings: Any
) -> np.ndarray:
    """Two coordinates for each row: (n, d) -> (n, 2) float32; cached on disk by rows, method, seed and settings.

    `method` is "pca", "tsne" or "umap"; settings are its library's own names, over DEFAULTS. With metric "cosine"
    rows are normalised first (Euclidean distance then orders them as cosine does). Wider rows are brought to 50
    dimensions by PCA, and all maps start from its first two, or from `start` (n, 2), of any scale. PCA has no start:
    its map is turned onto it.

    Raises:
        ValueError: an unknown method or setting, too few rows, a start of other rows, or a value that is not finite.
    """
    x, settings = finite_rows(x), _checked(method, settings, len(x))
    given = [x]
    if start is not None:
        given.append(finite_rows(start))
        if given[1].shape != (len(x), 2):
            raise ValueError(f"a start of shape {given[1].shape} for {len(x)} rows; ({len(x)}, 2) is needed")
    return _cached(method, given, {"seed": seed, **settings}, lambda: _computed(method, seed, settings, *given))


def project_together(
    spaces: Mapping[str, Array], method: str = "umap", *, seed: int = 0, **settings: Any
) -> dict[str, np.ndarray]:
    """A map of each space, in which a row can be followed from one to the next: {name: (n, d_name)} -> {name: (n, 2)}.

    Row i is the same thing in all. All maps start from the same coordinates, the first two principal components of
    all spaces side by side, so none is preferred; and each is turned (never scaled) onto these. What then differs is
    what differs between the spaces, and chance: `disparity` says how much. Settings are those of `project`.

    Raises:
        ValueError: there is no space, they differ in their number of rows, or as `project` says.
    """
    rows = {name: finite_rows(x) for name, x in spaces.items()}
    if len({len(x) for x in rows.values()}) != 1:
        many = ", ".join(f"{name} {len(x)}" for name, x in rows.items()) or "none"
        raise ValueError(f"spaces of the same rows are needed, at least one; there are {many}")
    metric = _checked(method, dict(settings), len(next(iter(rows.values()))))["metric"]
    scaled = {name: _measured_by(metric, x) for name, x in rows.items()}
    beside = np.concatenate([x / max(float(np.std(x)) * x.shape[1] ** 0.5, 1e-12) for x in scaled.values()], axis=1)
    start = _flat(_pca(beside, seed)[0])
    return {name: turned(project(x, method, seed=seed, start=start, **settings), start) for name, x in rows.items()}


def place(new: Array, x: Array, xy: Array, method: str = "umap", *, seed: int = 0, **settings: Any) -> np.ndarray:
    """Points for new rows on a map that stays as it is: (m, d), (n, d), (n, 2) -> (m, 2) float32; cached like the map.

    `xy` is the map of rows `x` by `project` (or of `project_together`) with this method and these settings. PCA: its
    own linear map. t-SNE: each new point is moved, alone, between the points of its neighbours (openTSNE's
    `transform`). UMAP: likewise (its `transform`). `placed_quality` says how well.

    Raises:
        ValueError: new rows are of another width, the map is of other rows, or as `project` says.
    """
    new, x, xy = np.atleast_2d(np.asarray(new, dtype=np.float32)), finite_rows(x), finite_rows(xy)
    settings = _checked(method, settings, len(x))
    if new.shape[1:] != x.shape[1:] or len(xy) != len(x) or not np.isfinite(new).all():
        raise ValueError(f"new rows {new.shape}, rows {x.shape} and a map {xy.shape} do not fit, or are not finite")
    key = {"seed": seed, "placed": True, **settings}
    return _cached(method, [x, xy, new], key, lambda: _placed(method, seed, settings, new, x, xy))


def turned(xy: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """A map moved, turned and mirrored, never scaled, to lie on another of the same rows: (n, 2), (n, 2) -> (n, 2)."""
    return _turn(xy, onto)(xy).astype(np.float32)


def along_gap(embeddings: Mapping[str, Tensor]) -> pd.DataFrame:
    """Rows of two modalities {modality: (n_m, d)} seen from the side of their gap: columns along, across, modality.

    `along` is the position on the line through the two centroids of the normalised rows, 0 at the middle between
    them; `across` is the first principal component of what is left. A linear view: distances are true along the line.

    Raises:
        ValueError: there are not two modalities.
    """
    if len(embeddings) != 2:
        raise ValueError(f"the gap lies between two modalities; {len(embeddings)} are given")
    (a, z_a), (b, z_b) = ((m, torch.nn.functional.normalize(z.double(), dim=1)) for m, z in embeddings.items())
    gap, middle = z_a.mean(0) - z_b.mean(0), (z_a.mean(0) + z_b.mean(0)) / 2
    axis = gap / gap.norm().clamp(min=1e-12)
    z = torch.cat([z_a, z_b]) - middle
    along = z @ axis
    rest = z - along[:, None] * axis
    across = PCA(1, random_state=0).fit_transform(rest.numpy())[:, 0]
    modality = [a] * len(z_a) + [b] * len(z_b)
    return pd.DataFrame({"along": along.numpy(), "across": across, "modality": modality})


def _checked(method: str, settings: dict[str, Any], n: int) -> dict[str, Any]:
    """Settings over DEFAULTS, as n rows allow: there are no more neighbours than other rows."""
    if method not in DEFAULTS:
        raise ValueError(f"no projection {method!r}; there are {', '.join(DEFAULTS)}")
    if unknown := set(settings) - set(DEFAULTS[method]):
        known = ", ".join(DEFAULTS[method])
        raise ValueError(f"{method} has no setting {sorted(unknown)[0]!r}; it has {known}")
    settings = DEFAULTS[method] | settings
    if settings["metric"] not in METRICS:
        raise ValueError(f"no metric {settings['metric']!r}; there are {', '.join(METRICS)}")
    if method == "tsne":
        settings["perplexity"] = float(min(settings["perplexity"], (n - 1) / 3))
    if method == "umap":
        settings["n_neighbors"] = int(min(settings["n_neighbors"], n - 1))
    return settings


def _cached(method: str, given: list[np.ndarray], key: dict[str, Any], compute: Callable[[], np.ndarray]) -> np.ndarray:
    """A map of as many points as the last of the given arrays has rows, read from the cache or computed."""
    key = {"method": method, "version": version(PACKAGES[method]), "wide": WIDE, **key}
    sha = hashlib.sha256(json.dumps(key, sort_keys=True).encode())
    for array in given:
        sha.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    path = home() / "projections" / f"{method}-{sha.hexdigest()[:32]}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        try:
            xy = np.load(path)
        except (OSError, ValueError, EOFError):  # there is none, or a damaged one
            xy = None
        if xy is None or xy.shape != (len(given[-1]), 2) or not np.isfinite(xy).all():
            xy = np.ascontiguousarray(compute(), dtype=np.float32)
            with replacing(path) as partial, partial.open("wb") as file:
                np.save(file, xy)
    return xy


def _computed(
    method: str, seed: int, settings: dict[str, Any], x: np.ndarray, start: np.ndarray | None = None
) -> np.ndarray:
    rows, _ = _narrow(x, seed, settings["metric"])
    first = _flat(rows)
    if method == "pca":
        return first if start is None else turned(first, start)
    first = first if start is None else start - start.mean(0)
    first = first / max(float(first.std(0).max()), 1e-12)
    if method == "tsne":
        return _tsne(rows, first, seed, settings)
    return _umap(seed, settings, init=first * 10).fit_transform(rows)


def _placed(
    method: str, seed: int, settings: dict[str, Any], new: np.ndarray, x: np.ndarray, xy: np.ndarray
) -> np.ndarray:
    rows, pca = _narrow(x, seed, settings["metric"])
    asked = pca.transform(_measured_by(settings["metric"], new))
    if method == "pca":  # the map may have been turned since
        return _turn(_flat(rows), xy)(_flat(asked))
    if method == "tsne":
        from openTSNE import TSNEEmbedding
        from openTSNE.affinity import PerplexityBasedNN

        threads = torch.get_num_threads()
        near = PerplexityBasedNN(rows, perplexity=settings["perplexity"], n_jobs=threads, random_state=seed)
        how = "bh" if len(x) < 10_000 else "fft"  # as its `fit` chooses
        middle = (xy.max(0) + xy.min(0)) / 2.0  # `transform` would move the whole map there, and its answer with it
        drawn = TSNEEmbedding((xy - middle).astype(np.float64), near, negative_gradient_method=how, random_state=seed,
                              n_jobs=threads)  # fmt: skip
        few = min(25, len(x))
        return np.asarray(drawn.transform(asked, perplexity=min(5, few / 3), k=few)) + middle
    graph = _umap(seed, settings, init=xy, n_epochs=0).fit(rows)  # neighbours alone: nothing is moved
    graph.embedding_, graph.n_epochs = xy, None
    return graph.transform(asked)


def _turn(xy: np.ndarray, onto: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The motion of the plane that brings one map closest to another of the same rows."""
    centre, to = xy.mean(0), onto.mean(0)
    u, _, v = np.linalg.svd((xy - centre).T @ (onto - to))
    return lambda points: (points - centre) @ (u @ v) + to


def _measured_by(metric: str, x: np.ndarray) -> np.ndarray:
    """Rows whose Euclidean distances order them as the metric does."""
    return x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12) if metric == "cosine" else x


def _narrow(x: np.ndarray, seed: int, metric: str) -> tuple[np.ndarray, PCA]:
    return _pca(_measured_by(metric, x), seed)


def _pca(x: np.ndarray, seed: int) -> tuple[np.ndarray, PCA]:
    """The first 50 components of rows, and the map to them."""
    if not np.ptp(x, axis=0).any():
        raise ValueError("all rows are equal; there is nothing to map")
    pca = PCA(min(WIDE, *x.shape), random_state=seed).fit(x)
    return pca.transform(x), pca


def _flat(rows: np.ndarray) -> np.ndarray:
    """The first two components, the second 0 where there is one."""
    return rows[:, :2] if rows.shape[1] > 1 else np.pad(rows, ((0, 0), (0, 1)))


def _tsne(x: np.ndarray, first: np.ndarray, seed: int, settings: dict[str, Any]) -> np.ndarray:
    from openTSNE import TSNE

    own = {name: value for name, value in settings.items() if name != "metric"}
    # a start of standard deviation 1e-4 lets groups unfold (openTSNE's advice)
    tsne = TSNE(initialization=first * 1e-4, random_state=seed, n_jobs=torch.get_num_threads(), **own)
    return np.asarray(tsne.fit(x))


def _umap(seed: int, settings: dict[str, Any], **more: Any) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Tt]ensorflow.*")  # only its parametric form, unused, needs it
        from umap import UMAP
    own = {name: value for name, value in settings.items() if name != "metric"}
    # one thread: with more, a seeded UMAP warns and does so anyway
    return UMAP(random_state=seed, transform_seed=seed, n_jobs=1, **own, **more)
