"""Joint training, its modulated forms OGM and OGM-GE, and the two controls that train each modality for itself.

With f_m = E_m(x_m) (b, D), row logits z_m (b, C) and z = sum_m z_m (or film, gated: see `heads`),

    Joint              L = CE(z)                                  "Normal": one loss on the fused output
    OGM                the same, then g_m <- k_m g_m              k_m = 1 - tanh(alpha rho_m) where rho_m > 1, else 1
    OGMGE              the same, then g_m <- k_m g_m + N(0, std(g_m)^2)
    SummedUnimodal     L = sum_m w_m CE(z_m)                      late fusion; G-Blending with fixed w_m
    Independent        M models, each with its own epoch          unimodal ensemble

Sources: Peng et al., "Balanced Multimodal Learning via On-the-fly Gradient Modulation", CVPR 2022 (OGM-GE); Wang et
al., "What Makes Training Multi-modal Classification Networks Hard?", CVPR 2020 (G-Blending). The last control was
asked for by reviewers of MLA. Encoders and heads are disjoint there, so with one batch order and no choice of epochs
Independent and SummedUnimodal are the same thing, step by step (a test shows it).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal_lib.methods.encoded import learnt_state, restore_state
from xmodal_lib.methods.heads import Own
from xmodal_lib.methods.multimodal import Batch, Multimodal, discrepancy, row_losses, true_share
from xmodal_lib.tables import Tables
from xmodal_lib.training import accuracy


@dataclass
class Joint(Multimodal):
    """One cross-entropy on the fused logits ("Normal"); item logits are the sum of row logits, so `fusion` is "sum"."""

    head: str = "concat"  # or "sum", "film", "gated"
    fusion: str | Mapping[str, float] = "sum"

    def _step(self, batch: Batch) -> dict[str, float]:
        features = self._features(batch)
        z = self.head_.fused(features, batch.places, len(batch.y))
        loss = F.cross_entropy(z, batch.y)
        self.optimiser_.zero_grad()
        loss.backward()
        self._modulate(batch, features)
        self.optimiser_.step()
        self.steps_ += 1
        return {"fused": loss.item()}

    def _modulate(self, batch: Batch, features: Mapping[str, Tensor]) -> None:
        """Change the gradients before the step: here they are left as they are, and the trace is kept."""
        if self.trace:
            with torch.no_grad():
                rows = self.head_(features)
            self._record(batch, rows, {m: loss.item() for m, loss in row_losses(rows, batch).items()})

    def _check_fields(self) -> None:
        super()._check_fields()
        if self.head in ("film", "gated") and self.fusion != "sum":
            raise ValueError(f"fusion={self.fusion!r} has no effect with a {self.head} head, which fuses features and "
                             "not logits; leave it at 'sum'")  # fmt: skip

    @torch.no_grad()
    def proba(self, query: Tables) -> Tensor:
        """Film and gated are not additive: their items go through the head again, absent modalities as zeros."""
        if self.head not in ("film", "gated"):
            return super().proba(query)
        self._check_fitted()
        features, places = self.embed(query), query.places()
        for m in features:
            if len(places[m].unique()) < len(places[m]):
                raise ValueError(f"an item of the query has several rows of {m}; a {self.head} head takes at most one")
        return self.head_.fused(features, places, len(query.items())).softmax(1)


@dataclass
class Modulated(Joint):
    """Base of the methods that scale the gradients of the encoders' weights before a step.

    Raises:
        ValueError: an encoder has nothing to modulate.
    """

    modulate = "weights"  # parameters of an encoder with 2 dimensions or more; or "convolutions": with 4

    def _begin(self, support: Tables) -> None:
        super()._begin(support)
        for m in self.encoders_:
            if not self._modulated(m):
                raise ValueError(f"{type(self).__name__}: the encoder of {m!r} has no {self.modulate} to modulate; "
                                 "give it a trainable one, or use Joint")  # fmt: skip

    def _modulated(self, modality: str) -> list[nn.Parameter]:
        least = 4 if self.modulate == "convolutions" else 2
        return [p for p in self.encoders_[modality].parameters() if p.requires_grad and p.ndim >= least]


@dataclass
class OGM(Modulated):
    """On-the-fly gradient modulation: the encoder of the modality that is ahead learns more slowly.

    rho_m is the ratio of the true-class probabilities of modality m and of the others (`discrepancy`).

    Differs: attenuates every m with rho_m > 1, for any number of modalities (three in the release of MLA: one of them
    always). At rho_m = 1 exactly nobody is attenuated. `modulate="weights"` also reaches encoders without convolutions,
    where the release is silently without effect; "convolutions" is the release.
    """

    alpha: float = 0.3  # published: 0.8 on CREMA-D, 0.1 on VGGSound; MLA's release 0.3
    first: int = 0  # epochs from..to, both included, in which gradients are modulated
    last: int = 50
    modulate: str = "weights"  # or "convolutions"
    noise = False

    def _check_fields(self) -> None:
        super()._check_fields()
        if self.modulate not in ("weights", "convolutions"):
            raise ValueError(f"modulate={self.modulate!r}; there are 'weights' and 'convolutions'")

    def _modulate(self, batch: Batch, features: Mapping[str, Tensor]) -> None:
        super()._modulate(batch, features)
        if not self.first <= self.epoch_ <= self.last:
            return
        with torch.no_grad():
            rows = self.head_(features)
        ratios = discrepancy({m: true_share(z, batch.of(m, batch.y)) for m, z in rows.items()})
        for m, rho in ratios.items():
            k = 1 - math.tanh(self.alpha * rho) if rho > 1 else 1.0
            for p in self._modulated(m):
                if p.grad is not None:
                    noise = self._noise(p.grad) if self.noise else 0.0
                    p.grad.mul_(k).add_(noise)

    def _noise(self, grad: Tensor) -> Tensor:
        spread = grad.std(unbiased=grad.numel() > 1) + 1e-8
        return spread * torch.randn(grad.shape, generator=self.rng_).to(grad)


@dataclass
class OGMGE(OGM):
    """OGM with generalisation enhancement: Gaussian noise as wide as the gradient, on every encoder and step.

    Differs: nothing from the release, whose noise has the width of the gradient *before* it is attenuated; in the
    paper's covariance it shrinks with k.
    """

    noise = True


@dataclass
class SummedUnimodal(Multimodal):
    """Late fusion: each modality its own head and cross-entropy, one optimiser, logits averaged at test time."""

    shares: Mapping[str, float] = field(default_factory=dict)  # weight w_m of a modality's loss; 1 where none is given

    def _step(self, batch: Batch) -> dict[str, float]:
        rows = self.head_(self._features(batch))
        losses = row_losses(rows, batch)
        self._descend(torch.stack([self.shares.get(m, 1.0) * loss for m, loss in losses.items()]).sum())
        values = {m: loss.item() for m, loss in losses.items()}
        self._record(batch, rows, values)
        return values

    def _check_names(self, support: Tables, modalities: Sequence[str]) -> None:
        super()._check_names(support, modalities)
        strange = [name for name in self.shares if name not in modalities]
        if strange:
            raise ValueError(f"a share is given for {strange[0]!r}; the modalities are {', '.join(modalities)}")


@dataclass
class Independent(SummedUnimodal):
    """Unimodal models that never meet in training: each keeps the epoch at which it alone is best on `val`."""

    def _fit(self, support: Tables, val: Tables | None) -> None:
        self._best: dict[str, tuple[float, list[dict[str, Tensor]]]] = {}
        self._alone: dict[str, Tables] = {}
        super()._fit(support, val)
        for m, (_, kept) in self._best.items():
            restore_state([self._pair(m)], kept)
        del self._best, self._alone

    def _checked(self, val: Tables) -> Tables:
        val = super()._checked(val)
        self._alone = {m: val.only(m) for m in val.modalities}
        return val

    def _restore(self, state: Sequence[Mapping[str, Tensor]]) -> None:
        """Not the epoch that is best for all together; a modality that `val` lacks keeps its last."""

    def _end_of_epoch(self) -> None:
        super()._end_of_epoch()
        for m, own in self._alone.items():
            score = accuracy(self, own)
            if m not in self._best or score > self._best[m][0]:
                self._best[m] = score, learnt_state([self._pair(m)])

    def _pair(self, modality: str) -> nn.Module:
        """Encoder and head of one modality, as one module."""
        return nn.ModuleList([self.encoders_[modality], cast(Own, self.head_).linear[modality]])
