"""The other rows of CroMA's tables, and two more readings of a trained encoder.

What a meta-iteration does: a Reptile step a part, "plain" for training the meta-learner itself on ordinary batches.

| class | a meta-iteration | row of the paper, flag of its release |
|---|---|---|
| FromScratch | nothing | pre-training (fine-tune on the support alone) |
| SourceOnly | classify source | `--merge0`, no alignment |
| AlignClassify | align, plain; classify all source classes, plain | align + classify |
| AlignMetaClassify | align, plain; classify source | align + meta-classify, `--do-super` |
| CroMA | align; classify source | (none) |
| Reconstruction | reconstruct target rows | unsupervised meta-learning, `--ae` |
| WeakLabels | classify target rows by pair set | unsupervised meta-learning, weak labels |
| Oracle | classify target, **with its labels** | within-modality, `--reptile1` |
| ContrastiveOracle | contrast target rows by class, classify target, **with its labels** | (ours) |
| SharedEncoder | classify source, one trunk for both modalities | shared |
| SharedAlign | align; classify source | shared + align |
| SharedConfusion | confuse; classify source | shared + domain confusion |
| SharedTargetLabels | classify source; classify target, **with its labels** | shared + target labels |
| CroMATargetLabels | CroMA; classify target, **with its labels** | (an upper reference), `--train1` |

Where nothing else would teach the encoder, classification does: the target's always moves encoder and head, and the
shared rows have `classify="head and encoder"`. Differs: the domain-confusion loss has a Reptile step of its own, where
DDC adds it to the cross-entropy.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal_lib.encoders.small import mlp, reinitialise
from xmodal_lib.methods.croma import CroMA
from xmodal_lib.methods.encoded import started
from xmodal_lib.methods.heads import linear
from xmodal_lib.methods.meta_rows import Groups
from xmodal_lib.methods.meta_tasks import ClassifyAll, Confuse, Contrast, Part, Reconstruct
from xmodal_lib.methods.meta_transfer import MetaTransfer
from xmodal_lib.methods.method import Method
from xmodal_lib.methods.reptile import Adam
from xmodal_lib.tables import Tables, class_means
from xmodal_lib.training import generator


@dataclass
class FromScratch(MetaTransfer):
    """No meta-training: every `fit` starts from fresh weights, or from those of modules with `pretrained = True`."""

    def pretrain(self, base: Tables) -> Self:
        return copy.deepcopy(self)


@dataclass
class SourceOnly(MetaTransfer):
    """No alignment: the head is meta-learnt on the source, the target's encoder starts fresh."""

    def _parts(self, base: Tables) -> list[Part]:
        return [self._classify(base, self.source, frozen=self.classify == "head")]


@dataclass
class AlignClassify(MetaTransfer):
    """No meta-learning: both stages are plain training, the classifier is over all base classes.

    Such a head cannot be carried over to new classes, so `fit` draws a new one.
    """

    def _parts(self, base: Tables) -> list[Part]:
        classify = self._classify(base, self.source, frozen=self.classify == "head", kind=ClassifyAll)
        return [replace(self._align(base), direct=True, size=None), replace(classify, direct=True)]

    def _outputs(self, base: Tables) -> int:
        return len(base.classes)

    def _transferable(self) -> bool:
        return False


@dataclass
class AlignMetaClassify(MetaTransfer):
    """Plain training of the alignment, meta-learning of the classifier."""

    def _parts(self, base: Tables) -> list[Part]:
        align = replace(self._align(base), direct=True, size=None)
        return [align, self._classify(base, self.source, frozen=self.classify == "head")]


@dataclass
class Reconstruction(MetaTransfer):
    """Meta-learning without labels or pairs: the target's encoder learns to give its rows back, by squared error.

    The decoder (b, D) -> (b, *shape) is `encoders["decoder"]`; without one, a hidden layer of 256.
    """

    def _parts(self, base: Tables) -> list[Part]:
        x = base[self.target].x
        if not x.is_floating_point():
            raise ValueError(f"{self.target} rows are {x.dtype}; only rows of floating-point numbers can be "
                             "reconstructed")  # fmt: skip
        size = self.way * self.shot
        return [Reconstruct("reconstruct", self.lr_align, self.align_batch or self.batch, self.target, x, size)]

    def _used(self) -> tuple[str, ...]:
        return (self.target,)

    def _decoder(self, base: Tables) -> nn.Module:
        x = base[self.target].x
        given = self.encoders.get("decoder")
        decoder = copy.deepcopy(given) if given is not None else mlp(self.widths_[self.target], x[0].numel())
        return reinitialise(decoder, generator(self.seed, 4)).to(x.device)


@dataclass
class WeakLabels(MetaTransfer):
    """Meta-learning of the target from weak labels alone: a task is to tell `way` of its pair sets apart.

    Raises:
        ValueError: besides, where no set has two target rows.
    """

    def _parts(self, base: Tables) -> list[Part]:
        table = base[self.target]
        _, group, count = table.pair.unique(return_inverse=True, return_counts=True)
        if int(count.max()) < 2:
            raise ValueError(f"every {self.target} row is of a set of its own; weak labels need sets of several rows")
        groups = Groups.of(torch.where(count[group] > 1, group, -1), len(count))
        return [self._of_groups("classify sets", self.target, table.x, groups, False)]

    def _used(self) -> tuple[str, ...]:
        return (self.target,)


