"""Maps of a latent space: PCA, t-SNE and UMAP in two dimensions, and how far each can be trusted.

xy = project(z, "umap", n_neighbors=30)     # computed once, then read from the cache
trust(quality(z, xy, labels=y))             # a sentence to put beside the map
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from xmodal_lib.home import home, replacing

DEFAULTS: Mapping[str, dict[str, Any]] = {
    "pca": {"metric": "cosine"},
    "tsne": {"perplexity": 30.0, "metric": "cosine", "n_iter": 500},
    "umap": {"n_neighbors": 15, "min_dist": 0.1, "metric": "cosine"},
}
PACKAGES = {"pca": "scikit-learn", "tsne": "openTSNE", "umap": "umap-learn"}
METRICS = ("cosine", "euclidean")
WIDE = 50  # dimensions that PCA leaves for t-SNE and UMAP
Array = np.ndarray | Tensor


def project(x: Array, method: str = "umap", *, seed: int = 0, **settings: Any) -> np.ndarray:
    """Two coordinates for each row: (n, d) -> (n, 2) float32; cached on disk by rows, method, seed and settings.

    `method` is "pca", "tsne" or "umap"; settings are its library's own names, over DEFAULTS. With metric "cosine"
    rows are normalised first (Euclidean distance then orders them as cosine does). Wider rows are brought to 50
    dimensions by PCA, and all maps start from its first two.

    Raises:
        ValueError: an unknown method or setting, too few rows, or a value that is not finite.
    """
    x = _rows(x)
    if method not in DEFAULTS:
        raise ValueError(f"no projection {method!r}; there are {', '.join(DEFAULTS)}")
    if unknown := set(settings) - set(DEFAULTS[method]):
        known = ", ".join(DEFAULTS[method]) or "no settings"
        raise ValueError(f"{method} has no setting {sorted(unknown)[0]!r}; it has {known}")
    settings = _fitting(method, DEFAULTS[method] | settings, len(x))
    if settings["metric"] not in METRICS:
        raise ValueError(f"no metric {settings['metric']!r}; there are {', '.join(METRICS)}")
    key = {"method": method, "seed": seed, "version": version(PACKAGES[method]), "wide": WIDE, **settings}
    sha = hashlib.sha256(json.dumps(key, sort_keys=True).encode() + str(x.shape).encode() + x.tobytes())
    path = home() / "projections" / f"{method}-{sha.hexdigest()[:32]}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if (kept := _kept(path, len(x))) is not None:
            return kept
        xy = np.ascontiguousarray(_computed(x, method, seed, settings), dtype=np.float32)
        with replacing(path) as partial, partial.open("wb") as file:
            np.save(file, xy)
    return xy


def quality(
    x: Array, xy: Array, *, k: int = 10, labels: Sequence | Array | None = None,
    modality: Sequence | Array | None = None, metric: str = "cosine", most: int = 2000, seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """How faithful a map xy (n, 2) is to its rows x (n, d).

    "trustworthiness": 1 = no map neighbour is far away in the space (Venna and Kaski, 2001); "overlap": the share of
    the k nearest neighbours in the space that are among the k nearest on the map; "class silhouette" and "modality
    silhouette" on the map and, with " in space", in the space: 1 = apart, 0 = mixed. Measured on `most` rows.
    """
    x, xy = _rows(x), _rows(xy)
    if len(x) != len(xy):
        raise ValueError(f"{len(x)} rows and {len(xy)} points; a map has a point for each row")
    pick = np.sort(np.random.default_rng(seed).permutation(len(x))[:most])
    high, low = x[pick], xy[pick]
    k = max(1, min(k, (len(pick) - 1) // 2 - 1))
    result = {"trustworthiness": _trustworthiness(high, low, k, metric), "overlap": _overlap(high, low, k, metric)}
    for name, values in (("class", labels), ("modality", modality)):
        if values is not None:
            groups = np.unique(np.asarray(values)[pick], return_inverse=True)[1]
            if 1 < len(np.unique(groups)) < len(groups):
                result[f"{name} silhouette"] = float(silhouette_score(low, groups))
                result[f"{name} silhouette in space"] = float(silhouette_score(high, groups, metric=metric))
    return result | {"k": float(k), "rows": float(len(pick))}


def trust(measured: Mapping[str, float]) -> str:
    """How far to trust a map with this `quality`, in plain words."""
    overlap, k = measured["overlap"], int(measured["k"])
    words = (
        f"{overlap:.0%} of the {k} nearest neighbours in the space are among the {k} nearest on this map "
        f"(trustworthiness {measured['trustworthiness']:.2f} of 1): "
    )
    if overlap >= 0.6:
        words += "neighbours may be read off it."
    elif overlap >= 0.3:
        words += "read groups off it, and look single neighbours up in the space."
    else:
        words += "it shows the coarse arrangement only; do not read neighbours off it."
    return words + " Distances between groups and their sizes mean little."


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


def _rows(x: Array) -> np.ndarray:
    """A contiguous float32 matrix of finite values."""
    rows = np.ascontiguousarray(x.detach().cpu().numpy() if isinstance(x, Tensor) else x, dtype=np.float32)
    if rows.ndim != 2 or len(rows) < 4:
        raise ValueError(f"rows of shape {rows.shape}; a map needs a matrix (n, d) of at least 4 rows")
    if not np.isfinite(rows).all():
        raise ValueError("some values are not finite; look for NaN in what was embedded")
    return rows


def _fitting(method: str, settings: dict[str, Any], n: int) -> dict[str, Any]:
    """Settings that n rows allow: there are no more neighbours than other rows."""
    if method == "tsne":
        settings["perplexity"] = float(min(settings["perplexity"], (n - 1) / 3))
    if method == "umap":
        settings["n_neighbors"] = int(min(settings["n_neighbors"], n - 1))
    return settings


def _kept(path: Path, n: int) -> np.ndarray | None:
    """The cached map, or None where there is none or a damaged one."""
    try:
        xy = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    return xy if xy.shape == (n, 2) and np.isfinite(xy).all() else None


def _computed(x: np.ndarray, method: str, seed: int, settings: dict[str, Any]) -> np.ndarray:
    if settings.pop("metric") == "cosine":
        x = x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12)
    if not np.ptp(x, axis=0).any():
        raise ValueError("all rows are equal; there is nothing to map")
    rows = PCA(min(WIDE, *x.shape), random_state=seed).fit_transform(x)
    if rows.shape[1] < 2:
        rows = np.pad(rows, ((0, 0), (0, 1)))
    if method == "pca":
        return rows[:, :2]
    first = rows[:, :2] / rows[:, 0].std()
    return (_tsne if method == "tsne" else _umap)(rows, first, seed, settings)


def _tsne(x: np.ndarray, first: np.ndarray, seed: int, settings: dict[str, Any]) -> np.ndarray:
    from openTSNE import TSNE

    threads = torch.get_num_threads()
    # a start of standard deviation 1e-4 lets groups unfold (openTSNE's advice)
    return np.asarray(TSNE(initialization=first * 1e-4, random_state=seed, n_jobs=threads, **settings).fit(x))


def _umap(x: np.ndarray, first: np.ndarray, seed: int, settings: dict[str, Any]) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Tt]ensorflow.*")  # only its parametric form, unused, needs it
        from umap import UMAP
    # one thread: with more, a seeded UMAP warns and does so anyway
    return UMAP(init=first * 10, random_state=seed, n_jobs=1, **settings).fit_transform(x)


def _trustworthiness(high: np.ndarray, low: np.ndarray, k: int, metric: str) -> float:
    from sklearn.manifold import trustworthiness

    return float(trustworthiness(high, low, n_neighbors=k, metric=metric))


def _overlap(high: np.ndarray, low: np.ndarray, k: int, metric: str) -> float:
    """Mean share of the k nearest neighbours in `high` that are among the k nearest in `low`."""
    near = [NearestNeighbors(n_neighbors=k, metric=m).fit(rows).kneighbors(return_distance=False)
            for rows, m in ((high, metric), (low, "euclidean"))]  # fmt: skip
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(*near, strict=True)]))
