"""The modality gap: how far the rows of two modalities lie apart in one space, on the unit sphere.

    modality_gap({"image": z_image, "text": z_text})      # a line for each two modalities

Source: Liang et al., "Mind the gap", NeurIPS 2022, section 2. Arrays and tensors alike, and no torch: the explorer
shows the gap with its first picture.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd


def modality_gap(embeddings: Mapping[str, Any]) -> pd.DataFrame:
    """Distance between the centroids of the rows of each two modalities {modality: (n_m, d)}, on the unit sphere.

    Columns a, b, gap, and for scale spread: the root mean square distance of a row to its own centroid.
    """
    unit = {m: _unit(z) for m, z in embeddings.items()}
    centres = {m: z.mean(0) for m, z in unit.items()}
    apart = {m: np.square(z - centres[m]).sum() for m, z in unit.items()}
    lines = []
    for a, b in itertools.combinations(unit, 2):
        spread = np.sqrt((apart[a] + apart[b]) / (len(unit[a]) + len(unit[b])))
        lines.append({"a": a, "b": b, "gap": float(np.linalg.norm(centres[a] - centres[b])), "spread": float(spread)})
    return pd.DataFrame(lines, columns=["a", "b", "gap", "spread"])


def by_modality(z: np.ndarray, modality: Sequence[str] | np.ndarray) -> dict[str, np.ndarray]:
    """The finite rows of z (n, d), by modality (n,); a modality without any is left out."""
    names, there = np.asarray(modality), np.isfinite(z).all(1)
    parts = {str(m): z[there & (names == m)] for m in dict.fromkeys(names)}
    return {m: rows for m, rows in parts.items() if len(rows)}


def _unit(z: Any) -> np.ndarray:
    rows = np.asarray(z.detach().cpu() if hasattr(z, "detach") else z, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
