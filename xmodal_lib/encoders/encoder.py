"""A frozen encoder: raw items (pictures, strings, waveforms) -> one feature row each, with a digest to cache it by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

Batch = Tensor | tuple[Tensor, ...]
Prepare = Callable[[Sequence[Any]], Batch]


class Encoder(nn.Module):
    """A frozen module with its preprocessing: `encoder(encoder.prepare(items))` is (b, *width) float32.

    `prepare` makes a batch of raw items; `sample` is any one of them, from which `width` is found. `mode` says what the
    weights do not (preprocessing, options): it enters the digest. With a `trunk` instead, `module` is applied to the
    trunk's rows, and the feature cache keeps the trunk's, so that several heads on one trunk cost one extraction.
    `float16` halves the cache: its rows are stored as float16. `batch` items go through the module at once, always so
    many: sums over another number of rows are made in another order, and end in other last digits. Where `prepare`
    pads items to the longest of a batch, batches of 1 keep a row from what is beside it.

    `module` may be a function that makes it; it is called when the module is first needed, so never where the cache has
    every row. `weights`, what the digest has in the place of those, and `width` must then be told.
    """

    pretrained = True  # `reinitialise` leaves it as it is

    module: nn.Module

    def __init__(self, name: str, module: nn.Module | Callable[[], nn.Module], prepare: Prepare | None = None, *,
                 sample: Any = None, mode: str = "", trunk: Encoder | None = None, float16: bool = False,
                 batch: int = 16, weights: str = "", width: tuple[int, ...] = ()) -> None:  # fmt: skip
        super().__init__()
        if (prepare is None) == (trunk is None):
            raise ValueError(f"encoder {name!r}: either `prepare` or a `trunk` that prepares is needed, not both")
        if any(isinstance(module, nn.Module) == bool(told) for told in (weights, width)):
            raise ValueError(f"encoder {name!r}: a function that makes the module, `weights` and `width` go together")
        self.name = name
        self.mode = mode
        self.about: dict[str, Any] = {}  # how it was made, where that is known; "recipe": see `recipes`
        self.float16 = float16
        self.batch: int = trunk.batch if trunk is not None else batch
        self.trunk = trunk
        self.prepare: Prepare = trunk.prepare if trunk is not None else prepare  # type: ignore[assignment]
        self.sample: Any = trunk.sample if trunk is not None else sample
        below = trunk.digest if trunk is not None else ""
        how = f"{mode} {float16} {self.batch} {below}"
        self.eval()
        self.width = width  # shape of one row
        if isinstance(module, nn.Module):
            self.module = module.eval().requires_grad_(False)
            self.digest: str = digest_of(module, how)
            with torch.no_grad():
                row = module(torch.zeros(1, *trunk.width)) if trunk else self(self.prepare([self.sample]))
            self.width = tuple(row.shape[1:])
        else:
            self._make = module
            self.digest = hashlib.sha256(f"{how} {weights}".encode()).hexdigest()

    def __getattr__(self, name: str) -> Any:
        """Of what is not there: the module, where it was not needed before."""
        if name == "module" and "_make" in self.__dict__:
            with torch.random.fork_rng(devices=()):  # a full cache and an empty one leave the same random state
                self.module = self.__dict__.pop("_make")().eval().requires_grad_(False)
        return super().__getattr__(name)

    def named_modules(self, *args: Any, **options: Any) -> Iterator[Any]:
        """As of every module, and so are `parameters` and `buffers`, which ask here."""
        _ = self.module
        return super().named_modules(*args, **options)

    def state_dict(self, *args: Any, **options: Any) -> Any:
        """As of every module."""
        _ = self.module
        return super().state_dict(*args, **options)

    def _apply(self, *args: Any, **options: Any) -> Self:  # what `to` does
        _ = self.module
        return super()._apply(*args, **options)

    @torch.no_grad()
    def forward(self, batch: Batch) -> Tensor:
        if self.trunk is not None:
            return self.module(self.trunk(batch)).float()
        device = next((p.device for p in self.module.parameters()), torch.device("cpu"))
        parts = batch if isinstance(batch, tuple) else (batch,)
        return self.module(*(part.to(device) for part in parts)).float()

    def encode(self, items: Sequence[Any]) -> Tensor:
        """Raw items -> (n, *width), without the cache; the last batch is filled up with its last item."""
        filled = [*items, *list(items[-1:]) * (-len(items) % self.batch)]
        parts = [self(self.prepare(filled[i : i + self.batch])) for i in range(0, len(filled), self.batch)]
        return torch.cat(parts)[: len(items)] if parts else torch.empty(0, *self.width)

    def train(self, mode: bool = True) -> Self:
        """Frozen: stays in evaluation mode."""
        return super().train(False)


class Lookup(nn.Module):
    """First layer of an encoder whose tables hold row numbers: (b,) int64 -> the stacked `load(row)`, (b, *shape).

    In training mode `augmented(row, rng)` is taken instead, where it is given; `rng` is this module's own generator,
    copied with it and set anew by `reinitialise`, so that a run with the same seed sees the same rows. Copies share the
    two functions and whatever data is behind them.
    """

    def __init__(self, load: Callable[[int], Tensor],
                 augmented: Callable[[int, torch.Generator], Tensor] | None = None) -> None:  # fmt: skip
        super().__init__()
        self.load = load
        self.augmented = augmented
        self.rng = torch.Generator().manual_seed(0)

    def reset_parameters(self) -> None:
        self.rng = torch.Generator().manual_seed(int(torch.randint(2**62, ())))

    def __deepcopy__(self, memo: dict[int, Any]) -> Lookup:
        clone = Lookup(self.load, self.augmented).train(self.training)
        clone.rng.set_state(self.rng.get_state())
        return clone

    def forward(self, rows: Tensor) -> Tensor:
        if self.training and self.augmented is not None:
            items = [self.augmented(row, self.rng) for row in rows.tolist()]
        else:
            items = [self.load(row) for row in rows.tolist()]
        return torch.stack(items).to(rows.device)


def digest_of(module: nn.Module, mode: str = "") -> str:
    """SHA-256 of a module's weights (names, shapes, values) and of a string that says how it is used."""
    sha = hashlib.sha256(mode.encode())
    for name, value in module.state_dict().items():
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        sha.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
