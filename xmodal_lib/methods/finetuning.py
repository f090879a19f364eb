"""Cross-modal adaptation below the head: an adapter on the features, and the last layers of an encoder.

Source: Lin et al., "Multimodality Helps Unimodality", CVPR 2023 (arXiv 2301.06267), and its released code.
Both train as `LinearProbe` does, on rows of several modalities, with the same batches, schedule and selection.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal_lib.methods.adaptation import LinearProbe, Rows, autograds
from xmodal_lib.tables import Tables
from xmodal_lib.training import generator

PARTIAL_GRID = {"lr": (1e-5, 1e-6, 1e-7), "weight_decay": (0.0, 1e-3, 1e-5), "batch": (8,)}
ADAPTER_GRID = {"lr": (1e-4, 1e-5, 1e-6, 1e-7), "weight_decay": (0.0, 1e-3, 1e-5), "batch": (8,)}


@dataclass
class AdapterProbe(LinearProbe):
    """CLIP-Adapter's bottleneck before the linear head, both trained: z' = ratio MLP(z) + (1 - ratio) z.

    MLP: d -> d/4 -> ReLU -> d -> ReLU, no biases; z' is not made unit again. Source: Gao et al., IJCV 2023; Lin et al.
    train it on both modalities. At step 0 it is not zero-shot, as the MLP starts at random.
    """

    ratio: float = 0.2
    lr: float = 1e-4
    weight_decay: float = 0.0
    grid: Mapping[str, Sequence[Any]] = field(default_factory=lambda: dict(ADAPTER_GRID))

    def at(self, alpha: float, layers: bool = False) -> Self:
        if layers:
            raise ValueError(
                "the adapter starts at random, so it has no zero-shot weights to be mixed with; layers=False"
            )
        return super().at(alpha)

    def embed(self, query: Tables) -> Rows:
        rows = super().embed(query)
        return {m: _bottleneck(z, self.down_, self.up_, self.ratio) for m, z in rows.items()}

    def _start(self, head: Tensor) -> list[Tensor]:
        d, rng = head.shape[1], generator(self.seed, 1)
        down = torch.empty(d, d // 4).uniform_(-(d**-0.5), d**-0.5, generator=rng)
        up = torch.empty(d // 4, d).uniform_(-((d // 4) ** -0.5), (d // 4) ** -0.5, generator=rng)
        return [head, down, up]

    def _scores(self, params: Sequence[Tensor], x: Rows) -> Tensor:
        head, down, up = params  # (G, C, d), (G, d, d/4), (G, d/4, d)
        z = _bottleneck(torch.cat(list(x.values())), down, up, self.ratio)  # (G, n, d)
        return (self.scale * z @ head.mT).transpose(0, 1)

    def _gradients(self, params: Sequence[Tensor], x: Rows, y: Tensor) -> list[Tensor]:
        """The same as autograd's, written out: with few rows a batch, autograd's bookkeeping is half of the time."""
        head, down, up = params
        z = torch.cat(list(x.values()))  # (b, d)
        a = torch.relu(z @ down)  # (G, b, d/4)
        u = torch.relu(a @ up)  # (G, b, d)
        out = self.ratio * u + (1 - self.ratio) * z  # (G, b, d)
        error = (self.scale * out @ head.mT).softmax(2)  # (G, b, C)
        error[:, torch.arange(len(y)), y] -= 1
        error *= self.scale / len(y)
        to_u = self.ratio * (error @ head) * (u > 0)
        to_a = (to_u @ up.mT) * (a > 0)
        return [error.mT @ out, z.T @ to_a, a.mT @ to_u]

    def _keep(self, params: Sequence[Tensor]) -> None:
        self.head_, self.down_, self.up_ = params


@dataclass
class PartialFinetuning(LinearProbe):
    """The head and the last layers of an encoder, trained together; the trunk below is frozen and run once.

    `encoders[m]` of each modality in `tuned` is the tail: it takes the trunk's output (n, ...) to features (n, d).
    Source: Lin et al. (RN50: the attention pool; ViT: the last block), scale exp(4.0).
    Differs: BatchNorm layers of the tail keep their statistics (eval mode), and cells train one after another.
    """

    scale: float = 54.598  # exp(4.0)
    tuned: tuple[str, ...] = ("image",)
    lr: float = 1e-5
    weight_decay: float = 0.0
    grid: Mapping[str, Sequence[Any]] = field(default_factory=lambda: dict(PARTIAL_GRID))

    def _fit(self, support: Tables, val: Tables | None) -> None:
        missing = [m for m in self.tuned if m not in self.encoders]
        if missing:
            raise ValueError(
                f"PartialFinetuning tunes {missing[0]!r}; give its tail as encoders={{{missing[0]!r}: tail}}"
            )
        self.tails_: dict[str, nn.Module] = {}  # until trained, the encoders given are the tails
        super()._fit(support, val)

    def _encoder(self, modality: str) -> nn.Module:
        return self.tails_[modality].eval() if modality in getattr(self, "tails_", {}) else super()._encoder(modality)

    def _rows(self, modality: str, x: Tensor) -> Tensor:
        return x if modality in self.tuned else super()._rows(modality, x)

    def _groups(self, options: Sequence[Mapping[str, Any]]) -> list[list[int]]:
        return [[g] for g in range(len(options))]

    def _start(self, head: Tensor) -> list[Tensor]:
        return [head, *(p.detach() for m in self.tuned for p in self.encoders[m].parameters())]

    def _scores(self, params: Sequence[Tensor], x: Rows) -> Tensor:
        head, weights = params[0][0], iter(p[0] for p in params[1:])
        z = {m: rows for m, rows in x.items() if m not in self.tuned}
        for m in self.tuned:
            tail = self.encoders[m].eval()
            own = {name: next(weights) for name, _ in tail.named_parameters()}
            if m in x:
                parts = [torch.func.functional_call(tail, own, (part,)) for part in x[m].split(256)]
                z[m] = F.normalize(torch.cat(parts), dim=1)
        return (self.scale * torch.cat([z[m] for m in x]) @ head.T).unsqueeze(1)  # (n, 1, C)

    def _gradients(self, params: Sequence[Tensor], x: Rows, y: Tensor) -> list[Tensor]:
        return autograds(self._scores, params, x, y)

    def at(self, alpha: float, layers: bool = False) -> Self:
        """WiSE-FT of the head as in `LinearProbe.at`; with `layers` every trained weight of the tails is mixed too.

        With `layers`, alpha 0 is zero-shot and 1 the finetuned encoder. Source: Wortsman et al., CVPR 2022, eq. 1.
        Differs: Lin et al. leave the finetuned layers as they are (a to-do in the release).
        """
        mixed = super().at(alpha)
        if layers:
            mixed.tails_ = copy.deepcopy(self.tails_)
            with torch.no_grad():
                for m, tail in mixed.tails_.items():
                    for p, first in zip(tail.parameters(), self.encoders[m].parameters(), strict=True):
                        p.lerp_(first, 1 - alpha)
        return mixed

    def _keep(self, params: Sequence[Tensor]) -> None:
        self.head_, weights = params[0], iter(params[1:])
        self.tails_ = {m: copy.deepcopy(self.encoders[m]) for m in self.tuned}
        with torch.no_grad():
            for tail in self.tails_.values():
                for p in tail.parameters():
                    p.copy_(next(weights))


def _bottleneck(z: Tensor, down: Tensor, up: Tensor, ratio: float) -> Tensor:
    """ratio * relu(relu(z down) up) + (1 - ratio) * z; leading axes of the weights are cells."""
    return ratio * torch.relu(torch.relu(z @ down) @ up) + (1 - ratio) * z
