"""Cross-modal adaptation: one classifier, trained on the rows of several modalities in one space.

Source: Lin et al., "Multimodality Helps Unimodality", CVPR 2023 (arXiv 2301.06267), and its released code.
With z = unit(f_m(x)) (d,) the embedding of a row of any modality m, W (C, d) the head and s the scale,

    logits = s W z                                      the same head for every modality
    L(W)   = mean CE over a batch that is half image rows, half text rows

so that a class name is one more shot. W starts from the text rows (`init="text"`) or at random (`init=""`); a gradient
step adds multiples of z to W, so each class weight ends as its start plus a mix of text and image rows.

| here | paper or release |
|---|---|
| ZeroShot | zero-shot CLIP |
| LinearProbe(modalities=("image",), init="") | linear probing |
| LinearProbe(modalities=("image",)) then `.at(0.5)` | WiSE-FT |
| LinearProbe() | cross-modal linear probing; `.at(0.5)`: cross-modal WiSE-FT |
| RidgeProbe() of `ridge` | not theirs: the same head in closed form, in a second |
| AdapterProbe(), PartialFinetuning() of `finetuning` | cross-modal adapter, cross-modal partial finetuning |
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal_lib.methods.encoded import embed
from xmodal_lib.methods.method import Method
from xmodal_lib.tables import Table, Tables, check_labelled, class_means, usable
from xmodal_lib.training import CellAdamW, accuracy, batches, cells, check_finite, generator, warmup_cosine

Rows = dict[str, Tensor]  # modality -> (n_m, ...)
LINEAR_GRID = {"lr": (1e-3, 1e-4), "weight_decay": (0.0, 0.01, 1e-4), "batch": (8, 32)}


@dataclass
class CosineMethod(Method):
    """Methods that score a row by `scale * head_ @ embedding`; they differ in how head_ (C, d) comes about."""

    encoders: Mapping[str, nn.Module] = field(default_factory=dict)  # a modality without one: rows are features
    scale: float = 100.0  # multiplies the cosine; CLIP's value
    unit_prompts: bool = field(default=False, kw_only=True)  # each prompt's feature unit before the mean of its class

    head_: Tensor = field(init=False, repr=False, compare=False)  # (C, d)

    def embed(self, query: Tables) -> Rows:
        self._check_fitted()
        return {m: self._embed_rows(m, t.x) for m, t in query.rows.items()}

    def logits(self, query: Tables) -> Rows:
        return {m: self.scale * z @ self.head_.T for m, z in self.embed(query).items()}

    def _embed_rows(self, modality: str, x: Tensor) -> Tensor:
        """Unit rows (n, d) of raw rows (n, ...), 256 at a time."""
        return F.normalize(embed(self._encoder(modality), x), dim=1)

    def _encoder(self, modality: str) -> nn.Module:
        return self.encoders[modality].eval() if modality in self.encoders else nn.Identity()

    def _of(self, support: Tables, modality: str) -> Table:
        hint = "give rows of it, or set the fields that name it"
        table = usable(support, modality, f"{type(self).__name__} learns from", hint=hint)
        check_labelled(support.only(modality), "support")
        return table

    def _prototypes(self, support: Tables, modality: str) -> Tensor:
        """Class means of one modality's features, then unit: (C, d).

        Differs: CLIP and CoOp make each prompt's feature unit before the mean (`unit_prompts`); the release does not.
        """
        return F.normalize(self._class_means(support, modality), dim=1)

    @torch.no_grad()
    def _class_means(self, support: Tables, modality: str) -> Tensor:
        """Class means of one modality's features (C, d), as long as they come out."""
        table = self._of(support, modality)
        _check_classes(table.y, support.classes, (modality,))
        features = self._encoder(modality)(table.x)
        return class_means(F.normalize(features, dim=1) if self.unit_prompts else features, table.y,
                           len(support.classes))  # fmt: skip


@dataclass
class ZeroShot(CosineMethod):
    """The class prompts are the classifier: no image is learnt from."""

    source: str = "text"  # modality of the prompts

    def _fit(self, support: Tables, val: Tables | None) -> None:
        self.head_ = self._prototypes(support, self.source)


