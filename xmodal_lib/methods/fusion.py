"""Row logits -> item probabilities: how the rows that show one item are brought to one answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Weights = Callable[[Tensor, str], Tensor]  # (row logits (n, C), modality) -> (n,) non-negative fusion weights


def uniform(logits: Tensor, modality: str) -> Tensor:
    """Every row counts the same."""
    return logits.new_ones(len(logits))


def fuse(logits: Mapping[str, Tensor], pairs: Mapping[str, Tensor], weights: Weights = uniform) -> Tensor:
    """Weighted mean of the logits of the rows that show one item, then softmax: (n_items, C), sorted by item id.

    logits {modality: (n_m, C)}, pairs {modality: (n_m,)}. Weights are normalised over the rows an item has, so an
    item that lacks a modality is answered from the rows it has.
    """
    pair = torch.cat([pairs[m] for m in logits])
    weight = torch.cat([weights(z, m) for m, z in logits.items()])
    items, index = pair.unique(return_inverse=True)
    total = weight.new_zeros(len(items)).index_add_(0, index, weight)
    share = (weight / total[index]).unsqueeze(1)  # (n, 1)
    z = torch.cat(list(logits.values())) * share
    return z.new_zeros(len(items), z.shape[1]).index_add_(0, index, z).softmax(1)
