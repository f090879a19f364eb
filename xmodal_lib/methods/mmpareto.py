"""MMPareto: each encoder serves the fused loss and its own unimodal loss without betraying either.

Source: Wei & Hu, "MMPareto: Boosting Multimodal Learning with Innocent Unimodal Assistance", ICML 2024, and its
release. With f_m = E_m(x_m) (b, D), a joint head on all features and a head of its own for each modality,

    L = CE(joint(f_1, ..., f_M)) + sum_m CE(own_m(f_m))

all heads take the gradient of L. For the parameters of encoder m, with a the gradient of the fused loss and b that of
its unimodal loss,

    w = 1/2                                     where a'b > 0: they agree
    w = argmin |w a + (1 - w) b|                where they do not: (b'b - a'b) / (a'a + b'b - 2 a'b)
    g = 2 (w a + (1 - w) b)
    g <- gamma g max(1, |a + b| / |g|)          for each parameter tensor: at least as long as for L

In conflict g'a = g'b >= 0 before the lengths are set, so a small step lowers both losses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from xmodal_lib.methods.heads import Concat, Features, Head, Own, Places
from xmodal_lib.methods.multimodal import Batch, Multimodal, row_losses
from xmodal_lib.tables import Tables
from xmodal_lib.training import generator


def min_norm(aa: float, ab: float, bb: float) -> float:
    """Weight w for which |w a + (1 - w) b| is least, from inner products; a corner is .999 or .001, as released."""
    if ab >= aa:
        return 0.999
    if ab >= bb:
        return 0.001
    return (bb - ab) / (aa + bb - 2 * ab)


def pareto(joint: Sequence[Tensor], own: Sequence[Tensor], gamma: float = 1.5) -> list[Tensor]:
    """Gradient of one encoder, tensor by tensor, from those of the fused loss (a) and of its unimodal loss (b)."""
    a, b = (torch.cat([g.flatten() for g in part]) for part in (joint, own))
    aa, ab, bb = float(a @ a), float(a @ b), float(b @ b)
    w = 0.5 if ab > 0 else min_norm(aa, ab, bb)
    found = []
    for ga, gb in zip(joint, own, strict=True):
        g = 2 * (w * ga + (1 - w) * gb)
        length, rounding = g.norm(), 100 * torch.finfo(g.dtype).eps * (ga.norm() + gb.norm())
        longer = ((ga + gb).norm() / length).clamp(min=1) if length > rounding else 0.0
        found.append(gamma * longer * g)
    return found


class JointAndOwn(Head):
    """A joint head for items and a head of its own for the rows of each modality."""

    def __init__(self, widths: Mapping[str, int], classes: int, rng: torch.Generator) -> None:
        super().__init__()
        self.joint, self.own = Concat(widths, classes, rng), Own(widths, classes, rng)

    def rows(self, modality: str, f: Tensor) -> Tensor:
        return self.own.rows(modality, f)

    def fused(self, features: Features, places: Places, items: int) -> Tensor:
        return self.joint.fused(features, places, items)


@dataclass
class MMPareto(Multimodal):
    """Fused and unimodal losses together, each encoder along a direction that harms neither.

    Row logits are those of the modality's own head. An item with several rows is answered by the joint head, one with
    a single row by that modality's own head, which was trained for it (`joint=False`: own heads throughout, fused by
    `fusion`). The release: lr 2e-3, 50 epochs, decay after 30.

    Differs: an item that lacks a modality takes part in the fused loss with what it has, and in the unimodal losses of
    these; the release has no such items. Where a and b are opposite, g is zero but for rounding, and stays zero; in the
    release rounding is brought to length (or is 0/0).

    Raises:
        ValueError: an encoder has nothing to train, so there are no gradients to balance.
    """

    gamma: float = 1.5
    joint: bool = True  # answer by the joint head; False: by the own heads

    head_: JointAndOwn = field(init=False, repr=False, compare=False)

    def _begin(self, support: Tables) -> None:
        super()._begin(support)
        for m, encoder in self.encoders_.items():
            if not any(p.requires_grad for p in encoder.parameters()):
                raise ValueError(f"MMPareto: the encoder of {m!r} has no gradients to balance; give it a trainable "
                                 "one, or use SummedUnimodal")  # fmt: skip

    def _head(self, widths: Mapping[str, int]) -> JointAndOwn:
        return JointAndOwn(widths, len(self.classes_), generator(self.seed, 1))

    def _step(self, batch: Batch) -> dict[str, float]:
        features = self._features(batch)
        rows = self.head_(features)
        fused = F.cross_entropy(self.head_.fused(features, batch.places, len(batch.y)), batch.y)
        losses = row_losses(rows, batch)
        self.optimiser_.zero_grad()
        for m, loss in losses.items():
            params = [p for p in self.encoders_[m].parameters() if p.requires_grad]
            a, b = (torch.autograd.grad(part, params, retain_graph=True, allow_unused=True) for part in (fused, loss))
            used = [k for k, g in enumerate(a) if g is not None]
            for k, g in zip(used, pareto([a[k] for k in used], [b[k] for k in used], self.gamma), strict=True):
                params[k].grad = g
        torch.stack([fused, *losses.values()]).sum().backward(inputs=list(self.head_.parameters()))
        values = {"fused": fused.item()} | {m: loss.item() for m, loss in losses.items()}
        self._record(batch, rows, values)
        self.optimiser_.step()
        self.steps_ += 1
        return values

    @torch.no_grad()
    def proba(self, query: Tables) -> Tensor:
        self._check_fitted()
        if not self.joint:
            return super().proba(query)
        features = self.embed(query)
        places = {m: place for m, place in query.places().items() if m in features}
        n = len(query.items())
        single = torch.cat(list(places.values())).bincount(minlength=n) == 1  # (n,) items of one row
        z = self.head_.fused(features, places, n)
        for m, rows in self.head_(features).items():
            alone = single[places[m]]
            z[places[m][alone]] = rows[alone]
        return z.softmax(1)

    def fused_by(self, rule: str | Mapping[str, float]) -> Self:
        """The same fitted method, answered by its own heads and this rule of fusion; shares what was learnt."""
        other = super().fused_by(rule)
        other.joint = False
        return other

    def _check_fields(self) -> None:
        super()._check_fields()
        if self.gamma <= 0:
            raise ValueError(f"gamma={self.gamma}; a positive number is needed")