@dataclass
class NearestMean(CosineMethod):
    """The mean embedding of each class is its weight: prototypes, with no training."""

    modalities: tuple[str, ...] = ("image",)  # pooled row by row; more than one makes it cross-modal

    def _fit(self, support: Tables, val: Tables | None) -> None:
        tables = [self._of(support, m) for m in self.modalities]
        z = torch.cat([self._embed_rows(m, t.x) for m, t in zip(self.modalities, tables, strict=True)])
        y = torch.cat([t.y for t in tables])
        _check_classes(y, support.classes, self.modalities)
        self.head_ = F.normalize(class_means(z, y, len(support.classes)), dim=1)


@dataclass
class LinearProbe(CosineMethod):
    """A linear head on unit features, trained on the pooled rows of `modalities` (Lin et al., section 3).

    With `val`, every cell of `grid` is trained at once, validated every 100 iterations, and the cell and the
    iteration with the best validation accuracy are kept (the first one wins ties). Without `val` the cell of the
    fields lr, weight_decay, batch is trained and its last iterate kept.

    Use it to compare with the paper, for its ablations and for `.at`; use `RidgeProbe` where good labels in a second
    are what matters (`benchmarks/fast.py` has both).

    Differs: all cells of a batch size see the same batches; the release reseeds by process, not by cell. One view a
    row, where the release adds a flipped one. Where the rows are too few for every batch size, the largest that they
    are enough for is taken.

    Raises:
        ValueError: a field is impossible, a modality or a class has no rows, or no batch size fits them.
        FloatingPointError: a row or the loss is not finite.
    """

    modalities: tuple[str, ...] = ("image", "text")  # a batch holds equal parts of them, the first one any rest
    init: str = "text"  # modality whose class means start the head; "" for a random start
    iterations: int = 12_800
    lr: float = 1e-3
    weight_decay: float = 0.01
    batch: int = 8
    grid: Mapping[str, Sequence[Any]] = field(default_factory=lambda: dict(LINEAR_GRID))
    every: int = 100  # iterations between validations
    shares: tuple[float, ...] = ()  # of a batch, one a modality, as (0.75, 0.25); () for equal ones
    learn_scale: bool = False  # train the scale too, from `scale` on; the release has this commented out

    def _fit(self, support: Tables, val: Tables | None) -> None:
        self._check_fields()
        tables = {m: self._of(support, m) for m in self.modalities}
        _check_classes(torch.cat([t.y for t in tables.values()]), support.classes, self.modalities)
        x, y = {m: self._rows(m, t.x) for m, t in tables.items()}, {m: t.y for m, t in tables.items()}
        self.zeroshot_ = self._prototypes(support, "text") if "text" in support.rows else None
        self.start_ = self._first_head(support, x)
        start = self._start(self.start_)
        if self.learn_scale:
            start = [*start, torch.tensor(float(self.scale)).log()]
        held = None
        if val is not None:
            held = {m: self._rows(m, t.x) for m, t in val.rows.items()}, torch.cat([t.y for t in val.rows.values()])

        own: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay, "batch": self.batch}
        options = cells(self.grid) if val is not None else [own]
        if not any(self._fits(cell["batch"], x) for cell in options):
            most = {"batch": self._largest(max(cell["batch"] for cell in options), x)}
            own |= most
            options = [dict(pairs) for pairs in dict.fromkeys(tuple((c | most).items()) for c in options)]
        trained: dict[int, dict[str, Any]] = {}
        for group in self._groups(options):
            if self._fits(batch := options[group[0]]["batch"], x):
                sizes = _shares(batch, self.shares or len(x))
                results = self._train([options[g] for g in group], start, x, y, sizes, held)
                trained.update(zip(group, results, strict=True))
        best = max(trained, key=lambda g: (trained[g]["val_accuracy"], -g))
        self.cell_, self.history_ = options[best], trained[best]["history"]
        self.last_ = next((result["last"] for g, result in trained.items() if options[g] == own), None)
        self.cells_ = pd.DataFrame(
            [{**options[g], "val_accuracy": r["val_accuracy"], "iteration": r["iteration"]} for g, r in trained.items()]
        )
        self._take(trained[best]["best"])

    def at(self, alpha: float, layers: bool = False) -> Self:
        """WiSE-FT: the head alpha * trained + (1 - alpha) * zero-shot, as a fitted copy. alpha 1 is the probe itself.

        Source: Wortsman et al., CVPR 2022; Lin et al. use alpha 0.5 at every shot.
        Differs: interpolates the head only, as Lin et al. do. With `layers` every trained weight is, as in WiSE-FT:
        that makes a difference for `PartialFinetuning`.
        """
        self._check_fitted()
        if self.zeroshot_ is None:
            raise ValueError("WiSE-FT needs text rows in the support: they are the zero-shot head")
        mixed = copy.copy(self)
        mixed.head_ = alpha * self.head_ + (1 - alpha) * self.zeroshot_
        return mixed

    def without_val(self) -> Self:
        """What `fit(support, None)` gives, taken from a fit that trained the same cell among others.

        The cells are independent, so the last iterate of the cell of the fields has seen no validation row.
        """
        self._check_fitted()
        if self.last_ is None:
            raise ValueError("the cell of the fields lr, weight_decay, batch was not trained; use fit(support, None)")
        last = copy.copy(self)
        last._take(self.last_)
        return last

    # -- what the methods of `finetuning` do otherwise ------------------------------------------------

    def _rows(self, modality: str, x: Tensor) -> Tensor:
        """Rows as the training loop sees them."""
        return self._embed_rows(modality, x)

    def _groups(self, options: Sequence[Mapping[str, Any]]) -> list[list[int]]:
        """Cells that train at once: those of one batch size."""
        sizes = dict.fromkeys(c["batch"] for c in options)
        return [[g for g, c in enumerate(options) if c["batch"] == size] for size in sizes]

    def _start(self, head: Tensor) -> list[Tensor]:
        """First value of each parameter, the head (C, d) first."""
        return [head]

    def _scores(self, params: Sequence[Tensor], x: Rows) -> Tensor:
        """Logits (n, G, C) of rows {m: (n_m, d)}, parameters stacked over G cells."""
        head = params[0]  # (G, C, d)
        z = torch.cat(list(x.values()))
        return (self.scale * z @ head.flatten(0, 1).T).unflatten(1, head.shape[:2])

    def _gradients(self, params: Sequence[Tensor], x: Rows, y: Tensor) -> list[Tensor]:
        """Gradient of the mean cross-entropy for each parameter, written out: dL/dW = s/b (p - onehot)' z."""
        z = torch.cat(list(x.values()))
        error = self._scores(params, x).softmax(2)  # (b, G, C)
        error[torch.arange(len(y)), :, y] -= 1
        return [(error.flatten(1).T @ z).mul_(self.scale / len(y)).view_as(params[0])]

    def _keep(self, params: Sequence[Tensor]) -> None:
        self.head_ = params[0]

    # -- the scale, which may be one more parameter ------------------------------------------------------------

    def logits(self, query: Tables) -> Rows:
        scale = self.scale_ if self.learn_scale else self.scale
        return {m: scale * z @ self.head_.T for m, z in self.embed(query).items()}

    def _take(self, params: Sequence[Tensor]) -> None:
        if self.learn_scale:
            self.scale_ = params[-1].exp().item()
        self._keep(params[:-1] if self.learn_scale else params)

    def _scaled(self, params: Sequence[Tensor], x: Rows) -> Tensor:
        """Logits (n, G, C) at the learnt scale, its logarithm (G,) the last parameter, or at the given one."""
        if not self.learn_scale:
            return self._scores(params, x)
        return self._scores(params[:-1], x) * (params[-1].exp() / self.scale).view(1, -1, 1)

    def _slopes(self, params: Sequence[Tensor], x: Rows, y: Tensor) -> list[Tensor]:
        """Gradient of the mean cross-entropy for each parameter; autograd's where the scale is learnt."""
        return autograds(self._scaled, params, x, y) if self.learn_scale else self._gradients(params, x, y)

    # -- the loop --------------------------------------------------------------------------------------------

    def _check_fields(self) -> None:
        if isinstance(self.modalities, str) or not self.modalities:
            raise ValueError(f"modalities={self.modalities!r}; a tuple of names is needed, such as ('image', 'text')")
        for name in ("iterations", "every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; at least 1 is needed")
        if self.shares and (len(self.shares) != len(self.modalities) or min(self.shares) < 0 or not
                            math.isclose(sum(self.shares), 1)):  # fmt: skip
            raise ValueError(f"shares={self.shares}; one for each of {self.modalities} is needed, none below 0, "
                             "that sum to 1")  # fmt: skip
        if not self.scale > 0:
            raise ValueError(f"scale={self.scale}; a number above 0 is needed")
        if set(self.grid) != {"lr", "weight_decay", "batch"} or not all(self.grid.values()):
            raise ValueError(f"a grid needs values of lr, weight_decay and batch; this one has {dict(self.grid)}")

    def _fits(self, batch: int, x: Rows) -> bool:
        """Whether there are more rows of each modality than a batch takes."""
        sizes = _shares(batch, self.shares or len(x))
        return all(size < len(rows) or size == 0 for size, rows in zip(sizes, x.values(), strict=True))

    def _largest(self, batch: int, x: Rows) -> int:
        """The largest batch, up to this one, that the rows are enough for.

        Raises:
            ValueError: there is none.
        """
        for size in range(batch, len(x) - 1, -1):
            if self._fits(size, x):
                return size
        rows = ", ".join(f"{len(r)} {m} rows" for m, r in x.items())
        raise ValueError(f"no batch of up to {batch} rows fits {rows}: it must take fewer of each modality than there "
                         "are, and at least one")  # fmt: skip

    def _first_head(self, support: Tables, x: Rows) -> Tensor:
        if self.init:
            return self._prototypes(support, self.init)
        d = self._embed_rows(self.modalities[0], support[self.modalities[0]].x[:1]).shape[1]
        bound = d**-0.5  # as nn.Linear starts
        return torch.empty(len(support.classes), d).uniform_(-bound, bound, generator=generator(self.seed))

    def _train(
        self, group: Sequence[Mapping[str, Any]], start: Sequence[Tensor], x: Rows, y: Rows, sizes: Sequence[int],
        held: tuple[Rows, Tensor] | None,
    ) -> list[dict[str, Any]]:  # fmt: skip
        """Train the cells of a group side by side on the same batches; one result a cell."""
        params = [p.expand(len(group), *p.shape).clone() for p in start]
        optimiser = CellAdamW(params, *([cell[name] for cell in group] for name in ("lr", "weight_decay")))
        best, score = [p.clone() for p in params], torch.full((len(group),), -1.0)
        iteration, history = torch.zeros(len(group), dtype=torch.int64), []
        stream = _mixed_batches(x, y, sizes, self.seed)
        for step in range(self.iterations):
            x_batch, y_batch = next(stream)
            if step % self.every == 0:
                with torch.no_grad():
                    loss = cell_losses(self._scaled(params, x_batch), y_batch)  # (G,)
                check_finite(loss.sum().item(), step, type(self).__name__)
            lrs = [warmup_cosine(step, self.iterations, lr=cell["lr"]) for cell in group]
            optimiser.step(self._slopes(params, x_batch, y_batch), lrs)
            if step % self.every == 0:
                accuracy = torch.full((len(group),), float("nan"))
                if held is not None:
                    with torch.no_grad():
                        hits = self._scaled(params, held[0]).argmax(2) == held[1].unsqueeze(1)  # (n, G)
                    accuracy = hits.float().mean(0)
                    better = accuracy > score
                    score, iteration = torch.where(better, accuracy, score), iteration.masked_fill(better, step)
                    for kept, p in zip(best, params, strict=True):
                        kept[better] = p[better]
                history.append((step, loss, accuracy))
        check_finite(sum(p.sum().item() for p in params), self.iterations, type(self).__name__)
        if held is None:
            best, iteration = params, torch.full_like(iteration, self.iterations)
        return [
            {
                "val_accuracy": score[g].item() if held is not None else float("nan"),
                "iteration": int(iteration[g]),
                "best": [p[g].clone() for p in best],
                "last": [p[g].clone() for p in params],
                "history": pd.DataFrame(
                    [{"step": s, "loss": z[g].item(), "val_accuracy": a[g].item()} for s, z, a in history]
                ),
            }
            for g in range(len(group))
        ]


