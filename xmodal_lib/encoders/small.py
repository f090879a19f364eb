"""Small nets to train on one CPU thread, and new initial weights for any net, from a seed.

>>> encoders = {"image": mlp(1280, 128), "speech": SpeechNet(128)}
>>> for encoder in encoders.values():
...     reinitialise(encoder, seed)                                   # each draw starts from weights of its own
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from xmodal_lib.training import seeded

M = TypeVar("M", bound=nn.Module)


def mlp(d_in: int, d_out: int, hidden: int | None = 256) -> nn.Sequential:
    """Frozen features (b, d_in) -> (b, d_out) through one hidden layer, or linearly with hidden=None."""
    if hidden is None:
        return nn.Sequential(nn.Linear(d_in, d_out))
    return nn.Sequential(nn.Linear(d_in, hidden), nn.ReLU(), nn.Linear(hidden, d_out))


def word_net(bands: int, d_out: int, steps: int = 16) -> nn.Sequential:
    """Log-mel of one spoken word (b, bands, T) -> (b, d_out): means over `steps` parts of it, one hidden layer."""
    return nn.Sequential(
        nn.AdaptiveAvgPool1d(steps), nn.Flatten(), nn.BatchNorm1d(bands * steps), mlp(bands * steps, d_out)
    )


class SpeechNet(nn.Module):
    """Log-mel of spoken words (b, bands, T) -> (b, d): convolutions over time, then mean and maximum over it."""

    def __init__(self, d: int = 128, bands: int = 40, width: int = 48) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.BatchNorm1d(bands),
            *_step1d(bands, width, 5),  # (b, width, T / 2)
            *_step1d(width, width, 3),  # (b, width, T / 4)
            *_step1d(width, 2 * width, 3),  # (b, 2 width, T / 8)
        )
        self.out = nn.Linear(4 * width, d)

    def forward(self, x: Tensor) -> Tensor:
        h = self.net(x)
        return self.out(torch.cat([h.mean(2), h.amax(2)], 1))


class PixelNet(nn.Module):
    """Small pictures (b, channels, 32, 32), or of another size, -> (b, d): convolutions, then the mean over places."""

    def __init__(self, d: int = 128, channels: int = 3, width: int = 16) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *_step2d(channels, width),  # (b, width, 16, 16)
            *_step2d(width, 2 * width),  # (b, 2 width, 8, 8)
            *_step2d(2 * width, 4 * width),  # (b, 4 width, 4, 4)
        )
        self.out = nn.Linear(4 * width, d)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.net(x).mean((2, 3)))


class OverFrames(nn.Module):
    """A net for pictures, over the frames of clips: (b, c, T, h, w) -> (b, d), the mean over T."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        frames = x.transpose(1, 2)  # (b, T, c, h, w)
        return self.net(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).mean(1)


class Transposed(nn.Module):
    """(b, T, bands), as filter banks come, -> (b, bands, T), as SpeechNet takes them."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


def _step1d(d_in: int, d_out: int, size: int) -> tuple[nn.Module, ...]:
    return (nn.Conv1d(d_in, d_out, size, stride=2, padding=size // 2, bias=False), nn.BatchNorm1d(d_out),
            nn.ReLU(inplace=True))  # fmt: skip


def _step2d(d_in: int, d_out: int) -> tuple[nn.Module, ...]:
    return (nn.Conv2d(d_in, d_out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(d_out), nn.ReLU(inplace=True))


def reinitialise(module: M, seed: int | torch.Generator) -> M:
    """Draws all weights of a module anew, in place: the same seed gives the same weights; returns the module.

    Each part's own `reset_parameters` is called, a whole after its parts. A part with `pretrained = True` stays as it
    is with all below it. The global random state is left as it was.

    Raises:
        ValueError: a part has weights and no `reset_parameters`.
    """
    if isinstance(seed, torch.Generator):
        seed = int(torch.randint(2**62, (), generator=seed))
    with seeded(seed, {p.device for p in module.parameters()}):
        for part in reversed(list(not_pretrained(module))):
            reset = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
            if reset is not None:
                reset()
            elif next(part.parameters(recurse=False), None) is not None:
                raise ValueError(f"a {type(part).__name__} has weights and no reset_parameters(), so it cannot start "
                                 "anew; give it one, or `pretrained = True` to keep them")  # fmt: skip
    return module


def not_pretrained(module: nn.Module) -> Iterator[nn.Module]:
    """A module and the parts below it, a whole before its parts, without those marked `pretrained = True`."""
    if not getattr(module, "pretrained", False):
        yield module
        for child in module.children():
            yield from not_pretrained(child)
