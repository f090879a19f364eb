"""Reptile: a copy of the meta-learner takes a few steps on a task, and the meta-learner moves towards it.

With theta the meta-weights, theta~ those of the copy after its inner steps and eps the outer rate,

    sgd    theta <- theta + eps (theta~ - theta)          eps = 1: the copy's weights; eps = 0: nothing changes
    adam   a step of Adam of learning rate eps along the gradient theta - theta~

Statistics of BatchNorm are part of the copy. With "sgd" they move like the weights; with "adam" they are taken over,
being running means already.
Source: Nichol, Achiam and Schulman, "On First-Order Meta-Learning Algorithms", 2018 (arXiv 1803.02999).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from xmodal_lib.methods.meta_tasks import Nets, Part
from xmodal_lib.training import check_finite


class Adam:
    """What torch.optim.Adam(fused=True) does, through the same kernel; for small nets its bookkeeping cost as much."""

    def __init__(self, modules: Iterable[nn.Module], lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        weights = {id(p): p for module in modules for p in module.parameters() if p.requires_grad}
        self.weights: list[Tensor] = list(weights.values())  # each once, where modules share a part
        self.lr, self.betas = lr, betas
        self.reset()

    def reset(self) -> None:
        """Forget the moments."""
        self.first, self.second = ([torch.zeros_like(p) for p in self.weights] for _ in range(2))
        self.count = torch.zeros(len(self.weights), device=self.weights[0].device if self.weights else None)
        self.counts = list(self.count.unbind())  # steps behind each weight: views

    def descend(self, loss: Tensor) -> None:
        """A step along the gradient of a loss."""
        self.step(torch.autograd.grad(loss, self.weights, allow_unused=True))

    @torch.no_grad()
    def step(self, grads: Sequence[Tensor | None]) -> None:
        """A step along these gradients; a weight without one stays."""
        found = [grad.contiguous() for grad in grads if grad is not None]
        weights, second, counts = self.weights, self.second, self.counts
        first = self.first if self.betas[0] else found  # then it is the gradient, and needs no memory to be read
        if len(found) == len(grads):
            self.count += 1
        else:
            used = [k for k, grad in enumerate(grads) if grad is not None]
            weights, second, counts = ([held[k] for k in used] for held in (weights, second, counts))
            first = [first[k] for k in used] if self.betas[0] else found
            self.count[used] += 1
        torch._fused_adam_(
            weights, found, first, second, [], counts, lr=self.lr,
            beta1=self.betas[0], beta2=self.betas[1], weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip


class Outer:
    """The outer optimiser, one for all parts."""

    def __init__(self, meta: Nets, kind: str, rate: float) -> None:
        self.meta, self.rate = tensors(meta), rate
        self.adam = Adam([meta], rate) if kind == "adam" else None

    @torch.no_grad()
    def step(self, work: Sequence[Tensor]) -> None:
        """Move the meta-learner towards a copy that has learnt, given its `tensors`."""
        if self.adam is None:
            moving = [(a, b) for a, b in zip(self.meta, work, strict=True) if a.is_floating_point()]
            torch._foreach_lerp_([a for a, _ in moving], [b for _, b in moving], self.rate)
        else:
            learnt: list[Tensor] = [p for p in work if isinstance(p, nn.Parameter) and p.requires_grad]
            self.adam.step(torch._foreach_sub(self.adam.weights, learnt))
        for a, b in zip(self.meta, work, strict=True):
            statistic = not isinstance(a, nn.Parameter)
            if self.rate > 0 and statistic and (self.adam is not None or not a.is_floating_point()):
                a.copy_(b)  # a counter has no mean


class Loop:
    """The inner loop of one part, with an optimiser of its own."""

    def __init__(
        self, part: Part, meta: Nets, outer: Outer, rng: torch.Generator, *,
        steps: int, betas: tuple[float, float], carry: bool, shared: bool,
    ) -> None:  # fmt: skip
        self.part, self.meta, self.outer, self.rng, self.steps = part, meta, outer, rng, steps
        self.carry = carry or part.direct
        self.work = meta if part.direct else clone(meta, shared)
        if not any(p.requires_grad for module in part.learns(self.work) for p in module.parameters()):
            raise ValueError(f"{part.name}: there is nothing to learn; give trainable encoders")
        self.optimiser = Adam(part.learns(self.work), part.lr, betas)
        self.held, self.origin = tensors(self.work), tensors(meta)
        self.apart = weights_of(self.work.encoders, meta.encoders)

    def run(self, iteration: int) -> dict[str, float | int | str]:
        """Draw a task, learn it, and move the meta-learner: mean loss, and how far the encoders' copy had moved."""
        if not self.carry:
            self.optimiser.reset()
        if not self.part.direct:
            restore(self.held, self.origin)
        losses = []
        for batch in self.part.batches(self.work, self.steps, self.rng):
            loss = self.part.loss(self.work, *batch)
            self.optimiser.descend(loss)
            losses.append(loss.item())
            check_finite(losses[-1], iteration, f"meta-iteration, {self.part.name}")
        moved = distance(*self.apart)
        if not self.part.direct:
            self.outer.step(self.held)
        return {"iteration": iteration, "part": self.part.name, "loss": sum(losses) / len(losses), "moved": moved}


def clone(meta: Nets, shared: bool) -> Nets:
    """A copy to learn a task: deep, or, for comparison only, with the meta-learner's own encoders (as released)."""
    if not shared:
        return copy.deepcopy(meta)
    return Nets(meta.encoders, copy.deepcopy(meta.head), copy.deepcopy(meta.decoder))


def tensors(nets: nn.Module) -> list[Tensor]:
    """Weights and statistics, each once, in a fixed order."""
    return [*nets.parameters(), *nets.buffers()]


@torch.no_grad()
def restore(work: list[Tensor], meta: list[Tensor]) -> None:
    """The copy is what the meta-learner is."""
    torch._foreach_copy_(work, meta)


def weights_of(a: nn.Module, b: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Weights of two copies of a module; none where it is one and the same."""
    return ([], []) if a is b else (list(a.parameters()), list(b.parameters()))


@torch.no_grad()
def distance(a: list[Tensor], b: list[Tensor]) -> float:
    """Euclidean distance of two lists of weights."""
    return torch.stack(torch._foreach_norm(torch._foreach_sub(a, b))).norm().item() if a else 0.0
