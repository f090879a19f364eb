"""ZS-LP and CLAP: linear probes with one setting for every task, so that no validation rows are needed.

Source: Silva-Rodriguez et al., "A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models", CVPR 2024
(arXiv 2312.12730), and its released code. With z (d,) a unit row, t_c (d,) the text feature of class c as long as the
encoder gives it, and W (C, d) from t on,

    logits_c = s z . w_c / |w_c|                                           the head is made unit in every forward pass
    L(W)     = mean CE                                                                                     ZS-LP
             + mean_c lambda_c |w_c - t_c|^2                                                               CLAP
    lambda_c = mean zero-shot probability of the true class, over the support rows of class c

so a class that the text knows well is held near its text. Trained by SGD with momentum, 300 epochs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from xmodal_lib.methods.adaptation import CosineMethod, _check_classes
from xmodal_lib.tables import Tables, class_means
from xmodal_lib.training import batches, check_finite, generator, warmup_cosine


@dataclass
class ZSLP(CosineMethod):
    """Zero-shot initialised linear probe, its head unit in every forward pass.

    With `val`, the epoch is kept after which it is best (the first wins ties; epoch 0 is the start); without, the last
    one, as published. Rows of further `modalities` are pooled with the first one's.

    Differs: the release draws its rows from 20 augmented passes over the support; here a row is what the support gives.
    An incomplete last batch is dropped. A step moves a short text feature further than a long one: give text rows as
    long as the encoder makes them.

    Raises:
        ValueError: a field is impossible, or a modality or a class has no rows.
        FloatingPointError: a row or the loss is not finite.
    """

    modalities: tuple[str, ...] = ("image",)
    init: str = "text"  # modality whose class means start the head; "" for a random start
    epochs: int = 300
    lr: float = 0.1
    batch: int = 256
    momentum: float = 0.9

    def _fit(self, support: Tables, val: Tables | None) -> None:
        self._check_fields()
        tables = {m: self._of(support, m) for m in self.modalities}
        z = torch.cat([self._embed_rows(m, t.x) for m, t in tables.items()])  # (n, d)
        y = torch.cat([t.y for t in tables.values()])
        _check_classes(y, support.classes, self.modalities)
        start = self._first(support, z)
        self._prepare(support, start)
        w = start.clone().requires_grad_()
        size = min(self.batch, len(z))
        per_epoch = len(z) // size
        optimiser = torch.optim.SGD([w], lr=1.0, momentum=self.momentum)
        stream = batches((z, y), size, generator(self.seed))
        right, best, self.history_ = -1, start, []
        for step in range(self.epochs * per_epoch):
            if val is not None and step % per_epoch == 0:
                right, best = self._better(right, best, w.detach(), val)
            rows, labels = next(stream)
            loss = F.cross_entropy(self.scale * rows @ F.normalize(w, dim=1).T, labels) + self._penalty(w)
            check_finite(loss.item(), step, type(self).__name__)
            self.history_.append((step, loss.item()))
            optimiser.param_groups[0]["lr"] = warmup_cosine(step // per_epoch, self.epochs, lr=self.lr, warmup=1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if val is not None:
            _, best = self._better(right, best, w.detach(), val)
        self.head_ = F.normalize(best if val is not None else w.detach(), dim=1)

    def _first(self, support: Tables, z: Tensor) -> Tensor:
        if self.init:
            return self._class_means(support, self.init)
        shape = len(support.classes), z.shape[1]  # as the release: normal, of variance 2 / d
        return torch.randn(shape, generator=generator(self.seed, 1)) * (2 / z.shape[1]) ** 0.5

    def _prepare(self, support: Tables, start: Tensor) -> None:
        """What the penalty needs of the support."""

    def _penalty(self, w: Tensor) -> Tensor:
        return w.new_zeros(())

    def _better(self, right: int, best: Tensor, w: Tensor, val: Tables) -> tuple[int, Tensor]:
        head = F.normalize(w, dim=1)
        found = sum(int(((self._embed_rows(m, t.x) @ head.T).argmax(1) == t.y).sum()) for m, t in val.rows.items())
        return (found, w.clone()) if found > right else (right, best)

    def _check_fields(self) -> None:
        if isinstance(self.modalities, str) or not self.modalities:
            raise ValueError(f"modalities={self.modalities!r}; a tuple of names is needed, such as ('image', 'text')")
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; at least 1 is needed")


@dataclass
class CLAP(ZSLP):
    """ZS-LP held near the text features, each class by how well zero-shot knows it.

    Differs: lambda stays as it starts (the release's setting `l2`); its variant that updates lambda is left out.
    """

    lambda_: Tensor = field(init=False, repr=False, compare=False)  # (C,)

    def _prepare(self, support: Tables, start: Tensor) -> None:
        self.text_ = self._class_means(support, "text")  # (C, d), also where the head starts at random
        table = support[self.modalities[0]]
        z, text = self._embed_rows(self.modalities[0], table.x), F.normalize(self.text_, dim=1)
        true = (self.scale * z @ text.T).softmax(1).gather(1, table.y[:, None])  # (n, 1)
        self.lambda_ = class_means(true, table.y, len(self.classes_)).squeeze(1)

    def _penalty(self, w: Tensor) -> Tensor:
        return (self.lambda_ * (w - self.text_).square().sum(1)).mean()
