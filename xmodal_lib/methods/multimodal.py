"""What the methods share that train one encoder a modality on labelled items: the start, the loop, the answer.

`fit` is the following, and keeps the best epoch; a notebook may go through it by hand:

    method = MLA(encoders).begin(support)
    for epoch in method.passes():
        for batch in method.batches():
            losses = method.step(batch)

An item may lack a modality, in training and at test: then there is no row for it, in `Tables` as in `Batch`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal_lib.methods import fusion
from xmodal_lib.methods.encoded import InTraining, embed_tables, learnt_state, look, restore_state, started
from xmodal_lib.methods.heads import HEADS, Head, add
from xmodal_lib.methods.items import Batch, Items
from xmodal_lib.methods.method import Method
from xmodal_lib.tables import Tables, usable
from xmodal_lib.training import accuracy, check_finite, generator, seeded

OPTIMISERS = ("sgd", "adamw")


@dataclass
class Multimodal(Method):
    """Base of the methods that train one encoder a modality, and of their controls.

    With `val` the epoch with the best fused accuracy on it is kept (the first one wins ties); without, the last one.
    Defaults are those of the release of MLA (base). How encoders start, and what stays as it was given: `encoded`.

    Differs: the release keeps the epoch that is best on *test*; it has no validation rows.

    Raises:
        ValueError: a modality or a class has no rows, an item has two rows of a modality, two modalities share one
            module, a name is unknown, or a field is impossible.
        FloatingPointError: a row or the loss is not finite.
    """

    encoders: Mapping[str, nn.Module] = field(default_factory=dict)  # (b, ...) -> (b, D); none: rows are features
    modalities: tuple[str, ...] = ()  # to learn from, in this order; () for all of the support
    epochs: int = 100
    batch: int = 64
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay_every: int = 70  # epochs, after which the learning rate is multiplied by `decay`
    decay: float = 0.1
    optimiser: str = "sgd"  # or "adamw", which has no use for `momentum`
    fusion: str | Mapping[str, float] = "uniform"  # at test time: a rule of `methods.fusion`, or fixed shares
    fresh: bool = True  # encoders start anew; False: from the weights they have
    trace: bool = False  # keep loss and discrepancy ratio of every step in `trace_`

    head = "sum"  # of HEADS; a field where it is a choice

    encoders_: nn.ModuleDict = field(init=False, repr=False, compare=False)
    head_: Head = field(init=False, repr=False, compare=False)
    epoch_: int = field(init=False, repr=False, compare=False)  # the present one, from 0

    _shared: ClassVar[tuple[str, ...]] = ("encoders", "encoders_", "head_", "history_")

    # -- training ------------------------------------------------------------------------------------------

    def begin(self, support: Tables) -> Self:
        """A copy that is ready to `step`: encoders and head as they start, the optimiser, the rows by item."""
        method = self._copy()
        method.classes_ = support.classes
        method._begin(support)
        return method

    def passes(self) -> Iterator[int]:
        """Epochs 0..epochs-1; after each the learning rate is looked at."""
        for epoch in range(self.epochs):
            self.epoch_ = epoch
            yield epoch
            self._end_of_epoch()

    def batches(self) -> Iterator[Batch]:
        """One shuffled pass over the items."""
        return self.items_.batches(self.batch, self.rng_)

    def step(self, batch: Batch) -> dict[str, float]:
        """Learn from one batch; returns the losses {name: mean over its rows} before it."""
        first, lines = self.steps_, len(self.trace_)
        losses = self._step(batch)
        for line in self.trace_[lines:]:
            line["step"] = first
        for name, loss in losses.items():
            if not math.isfinite(loss):
                check_finite(loss, first, f"{type(self).__name__}, {name}")
        return losses

    def _fit(self, support: Tables, val: Tables | None) -> None:
        with seeded(self.seed, {table.x.device for table in support.rows.values()}):  # of dropout, if there is any
            self._begin(support)
            val = None if val is None else self._checked(val)
            best, kept, lines = -1.0, None, []
            for epoch in self.passes():
                sums: dict[str, list[float]] = {}
                for batch in self.batches():
                    for name, loss in self.step(batch).items():
                        sums.setdefault(name, []).append(loss)
                line = {"epoch": epoch + 1, "step": self.steps_} | {m: sum(v) / len(v) for m, v in sums.items()}
                if val is not None:
                    line["val_accuracy"] = accuracy(self, val)
                    if line["val_accuracy"] > best:
                        best, kept = line["val_accuracy"], self._state()
                lines.append(line)
            if kept is not None:
                self._restore(kept)
        self.encoders_.eval()
        self.history_ = pd.DataFrame(lines)
        del self.items_, self.rng_, self.optimiser_, self.schedule_, self.in_training_

    def _begin(self, support: Tables) -> None:
        self._check_fields()
        modalities = self.modalities or support.modalities
        for m in modalities:
            usable(support, m, f"{type(self).__name__} learns from")
        self._check_names(support, modalities)
        self.items_ = Items.of(support, modalities)
        self.rng_ = generator(self.seed)
        x, order = self.items_.x, sorted(modalities)
        given = {m: started(self.encoders.get(m), x[m].device, self.seed, order.index(m), fresh=self.fresh)
                 for m in modalities}  # fmt: skip
        looks = {m: look(net, x[m], f"{type(self).__name__}: the encoder of {m!r}") for m, net in given.items()}
        if len(kinds := dict.fromkeys(f.dtype for f in looks.values())) > 1:
            raise ValueError(f"{type(self).__name__}: features of {', '.join(looks)} are of {len(kinds)} kinds, "
                             f"{', '.join(map(str, kinds))}; bring them to one")  # fmt: skip
        self._build({m: f.shape[1] for m, f in looks.items()}, given)
        self.in_training_ = {m: InTraining(encoder) for m, encoder in given.items()}
        self.head_.to(looks[modalities[0]])
        self.optimiser_ = self._optimiser([p for p in self._parameters() if p.requires_grad])
        self.schedule_ = torch.optim.lr_scheduler.StepLR(self.optimiser_, self.decay_every, self.decay)
        self.steps_ = self.epoch_ = 0
        self.trace_: list[dict[str, Any]] = []

    def _build(self, widths: Mapping[str, int], encoders: Mapping[str, nn.Module]) -> None:
        """Encoders and head, of feature widths {modality: D}."""
        self.widths_ = dict(widths)
        self.encoders_ = nn.ModuleDict(encoders)
        self.head_ = self._head(widths)

    def _head(self, widths: Mapping[str, int]) -> Head:
        return HEADS[self.head](widths, len(self.classes_), generator(self.seed, 1))

    def _step(self, batch: Batch) -> dict[str, float]:
        raise NotImplementedError

    def _end_of_epoch(self) -> None:
        self.schedule_.step()

    def _features(self, batch: Batch) -> dict[str, Tensor]:
        """Features {modality: (b_m, D)}, in order of the modalities."""
        return {m: self.in_training_[m](x) for m, x in batch.x.items()}

    def _descend(self, loss: Tensor) -> None:
        """One step of the optimiser along minus the gradient of a loss ()."""
        self.optimiser_.zero_grad()
        loss.backward()
        self.optimiser_.step()
        self.steps_ += 1

    def _record(self, batch: Batch, rows: Mapping[str, Tensor], losses: Mapping[str, float]) -> None:
        """Where `trace` is set: the discrepancy ratio rho_m, of row logits (b_m, C), and the loss of every modality."""
        if self.trace:
            ratios = discrepancy({m: true_share(z.detach(), batch.of(m, batch.y)) for m, z in rows.items()})
            for m, ratio in ratios.items():
                self.trace_.append({"modality": m, "ratio": ratio, "loss": losses.get(m, math.nan)})

    # -- the answer ------------------------------------------------------------------------------------------

    def embed(self, query: Tables) -> dict[str, Tensor]:
        self._check_fitted()
        return embed_tables(self._known(query), self.encoders_, self.widths_, next(self.head_.parameters()))

    @torch.no_grad()
    def logits(self, query: Tables) -> dict[str, Tensor]:
        features = self.embed(query)
        return self.head_(features)

    @torch.no_grad()
    def proba(self, query: Tables) -> Tensor:
        self._check_fitted()
        logits = self.logits(query)
        return fusion.fuse(logits, {m: query[m].pair for m in logits}, fusion.rule_of(self.fusion))

    def answers(self, modality: str) -> bool:
        self._check_fitted()
        return modality in self.widths_

    def fused_by(self, rule: str | Mapping[str, float]) -> Self:
        """The same fitted method with another rule of fusion at test time; shares what was learnt."""
        self._check_fitted()
        other = copy.copy(self)
        other.fusion = rule
        other._check_fields()
        return other

    # -- pieces ------------------------------------------------------------------------------------------------

    def _parameters(self) -> list[nn.Parameter]:
        return [*self.encoders_.parameters(), *self.head_.parameters()]

    def _optimiser(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        if self.optimiser == "sgd":
            return torch.optim.SGD(parameters, self.lr, self.momentum, weight_decay=self.weight_decay)
        return torch.optim.AdamW(parameters, self.lr, weight_decay=self.weight_decay)

    def _modules(self) -> list[nn.Module]:
        """All that is learnt, for `_state`."""
        return [self.encoders_, self.head_]

    def _state(self) -> list[dict[str, Tensor]]:
        return learnt_state(self._modules())

    def _restore(self, state: Sequence[Mapping[str, Tensor]]) -> None:
        restore_state(self._modules(), state)

    def _check_fields(self) -> None:
        if isinstance(self.modalities, str):
            raise ValueError(f"modalities={self.modalities!r}; a tuple of names is needed, such as ('audio', 'visual')")
        for name in ("epochs", "batch", "decay_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; at least 1 is needed")
        if self.optimiser not in OPTIMISERS:
            raise ValueError(f"optimiser={self.optimiser!r}; there are {', '.join(OPTIMISERS)}")
        if self.head not in HEADS:
            raise ValueError(f"head={self.head!r}; there are {', '.join(HEADS)}")
        fusion.rule_of(self.fusion)

    def _check_names(self, support: Tables, modalities: Sequence[str]) -> None:
        """Names that stand for no modality would be passed over in silence."""
        strange = [name for name in self.encoders if name not in support.modalities]
        bare = [m for m in modalities if m not in self.encoders]
        if strange and bare:
            raise ValueError(f"{type(self).__name__}: an encoder is given for {strange[0]!r} and none for {bare[0]!r}; "
                             f"the support holds {', '.join(support.modalities)}")  # fmt: skip
        nets = [self.encoders[m] for m in modalities if m in self.encoders]
        if len({id(net) for net in nets}) < len(nets):
            raise ValueError(f"{type(self).__name__}: two modalities share one encoder; give each its own module")
        lacking = [m for m in modalities if not isinstance(self.fusion, str) and m not in self.fusion]
        if lacking:
            raise ValueError(f"fusion has no share for {lacking[0]!r}; it has {', '.join(self.fusion)}")

    def _checked(self, val: Tables) -> Tables:
        """The rows of `val` that this method can be asked."""
        val = val.only(*(m for m in val.modalities if m in self.widths_ and len(val[m])))
        if not len(val.items()):
            raise ValueError(f"{type(self).__name__}: val has no row of {', '.join(self.widths_)}; give some, or None")
        for m in val.modalities:
            usable(val, m, f"{type(self).__name__} chooses on", "val")
        return val

    def _known(self, query: Tables) -> Tables:
        """The query without modalities that were not learnt.

        Raises:
            ValueError: an item has no row of any other.
        """
        if all(m in self.widths_ for m in query.modalities):
            return query
        known = query.only(*(m for m in query.modalities if m in self.widths_))
        if len(known.items()) < len(query.items()):
            others = ", ".join(m for m in query.modalities if m not in self.widths_)
            raise ValueError(f"{type(self).__name__} was fitted on {', '.join(self.widths_)}; the query has items that "
                             f"have rows of {others} only")  # fmt: skip
        return known


def true_share(z: Tensor, y: Tensor) -> Tensor:
    """Mean probability of the true class of row logits: (b, C), (b,) -> ()."""
    return z.softmax(1).gather(1, y.unsqueeze(1)).mean()


def discrepancy(shares: Mapping[str, Tensor]) -> dict[str, float]:
    """Discrepancy ratio rho_m = s_m / mean of the others' s (OGM-GE, Peng et al., CVPR 2022); 1 for one modality.

    With two modalities it is the paper's. Differs: with three the release of MLA divides by the *sum* of the others.
    """
    s = {m: float(value) for m, value in shares.items()}
    if len(s) == 1:
        return dict.fromkeys(s, 1.0)
    return {m: own * (len(s) - 1) / max(sum(s.values()) - own, 1e-12) for m, own in s.items()}


def summed(rows: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """Row logits {modality: (b_m, C)} -> their sums over the items of a batch (b, C)."""
    return add(rows, batch.places, len(batch.y))


def row_losses(rows: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """Cross-entropy of each modality's row logits {modality: (b_m, C)}, mean over its rows: {modality: ()}."""
    return {m: F.cross_entropy(z, batch.of(m, batch.y)) for m, z in rows.items()}
