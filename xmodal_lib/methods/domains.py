"""Latent domains: a gate says which of many small adapters see a row, without anybody naming the domains.

Source: latent domain learning of Deecke, Hospedales & Bilen, ICLR 2022, as the disturbance estimator of Yang et al.
(arXiv 2410.10663) uses it. With a gate g(h) (b, d) of non-negative shares that sum to 1, and adapters A_k (m, D), a_k,

    U(h) = sum_k g_k(h) (A_k h + a_k)        (b, m)

Sparsemax (Martins & Astudillo, ICML 2016) is the projection onto the simplex. Most of its shares are exactly zero, and
an adapter with share zero need not be evaluated.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

GATES = ("sparsemax", "softmax")
WAYS = ("active", "dense", "loop")  # to evaluate the adapters


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


class Active(torch.autograd.Function):
    """U(h), each adapter for the rows that give it a share.

    h (b, D), g (b, d), weight (d, m, D), bias (d, m) -> (b, m). The gradient of the weights is written in place, an
    adapter at a time; to gather 128 of them costs more than the rest of the step.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, g: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        on = g.T != 0
        domain, rows = on.nonzero(as_tuple=True)  # (p,) each, of every share that is not zero, by domain
        count = on.sum(1).tolist()
        seen, seeing = bias[domain], h[rows]  # (p, m), (p, D)
        for w, out, part in zip(weight, seen.split(count), seeing.split(count), strict=True):
            if len(part):
                out.addmm_(part, w.T)
        ctx.save_for_backward(h, g, weight, bias, rows, domain, seen)
        ctx.count = count
        return h.new_zeros(len(h), bias.shape[1]).index_add_(0, rows, g[rows, domain][:, None] * seen)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, into: Tensor) -> tuple[Tensor | None, ...]:
        h, g, weight, bias, rows, domain, seen = ctx.saved_tensors
        into, seeing = into[rows], h[rows]
        of_g = torch.zeros_like(g).index_put_((rows, domain), (into * seen).sum(1))
        into = g[rows, domain][:, None] * into  # (p, m)
        of_h = torch.empty_like(seeing) if ctx.needs_input_grad[0] else seeing[:0]
        of_weight = torch.empty_like(weight)
        ends = list(itertools.accumulate(ctx.count, initial=0))
        for k, (a, b) in enumerate(itertools.pairwise(ends)):
            torch.mm(into[a:b].T, seeing[a:b], out=of_weight[k])  # zeros where no row asks
            if len(of_h):
                torch.mm(into[a:b], weight[k], out=of_h[a:b])
        whole = torch.zeros_like(h).index_add_(0, rows, of_h) if ctx.needs_input_grad[0] else None
        return whole, of_g, of_weight, torch.zeros_like(bias).index_add_(0, domain, into)


class Domains(nn.Module):
    """The estimator: rows (b, width) -> U (b, out) and the shares of its domains (b, number).

    way: "active" evaluates an adapter for the rows that give it a share; "dense" all at once; "loop" one by one, as
    released. All three give the same numbers. "fastest" is "active" for sparsemax and "dense" for softmax, which has no
    zeros; see benchmarks/domains.md.

    Raises:
        ValueError: no such gate or way, or no domain.
    """

    def __init__(
        self, width: int, number: int = 128, out: int = 64, *, gate: str = "sparsemax", way: str = "fastest"
    ) -> None:
        super().__init__()
        if gate not in GATES or way not in (*WAYS, "fastest"):
            ways = ", ".join((*WAYS, "fastest"))
            raise ValueError(f"gate={gate!r}, way={way!r}; there are {', '.join(GATES)}; and {ways}")
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
        if self.way == "active" or (self.way == "fastest" and self.gate == "sparsemax"):
            return Active.apply(h, g, self.weight, self.bias), g
        return (self._loop if self.way == "loop" else self._dense)(h, g), g

    def _dense(self, h: Tensor, g: Tensor) -> Tensor:
        seen = (h @ self.weight.flatten(0, 1).T).view(len(h), *self.bias.shape)  # (b, d, m)
        return torch.einsum("bd,bdm->bm", g, seen + self.bias)

    def _loop(self, h: Tensor, g: Tensor) -> Tensor:
        adapters = enumerate(zip(self.weight.unbind(0), self.bias.unbind(0), strict=True))
        parts = [g[:, k, None] * (h @ weight.T + bias) for k, (weight, bias) in adapters]
        return torch.stack(parts).sum(0)