@dataclass
class WiseFT(Method):
    """WiSE-FT as a method of its own: `probe`, fitted, then mixed with the zero-shot head at `alpha`.

    With `val` and `alphas`, the first of them that is best on `val` is taken; Lin et al. never tune it.
    """

    probe: LinearProbe = field(default_factory=LinearProbe)
    alpha: float = 0.5  # weight of the trained head; 0 is zero-shot, 1 the probe
    alphas: tuple[float, ...] = ()  # to choose from on `val`; () or no `val`: `alpha`
    layers: bool = False  # mix the trained layers of the encoder too, where the probe trains some

    def _fit(self, support: Tables, val: Tables | None) -> None:
        if wrong := [a for a in (self.alpha, *self.alphas) if not 0 <= a <= 1]:
            raise ValueError(f"alpha {wrong[0]}; a weight from 0 (zero-shot) to 1 (the probe) is needed")
        self.probe.seed = self.seed
        fitted = self.probe.fit(support, val)
        self.alpha_ = self.alpha
        if val is not None and self.alphas:
            self.alpha_ = max(self.alphas, key=lambda a: accuracy(fitted.at(a, self.layers), val))  # first of the best
        self.probe_ = fitted.at(self.alpha_, self.layers)

    def embed(self, query: Tables) -> Rows:
        self._check_fitted()
        return self.probe_.embed(query)

    def logits(self, query: Tables) -> Rows:
        self._check_fitted()
        return self.probe_.logits(query)


