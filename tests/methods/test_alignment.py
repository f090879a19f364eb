"""Alignment losses against slow loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cosine_similarity

from xmodal_lib.methods.alignment import LOSSES, alignment, confusion

MARGIN, TEMPERATURE = 0.3, 0.2


def cos(a: Tensor, b: Tensor) -> float:
    return float(cosine_similarity(a, b, dim=0))


def slow_triplet(zs: Tensor, zt: Tensor, sets: list[int]) -> float:
    terms = []
    for i, own in enumerate(sets):
        for j, other in enumerate(sets):
            if own != other:
                terms.append(max(0.0, MARGIN + cos(zs[i], zt[j]) - cos(zs[i], zt[i])))
                terms.append(max(0.0, MARGIN + cos(zs[j], zt[i]) - cos(zs[i], zt[i])))
    return sum(terms) / max(len(terms), 1)


def slow_centroid(zs: Tensor, zt: Tensor, sets: list[int]) -> float:
    def centroid(z: Tensor, c: int) -> Tensor:
        rows = [z[i] / z[i].norm() for i in range(len(sets)) if sets[i] == c]
        return torch.stack(rows).sum(0) / len(rows)

    total = 0.0
    for i in sorted(set(sets)):
        for j in sorted(set(sets)):
            anchor = centroid(zs, j)
            total += max(0.0, MARGIN + float(centroid(zt, i) @ anchor) - float(centroid(zt, j) @ anchor))
    return total / len(sets)


def slow_info_nce(zs: Tensor, zt: Tensor, sets: list[int]) -> float:
    losses = []
    for i, own in enumerate(sets):
        for score in (lambda j, i=i: cos(zs[i], zt[j]), lambda j, i=i: cos(zs[j], zt[i])):
            rivals = [i] + [j for j, other in enumerate(sets) if other != own]
            losses.append(-math.log(math.exp(score(i) / TEMPERATURE)
                                    / sum(math.exp(score(j) / TEMPERATURE) for j in rivals)))  # fmt: skip
    return sum(losses) / len(losses)


def slow_linear(zs: Tensor, zt: Tensor, sets: list[int]) -> float:
    total = 0.0
    for i, own in enumerate(sets):
        total -= float(zs[i] @ zt[i])
        total += sum(float(zs[i] @ zt[j]) for j, other in enumerate(sets) if other != own)
    return total


def slow_cosine(zs: Tensor, zt: Tensor, sets: list[int]) -> float:
    return 1 - sum(cos(a, b) for a, b in zip(zs, zt, strict=True)) / len(sets)


SLOW = {"triplet": slow_triplet, "centroid": slow_centroid, "info-nce": slow_info_nce, "linear": slow_linear,
        "cosine": slow_cosine}  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES)
@given(seed=st.integers(0, 10_000), sets=st.lists(st.integers(0, 4), min_size=1, max_size=7))
@settings(max_examples=20, deadline=None)
def test_a_loss_is_that_of_a_loop(loss: str, seed: int, sets: list[int]) -> None:
    rng = torch.Generator().manual_seed(seed)
    zs, zt = (torch.randn(len(sets), 5, generator=rng, dtype=torch.float64) for _ in range(2))
    found = alignment(loss, zs, zt, torch.tensor(sets), margin=MARGIN, temperature=TEMPERATURE)
    assert float(found) == pytest.approx(SLOW[loss](zs, zt, sets), abs=1e-9)


def test_the_released_loss_has_a_floor() -> None:
    z = torch.eye(4)[[0, 0, 1, 1, 2, 2]]  # three classes, perfectly aligned
    sets = torch.tensor([0, 0, 1, 1, 2, 2])
    assert float(alignment("centroid", z, z, sets, margin=0.1, temperature=1)) == pytest.approx(3 * 0.1 / 6)


def test_confusion_is_the_distance_of_means() -> None:
    zs, zt = torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert float(confusion(zs, zt)) == pytest.approx(2**2 + 1)


def test_an_unknown_loss_is_named() -> None:
    with pytest.raises(ValueError, match="no alignment loss 'nce'; there are triplet"):
        alignment("nce", torch.eye(2), torch.eye(2), torch.arange(2), margin=0.1, temperature=1)
