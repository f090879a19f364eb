"""What GTL has to beat: simple classifiers on the same rows, or on the concept of a trained GTL.

| class | what |
|---|---|
| ClassMeans | nearest class mean, of all modalities pooled or of each by itself |
| Logistic | a linear probe |
| Cache | the cache of Tip-Adapter (Zhang et al., ECCV 2022) by itself: there is no text here |
| `GTL(domains=0)` | a plain VAE, no estimator |
| `GTL(domains=0, sampled=False)` | an autoencoder |
| `GTL(domains=0, sampled=False, weight_x=0)` | cross-entropy alone |

Rows are standardised by the base, as GTL's are; without `pretrain`, by the support.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Self

import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from xmodal_lib.methods.convex import regression
from xmodal_lib.methods.gtl import GTL, standardising
from xmodal_lib.methods.method import Method
from xmodal_lib.tables import Tables, check_labelled, class_means, usable


@dataclass
class OnRows(Method):
    """Base: classifiers on standardised rows (n, D), or on the concept that `body` finds in them (n, Nc).

    Raises:
        ValueError: a modality or a class has no row.
    """

    body: GTL | None = None  # its base stage is that of `pretrain`; None: the rows themselves
    modalities: tuple[str, ...] = ()  # to learn from; () for all

    base_: dict[str, Tensor] = field(init=False, repr=False, compare=False)  # mean and deviation of base rows
    scale_: dict[str, Tensor] = field(init=False, repr=False, compare=False)  # these, or those of the support

    def pretrain(self, base: Tables) -> Self:
        method = copy.deepcopy(self)
        if self.body is not None:
            method.body = self.body.pretrain(base)
        else:
            method.base_ = standardising(torch.cat([t.x for t in base.rows.values()]))
        return method

    def _fit(self, support: Tables, val: Tables | None) -> None:
        modalities = self.modalities or support.modalities
        for m in modalities:
            usable(support, m, f"{type(self).__name__} learns from")
        support = support.only(*modalities)
        check_labelled(support, "support")
        if self.body is None:
            known = getattr(self, "base_", None)
            self.scale_ = known or standardising(torch.cat([t.x for t in support.rows.values()]))
        y = torch.cat([t.y for t in support.rows.values()])
        empty = (y.bincount(minlength=len(support.classes)) == 0).nonzero()
        if len(empty):
            raise ValueError(f"class {support.classes[int(empty[0])]!r} has no row; each class needs one")
        self._learn({m: (z, support[m].y) for m, z in self._embedded(support).items()}, len(support.classes))

    def _learn(self, rows: dict[str, tuple[Tensor, Tensor]], classes: int) -> None:
        """From {modality: rows (n_m, D) and labels (n_m,)}."""
        raise NotImplementedError

    def _scores(self, modality: str, z: Tensor) -> Tensor:
        """Logits: (n, D) -> (n, C)."""
        raise NotImplementedError

    def embed(self, query: Tables) -> dict[str, Tensor]:
        self._check_fitted()
        return self._embedded(query)

    def _embedded(self, tables: Tables) -> dict[str, Tensor]:
        if self.body is not None:
            return self.body.embed(tables)
        return {m: (t.x.flatten(1) - self.scale_["mean"]) / self.scale_["deviation"] for m, t in tables.rows.items()}

    @torch.no_grad()
    def logits(self, query: Tables) -> dict[str, Tensor]:
        return {m: self._scores(m, z) for m, z in self.embed(query).items()}


@dataclass
class ClassMeans(OnRows):
    """The class whose mean is nearest in angle."""

    each: bool = False  # a modality by its own means; False: means over the rows of all
    scale: float = 10.0  # multiplies the cosine

    means_: dict[str, Tensor] = field(init=False, repr=False, compare=False)  # (C, D)

    def _learn(self, rows: dict[str, tuple[Tensor, Tensor]], classes: int) -> None:
        unit = {m: (F.normalize(z, dim=1), y) for m, (z, y) in rows.items()}
        z, y = (torch.cat([part[k] for part in unit.values()]) for k in (0, 1))
        pooled = class_means(z, y, classes)
        self.means_ = {"": F.normalize(pooled, dim=1)}
        for m, (z, y) in unit.items() if self.each else ():
            lacking = (y.bincount(minlength=classes) == 0)[:, None]  # such a class keeps the mean of all
            self.means_[m] = F.normalize(torch.where(lacking, pooled, class_means(z, y, classes)), dim=1)

    def _scores(self, modality: str, z: Tensor) -> Tensor:
        return self.scale * F.normalize(z, dim=1) @ self.means_.get(modality, self.means_[""]).T


@dataclass
class Logistic(OnRows):
    """Multinomial logistic regression, by L-BFGS."""

    c: float = 0.01  # inverse of the weight of the L2 penalty

    weight_: Tensor = field(init=False, repr=False, compare=False)  # (C, D)
    bias_: Tensor = field(init=False, repr=False, compare=False)  # (C,)

    def _learn(self, rows: dict[str, tuple[Tensor, Tensor]], classes: int) -> None:
        z, y = (torch.cat([part[k] for part in rows.values()]) for k in (0, 1))
        self.weight_, self.bias_ = regression(LogisticRegression(C=self.c, max_iter=1000), z, y)

    def _scores(self, modality: str, z: Tensor) -> Tensor:
        return z @ self.weight_.T + self.bias_


@dataclass
class Cache(OnRows):
    """Every support row votes for its class, the more the nearer it is: exp(-beta (1 - cosine))."""

    beta: float = 5.5

    keys_: Tensor = field(init=False, repr=False, compare=False)  # (n, D)
    values_: Tensor = field(init=False, repr=False, compare=False)  # (n, C)

    def _learn(self, rows: dict[str, tuple[Tensor, Tensor]], classes: int) -> None:
        z, y = (torch.cat([part[k] for part in rows.values()]) for k in (0, 1))
        self.keys_, self.values_ = F.normalize(z, dim=1), F.one_hot(y, classes).to(z)

    def _scores(self, modality: str, z: Tensor) -> Tensor:
        votes = torch.exp(-self.beta * (1 - F.normalize(z, dim=1) @ self.keys_.T)) @ self.values_
        return votes.clamp(min=1e-12).log()
