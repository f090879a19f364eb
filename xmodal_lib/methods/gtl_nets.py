"""The nets of GTL: encoders of concept and disturbance, generator, classifier.

Source: sizes and layers are those of a public development repository whose attribution to Yang et al. (arXiv
2410.10663) is inferred; the paper itself is known to us by its abstracts and a summary. There the input is a frozen
feature of D = 1280 numbers, hidden layers have 256, the concept 128 and the disturbance 64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from xmodal_lib.methods.domains import Domains

LEAST = -10.0  # of a log-variance, as released


class Posterior(NamedTuple):
    """q(z_c | x) and q(z_m | x), both diagonal Gaussians, and the shares of the latent domains."""

    concept: Tensor  # (b, Nc) mean
    concept_log: Tensor  # (b, Nc) log-variance
    disturbance: Tensor  # (b, Nm) mean, with what the estimator says
    disturbance_log: Tensor  # (b, Nm)
    raw: Tensor  # (b, Nm) mean before the estimator is asked: mu_s
    estimate: Tensor  # (b, Nm) U(h); zeros without an estimator
    shares: Tensor  # (b, d) of the domains; (b, 0) without


def hidden(width: int, size: int, dropout: float) -> nn.Sequential:
    """A layer with BatchNorm: (b, width) -> (b, size)."""
    return nn.Sequential(nn.Linear(width, size), nn.BatchNorm1d(size), nn.ReLU(), nn.Dropout(dropout))


class Encoder(nn.Module):
    """x (b, width) -> Posterior. trunks: 2, one for concept and one for disturbance ("2E"), or 1 for both ("1E").

    The estimator shifts the mean of the disturbance: mu_m = F [mu_s, U(x)]; its variance is that of mu_s.
    Differs: in the release F mixes a *sample* of N(mu_s, sigma_s) with U, so that no Gaussian of these parameters is
    left to take the KL of. Without an estimator U is zero, so F has the same size; what stood there is not recorded.
    """

    def __init__(
        self, width: int, concept: int, disturbance: int, *, size: int, dropout: float, trunks: int,
        domains: Domains | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.trunks = nn.ModuleList(hidden(width, size, dropout) for _ in range(trunks))
        self.concept = nn.ModuleList(nn.Linear(size, concept) for _ in range(2))  # mean, log-variance
        self.disturbance = nn.ModuleList(nn.Linear(size, disturbance) for _ in range(2))
        self.domains = domains
        self.fuse = nn.Linear(2 * disturbance, disturbance)

    def forward(self, x: Tensor) -> Posterior:
        h_c, h_m = self.trunks[0](x), self.trunks[-1](x) if len(self.trunks) > 1 else None
        h_m = h_c if h_m is None else h_m
        raw = self.disturbance[0](h_m)
        estimate, shares = (torch.zeros_like(raw), raw[:, :0]) if self.domains is None else self.domains(x)
        return Posterior(
            self.concept[0](h_c), self.concept[1](h_c).clamp(min=LEAST),
            self.fuse(torch.cat([raw, estimate], 1)), self.disturbance[1](h_m).clamp(min=LEAST),
            raw, estimate, shares,
        )  # fmt: skip


class Generator(nn.Module):
    """g(z_c, z_m): (b, Nc), (b, Nm) -> mean of x (b, width)."""

    def __init__(self, concept: int, disturbance: int, width: int, size: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(concept + disturbance, size), nn.BatchNorm1d(size), nn.ReLU(), nn.Linear(size, width)
        )

    def forward(self, concept: Tensor, disturbance: Tensor) -> Tensor:
        return self.net(torch.cat([concept, disturbance], 1))


class Classifier(nn.Module):
    """Logits from the concept: projection to the width of the feature, BatchNorm, a linear layer without bias."""

    def __init__(self, concept: int, width: int, classes: int) -> None:
        super().__init__()
        self.project = nn.Linear(concept, width, bias=False)
        self.neck = nn.BatchNorm1d(width)
        self.linear = nn.Linear(width, classes, bias=False)

    def forward(self, concept: Tensor) -> Tensor:
        return self.linear(self.neck(self.project(concept)))