def representer(head: Tensor, start: Tensor | None, rows: Mapping[str, Table], ridge: float = 1e-3) -> pd.DataFrame:
    """How much of each learnt class weight comes from which modality's rows: shares that sum to 1, one line a class.

    head (C, d) trained, start (C, d) its initial value or None (then it is in the rest), rows {modality: unit rows}.
    Writes W_c as sum_m sum_i a_mi z_mi + rest by ridge regression over all rows; a share is the squared norm of a part
    over the sum of the squared norms of all parts. `rest` is what the rows do not explain. If `start` is given, its
    own share is shown and the rows explain the change from it only.

    Source: Lin et al., section 3 (with gradient descent W stays in the span of the rows; Adam leaves it a little).
    """
    moved = head if start is None else head - start
    z = torch.cat([t.x for t in rows.values()]).double()  # (n, d)
    gram = z @ z.T + ridge * torch.eye(len(z), dtype=torch.float64)
    weight = torch.linalg.solve(gram, z @ moved.double().T)  # (n, C)
    parts, first = {}, 0
    for m, table in rows.items():
        own = slice(first, first + len(table))
        parts[m] = (weight[own].T @ z[own]).square().sum(1)  # (C,)
        first += len(table)
    parts["rest"] = (moved.double() - weight.T @ z).square().sum(1)
    if start is not None:
        parts["start"] = start.double().square().sum(1)
    total = torch.stack(list(parts.values())).sum(0)
    return pd.DataFrame({name: (part / total).numpy() for name, part in parts.items()})


