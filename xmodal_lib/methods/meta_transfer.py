"""Meta-training on tasks of base classes, then few-shot learning in the target modality: what CroMA and its rows share.

A row of the tables is a list of parts (`meta_tasks`) that its meta-iteration does. All have the same fields, so they
can be given the same batches, steps and learning rates.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Self

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal_lib.methods.alignment import LOSSES
from xmodal_lib.methods.encoded import embed_tables, look, started
from xmodal_lib.methods.heads import linear
from xmodal_lib.methods.meta_rows import Groups, Pairs, cycle
from xmodal_lib.methods.meta_tasks import Align, Classify, Nets, Part
from xmodal_lib.methods.method import Method
from xmodal_lib.methods.reptile import Adam, Loop, Outer
from xmodal_lib.tables import Table, Tables, check_labelled, usable
from xmodal_lib.training import check_finite, generator, seeded

CHOICES = {
    "outer": ("sgd", "adam"),
    "clone": ("deep", "shared"),
    "classify": ("head", "head and encoder"),
    "loss": LOSSES,
    "sets": ("pair", "class"),
    "adapt": ("all", "head"),
    "head": ("transferred", "fresh"),
}


@dataclass
class MetaTransfer(Method):
    """Base of CroMA and of the rows beside it: `pretrain` is meta-training, `fit` few-shot learning in the target.

    Without `pretrain`, `fit` starts from fresh weights (`encoded` says how, and what stays as it was given): then it is
    the row "from scratch". After it, the head of `way` outputs is carried over, so the support must have as many
    classes; with `head="fresh"` a new one is drawn, and any number will do. `fit` reads target rows only, and no `val`.

    Raises:
        ValueError: a modality is missing, the base has no pairs or fewer classes than `way`, the support has another
            number of classes than the head or a class without a row, or a field is impossible.
        FloatingPointError: a row or the loss is not finite.
    """

    source: str = "text"
    target: str = "image"
    encoders: Mapping[str, nn.Module] = field(default_factory=dict)  # (b, ...) -> (b, D), D equal; none: rows as such
    way: int = 5  # classes of a classification task
    shot: int = 5  # rows a class in a classification task; way * shot pairs make an alignment task
    iterations: int = 800
    inner: int = 5  # steps of an inner loop
    batch: int = 8
    lr_classify: float = 1e-3
    lr_align: float = 1e-3
    betas: tuple[float, float] = (0.0, 0.999)  # of the inner Adam, as released; the paper does not say
    carry: bool = True  # the inner Adam keeps its state from task to task, as released
    outer: str = "sgd"  # or "adam", as released
    rate: float = 0.1  # outer rate
    clone: str = "deep"  # or "shared", for comparison only
    classify: str = "head"  # what learns in a source classification task; or "head and encoder", as released
    loss: str = "triplet"  # of alignment.LOSSES
    margin: float = 0.1
    temperature: float = 0.1
    sets: str = "pair"  # rows of other pair ids are negatives; or "class": of other source classes, as released
    align_batch: int | None = None  # pairs in a batch; None: as many as `batch`
    align_inner: int | None = None  # alignment steps in a meta-iteration; None: as many as `inner`
    reserved: float = 0.0  # share of a class's pairs kept for alignment, the rest being for classification; 0: both
    steps: int = 50  # of few-shot learning; 0: the head that it starts from
    lr: float = 1e-3
    adapt: str = "all"  # what learns there: encoder and head, or "head"
    head: str = "transferred"  # what it starts from; or "fresh"
    fresh: bool = True  # encoders start anew; False: from the weights they have

    encoders_: nn.ModuleDict = field(init=False, repr=False, compare=False)
    head_: nn.Sequential = field(init=False, repr=False, compare=False)
    widths_: dict[str, int] = field(init=False, repr=False, compare=False)
    meta_: dict[str, Tensor] = field(init=False, repr=False, compare=False)  # encoders and head, meta-learnt
    history_: pd.DataFrame = field(init=False, repr=False, compare=False)  # of meta-training, a line a part

    _shared: ClassVar[tuple[str, ...]] = ("encoders", "head_", "meta_", "history_")

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that `fit` learns from."""
        return (self.target,)

    # -- meta-training ---------------------------------------------------------------------------------------

    def pretrain(self, base: Tables) -> Self:
        """Meta-train on base classes; target labels are not read, but by the rows whose docstring says so."""
        method = self._copy()
        for _ in method.meta_train(base):
            pass
        return method

    def meta_train(self, base: Tables) -> Iterator[int]:
        """Meta-train this very method, in place; gives the number of iterations done after each.

        In between it can be fitted and asked like one that is done: `best_iteration` chooses by that.
        """
        self._check_fields()
        used = {m: self._rows(base, m, "base") for m in self._used()}
        parts = self._parts(base)
        self._start(used, self._outputs(base))
        nets = Nets(self.encoders_, self.head_, self._decoder(base))
        self.meta_ = Nets(self.encoders_, self.head_).state_dict()  # these very tensors, at every iteration
        outer = Outer(nets, self.outer, self.rate)
        loops = [
            Loop(part, nets, outer, generator(self.seed, zlib.crc32(part.name.encode())), steps=steps,
                 betas=self.betas, carry=self.carry, shared=self.clone == "shared")
            for part in parts
            if (steps := self._steps(part))
        ]  # fmt: skip
        lines, devices = [], {table.x.device for table in used.values()}
        for iteration in range(1, self.iterations + 1):
            with seeded(self.seed * 1_000_003 + iteration, devices):  # of dropout, if an encoder has any
                lines += [loop.run(iteration) for loop in loops]
            if iteration == self.iterations:
                self.history_ = pd.DataFrame(lines)
            self.encoders_.eval()
            yield iteration

    def _parts(self, base: Tables) -> list[Part]:
        """What a meta-iteration does."""
        raise NotImplementedError

    def _used(self) -> tuple[str, ...]:
        """Modalities whose base rows are read."""
        return self.source, self.target

    def _outputs(self, base: Tables) -> int:
        """Classes of the meta-learnt head."""
        return self.way

    def _decoder(self, base: Tables) -> nn.Module | None:
        return None

    def _steps(self, part: Part) -> int:
        return self.align_inner if isinstance(part, Align) and self.align_inner is not None else self.inner

    def _align(self, base: Tables) -> Align:
        """Alignment on the base's pairs; of the labels, only the source's are read, where `sets` is "class"."""
        s, t, pairs = base[self.source], base[self.target], self._pairs(base)
        if self.reserved:
            pairs, _ = pairs.parted(self.reserved, generator(self.seed, 5))
        return Align(
            "align", self.lr_align, self.align_batch or self.batch, (self.source, self.target), (s.x, t.x),
            (pairs.rows(s), pairs.rows(t)), Groups.of(pairs.label, len(base.classes)) if self.sets == "class" else None,
            self.way * self.shot, self.way, self.shot, (self.loss, self.margin, self.temperature),
        )  # fmt: skip

    def _classify(self, base: Tables, modality: str, *, frozen: bool, kind: type[Classify] = Classify) -> Classify:
        """Classification of one modality's labelled rows, without those that are kept for alignment."""
        table = base[modality]
        y = table.y.cpu()
        if self.reserved:
            kept, _ = self._pairs(base).parted(self.reserved, generator(self.seed, 5))
            y = torch.where(kept.show(table), -1, y)
        name = "classify" if modality == self.source else "classify target"
        return self._of_groups(name, modality, table.x, Groups.of(y, len(base.classes)), frozen, kind)

    def _of_groups(
        self, name: str, modality: str, x: Tensor, groups: Groups, frozen: bool, kind: type[Classify] = Classify
    ) -> Classify:
        if (found := len(groups.filled())) < self.way:
            raise ValueError(f"way={self.way}, but the base has labelled {modality} rows of {found} classes only; "
                             "lower `way`, or give more base classes")  # fmt: skip
        return kind(name, self.lr_classify, self.batch, modality, x, groups, self.way, self.shot, frozen)

    def _pairs(self, base: Tables) -> Pairs:
        pairs = Pairs.of(base[self.source], base[self.target])
        if not len(pairs.ids):
            raise ValueError(f"no item of the base has rows of both {self.source!r} and {self.target!r}; "
                             f"{type(self).__name__} needs pairs: rows of both with equal pair ids")  # fmt: skip
        return pairs

    # -- few-shot learning -----------------------------------------------------------------------------------

    def _fit(self, support: Tables, val: Tables | None) -> None:
        table = self._labelled(support)
        self._start_encoders(table)
        self._start_head(len(support.classes))
        with seeded(self.seed, {table.x.device}):
            self._adapt(table)
        self.encoders_.eval()

    def _labelled(self, support: Tables) -> Table:
        """The target rows to learn from."""
        self._check_fields()
        table = self._rows(support, self.target, "support")
        check_labelled(support.only(self.target), "support")
        empty = (table.y.bincount(minlength=len(support.classes)) == 0).nonzero()
        if len(empty):
            raise ValueError(f"class {support.classes[int(empty[0])]!r} has no {self.target} row; each class needs one")
        return table

    def _start_encoders(self, table: Table) -> None:
        """As meta-training left them, whatever has been fitted since; without it, fresh ones."""
        if not hasattr(self, "meta_"):
            self._start({self.target: table}, 1)
            return
        self.meta_ = {k: v.clone() for k, v in self.meta_.items()}  # meta_train's share memory with the encoders
        self.encoders_.load_state_dict(_below("encoders.", self.meta_))

    def _start_head(self, number: int) -> None:
        like = next(self.head_.parameters())
        if not hasattr(self, "meta_") or self.head == "fresh" or not self._transferable():
            self.head_ = self._new_head(number, 2).to(like)
            return
        state = _below("head.", self.meta_)
        if (outputs := len(state["1.bias"])) != number:
            raise ValueError(f"the support has {number} classes, the transferred head {outputs}; meta-train with "
                             f"way={number}, or set head='fresh'")  # fmt: skip
        self.head_ = self._new_head(number, 2).to(like)
        self.head_.load_state_dict(state)

    def _adapt(self, table: Table) -> None:
        """Adam on the cross-entropy of the support."""
        nets, frozen = Nets(self.encoders_, self.head_), self.adapt == "head"
        x = nets.frozen(self.target, table.x) if frozen else table.x
        optimiser = Adam([self.head_] if frozen else [self.encoders_[self.target], self.head_], self.lr, self.betas)
        for step, k in enumerate(cycle(len(x), self.batch, self.steps, generator(self.seed, 3))):
            z = self.head_(x[k] if frozen else nets.rows(self.target, x[k]))
            loss = F.cross_entropy(z, table.y[k])
            optimiser.descend(loss)
            check_finite(loss.item(), step, type(self).__name__)

    def _transferable(self) -> bool:
        """Whether the meta-learnt head can classify other classes."""
        return True

    def embed(self, query: Tables) -> dict[str, Tensor]:
        """Embeddings {modality: (n_m, D)}, rows in table order; after `pretrain` alone too."""
        if not hasattr(self, "encoders_"):
            self._check_fitted()
        if strange := [m for m in query.modalities if m not in self.widths_]:
            raise ValueError(f"{type(self).__name__} knows {', '.join(self.widths_)}; the query has {strange[0]!r}")
        return embed_tables(query, self.encoders_, self.widths_, next(self.head_.parameters()))

    @torch.no_grad()
    def logits(self, query: Tables) -> dict[str, Tensor]:
        self._check_fitted()
        return {m: self.head_(z) for m, z in self.embed(query).items()}

    # -- pieces ------------------------------------------------------------------------------------------------

    def _start(self, tables: Mapping[str, Table], outputs: int) -> None:
        """Fresh encoders of these modalities and a fresh head."""
        order = sorted((self.source, self.target))  # a modality starts alike, whichever others are used
        given = {m: started(self.encoders.get(m), table.x.device, self.seed, order.index(m), fresh=self.fresh)
                 for m, table in tables.items()}  # fmt: skip
        joined = self._join(given)
        looks = {m: look(net, tables[m].x, f"{type(self).__name__}: the encoder of {m!r}") for m, net in joined.items()}
        if len({z.shape[1] for z in looks.values()}) > 1:
            raise ValueError("one space needs embeddings of one width, and not "
                             + ", ".join(f"{m} {z.shape[1]}" for m, z in looks.items()))  # fmt: skip
        self._assemble({m: z.shape[1] for m, z in looks.items()}, joined, outputs)
        self.head_.to(next(iter(looks.values())))

    def _build(self, widths: Mapping[str, int], encoders: Mapping[str, nn.Module]) -> None:
        """Encoders as given and a head for the classes of the support, of embedding widths {modality: D}."""
        self._assemble(widths, self._join(encoders), len(self.classes_))

    def _assemble(self, widths: Mapping[str, int], joined: Mapping[str, nn.Module], outputs: int) -> None:
        self.widths_ = dict(widths)
        self.encoders_ = nn.ModuleDict(joined)
        self.head_ = self._new_head(outputs, 1)

    def _join(self, encoders: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
        """Whole encoders, of those given."""
        return dict(encoders)

    def _new_head(self, outputs: int, salt: int) -> nn.Sequential:
        """ReLU and a linear layer, as released: (b, D) -> (b, outputs)."""
        width = next(iter(self.widths_.values()))
        return nn.Sequential(nn.ReLU(), linear(width, outputs, generator(self.seed, salt)))

    def _rows(self, tables: Tables, modality: str, where: str) -> Table:
        return usable(tables, modality, f"{type(self).__name__} learns from", where, "set `source` and `target`")

    def _check_fields(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}; there are {', '.join(map(repr, known))}")
        least = {"way": 1, "shot": 1, "batch": 1, "inner": 0, "steps": 0, "iterations": 0}
        for name, number in least.items():
            if getattr(self, name) < number:
                raise ValueError(f"{name}={getattr(self, name)}; at least {number} is needed")
        if self.source == self.target:
            raise ValueError(f"source and target are both {self.source!r}; two modalities are needed")
        if not 0 <= self.reserved < 1:
            raise ValueError(f"reserved={self.reserved}; a share from 0 to below 1 is needed")


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State of the part of this name."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
