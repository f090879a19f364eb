"""AGM: encoders learn faster or slower as their modality's share in the answer falls behind its usual or runs ahead.

Source: Li et al., "Boosting Multi-modal Model Performance with Adaptive Gradient Modulation", ICCV 2023, and its
release. The share of modality m in the fused logits v(N) (b, C) is its Shapley value, with v(S) the head's answer
where the features of all modalities outside S are zero, and v of nothing 0:

    phi_m = sum over S without m of |S|! (M - |S| - 1)! / M! (v(S + m) - v(S))        so sum_m phi_m = v(N)
    CE_m  = cross-entropy of phi_m, mean over the items that have m
    r_m   = exp(M / (M - 1) (mean_u CE_u - CE_m))        "ahead": above 1 for a modality that is ahead of the others
    k_m   = exp(alpha min(r_ref_m - r_m, 7))             r_ref_m: r_m of the running means of CE, 1 to begin with
    g_m <- k_m g_m                                       gradients of encoder m but for biases and other vectors

so an encoder is slowed down while its modality is further ahead than it was on average so far. For additive heads
phi_m is the row logits; nothing here asks for such a head.

Our reading: the sign in r_m is that of the authors' release; the re-implementation in a later benchmark has it turned
around (`ratio="behind"`), so it slows down the modality that is behind. The bound 7 and the norm of 5 at which
gradients are clipped are the benchmark's (10 and 1 in the release for CREMA-D).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal_lib.methods.heads import Features, Head, Places
from xmodal_lib.methods.joint import Modulated
from xmodal_lib.methods.multimodal import Batch
from xmodal_lib.tables import Tables

CAP = -math.log(1e-8)  # of the cross-entropy of one item, as released


def shapley(head: Head, features: Features, places: Places, items: int) -> dict[str, Tensor]:
    """Share of each modality in the fused logits: {modality: (items, C)}; they sum to `head.fused`."""
    value: dict[frozenset[str], Tensor] = {}
    for size in range(1, len(features) + 1):
        for some in combinations(features, size):
            value[frozenset(some)] = head.fused({m: features[m] for m in some}, places, items)
    shares, orders = {}, math.factorial(len(features))
    for m in features:
        share = torch.zeros_like(value[frozenset([m])])
        for with_m, v in value.items():
            if m in with_m:
                weight = math.factorial(len(with_m) - 1) * math.factorial(len(features) - len(with_m)) / orders
                share += weight * (v - value.get(with_m - {m}, 0.0))
        shares[m] = share
    return shares


def ratios(scores: Mapping[str, float], sign: str = "ahead") -> dict[str, float]:
    """r_m of the modalities' cross-entropies; 1 for one alone."""
    if len(scores) == 1:
        return dict.fromkeys(scores, 1.0)
    mean = sum(scores.values()) / len(scores)
    factor = len(scores) / (len(scores) - 1) * (1 if sign == "ahead" else -1)
    return {m: math.exp(factor * (mean - score)) for m, score in scores.items()}


def coefficients(
    scores: Mapping[str, float], usual: Mapping[str, float], alpha: float, sign: str = "ahead"
) -> dict[str, float]:
    """k_m of the cross-entropies of a batch and of their running means; a modality without one sets all r_ref to 1."""
    reference = ratios({m: usual[m] if scores.keys() <= usual.keys() else 0.0 for m in scores}, sign)
    return {m: math.exp(alpha * min(reference[m] - r, 7)) for m, r in ratios(scores, sign).items()}


@dataclass
class AGM(Modulated):
    """Joint training with adaptive gradient modulation: for any head and any number of modalities.

    Differs: an absent modality is a zero feature; the release puts zeros into its encoder, which answers them with
    whatever it answers. The release also scales the gradient of phi_m, so the head's too; here, as in the benchmark,
    those of the encoders. Gradients are clipped whenever their norm is above `clip`; there, only if an entry of the
    head's gradient is.
    """

    alpha: float = 1.0  # 0: Joint, but for the clipping
    ratio: str = "ahead"  # or "behind"
    clip: float = 5.0  # norm of all gradients

    def _begin(self, support: Tables) -> None:
        super()._begin(support)
        self.means_: dict[str, float] = {}  # running means of CE_m
        self.counts_: dict[str, int] = {}  # steps behind each

    def _modulate(self, batch: Batch, features: Mapping[str, Tensor]) -> None:
        super()._modulate(batch, features)
        scores = self._scores(batch, features)
        for m, k in coefficients(scores, self.means_, self.alpha, self.ratio).items():
            for p in self._modulated(m):
                if p.grad is not None:
                    p.grad *= k
        for m, score in scores.items():
            self.counts_[m] = self.counts_.get(m, 0) + 1
            self.means_[m] = self.means_.get(m, 0.0) + (score - self.means_.get(m, 0.0)) / self.counts_[m]
        nn.utils.clip_grad_norm_(self._parameters(), self.clip)

    @torch.no_grad()
    def _scores(self, batch: Batch, features: Mapping[str, Tensor]) -> dict[str, float]:
        """Cross-entropy of each modality's share, over the items that have it."""
        shares = shapley(self.head_, features, batch.places, len(batch.y))
        return {m: F.cross_entropy(batch.of(m, z), batch.of(m, batch.y), reduction="none").clamp(max=CAP).mean().item()
                for m, z in shares.items()}  # fmt: skip

    def _check_fields(self) -> None:
        super()._check_fields()
        if self.ratio not in ("ahead", "behind"):
            raise ValueError(f"ratio={self.ratio!r}; there are 'ahead' and 'behind'")
        if self.alpha < 0 or self.clip <= 0:
            raise ValueError(f"alpha={self.alpha}, clip={self.clip}; numbers from 0, and above 0, are needed")
