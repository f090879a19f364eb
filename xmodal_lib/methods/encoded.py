"""Encoders in the methods that train them: how they start, what they must give, how they learn and answer.

Encoders start anew, drawn by the method's seed, each modality's weights whatever the order. What is frozen (no
parameter with a gradient) or says `pretrained = True` keeps the weights it was given; what is frozen stays in
evaluation mode too, so its BatchNorm keeps its statistics and its dropout is off.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from xmodal_lib.encoders.encoder import Lookup
from xmodal_lib.encoders.small import reinitialise
from xmodal_lib.tables import Tables
from xmodal_lib.training import generator


def started(encoder: nn.Module | None, device: torch.device, seed: int, place: int, *, fresh: bool) -> nn.Module:
    """A copy of an encoder as training starts it; None: an Identity. `place` is that among the method's encoders.

    Weights are drawn on the CPU, so they are the same on every device. With fresh=False only the random views of a
    `Lookup` start anew.
    """
    made, rng = nn.Identity() if encoder is None else copy.deepcopy(encoder), generator(seed, 2, place)
    for part in frozen(made):
        part.pretrained = True  # type: ignore[assignment]
    if fresh:
        reinitialise(made.cpu(), rng)
    else:
        for part in made.modules():
            if isinstance(part, Lookup):
                reinitialise(part, rng)
    return made.to(device)


def look(encoder: nn.Module, x: Tensor, said: str) -> Tensor:
    """Features (2, D) of the first two rows (n, ...): their width, dtype and device are those of all.

    Raises:
        ValueError: the encoder cannot take the rows, or gives no rows (b, D) of numbers.
    """
    try:
        with torch.no_grad():
            f = encoder.eval()(x[:2])
    except RuntimeError as error:
        raise ValueError(f"{said} cannot take rows of {x.dtype} and shape {tuple(x.shape[1:])}: "
                         f"{str(error).splitlines()[0]}") from error  # fmt: skip
    if f.ndim != 2 or not f.is_floating_point():
        raise ValueError(f"{said} must give rows (b, D) of numbers; it gives {f.dtype} of shape {tuple(f.shape)}")
    return f


@torch.no_grad()
def embed(encoder: nn.Module, x: Tensor) -> Tensor:
    """Rows (n, ...) -> features (n, D) in evaluation mode, 256 at a time."""
    encoder.eval()
    return torch.cat([encoder(part) for part in x.split(256)])


def embed_tables(tables: Tables, encoders: nn.ModuleDict, widths: Mapping[str, int], like: Tensor) -> dict[str, Tensor]:
    """Features {modality: (n_m, D)}, rows in table order; where there are no rows, none of the dtype of `like`."""
    return {m: embed(encoders[m], table.x) if len(table) else like.new_empty(0, widths[m])
            for m, table in tables.rows.items()}  # fmt: skip


class InTraining:
    """An encoder that learns: rows of a batch (b, ...) -> features (b, D)."""

    def __init__(self, encoder: nn.Module) -> None:
        self.encoder, self.frozen = encoder, frozen(encoder)
        still = {id(part) for whole in self.frozen for part in whole.modules()}
        self.free = [part for part in encoder.modules() if id(part) not in still]

    def __call__(self, x: Tensor) -> Tensor:
        """A single row has no variance: BatchNorm then uses its running statistics."""
        mode = len(x) > 1
        if any(part.training != mode for part in self.free) or any(part.training for part in self.frozen):
            self.encoder.train(mode)
            for part in self.frozen:
                part.eval()
        return self.encoder(x)


def frozen(encoder: nn.Module) -> list[nn.Module]:
    """The largest parts that have parameters and none with a gradient."""
    params = list(encoder.parameters())
    if not params or all(p.requires_grad for p in params):
        return []
    if not any(p.requires_grad for p in params):
        return [encoder]
    return [part for child in encoder.children() for part in frozen(child)]


def learnt_state(modules: Iterable[nn.Module]) -> list[dict[str, Tensor]]:
    """A copy of the state of each module, without what is frozen."""
    found = []
    for module in modules:
        still = {id(t) for part in frozen(module) for t in part.state_dict(keep_vars=True).values()}
        state = module.state_dict(keep_vars=True)
        found.append({name: t.detach().clone() for name, t in state.items() if id(t) not in still})
    return found


def restore_state(modules: Iterable[nn.Module], states: Iterable[Mapping[str, Tensor]]) -> None:
    """Each module as it was when `learnt_state` was taken."""
    for module, state in zip(modules, states, strict=True):
        module.load_state_dict(state, strict=False)
