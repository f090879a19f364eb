"""Sparsemax against its definition, and the three ways to evaluate the adapters against each other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xmodal_lib.methods.domains import GATES, WAYS, Domains, sparsemax


def nearest_on_the_simplex(z: torch.Tensor) -> torch.Tensor:
    """By bisection of the threshold tau with sum max(z - tau, 0) = 1."""
    low, high = z.min() - 1, z.max()
    for _ in range(200):
        tau = (low + high) / 2
        low, high = (tau, high) if (z - tau).clamp(min=0).sum() > 1 else (low, tau)
    return (z - tau).clamp(min=0)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.floats(0.01, 30), st.integers(0, 10_000))
def test_sparsemax_is_the_projection_onto_the_simplex(d: int, scale: float, seed: int) -> None:
    z = scale * torch.randn(3, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    p = sparsemax(z)
    torch.testing.assert_close(p.sum(1), torch.ones(3, dtype=torch.float64))
    assert (p >= 0).all()
    for row, found in zip(z, p, strict=True):
        torch.testing.assert_close(found, nearest_on_the_simplex(row), atol=1e-9, rtol=0)


def test_sparsemax_has_exact_zeros_where_softmax_has_none() -> None:
    z = torch.tensor([[3.0, 1.0, 0.0, -1.0]])
    assert sparsemax(z).tolist() == [[1.0, 0.0, 0.0, 0.0]]
    assert (z.softmax(1) > 0).all()
    assert sparsemax(torch.zeros(1, 4)).tolist() == [[0.25] * 4]


def test_the_gradient_of_sparsemax() -> None:
    z = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(sparsemax, z)


@pytest.mark.parametrize("gate", GATES)
def test_all_ways_give_the_same_numbers_and_gradients(gate: str) -> None:
    torch.manual_seed(0)
    net, h = Domains(12, 7, 5, gate=gate).double(), torch.randn(9, 12, dtype=torch.float64)
    found = {}
    for way in WAYS:
        net.way = way
        net.zero_grad()
        x = h.clone().requires_grad_()
        u, g = net(x)
        (u * torch.arange(5)).sum().backward()
        found[way] = [u, g, x.grad, *(p.grad.clone() for p in net.parameters())]
    by_hand = [sum(g[i, k] * (net.weight[k] @ h[i] + net.bias[k]) for k in range(7)) for i in range(9)]
    torch.testing.assert_close(found["loop"][0], torch.stack(by_hand))
    for way in WAYS:
        for a, b in zip(found[way], found["loop"], strict=True):
            torch.testing.assert_close(a, b)


def test_no_such_gate_and_no_domain() -> None:
    with pytest.raises(ValueError, match="there are sparsemax, softmax"):
        Domains(4, gate="hard")
    with pytest.raises(ValueError, match="at least 1"):
        Domains(4, number=0)
