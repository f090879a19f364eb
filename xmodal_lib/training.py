"""The only optimisation helpers: seeds, batches, the schedule, grid search."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from xmodal_lib.methods.method import Method
    from xmodal_lib.tables import Tables


def generator(seed: int, *salt: int) -> torch.Generator:
    """A stream of its own for each (seed, *salt), on the CPU."""
    mixed = seed
    for s in salt:
        mixed = (mixed * 1_000_003 + s + 1) % (2**63)
    return torch.Generator().manual_seed(mixed)


@contextmanager
def seeded(seed: int, devices: Iterable[torch.device] = ()) -> Iterator[None]:
    """Inside, the global random state (of dropout, of fresh weights) starts from a seed; outside it is left as it was.

    torch.manual_seed would also queue a call, with a stack trace, for every kind of device that is not in use.
    """
    kinds = list(devices)
    cuda = sorted({device.index or 0 for device in kinds if device.type == "cuda"})
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        for index in cuda:
            torch.cuda.default_generators[index].manual_seed(seed)
        if any(device.type == "mps" for device in kinds):
            torch.mps.manual_seed(seed)
        yield


@contextmanager
def flushing() -> Iterator[None]:
    """Inside, numbers nearer to 0 than 1e-38 (denormal ones) count as 0; outside it is as it was before.

    A softmax at CLIP's scale makes many of them, and they slow a processor down: on rows that are easy to separate a
    linear probe took four times as long with them. No weight changes by them.
    """
    before = torch.tensor(1e-40).item() == 0
    torch.set_flush_denormal(True)  # False where the processor cannot
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def batches(rows: Sequence[Tensor], size: int, rng: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
    """Batches of aligned rows (n, ...) without end: shuffled passes, each without its incomplete last batch.

    Raises:
        ValueError: the batch is larger than the number of rows.
    """
    n = len(rows[0])
    if not 1 <= size <= n:
        raise ValueError(f"a batch of {size} rows cannot be drawn from {n}")
    while True:
        order = torch.randperm(n, generator=rng)[: n - n % size]
        yield from zip(*(part[order].split(size) for part in rows), strict=True)


def warmup_cosine(step: int, total: int, *, lr: float, warmup: int = 50, first: float = 1e-5) -> float:
    """Learning rate of a step: `first` at step 0, linear to `lr` over `warmup` steps, then a cosine over `total`.

    Source: Lin et al., CVPR 2023, released schedule (step 0 is `first` whatever `lr` is).
    """
    if step == 0:
        return first
    if step < warmup:
        return lr * (step / warmup)
    return lr * (0.5 * (1 + math.cos(math.pi * (step - warmup) / total)))


class CellAdamW:
    """AdamW (betas 0.9 and 0.999, eps 1e-8) on parameters that stack G cells, p (G, ...).

    Each cell has its own weight decay and learning rate; neighbours with an equal base rate are stepped together. Calls
    the kernel behind torch.optim.AdamW(fused=True) directly: at these sizes the optimiser's own bookkeeping for G
    parameter groups costs more than the step (`benchmarks/grid.py`).
    """

    def __init__(self, params: Sequence[Tensor], lr: Sequence[float], weight_decay: Sequence[float]) -> None:
        self.params, self.decay = params, torch.tensor(weight_decay, device=params[0].device)
        moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in params]
        starts = [g for g in range(len(lr)) if g == 0 or lr[g] != lr[g - 1]]
        self.groups = [
            (cells, [p[cells] for p in params], [m[cells] for m, _ in moments], [v[cells] for _, v in moments])
            for cells in (slice(g, end) for g, end in zip(starts, [*starts[1:], len(lr)], strict=True))
        ]
        self.count = torch.zeros((), device=params[0].device)
        self.counts = [self.count] * len(params)

    @torch.no_grad()
    def step(self, grads: Sequence[Tensor], lrs: Sequence[float]) -> None:
        """One step of every cell along grads (G, ...), with a learning rate a cell."""
        self.count += 1
        grads = [grad.contiguous() for grad in grads]  # the kernel reads them as if they were
        keep = 1 - torch.tensor(lrs, device=self.decay.device) * self.decay  # (G,)
        for p in self.params:
            p.mul_(keep.view(-1, *[1] * (p.ndim - 1)))
        for cells, params, first, second in self.groups:
            torch._fused_adamw_(
                params, [grad[cells] for grad in grads], first, second, [], self.counts, lr=lrs[cells.start],
                beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
            )  # fmt: skip


def check_finite(loss: float, step: int, what: str) -> None:
    """Raises FloatingPointError that names the step and the value."""
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"{what}: the loss is {loss} at step {step}; lower the learning rate or check the rows"
        )


def cells(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of a grid, the last name varying fastest.

    >>> cells({"lr": (0.1, 0.2), "batch": (8,)})
    [{'lr': 0.1, 'batch': 8}, {'lr': 0.2, 'batch': 8}]
    """
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def accuracy(method: Method, labelled: Tables) -> float:
    """Share of items that a fitted method classifies rightly."""
    return (method.predict(labelled) == labelled.labels()).double().mean().item()


def search(method: Method, grid: Mapping[str, Sequence[Any]], support: Tables, val: Tables) -> Method:
    """The fitted method of the cell that is best on `val`; the first one wins ties.

    Any method will do; those that train all cells at once (the linear ones) have a `grid` field of their own.
    """
    unknown = [name for name in grid if name not in {f.name for f in fields(method)}]
    if unknown:
        raise ValueError(f"{type(method).__name__} has no field {unknown[0]!r} to search over")
    fitted = []
    for cell in cells(grid):
        other = copy.copy(method)  # and not dataclasses.replace, which would drop what pretrain learnt
        for name, value in cell.items():
            setattr(other, name, value)
        fitted.append(other.fit(support, val))
    scores = [accuracy(m, val) for m in fitted]
    return fitted[scores.index(max(scores))]