def _shares(batch: int, parts: int | Sequence[float]) -> list[int]:
    """Rows of each modality in a batch: equal parts, or these shares, rounded down; the rest to the first."""
    others = [batch // parts] * (parts - 1) if isinstance(parts, int) else [int(batch * s + 1e-9) for s in parts[1:]]
    return [batch - sum(others), *others]


def _mixed_batches(x: Rows, y: Rows, sizes: Sequence[int], seed: int) -> Iterator[tuple[Rows, Tensor]]:
    """Batches with `sizes[i]` rows of modality i, each modality shuffled and restarted by itself."""
    used = {m: size for m, size in zip(x, sizes, strict=True) if size}
    streams = {m: batches((x[m], y[m]), size, generator(seed, size, i)) for i, (m, size) in enumerate(used.items())}
    while True:
        parts = {m: next(stream) for m, stream in streams.items()}
        yield {m: rows for m, (rows, _) in parts.items()}, torch.cat([labels for _, labels in parts.values()])


def autograds(scores: Callable[..., Tensor], params: Sequence[Tensor], x: Rows, y: Tensor) -> list[Tensor]:
    """Gradient of each cell's mean cross-entropy for its parameters, by autograd; scores(params, x) is (n, G, C)."""
    leaves = [p.detach().requires_grad_() for p in params]
    return list(torch.autograd.grad(cell_losses(scores(leaves, x), y).sum(), leaves))


def cell_losses(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of each cell: (n, G, C), (n,) -> (G,)."""
    n, g, c = logits.shape
    return F.cross_entropy(logits.reshape(n * g, c), y.repeat_interleave(g), reduction="none").view(n, g).mean(0)


def _check_classes(y: Tensor, classes: Sequence[str], modalities: Sequence[str]) -> None:
    missing = set(range(len(classes))) - set(y.tolist())
    if missing:
        raise ValueError(f"class {classes[min(missing)]!r} has no {' or '.join(modalities)} row; each class needs one")
