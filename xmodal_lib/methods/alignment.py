"""Losses that bring two modalities into one space.

Every loss takes embeddings z_s, z_t (b, D) of b pairs, row i of both being a pair, and the set (b,) that each pair was
drawn from. Strong pairs are sets of one pair each; weak pairs are sets of several rows of each modality, and the loss
of a batch is then a sample of the expectation over X_s x X_t. Rows of one set are never negatives of one another.
With cosines c_ij = cos(z_s_i, z_t_j) and N_i the pairs j of other sets than i's,

    triplet    mean over i, j in N_i of max(0, m + c_ij - c_ii) and of max(0, m + c_ji - c_ii)
    centroid   (1 / b) sum over sets i, j of max(0, m + a_i.b_j - a_j.b_j), a and b the mean unit target and source row
    info-nce   mean over i of -log softmax of c_ii / T among c_ii and c_ij, j in N_i; and of the same with c_ji
    linear     sum over i of -z_s_i.z_t_i + sum over j in N_i of z_s_i.z_t_j
    cosine     1 - mean over i of c_ii

Sources: Liang et al., "Cross-Modal Generalization", ACM MM 2021 (arXiv 2012.02813): eq. 2 is `linear`, their public
release has `centroid` and `cosine`; van den Oord et al., 2018 (InfoNCE); Tzeng et al., 2014 (`confusion`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xmodal_lib.tables import class_means

LOSSES = ("triplet", "centroid", "info-nce", "linear", "cosine")


def alignment(loss: str, zs: Tensor, zt: Tensor, sets: Tensor, *, margin: float, temperature: float) -> Tensor:
    """The loss of this name of LOSSES: (b, D), (b, D), (b,) -> ()."""
    match loss:
        case "triplet":
            return triplet(zs, zt, sets, margin)
        case "centroid":
            return centroid_hinge(zs, zt, sets, margin)
        case "info-nce":
            return info_nce(zs, zt, sets, temperature)
        case "linear":
            return linear(zs, zt, sets)
        case "cosine":
            return cosine(zs, zt)
    raise ValueError(f"there is no alignment loss {loss!r}; there are {', '.join(LOSSES)}")


def triplet(zs: Tensor, zt: Tensor, sets: Tensor, margin: float) -> Tensor:
    """Hinge on the cosines of each pair against every negative, in both directions; 0 where there is no negative."""
    c = _cosines(zs, zt)
    own, negative = c.diag(), sets.unsqueeze(1) != sets
    hinge = F.relu(margin + c - own.unsqueeze(1)) + F.relu(margin + c - own)  # rows: source anchors; columns: target
    return (hinge * negative).sum() / (2 * negative.sum()).clamp(min=1)


def centroid_hinge(zs: Tensor, zt: Tensor, sets: Tensor, margin: float) -> Tensor:
    """The released loss: source centroids b_j are anchors, target centroids a_i of other sets the negatives.

    As released, i = j is among the terms, so the loss of C sets never falls below C * margin / b; the centroids are not
    normalised again, there is one direction, and the divisor is the batch.
    """
    _, group = sets.unique(return_inverse=True)
    both = F.normalize(torch.stack([zt, zs], 1), dim=2)  # (b, 2, D)
    a, b = class_means(both, group, int(group.max()) + 1).unbind(1)  # (C, D)
    s = a @ b.T
    return F.relu(margin + s - s.diag()).sum() / len(zs)


def info_nce(zs: Tensor, zt: Tensor, sets: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of each pair among its negatives, mean of both directions."""
    c = _cosines(zs, zt) / temperature
    mates = (sets.unsqueeze(1) == sets).fill_diagonal_(False)
    c, target = c.masked_fill(mates, -torch.inf), torch.arange(len(c), device=c.device)
    return (F.cross_entropy(c, target) + F.cross_entropy(c.T, target)) / 2


def linear(zs: Tensor, zt: Tensor, sets: Tensor) -> Tensor:
    """Eq. 2 as published: a sum, linear in the scores, so it has no lower bound unless embeddings are normalised."""
    s = zs @ zt.T
    return (s * (sets.unsqueeze(1) != sets)).sum() - s.diag().sum()


def cosine(zs: Tensor, zt: Tensor) -> Tensor:
    """No negatives: a constant embedding is an optimum."""
    return 1 - F.cosine_similarity(zs, zt).mean()


def confusion(zs: Tensor, zt: Tensor) -> Tensor:
    """Squared distance of the mean embeddings of two modalities (linear MMD, as in DDC): (a, D), (b, D) -> ()."""
    return (zs.mean(0) - zt.mean(0)).square().sum()


def _cosines(zs: Tensor, zt: Tensor) -> Tensor:
    return F.normalize(zs, dim=1) @ F.normalize(zt, dim=1).T
