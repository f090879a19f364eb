"""The losses of GTL: KL divergences, the bounds of log p(x), and the two pair losses of the development repository."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def sample(mean: Tensor, log: Tensor, rng: torch.Generator) -> Tensor:
    """A draw of N(mean, exp(log)) by reparametrisation: (b, k), (b, k) -> (b, k)."""
    return mean + (log / 2).exp() * torch.randn(mean.shape, generator=rng).to(mean)


def kl_to_standard(mean: Tensor, log: Tensor) -> Tensor:
    """KL(N(mean, exp(log)) || N(0, I)) in nats: (b, k), (b, k) -> (b,)."""
    return (mean.square() + log.exp() - 1 - log).sum(1) / 2


def log_normal(x: Tensor, mean: Tensor, log: Tensor | float = 0.0) -> Tensor:
    """log N(x; mean, exp(log)) in nats: (..., k) -> (...,)."""
    log = torch.as_tensor(log, dtype=x.dtype, device=x.device).expand_as(x)
    return -((x - mean).square() / log.exp() + log + math.log(2 * math.pi)).sum(-1) / 2


def hard_triplet(z: Tensor, y: Tensor, margin: float = 0.3) -> Tensor:
    """For each row, its farthest row of the class against its nearest of another, in cosine: (b, k), (b,) -> ().

    A batch of one class has no negatives: the loss is 0.
    """
    unit = F.normalize(z, dim=1)
    distance, same = 1 - unit @ unit.T, y[:, None] == y[None]
    if same.all():
        return z.sum() * 0
    farthest = distance.masked_fill(~same, -torch.inf).amax(1)
    nearest = distance.masked_fill(same, torch.inf).amin(1)
    kept = nearest.isfinite()
    return F.relu(farthest - nearest + margin)[kept].mean()


def to_centres(z: Tensor, y: Tensor, centres: Tensor) -> Tensor:
    """Half the mean squared distance of each row to the centre of its class: (b, k), (b,), (C, k) -> ()."""
    return (z - centres[y]).square().sum(1).mean() / 2