@dataclass
class Oracle(MetaTransfer):
    """Reptile on labelled tasks of the target itself: reads target labels, which the others have not."""

    def _parts(self, base: Tables) -> list[Part]:
        return [self._classify(base, self.target, frozen=False)]

    def _used(self) -> tuple[str, ...]:
        return (self.source, self.target) if self.reserved else (self.target,)


@dataclass
class ContrastiveOracle(Oracle):
    """The alignment loss between two target rows of a class, then as many steps of classification.

    Its encoder takes two parts a meta-iteration, like CroMA. Reads target labels.
    """

    def _parts(self, base: Tables) -> list[Part]:
        classify = self._classify(base, self.target, frozen=False)
        filled = classify.classes.filled()
        groups = Groups(classify.classes.rows, classify.classes.start[filled], classify.classes.count[filled])
        contrast = Contrast(
            "contrast", self.lr_align, self.align_batch or self.batch, (self.target, self.target),
            (classify.x, classify.x), (groups, groups), None,
            self.way * self.shot, self.way, self.shot, (self.loss, self.margin, self.temperature),
        )  # fmt: skip
        return [contrast, classify]


@dataclass
class SharedEncoder(SourceOnly):
    """One encoder for both: `encoders` holds an input layer a modality and, under "trunk", all the rest.

    Raises:
        ValueError: besides, where there is no trunk.
    """

    classify: str = "head and encoder"

    def _join(self, encoders: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
        if "trunk" not in self.encoders:
            raise ValueError(f"{type(self).__name__} needs encoders['trunk'], the part that both modalities share; "
                             "the others are their input layers")  # fmt: skip
        device = next((p.device for layer in encoders.values() for p in layer.parameters()), torch.device("cpu"))
        trunk = started(self.encoders["trunk"], device, self.seed, 2, fresh=self.fresh)
        return {m: nn.Sequential(layer, trunk) for m, layer in encoders.items()}


@dataclass
class SharedAlign(SharedEncoder):
    """And pairs are aligned."""

    def _parts(self, base: Tables) -> list[Part]:
        return [self._align(base), *super()._parts(base)]


@dataclass
class SharedConfusion(SharedEncoder):
    """And the mean embeddings of the modalities are brought together, which needs no pairs."""

    def _parts(self, base: Tables) -> list[Part]:
        modalities = (self.source, self.target)
        rows = (base[self.source].x, base[self.target].x)
        batch, size = self.align_batch or self.batch, self.way * self.shot
        return [Confuse("confuse", self.lr_align, batch, modalities, rows, size), *super()._parts(base)]


@dataclass
class SharedTargetLabels(SharedEncoder):
    """And the target is classified too: reads target labels."""

    def _parts(self, base: Tables) -> list[Part]:
        return [*super()._parts(base), self._classify(base, self.target, frozen=self.classify == "head")]


@dataclass
class CroMATargetLabels(CroMA):
    """CroMA, and the target is classified too: reads target labels."""

    def _parts(self, base: Tables) -> list[Part]:
        return [*super()._parts(base), self._classify(base, self.target, frozen=False)]


@dataclass
class Reading(Method):
    """Base of other ways to use the encoder of a meta-trained row, which stays as it is.

    Logits are scale * W unit(z), W (C, D); `pretrain` is that of `method`. Without it the encoder is a fresh one.
    """

    method: MetaTransfer = field(default_factory=MetaTransfer)
    scale: float = 10.0  # multiplies the cosine

    weight_: Tensor = field(init=False, repr=False, compare=False)  # (C, D)

    _shared: ClassVar[tuple[str, ...]] = ("method",)

    def pretrain(self, base: Tables) -> Self:
        other = copy.deepcopy(self)
        other.method = other.method.pretrain(base)
        return other

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that `fit` learns from."""
        return self.method.modalities

    def _fit(self, support: Tables, val: Tables | None) -> None:
        reader = copy.copy(self.method)
        reader.seed, reader.head, reader.steps = self.seed, "fresh", 0
        self.method = reader.fit(support)
        target = support[self.method.target]
        z = F.normalize(self.embed(support.only(self.method.target))[self.method.target], dim=1)
        self.weight_ = self._weight(z, target.y, len(support.classes))

    def _weight(self, z: Tensor, y: Tensor, classes: int) -> Tensor:
        """From unit embeddings and their classes: (n, D), (n,) -> (C, D)."""
        raise NotImplementedError

    def embed(self, query: Tables) -> dict[str, Tensor]:
        return self.method.embed(query)

    @torch.no_grad()
    def logits(self, query: Tables) -> dict[str, Tensor]:
        self._check_fitted()
        return {m: self.scale * F.normalize(z, dim=1) @ self.weight_.T for m, z in self.embed(query).items()}


@dataclass
class NearestMeanReading(Reading):
    """The class whose mean unit embedding over the support is nearest in angle: nothing is trained."""

    def _weight(self, z: Tensor, y: Tensor, classes: int) -> Tensor:
        return F.normalize(class_means(z, y, classes), dim=1)


@dataclass
class FreshHead(Reading):
    """A linear head without bias, drawn anew and trained on the whole support at once, with Adam."""

    steps: int = 200
    lr: float = 0.05

    def _weight(self, z: Tensor, y: Tensor, classes: int) -> Tensor:
        head = linear(z.shape[1], classes, generator(self.seed, 6)).to(z)
        optimiser = Adam([head], self.lr)
        for _ in range(self.steps):
            optimiser.descend(F.cross_entropy(self.scale * F.linear(z, head.weight), y))
        return head.weight.detach()
