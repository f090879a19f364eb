"""Tip-Adapter: a cache of the support's rows, asked beside the zero-shot head.

Source: Zhang et al., "Tip-Adapter", ECCV 2022. With keys K (n, d) the unit support rows, V (n, C) their labels one-hot,

    logits = s W_text z + alpha exp(-beta (1 - K z))' V

With `modalities=("image", "text")` the prompts are keys too, as the text rows of Lin et al. (CVPR 2023) are shots.
Differs: one key a row (the release averages ten augmented views, and Tip-F trains on augmented rows); one range of
alpha and beta for all data (the release has one a data set); an incomplete last batch is dropped; Tip-F keeps the epoch
that is best on validation (the release: on test).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from xmodal_lib.methods.adaptation import CosineMethod, Rows, _check_classes
from xmodal_lib.tables import Tables
from xmodal_lib.training import batches, check_finite, generator

CACHE_GRID = {
    "beta": tuple(0.1 + 6.9 * i / 200 for i in range(200)),
    "alpha": tuple(0.1 + 2.9 * i / 20 for i in range(20)),
}


@dataclass
class TipAdapter(CosineMethod):
    """Training-free. With `val`, alpha and beta are searched on it; without, the fields are used."""

    alpha: float = 1.0  # weight of the cache
    beta: float = 5.5  # sharpness of the affinity
    modalities: tuple[str, ...] = ("image",)  # of the keys, pooled row by row
    init: str = "text"  # modality of the zero-shot head; "": there is none, and the cache answers alone
    grid: Mapping[str, Sequence[float]] = field(default_factory=lambda: dict(CACHE_GRID))

    def _fit(self, support: Tables, val: Tables | None) -> None:
        self._remember(support)
        self._choose(val)

    def logits(self, query: Tables) -> Rows:
        return {
            m: self.scale * z @ self.head_.T + self.alpha_ * self._cache(z, self.beta_)
            for m, z in self.embed(query).items()
        }

    def _remember(self, support: Tables) -> None:
        if isinstance(self.modalities, str) or not self.modalities:
            raise ValueError(f"modalities={self.modalities!r}; a tuple of names is needed, such as ('image', 'text')")
        tables = {m: self._of(support, m) for m in self.modalities}
        y = torch.cat([t.y for t in tables.values()])
        _check_classes(y, support.classes, self.modalities)
        self.keys_ = torch.cat([self._embed_rows(m, t.x) for m, t in tables.items()])  # (n, d)
        self.values_ = F.one_hot(y, len(support.classes)).float()  # (n, C)
        empty = self.keys_.new_zeros(len(support.classes), self.keys_.shape[1])
        self.head_ = self._prototypes(support, self.init) if self.init else empty

    def _cache(self, z: Tensor, beta: float) -> Tensor:
        return torch.exp(-beta * (1 - z @ self.keys_.T)) @ self.values_

    def _choose(self, val: Tables | None) -> None:
        """alpha_ and beta_: the first of the best on `val`, or the fields."""
        self.alpha_, self.beta_ = self.alpha, self.beta
        if val is None:
            return
        z = torch.cat([self._embed_rows(m, t.x) for m, t in val.rows.items()])
        y = torch.cat([t.y for t in val.rows.values()])
        alphas, text, best = torch.tensor(self.grid["alpha"]).view(-1, 1, 1), self.scale * z @ self.head_.T, -1
        for beta in self.grid["beta"]:
            right = ((text + alphas * self._cache(z, beta)).argmax(2) == y).sum(1)  # (alphas,)
            if int(right.max()) > best:
                best, self.beta_, self.alpha_ = int(right.max()), beta, self.grid["alpha"][int(right.argmax())]


@dataclass
class TipAdapterF(TipAdapter):
    """Tip-Adapter with the keys trained: AdamW, 20 epochs, cosine; alpha and beta are searched afterwards on `val`."""

    lr: float = 1e-3
    epochs: int = 20
    batch: int = 256

    def _fit(self, support: Tables, val: Tables | None) -> None:
        self._remember(support)
        z, labels = self.keys_, self.values_.argmax(1)
        size = min(self.batch, len(z))
        steps = self.epochs * (len(z) // size)
        keys = torch.nn.Parameter(z.clone())
        optimiser = torch.optim.AdamW([keys], lr=self.lr, eps=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        self.keys_, best = keys, (-1, keys.detach().clone())
        self.history_: list[tuple[int, float]] = []
        stream = batches((z, labels), size, generator(self.seed))
        for step, (rows, y) in zip(range(steps), stream, strict=False):
            logits = self.scale * rows @ self.head_.T + self.alpha * self._cache(rows, self.beta)
            loss = F.cross_entropy(logits, y)
            check_finite(loss.item(), step, "TipAdapterF")
            self.history_.append((step, loss.item()))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if val is not None and (step + 1) % (len(z) // size) == 0:
                best = max(best, (self._right(val), keys.detach().clone()), key=lambda pair: pair[0])
        self.keys_ = keys.detach() if val is None else best[1]
        self._choose(val)

    @torch.no_grad()
    def _right(self, val: Tables) -> int:
        """Rows of `val` that the present keys, alpha and beta classify rightly."""
        self.alpha_, self.beta_ = self.alpha, self.beta
        return sum(int((z.argmax(1) == val[m].y).sum()) for m, z in self.logits(val).items())
