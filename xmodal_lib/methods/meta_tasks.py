"""What meta-training learns from: tasks drawn from base tables, their batches and losses.

A meta-iteration is a few *parts*; each part draws a task, takes the steps of an inner loop on its batches, and says
which modules learn:

    Align        pairs of two modalities                    alignment loss            both encoders
    Contrast     two rows of a class of one modality        alignment loss            its encoder
    Classify     labelled rows of `way` classes             cross-entropy             head, or encoder and head
    ClassifyAll  labelled rows of all classes               cross-entropy             the same
    Confuse      rows of two modalities, not paired         distance of their means   both encoders
    Reconstruct  rows of one modality                       squared error             encoder and decoder

A part is given the labels it may use and no others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal_lib.methods.alignment import alignment, confusion
from xmodal_lib.methods.encoded import InTraining, embed
from xmodal_lib.methods.meta_rows import Groups, cycle, draw

Batch = tuple[Tensor, ...]


class Nets(nn.Module):
    """Encoders by modality, the classifier on top of whichever, and a decoder where there is one."""

    def __init__(self, encoders: nn.ModuleDict, head: nn.Module, decoder: nn.Module | None = None) -> None:
        super().__init__()
        self.encoders, self.head, self.decoder = encoders, head, decoder
        self.in_training = {m: InTraining(encoder) for m, encoder in encoders.items()}

    def rows(self, modality: str, x: Tensor) -> Tensor:
        """Embeddings (b, D) in training."""
        return self.in_training[modality](x)

    def frozen(self, modality: str, x: Tensor) -> Tensor:
        """Embeddings (n, D) with nothing learnt: BatchNorm uses its statistics and keeps them."""
        return embed(self.encoders[modality], x)


@dataclass(frozen=True, eq=False)
class Part:
    """One thing that a meta-iteration does."""

    name: str
    lr: float
    batch: int
    direct: bool = field(default=False, kw_only=True)  # plain training of the meta-learner itself: no copy, no tasks

    def batches(self, nets: Nets, steps: int, rng: torch.Generator) -> Iterator[Batch]:
        """Draw a task and give `steps` batches of it."""
        raise NotImplementedError

    def loss(self, nets: Nets, *batch: Any) -> Tensor:
        raise NotImplementedError

    def learns(self, nets: Nets) -> list[nn.Module]:
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Align(Part):
    """Pairs: `size` sets make a task, or, where the sets have classes, `way` classes of `shot` sets.

    From each set of a batch one row of each modality is drawn, anew each time.
    """

    modalities: tuple[str, str]  # source, target
    x: tuple[Tensor, Tensor]  # rows of each
    rows: tuple[Groups, Groups]  # rows of each by set; all sets have rows of both
    classes: Groups | None  # sets by class: then classes are what must not be confused
    size: int | None  # sets in a task; None: a new draw for each batch
    way: int
    shot: int
    options: tuple[str, float, float]  # loss, margin, temperature

    def batches(self, nets: Nets, steps: int, rng: torch.Generator) -> Iterator[Batch]:
        sets, labels = self._task(steps, rng)
        for k in cycle(len(sets), self.batch, steps, rng):
            source, target = self._pairs(sets[k], rng)
            yield self.x[0][source], self.x[1][target], labels[k].to(self.x[0].device)

    def _task(self, steps: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sets (n,) and what tells them apart (n,)."""
        if self.classes is None or self.size is None:
            sets = draw(len(self.rows[0].count), self.size or self.batch * steps, rng)
            return sets, sets if self.classes is None else self._class_of()[sets]
        filled = self.classes.filled()
        chosen = filled[torch.randperm(len(filled), generator=rng)[: self.way]]
        return self.classes.some(chosen, self.shot, rng)

    def _class_of(self) -> Tensor:
        assert self.classes is not None
        of = torch.empty_like(self.classes.rows)
        of[self.classes.rows] = torch.arange(len(self.classes.count)).repeat_interleave(self.classes.count)
        return of

    def _pairs(self, sets: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        return self.rows[0].one(sets, rng), self.rows[1].one(sets, rng)

    def loss(self, nets: Nets, *batch: Any) -> Tensor:
        xs, xt, sets = batch
        name, margin, temperature = self.options
        zs, zt = (nets.rows(m, x) for m, x in zip(self.modalities, (xs, xt), strict=True))
        return alignment(name, zs, zt, sets, margin=margin, temperature=temperature)

    def learns(self, nets: Nets) -> list[nn.Module]:
        return [nets.encoders[m] for m in dict.fromkeys(self.modalities)]


class Contrast(Align):
    """The same within one modality: its classes are the sets, and a pair is two rows of one class."""

    def _pairs(self, sets: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        return self.rows[0].two(sets, rng)


@dataclass(frozen=True, eq=False)
class Classify(Part):
    """Tell `way` random classes apart, `shot` rows each; a class with fewer gives all it has."""

    modality: str
    x: Tensor
    classes: Groups
    way: int
    shot: int
    frozen: bool  # the head alone learns, on embeddings that are computed once

    def batches(self, nets: Nets, steps: int, rng: torch.Generator) -> Iterator[Batch]:
        rows, y = self._task(steps, rng)
        x, y = self.x[rows], y.to(self.x.device)
        if self.frozen:
            x = nets.frozen(self.modality, x)
        for k in cycle(len(y), self.batch, steps, rng):
            yield x[k], y[k]

    def _task(self, steps: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        filled = self.classes.filled()
        chosen = filled[torch.randperm(len(filled), generator=rng)[: self.way]]
        return self.classes.some(chosen, self.shot, rng)

    def loss(self, nets: Nets, *batch: Any) -> Tensor:
        x, y = batch
        return F.cross_entropy(nets.head(x if self.frozen else nets.rows(self.modality, x)), y)

    def learns(self, nets: Nets) -> list[nn.Module]:
        return [nets.head] if self.frozen else [nets.encoders[self.modality], nets.head]


class ClassifyAll(Classify):
    """Tell all classes of the base apart, in plain batches: no tasks."""

    def _task(self, steps: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        place = draw(len(self.classes.rows), self.batch * steps, rng)
        y = torch.arange(len(self.classes.count)).repeat_interleave(self.classes.count)
        return self.classes.rows[place], y[place]


@dataclass(frozen=True, eq=False)
class Confuse(Part):
    """Make the two modalities' mean embeddings equal, without pairs."""

    modalities: tuple[str, str]
    x: tuple[Tensor, Tensor]
    size: int  # rows of each in a task

    def batches(self, nets: Nets, steps: int, rng: torch.Generator) -> Iterator[Batch]:
        tasks = [x[draw(len(x), self.size, rng)] for x in self.x]
        for ks, kt in zip(*(cycle(self.size, self.batch, steps, rng) for _ in tasks), strict=True):
            yield tasks[0][ks], tasks[1][kt]

    def loss(self, nets: Nets, *batch: Any) -> Tensor:
        return confusion(*(nets.rows(m, x) for m, x in zip(self.modalities, batch, strict=True)))

    def learns(self, nets: Nets) -> list[nn.Module]:
        return [nets.encoders[m] for m in self.modalities]


@dataclass(frozen=True, eq=False)
class Reconstruct(Part):
    """Give the rows back from their embeddings: no labels, one modality."""

    modality: str
    x: Tensor
    size: int  # rows in a task

    def batches(self, nets: Nets, steps: int, rng: torch.Generator) -> Iterator[Batch]:
        rows = draw(len(self.x), self.size, rng)
        for k in cycle(self.size, self.batch, steps, rng):
            yield (self.x[rows[k]],)

    def loss(self, nets: Nets, *batch: Any) -> Tensor:
        (x,) = batch
        assert nets.decoder is not None
        return F.mse_loss(nets.decoder(nets.rows(self.modality, x)).flatten(1), x.flatten(1))

    def learns(self, nets: Nets) -> list[nn.Module]:
        assert nets.decoder is not None
        return [nets.encoders[self.modality], nets.decoder]
