"""The interface that every method shares: pretrain, fit, embed, logits, proba, predict."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import ClassVar, Self

import torch
from torch import Tensor

from xmodal_lib.methods import fusion
from xmodal_lib.tables import Tables, check_labelled
from xmodal_lib.training import flushing


class NotFitted(RuntimeError):
    """A method was asked for an answer before `fit`."""


@dataclass
class Method:
    """Base of all methods. A method is a dataclass whose fields are hyper-parameters, `seed` among them.

    A method writes `_fit`, `embed` and `logits`; the rest follows. `fit` works on a copy, so the method it is called
    on, the encoders it was given and what `pretrain` learnt stay as they were. Attributes that are learnt end in `_`.
    """

    seed: int = field(default=0, kw_only=True)  # of every random choice in `fit`

    classes_: tuple[str, ...] = field(init=False, repr=False, compare=False)  # set by `fit`

    _shared: ClassVar[tuple[str, ...]] = ()  # attributes that `fit` only reads or replaces, so that copies share them

    def pretrain(self, base: Tables) -> Self:
        """First stage, on base classes: most methods have none. Returns a new method."""
        return copy.deepcopy(self)

    def fit(self, support: Tables, val: Tables | None = None) -> Self:
        """Learn from labelled support rows; `val` is for selection, None is the validation-free track.

        Returns a fitted copy.

        Raises:
            ValueError: a modality is missing, a class has no row to learn from, or a row of `val` has no label.
            FloatingPointError: the loss is not finite (names the step and the value).
        """
        if val is not None:
            check_labelled(val, "val")
        fitted = self._copy()
        fitted.classes_ = support.classes
        with flushing():
            fitted._fit(support, val)
        return fitted

    def _copy(self) -> Self:
        """A deep copy, but for the attributes in `_shared`."""
        held = vars(self)
        return copy.deepcopy(self, {id(held[name]): held[name] for name in self._shared if name in held})

    def _fit(self, support: Tables, val: Tables | None) -> None:
        raise NotImplementedError

    def embed(self, query: Tables) -> dict[str, Tensor]:
        """Embeddings {modality: (n_m, d)}, rows in table order."""
        raise NotImplementedError

    def logits(self, query: Tables) -> dict[str, Tensor]:
        """Class scores {modality: (n_m, C)}, rows in table order."""
        raise NotImplementedError

    @torch.no_grad()
    def proba(self, query: Tables) -> Tensor:
        """Class probabilities (n_items, C), one row an item of `query.items()`; rows sum to 1."""
        self._check_fitted()
        logits = self.logits(query)
        return fusion.fuse(logits, {m: query[m].pair for m in logits})

    def predict(self, query: Tables) -> Tensor:
        """Most probable class (n_items,) int64, one an item of `query.items()`."""
        return self.proba(query).argmax(1)

    def answers(self, modality: str) -> bool:
        """Whether an item can be answered from rows of this modality alone; `evaluate` asks only then."""
        return True

    def _check_fitted(self) -> None:
        if not hasattr(self, "classes_"):
            raise NotFitted(
                f"{type(self).__name__} has not been fitted; call fit(support, val) and use what it returns"
            )
