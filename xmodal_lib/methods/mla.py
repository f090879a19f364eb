"""MLA: modalities take turns; one head serves them all, and is held back from forgetting the one before.

Source: Zhang et al., "Multimodal Representation Learning by Alternating Unimodal Adaptation", CVPR 2024 (arXiv
2311.10707), and its release. For each batch, for each modality m in order:

    f_m = E_m(x_m)  (b, D)       z_m = W f_m + b  (b, C)       L_m = CE(z_m)         a step for E_m, W and b

and before that step the gradient of the head's weight is modified, W <- W - eta (grad W) P, where P (D, D) takes out
the directions that the modality before has used. With h (D,) its mean feature over the batch, by recursive least
squares,

    q = P h / (lam + h' P h)         P <- P - q (P h)'         P = I to begin with

so that for a step along (grad W) P the logits W h move by lam / (lam + h' P h) of what they would have moved by with
the P before. P stays symmetric, eigenvalues in (0, 1]; without a reset it only shrinks, and on long runs the head
stops learning. At test time rows are weighted by their entropy (`fusion`).

| | fields |
|---|---|
| the paper | `MLA()` |
| the public release as it runs, under the torch of its time | `MLA(**RELEASED)`: no gradient is modified |
| its modification forced on | `MLA(**FORCED)` |

Differs: the paper's h is a mean over the data; the release's and ours is over the batch. P's start is not in the paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xmodal_lib.methods.heads import Shared
from xmodal_lib.methods.multimodal import Batch, Multimodal
from xmodal_lib.tables import Tables

RELEASED: dict[str, Any] = {"projection": "none", "zero_grad": "fill", "fusion": "batch entropy"}
FORCED: dict[str, Any] = RELEASED | {"projection": "released", "source": "current", "lam": None, "normalise": "fro"}
CHOICES = {
    "projection": ("owm", "released", "none"),
    "source": ("previous", "current"),
    "reset": ("never", "epoch"),
    "normalise": ("none", "fro"),
    "zero_grad": ("none", "fill"),
}


def owm(p: Tensor, h: Tensor, lam: float) -> Tensor:
    """Fold a direction into P, in place: (D, D), (D,) -> (D, D). Eq. of the module's docstring.

    P - k k' with k = P h / sqrt(lam + h' P h) is symmetric to the last bit.
    """
    ph = p @ h
    k = ph / (lam + h @ ph).sqrt()
    return p.sub_(torch.outer(k, k))


def released(p: Tensor, h: Tensor, lam: float) -> Tensor:
    """The recursion of the release: divides by an outer product, element by element, where a number belongs.

    k = P h;  P <- P - (k k') / (lam + k h'). Neither symmetric nor a projection; denominators can cross zero.
    """
    k = p @ h
    return p - torch.outer(k, k) / (lam + torch.outer(k, h))


@dataclass
class MLA(Multimodal):
    """Alternating unimodal adaptation with a shared head, for any number of modalities.

    `source` says whose mean feature is folded into P before the gradient is multiplied: that of the modality of the
    step before (the paper's idea), or of the present one (the release). The very first step is never modified; the
    bias never is.

    Differs: only the encoder of the present modality and the head move in its step. In the release, under the torch of
    its time, gradients were filled with zeros, so encoders of earlier modalities moved too, by momentum and weight
    decay: `zero_grad="fill"`.
    """

    fusion: str | Mapping[str, float] = "entropy"
    projection: str = "owm"  # how the head's gradient is modified; "none" is what the release does
    source: str = "previous"
    lam: float | None = 0.1  # of the recursion; None: 0.1 ** (1 + b / B) at batch b of B, as released
    reset: str = "never"  # or "epoch": P starts anew with each
    normalise: str = "none"  # or "fro": P over its Frobenius norm after each update, as released
    zero_grad: str = "none"

    head = "shared"

    head_: Shared = field(init=False, repr=False, compare=False)
    p_: Tensor = field(init=False, repr=False, compare=False)  # (D, D)

    def _begin(self, support: Tables) -> None:
        super()._begin(support)
        self._reset()
        self.before_: Tensor | None = None  # (D,) mean feature of the step before

    def _step(self, batch: Batch) -> dict[str, float]:
        features = self._features(batch)  # all of them before the first step
        losses, rows = {}, {}
        for m, f in features.items():
            z = self.head_.rows(m, f)
            loss = F.cross_entropy(z, batch.of(m, batch.y))
            loss.backward()
            losses[m], rows[m] = loss.item(), z
            if self.projection != "none":
                self._modify(f)
            self.optimiser_.step()
            self._clear()
            self.steps_ += 1
        if self.zero_grad == "fill":
            self.optimiser_.zero_grad()  # gradients of a batch end with it
        self.place_ += 1
        self._record(batch, rows, losses)
        return losses

    def _clear(self) -> None:
        """No gradients, or zeros; `zero_grad` of the optimiser costs as much as a small head's step."""
        if self.zero_grad == "fill":
            self.optimiser_.zero_grad(set_to_none=False)
            return
        for p in self.optimiser_.param_groups[0]["params"]:
            p.grad = None

    @torch.no_grad()
    def _modify(self, f: Tensor) -> None:
        """(grad W) P, after P has learnt of the modality before (or the present one)."""
        here = f.detach().mean(0).to(self.p_.dtype)  # (D,)
        if self.before_ is not None:
            h = self.before_ if self.source == "previous" else here
            lam = 0.1 ** (1 + self.place_ / self.batches_) if self.lam is None else self.lam
            self.p_ = owm(self.p_, h, lam) if self.projection == "owm" else released(self.p_, h, lam)
            if self.normalise == "fro":
                self.p_ /= self.p_.norm()
            weight = self.head_.linear.weight
            if weight.grad is not None:  # (C, D)
                weight.grad = (weight.grad.to(self.p_.dtype) @ self.p_.T).to(weight.dtype)
        self.before_ = here

    def batches(self) -> Iterator[Batch]:
        self.place_ = 0  # of the batch in its epoch
        if self.reset == "epoch":
            self._reset()
        self.batches_ = -(-len(self.items_.y) // self.batch)
        yield from super().batches()

    def _reset(self) -> None:
        """P = I (D, D), in float64: in float32 it turns indefinite once h'h is some 1e7 times lam."""
        device, width = self.head_.linear.weight.device, next(iter(self.widths_.values()))
        self.p_ = torch.eye(width, device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)

    def _fit(self, support: Tables, val: Tables | None) -> None:
        super()._fit(support, val)
        del self.before_

    def _check_fields(self) -> None:
        super()._check_fields()
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}; there are {', '.join(known)}")
        if self.lam is not None and self.lam <= 0:
            raise ValueError(f"lam={self.lam}; a positive number, or None for the released schedule, is needed")
