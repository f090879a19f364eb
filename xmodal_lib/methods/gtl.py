"""GTL: a generator of features from concept and disturbance, learnt on one modality, kept for a few rows of others.

Source: Yang et al., "Generative Transfer Learning for Cross-modal Few-Shot Learning" (arXiv 2410.10663). A row x is
made from an intrinsic concept z_c and an in-modality disturbance z_m, x = g(z_c, z_m). What base and novel classes have
in common is g. With the encoders q(z_c | x), q(z_m | x) of `gtl_nets`, of which the estimator of latent domains
(`domains`) shifts the latter, and a classifier C, the loss of a row of D numbers is

    (-log p(x | z_c, z_m) + beta_c KL(q(z_c|x), N(0, I)) + beta_m KL(q(z_m|x), N(0, I))) / D + lambda_y CE(y, C(z_c))

    pretrain    base rows, all is learnt
    fit         a few rows of each modality of novel classes; g stays, in weights and in statistics

| known from | what |
|---|---|
| the paper | the model, the objective, 128 + 64 latent numbers, the two stages, g frozen in the second |
| inferred (from a development repository) | layers, rates, epochs, `kl="coded"`, `capacity`, "staged", triplet |
| our choice | variance 1 of p(x given z), on rows standardised by the base; division by D; an analytic KL |

Differs: BatchNorm keeps running statistics and the frozen generator uses them; in the inferred code training never
updates them, so what is frozen there is not the function that was trained. The variance of the disturbance has weights
of its own; there a slip takes those of the mean. No epoch is chosen on test rows.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, cast

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal_lib.encoders.small import reinitialise
from xmodal_lib.methods import encoded
from xmodal_lib.methods.domains import Domains
from xmodal_lib.methods.gtl_losses import hard_triplet, kl_to_standard, log_normal, sample, to_centres
from xmodal_lib.methods.gtl_nets import Classifier, Encoder, Generator, Posterior
from xmodal_lib.methods.method import Method, NotFitted
from xmodal_lib.tables import Table, Tables, check_labelled, usable
from xmodal_lib.training import accuracy, check_finite, generator, seeded

CHOICES = {
    "kl": ("analytic", "coded"),
    "schedule": ("joint", "staged"),
    "generator": ("frozen", "fine-tuned", "fresh"),
    "tuned": ("all", "classifier"),
}


@dataclass
class GTL(Method):
    """Generative transfer learning (the module's docstring). Rows of all modalities have one shape.

    Without `pretrain`, `fit` learns the generator too. With `val`, fit keeps the epoch that is best on it, looked at
    every five.

    Raises:
        ValueError: a modality or a class has no row, rows of two modalities differ in shape, or a field is impossible.
        FloatingPointError: a row or the loss is not finite.
    """

    encoders: Mapping[str, nn.Module] = field(default_factory=dict)  # "trunk": (b, ...) -> (b, D); none: rows are x
    modalities: tuple[str, ...] = ()  # to learn from; () for all
    concept: int = 128  # Nc
    disturbance: int = 64  # Nm
    domains: int = 128  # d; 0: no estimator
    gate: str = "sparsemax"  # or "softmax"
    way: str = "fastest"  # how the adapters are evaluated; all ways give the same numbers
    hidden: int = 256
    trunks: int = 2  # encoders of concept and disturbance apart, or 1 for both
    dropout: float = 0.5
    beta_c: float = 1.0
    beta_m: float = 1.0
    weight_y: float = 1.0  # lambda_y
    weight_x: float = 1.0  # of the bound of log p(x); 0: cross-entropy alone
    sampled: bool = True  # False: z is its mean and there is no KL, an autoencoder
    kl: str = "analytic"  # or "coded": the inferred estimate, at a sample of another distribution
    capacity: float = 0.0  # nats C that the KL is drawn to; 0: to nothing
    capacity_steps: int = 5000  # until C is reached
    triplet: float = 0.0  # weight; needs several rows a class in a batch
    centre: float = 0.0  # weight
    schedule: str = "joint"  # or "staged": representation first, then the classifier with all else frozen
    generator: str = "frozen"  # in `fit`; or "fine-tuned", or "fresh": drawn anew and learnt
    tuned: str = "all"  # what else learns in `fit`: encoders, estimator and classifier, or "classifier"
    base_epochs: int = 120
    base_decay_at: tuple[int, ...] = (60,)
    epochs: int = 60
    decay_at: tuple[int, ...] = (30,)
    warmup: int = 5  # epochs
    batch: int = 64
    per_class: int = 4  # rows of a class that are drawn together
    lr: float = 1e-3
    estimator_rate: float = 1.0  # multiplies the learning rate of the estimator in `fit`
    weight_decay: float = 1e-4
    clip: float = 2.0  # norm of the gradient

    _shared = ("encoders", "base_")

    nets_: nn.ModuleDict = field(init=False, repr=False, compare=False)  # trunk, encoder, generator, classifier
    widths_: dict[str, int] = field(init=False, repr=False, compare=False)
    scale_: dict[str, Tensor] = field(init=False, repr=False, compare=False)  # mean and deviation of base rows (D',)
    base_: dict[str, Tensor] = field(init=False, repr=False, compare=False)  # what `pretrain` learnt
    history_: pd.DataFrame = field(init=False, repr=False, compare=False)  # a line an epoch

    # -- two stages --------------------------------------------------------------------------------------------

    def pretrain(self, base: Tables) -> Self:
        """Stage 1: everything, on base rows of whatever modalities they have."""
        method = copy.deepcopy(self)
        method.modalities = ()
        x, y = method._stacked(base, base.modalities, "base")
        method._begin(x, len(base.classes))
        method._scale(x)
        with seeded(method.seed, {x.device}):  # of dropout
            method.history_ = method._train(x, y, method.base_epochs, method.base_decay_at, "base", None)
        method.base_ = {k: v for k, v in method.nets_.state_dict().items() if "classifier.linear" not in k}
        method.modalities = self.modalities
        return method

    def _fit(self, support: Tables, val: Tables | None) -> None:
        x, y = self._stacked(support, self.modalities or support.modalities, "support")
        empty = (y.bincount(minlength=len(support.classes)) == 0).nonzero()
        if len(empty):
            raise ValueError(f"class {support.classes[int(empty[0])]!r} has no row; each class needs one")
        self._begin(x, len(support.classes))
        if not hasattr(self, "base_"):
            self._scale(x)
        else:
            self.nets_.load_state_dict(self.base_, strict=False)
            if self.generator == "fresh":
                reinitialise(self.nets_["generator"].cpu(), generator(self.seed, 3)).to(x.device)
        with seeded(self.seed, {x.device}):
            self.history_ = self._train(x, y, self.epochs, self.decay_at, "novel", val)

    def _train(
        self, x: Tensor, y: Tensor, epochs: int, decay_at: tuple[int, ...], stage: str, val: Tables | None
    ) -> pd.DataFrame:
        """Adam on the loss, in one or two parts; returns the history."""
        parts = {"joint": ["all"], "staged": ["representation", "classifier"]}[self.schedule]
        lines: list[dict[str, Any]] = []
        for k, part in enumerate(parts):
            rng = generator(self.seed, 4, k, stage == "novel")
            nets = self._learning(part, stage)
            own = [[p for p in net.parameters() if p.requires_grad] for net, _ in nets]
            if not any(own):
                continue
            centres = torch.zeros(int(y.max()) + 1, self.widths_["trunk"], device=x.device, requires_grad=True)
            groups = [{"params": params, "rate": rate} for params, (_, rate) in zip(own, nets, strict=True)]
            optimiser = torch.optim.Adam(groups, self.lr, weight_decay=self.weight_decay, fused=True)
            best, kept, step = -1.0, None, 0
            for epoch in range(epochs):
                for net in self.nets_.values():  # each time, since a look at val leaves all in evaluation mode
                    net.train()
                    for still in encoded.frozen(net):
                        still.eval()
                decay = 0.1 ** sum(epoch >= at for at in decay_at)
                sums: dict[str, Tensor] = {}
                order = [*self._batches(y, rng)]
                for rows in order:
                    warm = min(1.0, (step + 1) / max(1, self.warmup * len(order)))
                    for group in optimiser.param_groups:
                        group["lr"] = self.lr * group["rate"] * decay * warm
                    losses = self._losses(x[rows], y[rows], centres, step, rng)
                    loss = self._total(losses, part)
                    optimiser.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(itertools.chain(*own), self.clip)
                    optimiser.step()
                    if centres.grad is not None:  # SGD at rate 0.5, whatever the weight, as inferred
                        with torch.no_grad():
                            centres -= 0.5 * centres.grad / max(self.centre, 1e-12)
                        centres.grad = None
                    for name, value in (losses | {"loss": loss}).items():
                        sums[name] = sums.get(name, 0.0) + value.detach() * (len(rows) / len(y))
                    step += 1
                means = {name: value.item() for name, value in sums.items()}
                check_finite(means["loss"], step, f"{type(self).__name__}, {stage}")
                line: dict[str, Any] = {"stage": stage, "part": part, "epoch": epoch + 1} | means
                if val is not None and (epoch % 5 == 4 or epoch == epochs - 1):
                    line["val_accuracy"] = found = accuracy(self, val)
                    if found > best:
                        best = found
                        kept = {name: v.clone() for name, v in self.nets_.state_dict().items()}
                lines.append(line)
            if kept is not None:
                self.nets_.load_state_dict(kept)
        self.nets_.eval()
        self._free(*self.nets_)
        return pd.DataFrame(lines)

    def _losses(self, x: Tensor, y: Tensor, centres: Tensor, step: int, rng: torch.Generator) -> dict[str, Tensor]:
        """Parts of the loss of a batch, means over its rows; those in nats are for a whole row."""
        s = self._standard(x)  # (b, D')
        q = self.nets_["encoder"](self._seen(x, s))
        z_c, z_m, kl_c, kl_m = self._drawn(q, rng)
        error = (self.nets_["generator"](z_c, z_m) - s).square()
        classifier = cast(Classifier, self.nets_["classifier"])
        p = classifier.project(z_c)
        losses = {
            "reconstruction": error.sum(1).mean() / 2, "kl concept": kl_c.mean(), "kl disturbance": kl_m.mean(),
            "cross-entropy": F.cross_entropy(classifier.linear(classifier.neck(p)), y),
        }  # fmt: skip
        c = self.capacity * min(1.0, step / self.capacity_steps)
        kl = self.beta_c * losses["kl concept"] + self.beta_m * losses["kl disturbance"]
        if self.kl == "coded":
            losses["representation"] = error.mean() + (kl - c).abs()
        else:
            kl = (kl - c).abs() if self.capacity else kl
            losses["representation"] = (losses["reconstruction"] + kl) / s.shape[1]
        if self.triplet:
            losses["triplet"] = hard_triplet(p, y)
        if self.centre:
            losses["centre"] = to_centres(p, y, centres)
        return losses

    def _total(self, losses: Mapping[str, Tensor], part: str) -> Tensor:
        weights = {"cross-entropy": self.weight_y, "triplet": self.triplet, "centre": self.centre}
        found = [weights[name] * loss for name, loss in losses.items() if name in weights and part != "representation"]
        return torch.stack(
            [*found, *([self.weight_x * losses["representation"]] if part != "classifier" else [])]
        ).sum()

    def _drawn(self, q: Posterior, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """z_c (b, Nc), z_m (b, Nm) and their divergences (b,), (b,) in nats."""
        none = q.concept.new_zeros(len(q.concept))
        if not self.sampled:
            return q.concept, q.disturbance, none, none
        z_c = sample(q.concept, q.concept_log, rng)
        if self.kl == "analytic":
            z_m = sample(q.disturbance, q.disturbance_log, rng)
            kl_c, kl_m = kl_to_standard(q.concept, q.concept_log), kl_to_standard(q.disturbance, q.disturbance_log)
            return z_c, z_m, kl_c, kl_m
        fuse = cast(Encoder, self.nets_["encoder"]).fuse
        z_m = fuse(torch.cat([sample(q.raw, q.disturbance_log, rng), q.estimate], 1))
        kl_c = log_normal(z_c, q.concept, q.concept_log) - log_normal(z_c, torch.zeros_like(z_c))
        return z_c, z_m, kl_c, log_normal(z_m, q.raw, q.disturbance_log) - log_normal(z_m, torch.zeros_like(z_m))

    # -- the answer ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def posterior(self, query: Tables) -> dict[str, Posterior]:
        """q of every row, {modality: Posterior of n_m rows}; after `pretrain` alone too."""
        if not hasattr(self, "nets_"):
            raise NotFitted(f"{type(self).__name__} has not been fitted; call fit(support, val), use what it returns")
        self.nets_.eval()
        found = {}
        for m, table in query.rows.items():
            self._check_shape(table, m)
            parts = table.x.split(256) if len(table) else [table.x]
            ready = (self.nets_["encoder"](self._seen(x, self._standard(x))) for x in parts)
            found[m] = Posterior(*(torch.cat(columns) for columns in zip(*ready, strict=True)))
        return found

    def embed(self, query: Tables) -> dict[str, Tensor]:
        """Means of the concept {modality: (n_m, Nc)}."""
        return {m: q.concept for m, q in self.posterior(query).items()}

    @torch.no_grad()
    def logits(self, query: Tables) -> dict[str, Tensor]:
        self._check_fitted()
        return {m: self.nets_["classifier"](z) for m, z in self.embed(query).items()}

    @torch.no_grad()
    def log_likelihood(self, query: Tables, samples: int = 1) -> dict[str, Tensor]:
        """Bound of log p(x) in nats, of standardised rows with variance 1 around the generator: {modality: (n_m,)}.

        One sample: an unbiased draw of the ELBO. More: the importance-weighted bound (Burda et al., ICLR 2016), which
        is tighter.
        """
        rng = generator(self.seed, 5)
        found = {}
        for m, q in self.posterior(query).items():
            s, weights = self._standard(query[m].x), []
            for _ in range(samples):
                z_c, z_m = sample(q.concept, q.concept_log, rng), sample(q.disturbance, q.disturbance_log, rng)
                prior = log_normal(z_c, torch.zeros_like(z_c)) + log_normal(z_m, torch.zeros_like(z_m))
                drawn = log_normal(z_c, q.concept, q.concept_log) + log_normal(z_m, q.disturbance, q.disturbance_log)
                weights.append(log_normal(s, self.nets_["generator"](z_c, z_m)) + prior - drawn)
            found[m] = torch.stack(weights).logsumexp(0) - math.log(samples)
        return found

    @torch.no_grad()
    def generated(self, concept: Tensor, disturbance: Tensor) -> Tensor:
        """g(z_c, z_m), in the units of the rows: (b, Nc), (b, Nm) -> (b, D')."""
        return self.nets_["generator"].eval()(concept, disturbance) * self.scale_["deviation"] + self.scale_["mean"]

    # -- pieces ------------------------------------------------------------------------------------------------

    def _begin(self, x: Tensor, classes: int) -> None:
        """Fresh nets for rows like x; classes 0..classes-1."""
        self._check_fields()
        given = self.encoders.get("trunk")
        trunk = encoded.started(given, x.device, self.seed, 0, fresh=True)
        h = x[:2].flatten(1) if given is None else encoded.look(trunk, x, f"{type(self).__name__}: the trunk")
        self._build({"trunk": h.shape[1], "x": x[0].numel()}, {"trunk": trunk}, classes)
        self.nets_.to(x.device)

    def _build(self, widths: Mapping[str, int], encoders: Mapping[str, nn.Module], classes: int | None = None) -> None:
        """Nets of these widths: "trunk", of what the encoders see, and "x", of what is generated."""
        self.widths_ = dict(widths)
        rng = generator(self.seed, 2)
        d = self.domains
        domains = Domains(widths["trunk"], d, self.disturbance, gate=self.gate, way=self.way) if d else None
        encoder = Encoder(widths["trunk"], self.concept, self.disturbance, size=self.hidden, dropout=self.dropout,
                          trunks=self.trunks, domains=domains)  # fmt: skip
        classifier = Classifier(self.concept, widths["trunk"], len(self.classes_) if classes is None else classes)
        parts = {"encoder": encoder, "generator": Generator(self.concept, self.disturbance, widths["x"], self.hidden)}
        for part in (*parts.values(), classifier):
            reinitialise(part, rng)
        nn.init.normal_(classifier.linear.weight, std=0.001, generator=rng)
        self.nets_ = nn.ModuleDict({"trunk": encoders["trunk"], **parts, "classifier": classifier})

    def _learning(self, part: str, stage: str) -> list[tuple[nn.Module, float]]:
        """Nets that this part of a stage trains, with the share of its learning rate; all others are frozen."""
        again = stage == "novel" and hasattr(self, "base_")
        nets = self.nets_
        first = ["trunk", "encoder"] if not (again and self.tuned == "classifier") else []
        if not again or self.generator != "frozen":
            first.append("generator")
        names = {"all": [*first, "classifier"], "representation": first, "classifier": ["classifier"]}[part]
        self._free(*names)
        estimator = cast(Encoder, nets["encoder"]).domains
        if estimator is None or "encoder" not in names:
            return [(nets[name], 1.0) for name in names]
        inside = {id(p) for p in estimator.parameters()}
        rest = nn.ParameterList([p for p in nets["encoder"].parameters() if id(p) not in inside])
        others: list[tuple[nn.Module, float]] = [(nets[name], 1.0) for name in names if name != "encoder"]
        return [*others, (rest, 1.0), (estimator, self.estimator_rate if again else 1.0)]

    def _free(self, *names: str) -> None:
        """These nets have a gradient and no others; what is frozen of the given trunk has none in any case."""
        self.nets_.requires_grad_(False)
        for name in names:
            self.nets_[name].requires_grad_(True)
        given = self.encoders["trunk"].parameters() if "trunk" in self.encoders else ()
        for own, p in zip(self.nets_["trunk"].parameters(), given, strict=True):
            own.requires_grad_(own.requires_grad and p.requires_grad)

    def _batches(self, y: Tensor, rng: torch.Generator) -> Iterator[Tensor]:
        """A pass over the rows, `per_class` of a class together. A single row left over joins the batch before."""
        order = torch.randperm(len(y), generator=rng)
        order = order[y.cpu()[order].argsort(stable=True)]
        count = y.cpu().bincount()
        groups = [part for rows in order.split(count.tolist()) for part in rows.split(self.per_class) if len(part)]
        groups = [groups[k] for k in torch.randperm(len(groups), generator=rng).tolist()]
        parts = list(torch.cat(groups).split(self.batch))
        if len(parts) > 1 and len(parts[-1]) == 1:
            parts[-2:] = [torch.cat(parts[-2:])]
        yield from parts

    def _scale(self, x: Tensor) -> None:
        self.scale_ = standardising(x)

    def _standard(self, x: Tensor) -> Tensor:
        """(b, ...) -> (b, D'), mean 0 and deviation 1 over the base."""
        return (x.flatten(1) - self.scale_["mean"]) / self.scale_["deviation"]

    def _seen(self, x: Tensor, standard: Tensor) -> Tensor:
        """What the encoders see: features by the trunk, or the standardised rows themselves (b, D)."""
        return self.nets_["trunk"](x) if "trunk" in self.encoders else standard

    def _stacked(self, tables: Tables, modalities: tuple[str, ...], where: str) -> tuple[Tensor, Tensor]:
        """Rows of all modalities, one after another: (n, ...), (n,)."""
        self._check_fields()
        for m in modalities:
            usable(tables, m, f"{type(self).__name__} learns from", where)
        check_labelled(tables.only(*modalities), where)
        shapes = {m: tuple(tables[m].x.shape[1:]) for m in modalities}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"{type(self).__name__} needs rows of one shape, and not "
                             + ", ".join(f"{m} {shape}" for m, shape in shapes.items()))  # fmt: skip
        return torch.cat([tables[m].x for m in modalities]), torch.cat([tables[m].y for m in modalities])

    def _check_shape(self, table: Table, modality: str) -> None:
        if table.x[0:1].flatten(1).shape[1] != self.widths_["x"] and len(table):
            raise ValueError(f"{type(self).__name__} knows rows of {self.widths_['x']} numbers; {modality} rows are of "
                             f"shape {tuple(table.x.shape[1:])}")  # fmt: skip

    def _check_fields(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}; there are {', '.join(map(repr, known))}")
        for name in ("concept", "disturbance", "hidden", "epochs", "base_epochs", "batch", "per_class"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; at least 1 is needed")
        if self.trunks not in (1, 2) or self.domains < 0:
            raise ValueError(f"trunks={self.trunks}, domains={self.domains}; 1 or 2 trunks and 0 or more domains")


def standardising(x: Tensor) -> dict[str, Tensor]:
    """Mean and deviation of every number of rows (n, ...), {name: (D',)}; a deviation of nothing is 1."""
    s = x.flatten(1).float()
    deviation = s.std(0, unbiased=False)
    return {"mean": s.mean(0), "deviation": torch.where(deviation > 1e-6, deviation, 1.0)}
