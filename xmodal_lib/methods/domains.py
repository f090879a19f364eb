"""Latent domains: a gate says which of many small adapters see a row, without anybody naming the domains.

Source: latent domain learning of Deecke, Hospedales & Bilen, ICLR 2022, as the disturbance estimator of Yang et al.
(arXiv 2410.10663) uses it. With a gate g(h) (b, d) of non-negative shares that sum to 1, and adapters A_k (m, D), a_k,

    U(h) = sum_k g_k(h) (A_k h + a_k)        (b, m)

Sparsemax (Martins & Astudillo, ICML 2016) is the projection onto the simplex. Most of its shares are exactly zero, and
an adapter with share zero need not be evaluated.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

GATES = ("sparsemax", "softmax")
WAYS = ("active", "dense", "loop")


def sparsemax(z: Tensor) -> Tensor:
    """Nearest point of the simplex, (..., d) -> (..., d): shares >= 0 that sum to 1.

    p_k = max(z_k - tau, 0), where tau makes them sum to 1. Its derivative is that of a mean over the k with p_k > 0.

    >>> sparsemax(torch.tensor([1.0, 0.5, -1.0]))
    tensor([0.7500, 0.2500, 0.0000])
    """
    ordered = z.sort(dim=-1, descending=True).values
    sums = ordered.cumsum(-1) - 1  # of the k largest
    count = torch.arange(1, z.shape[-1] + 1, device=z.device)
    size = (ordered * count > sums).sum(-1, keepdim=True)  # of the support
    return (z - sums.gather(-1, size - 1) / size).clamp(min=0)


class Domains(nn.Module):
    """The estimator: rows (b, width) -> U (b, out) and the shares of its domains (b, number).

    way: "active" evaluates an adapter for the rows that give it a share; "dense" all at once; "loop" one by one, as
    released. All three give the same numbers; see benchmarks/domains.md.

    Raises:
        ValueError: no such gate or way, or no domain.
    """

    def __init__(
        self, width: int, number: int = 128, out: int = 64, *, gate: str = "sparsemax", way: str = "active"
    ) -> None:
        super().__init__()
        if gate not in GATES or way not in WAYS:
            raise ValueError(f"gate={gate!r}, way={way!r}; there are {', '.join(GATES)}; and {', '.join(WAYS)}")
        if number < 1:
            raise ValueError(f"{number} latent domains; at least 1 is needed")
        self.gate = gate
        self.way = way
        self.score = nn.Linear(width, number)
        self.weight = nn.Parameter(torch.empty(number, out, width))
        self.bias = nn.Parameter(torch.empty(number, out))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As nn.Linear starts, each adapter."""
        bound = 1 / math.sqrt(self.weight.shape[2])
        for p in (self.weight, self.bias):
            nn.init.uniform_(p, -bound, bound)

    def shares(self, h: Tensor) -> Tensor:
        """g(h): (b, width) -> (b, number)."""
        z = self.score(h)
        return sparsemax(z) if self.gate == "sparsemax" else z.softmax(1)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        g = self.shares(h)
        return {"active": self._active, "dense": self._dense, "loop": self._loop}[self.way](h, g), g

    def _active(self, h: Tensor, g: Tensor) -> Tensor:
        rows, domain = (g.detach() != 0).nonzero(as_tuple=True)  # (p,) each, of every share that is not zero
        order = domain.argsort(stable=True)
        rows, domain = rows[order], domain[order]
        used, count = domain.unique_consecutive(return_counts=True)
        weight = self.weight.unbind(0)  # and not an index each, whose gradients are all as large as the whole
        parts = h[rows].split(count.tolist())
        none = h.new_zeros(0, self.weight.shape[1])  # where there is no row; seen (p, out)
        seen = torch.cat(
            [none, *(part @ weight[k].T for k, part in zip(used.tolist(), parts, strict=True))]
        )  # (p, out)
        shared = g[rows, domain][:, None] * (seen + self.bias[domain])
        return torch.zeros(len(h), seen.shape[1], dtype=seen.dtype, device=h.device).index_add(0, rows, shared)

    def _dense(self, h: Tensor, g: Tensor) -> Tensor:
        return torch.einsum("bd,dmw,bw->bm", g, self.weight, h) + g @ self.bias

    def _loop(self, h: Tensor, g: Tensor) -> Tensor:
        adapters = enumerate(zip(self.weight.unbind(0), self.bias.unbind(0), strict=True))
        parts = [g[:, k, None] * (h @ weight.T + bias) for k, (weight, bias) in adapters]
        return torch.stack(parts).sum(0)
