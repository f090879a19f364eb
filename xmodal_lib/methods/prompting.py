"""Prompt learning: the words before a class name become vectors that are trained; both encoders stay frozen.

Source: Zhou et al., "Learning to Prompt for Vision-Language Models" (CoOp), IJCV 2022 (arXiv 2109.01134). With M
context vectors v (M, D), or some for each class, g the text tower and s the scale,

    t_c = unit(g([v_1] ... [v_M] [name of c] .)),    logits = s t z,    loss = mean CE over a batch      eq. 2 and 3

Only v is trained. In the cross-modal form (Lin et al., CVPR 2023) half of each batch is text rows, the
features of fixed prompts, labelled like images. ProGrad (Zhu et al., ICCV 2023, arXiv 2205.14865) takes out of each
step what would raise the distance to the zero-shot answers.

| here | paper |
|---|---|
| Prompting(encoders={"prompt": tower}, modalities=("image",)) | CoOp |
| Prompting(encoders={"prompt": tower}) | cross-modal prompting |
| ProGrad(encoders={"prompt": tower}) | ProGrad |
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.methods.adaptation import CosineMethod, Rows, _check_classes, _mixed_batches, _shares
from xmodal_lib.tables import Tables
from xmodal_lib.training import check_finite, generator, warmup_cosine

if TYPE_CHECKING:  # open_clip takes seconds to import, and every method is imported with this one
    from open_clip.transformer import TextTransformer


@dataclass
class Prompting(CosineMethod):
    """Learnt context before the class names; `encoders["prompt"]` is the frozen text tower it goes through.

    The tower is an `Encoder` of an open_clip model or of the bridge. It is not copied; of it, `fit` reads the class
    names once, and each step runs it once on C prompts. Image features do not change. With `val`, the epoch is kept
    whose start is best on it (the first wins ties); without, the last one, as published.

    Differs: rows are features, so the published random crops are not drawn anew in every epoch: give augmented rows as
    rows of their own. On ImageNet 50 epochs are published at every shot: set `epochs`.

    Raises:
        ValueError: the tower is missing or of an unknown kind, a field is impossible, or rows are missing.
        FloatingPointError: a row or the loss is not finite.
    """

    modalities: tuple[str, ...] = ("image", "text")  # a batch holds equal parts of them, the first one any rest
    names: Mapping[str, str] = field(default_factory=dict)  # class -> its words; else its name, with spaces for "_"
    tokens: int = 16  # M
    words: str = ""  # the context starts as these, "a photo of a", and M is their tokens; "": N(0, 0.02)
    per_class: bool = False  # a context for each class
    epochs: int = 0  # over the rows of the first modality; 0: as published for the shots
    lr: float = 0.002
    batch: int = 32
    momentum: float = 0.9
    weight_decay: float = 5e-4

    context_: Tensor = field(init=False, repr=False, compare=False)  # (M, D), or (C, M, D)
    _shared: ClassVar[tuple[str, ...]] = ("encoders",)

    def _fit(self, support: Tables, val: Tables | None) -> None:
        tower = self._checked()
        tables = {m: self._of(support, m) for m in self.modalities}
        y = {m: t.y for m, t in tables.items()}
        _check_classes(y[self.modalities[0]], support.classes, self.modalities[:1])
        x = {m: self._embed_rows(m, t.x) for m, t in tables.items()}
        self._prepare(support)
        names = [self.names.get(c, c.replace("_", " ")) for c in support.classes]
        prompts = Prompts(tower, names, self.words or self.tokens)
        context = prompts.start(self.per_class, generator(self.seed, 3)).requires_grad_()
        self._check_width(prompts(context.detach()), x)

        shots = len(tables[self.modalities[0]].pair.unique()) // len(support.classes)
        sizes = [min(size, len(rows)) for size, rows in zip(_shares(self.batch, len(x)), x.values(), strict=True)]
        per_epoch = len(x[self.modalities[0]]) // sizes[0]
        epochs = self.epochs or (50 if shots <= 1 else 100 if shots <= 4 else 200)
        optimiser = torch.optim.SGD([context], lr=1.0, momentum=self.momentum, weight_decay=self.weight_decay)
        stream = _mixed_batches(x, y, sizes, self.seed)
        best: tuple[float, Tensor, Tensor] | None = None
        self.history_: list[tuple[int, float]] = []
        for step in range(epochs * per_epoch):
            epoch = step // per_epoch
            optimiser.param_groups[0]["lr"] = warmup_cosine(epoch, epochs, lr=self.lr, warmup=1)
            rows, labels = next(stream)
            head = prompts(context)  # (C, d)
            if val is not None and step % per_epoch == 0:
                best = self._better(best, context, head, val)
            context.grad, loss = self._gradient(context, head, torch.cat(list(rows.values())), labels)
            check_finite(loss, step, type(self).__name__)
            self.history_.append((step, loss))
            optimiser.step()
        with torch.no_grad():
            head = prompts(context)
        check_finite(head.sum().item(), epochs * per_epoch, type(self).__name__)
        if val is not None:
            best = self._better(best, context, head, val)
        self.last_ = context.detach().clone(), head
        self.context_, self.head_ = best[1:] if best else self.last_

    def without_val(self) -> Self:
        """What `fit(support, None)` gives, taken from a fit that chose on `val`: the last epoch has seen none of it."""
        self._check_fitted()
        other = copy.copy(self)
        other.context_, other.head_ = self.last_
        return other

    def light(self) -> Self:
        """A fitted copy without the text tower: it answers alike and is saved small, but cannot be fitted again."""
        self._check_fitted()
        other = copy.copy(self)
        other.encoders = {m: e for m, e in self.encoders.items() if m != "prompt"}
        return other

    def _prepare(self, support: Tables) -> None:
        """What a rule of the gradient needs of the support."""

    def _gradient(self, context: Tensor, head: Tensor, z: Tensor, y: Tensor) -> tuple[Tensor, float]:
        """Gradient for the context and the loss, on rows (b, d) and labels (b,)."""
        loss = F.cross_entropy(self.scale * z @ head.T, y)
        return torch.autograd.grad(loss, context)[0], loss.item()

    def _better(self, best: tuple[float, Tensor, Tensor] | None, context: Tensor, head: Tensor,
                val: Tables) -> tuple[float, Tensor, Tensor]:  # fmt: skip
        """The best so far, or this one if it is strictly better on `val`."""
        with torch.no_grad():
            right = sum(int(((self._embed_rows(m, t.x) @ head.T).argmax(1) == t.y).sum()) for m, t in val.rows.items())
        if best is None or right > best[0]:
            return right, context.detach().clone(), head.detach().clone()
        return best

    def _checked(self) -> Encoder:
        """The text tower, after a look at the fields."""
        if isinstance(self.modalities, str) or not self.modalities:
            raise ValueError(f"modalities={self.modalities!r}; a tuple of names is needed, such as ('image', 'text')")
        tower = self.encoders.get("prompt")
        if not isinstance(tower, Encoder):
            raise ValueError('prompting needs a text tower: give encoders={"prompt": towers["text"]}, an Encoder of '
                             "open_clip_towers or of the bridge")  # fmt: skip
        for name, least in (("tokens", 1), ("batch", len(self.modalities)), ("epochs", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)}; at least {least} is needed")
        return tower

    def _check_width(self, head: Tensor, x: Rows) -> None:
        for m, rows in x.items():
            if rows.shape[1] != head.shape[1]:
                raise ValueError(f"the text tower gives features of width {head.shape[1]}, but the {m} rows are of "
                                 f"{rows.shape[1]}; both must be of one model")  # fmt: skip


@dataclass
class ProGrad(Prompting):
    """Prompting whose step never raises, to first order, the KL divergence from the zero-shot answers.

    With g_d the gradient of the cross-entropy and g_g that of the divergence, where g_d . g_g < 0,

        g = g_d - weight (g_d . u) u,   u = g_g / |g_g|                                 Zhu et al., section 3

    The zero-shot answers are those of the support's text rows. Differs: the projection takes the context as one vector,
    as the release does, with a context for each class too.
    """

    modalities: tuple[str, ...] = ("image",)
    weight: float = 1.0  # of the projection; 0 is CoOp
    temperature: float = 1.0  # divides the logits in the divergence

    def _prepare(self, support: Tables) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature}; a number above 0 is needed")
        self.zeroshot_ = self._prototypes(support, "text")  # (C, d)

    def _gradient(self, context: Tensor, head: Tensor, z: Tensor, y: Tensor) -> tuple[Tensor, float]:
        logits, t = self.scale * z @ head.T, self.temperature
        zero_shot = (self.scale * z @ self.zeroshot_.T / t).softmax(1)
        loss, far = F.cross_entropy(logits, y), F.cross_entropy(logits / t, zero_shot) * t * t
        few, general = (torch.autograd.grad(part, context, retain_graph=True)[0] for part in (loss, far))
        return projected(few, general, self.weight), loss.item()


def projected(few: Tensor, general: Tensor, weight: float = 1.0) -> Tensor:
    """`few` without `weight` of its part against `general`, where the two conflict; both of one shape.

    >>> projected(torch.tensor([1.0, -1.0]), torch.tensor([0.0, 2.0]))
    tensor([1., 0.])
    """
    unit = general / general.norm().clamp(min=1e-12)
    along = (few * unit).sum()
    return few - weight * along * unit if along < 0 else few


class Prompts:
    """Class prompts through a frozen text tower, with a context that can be learnt: (M, D) or (C, M, D) -> (C, d).

    The names are tokenised once, behind M placeholders, and the placeholders' embeddings are replaced on their way
    into the transformer. A causal tower never looks at what follows the end of a text, so its prompts are cut there:
    24 tokens instead of CLIP's 77.
    """

    def __init__(self, tower: Encoder, names: Sequence[str], context: int | str) -> None:
        self.encoder = tower
        self.tower, self.then = _unwrapped(tower)
        self.words = context if isinstance(context, str) else ""
        self.m = self._count(self.words) if self.words else int(context)
        filled = " ".join(["x"] * self.m)
        self.ids = self._ids([f"{filled} {name}." for name in names])  # (C, L)
        placed = (self.ids[:, 1 : 1 + self.m] == self._ids(["x"])[0, 1]).all()
        if not placed or len(self.ids.unique(dim=0)) < len(set(names)):
            raise ValueError(f"{self.m} tokens of context and the class names do not fit into the {self.ids.shape[1]} "
                             "that the text tower reads; take fewer, or shorter names")  # fmt: skip
        if _of_open_clip(self.tower):
            self.tower, self.ids = _cut_at_the_end(self.tower, self.ids)

    def start(self, per_class: bool, rng: torch.Generator) -> Tensor:
        """The first context: of the words, or small random numbers."""
        if self.words:
            with torch.no_grad():
                first = self._table()(self._ids([self.words]))[0, 1 : 1 + self.m].clone()
            return first.expand(len(self.ids), *first.shape).clone() if per_class else first
        shape = (self.m, self._table().embedding_dim)
        return 0.02 * torch.randn((len(self.ids), *shape) if per_class else shape, generator=rng)

    def __call__(self, context: Tensor) -> Tensor:
        """Unit text features (C, d)."""

        def splice(_: nn.Module, args: Any, embedded: Tensor) -> Tensor:
            middle = context.expand(len(embedded), *context.shape[-2:])
            return torch.cat([embedded[:, :1], middle, embedded[:, 1 + self.m :]], 1)

        hook = self._table().register_forward_hook(splice)
        try:
            return F.normalize(self.then(self.tower(self.ids)).float(), dim=1)
        finally:
            hook.remove()

    def _table(self) -> nn.Embedding:
        """The layer that turns token ids into vectors."""
        tower: Any = self.tower
        return tower.token_embedding if _of_open_clip(tower) else tower.transformer.get_input_embeddings()

    def _ids(self, texts: Sequence[str]) -> Tensor:
        ids = self.encoder.prepare(texts)
        assert isinstance(ids, Tensor)
        return ids.to(self._table().weight.device)

    def _count(self, words: str) -> int:
        """Tokens of these words, without those that stand at the ends of every text."""
        ids = self._ids([words, words + " x" * 8])
        return int((ids[0] == ids[1]).int().cumprod(0).sum()) - 1  # up to where the two part


def _unwrapped(encoder: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The text tower itself, which passes gradients on, and what comes after it."""
    if isinstance(encoder, Encoder) and encoder.trunk is not None:
        tower, then = _unwrapped(encoder.trunk)
        return tower, nn.Sequential(then, encoder.module)
    tower = encoder.module if isinstance(encoder, Encoder) else encoder
    from open_clip.hf_model import HFTextEncoder

    if not (_of_open_clip(tower) or isinstance(tower, HFTextEncoder)):
        raise ValueError(f"a context cannot be learnt through a {type(tower).__name__}; a text tower of open_clip or "
                         "of the bridge can")  # fmt: skip
    return tower, nn.Identity()


def _of_open_clip(tower: nn.Module) -> TypeGuard[TextTransformer]:
    from open_clip.transformer import TextTransformer

    return isinstance(tower, TextTransformer)


def _cut_at_the_end(tower: TextTransformer, ids: Tensor) -> tuple[TextTransformer, Tensor]:
    """A causal tower and its ids (C, L) without what follows the last end of a text; others as they are."""
    if tower.attn_mask is None or tower.use_pad_mask or tower.cls_emb is not None or tower.pool_type not in ENDS:
        return tower, ids
    at_end = ids == (ids.amax(1, keepdim=True) if tower.pool_type == "argmax" else tower.eos_id)
    if not at_end.any(1).all():
        return tower, ids
    n = int(at_end.int().argmax(1).max()) + 1
    short = copy.copy(tower)
    short._buffers = {**tower._buffers, "attn_mask": tower.attn_mask[:n, :n]}
    return short, ids[:, :n]


ENDS = ("argmax", "eos")  # ways of pooling that look at the end of the text only
