"""What a whole grid costs: the probes of xmodal_lib.methods, all cells at once, against a plain loop, cell by cell.

    python benchmarks/grid.py                  # some ten minutes; prints the table and writes benchmarks/grid.md
    python benchmarks/grid.py --iterations 80  # a quick look; writes nothing unless --out says where

The plain loop is what anybody would write first, and what the released code of the paper does: nn.Linear,
torch.optim.AdamW, autograd, one cell after another. Both see the same rows, starts, batches, learning rates and
validations, and end at the same validation accuracies but for rounding. Synthetic unit features, one thread, CPU
seconds, the best of some repeats, each in a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # the first step of any torch.optim loads it: let it be loaded before the clock starts
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal_lib.methods import AdapterProbe, LinearProbe
from xmodal_lib.tables import Table, Tables, class_means
from xmodal_lib.training import batches, cells, generator, warmup_cosine

PUBLISHED = 12_800  # iterations of a cell (Lin et al., CVPR 2023)
ITERATIONS, REPEATS = 800, 2  # a sixteenth, with a sixteenth of its validations
Accuracies = dict[tuple[float, ...], float]  # (lr, weight decay, batch) of a cell -> best validation accuracy
METHODS = {"linear": LinearProbe, "adapter": AdapterProbe}


@dataclass(frozen=True)
class Case:
    method: str  # of METHODS
    size: str  # in words
    classes: int
    d: int
    shot: int


SIZES = [
    ("notebook 10, 1 shot", 15, 384, 1),
    ("notebook 10, 16 shots", 15, 384, 16),
    ("paper, 16 shots", 100, 1024, 16),
]
CASES = [Case(method, *size) for method in METHODS for size in SIZES]


def rows(case: Case, per_class: int, seed: int, shift: float) -> Table:
    """Unit rows in a narrow cone, as those of CLIP and of the bridge are, so that no probability is nearly nothing.

    With rows far apart the gradients of a fitted head fall below 1e-38, where processors calculate ten times slower,
    and the clock would show that instead of the two ways of training.
    """
    cone, means = torch.randn(case.d, generator=generator(0)), torch.randn(case.classes, case.d, generator=generator(1))
    y = torch.arange(case.classes).repeat_interleave(per_class)
    x = cone + shift + 0.3 * means[y] + 1.5 * torch.randn(len(y), case.d, generator=generator(seed))
    return Table(F.normalize(x, dim=1), y, torch.arange(len(y)) + 100_000 * seed)


def make(case: Case) -> tuple[Tables, Tables]:
    """Support with `shot` images and one text a class; validation with min(shot, 4) images a class."""
    names = tuple(f"class {c}" for c in range(case.classes))
    support = Tables({"image": rows(case, case.shot, 2, 0.3), "text": rows(case, 1, 3, -0.3)}, names)
    return support, Tables({"image": rows(case, min(case.shot, 4), 4, 0.3)}, names)


# -- the plain loop --------------------------------------------------------------------------------------------


class Plain(nn.Module):
    """The head; for the adapter its bottleneck too."""

    def __init__(self, start: list[Tensor]):
        super().__init__()
        head, *mlp = start
        self.head = linear(head)
        self.mlp = nn.Sequential(linear(mlp[0].T), nn.ReLU(), linear(mlp[1].T), nn.ReLU()) if mlp else None

    def forward(self, z: Tensor) -> Tensor:
        if self.mlp is not None:
            z = 0.2 * self.mlp(z) + 0.8 * z
        return 100 * self.head(z)


def linear(weight: Tensor) -> nn.Linear:
    """A layer without bias that starts at `weight` (out, in)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data.copy_(weight)
    return layer


def mixed(support: Tables, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches that are half image rows, half text rows, as LinearProbe draws them."""
    half, tables = batch // 2, [support["image"], support["text"]]
    streams = [batches((t.x, t.y), half, generator(0, half, i)) for i, t in enumerate(tables)]
    while True:
        (x, y), (x_text, y_text) = (next(stream) for stream in streams)
        yield torch.cat([x, x_text]), torch.cat([y, y_text])


def train_plain(
    start: list[Tensor], cell: dict[str, Any], support: Tables, val: Table, iterations: int
) -> tuple[float, dict[str, Tensor]]:
    """Best validation accuracy of one cell, and the weights that had it."""
    model, stream, best, kept = Plain(start), mixed(support, cell["batch"]), -1.0, {}
    optimiser = torch.optim.AdamW(model.parameters(), lr=cell["lr"], weight_decay=cell["weight_decay"])
    for step in range(iterations):
        x, y = next(stream)
        optimiser.param_groups[0]["lr"] = warmup_cosine(step, iterations, lr=cell["lr"])
        loss = F.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 100 == 0:
            with torch.no_grad():
                accuracy = (model(val.x).argmax(1) == val.y).float().mean().item()
            if accuracy > best:
                best, kept = accuracy, {name: p.clone() for name, p in model.state_dict().items()}
    return best, kept


def plain_grid(case: Case, support: Tables, val: Tables, iterations: int) -> Accuracies:
    method = METHODS[case.method]()
    start = method._start(F.normalize(class_means(support["text"].x, support["text"].y, case.classes), dim=1))
    fits = [c for c in cells(method.grid) if c["batch"] // 2 < min(len(t) for t in support.rows.values())]
    return {key(cell): train_plain(start, cell, support, val["image"], iterations)[0] for cell in fits}


def our_grid(case: Case, support: Tables, val: Tables, iterations: int) -> Accuracies:
    probe = METHODS[case.method](iterations=iterations).fit(support, val)
    return {key(cell): cell["val_accuracy"] for cell in probe.cells_.to_dict("records")}


def key(cell: dict[Any, Any]) -> tuple[float, ...]:
    return cell["lr"], cell["weight_decay"], cell["batch"]


# -- measuring -------------------------------------------------------------------------------------------------


def measure(case: Case, ours: bool, iterations: int) -> tuple[float, float, Accuracies]:
    """CPU seconds, MB of memory above what the process held before, and the validation accuracies of the cells."""
    torch.set_num_threads(1)
    grid = our_grid if ours else plain_grid
    small = Case(case.method, "", 20, 8, 16)
    grid(small, *make(small), 3)  # whatever is loaded at first use
    support, val = make(case)
    before, began = peak(reset=True), time.process_time()
    accuracies = grid(case, support, val, iterations)
    return time.process_time() - began, peak() - before, accuracies


def peak(reset: bool = False) -> float:
    """MB at most resident in this process, since the last reset; nan where the system does not tell (not Linux)."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return float("nan")
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024


def measured(case: Case, ours: bool, iterations: int, repeats: int) -> tuple[float, float, Accuracies]:
    """The least CPU seconds and memory of some repeats, each in a process of its own."""
    runs = []
    for _ in range(repeats):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            runs.append(pool.submit(measure, case, ours, iterations).result())
    return min(run[0] for run in runs), min(run[1] for run in runs), runs[0][2]


def line(case: Case, iterations: int, repeats: int, full: float) -> list[str]:
    """One line of the table; ours is also measured in full where that takes no more than `full` seconds."""
    (a, memory_a, plain), (b, memory_b, ours) = (measured(case, mine, iterations, repeats) for mine in (False, True))
    times = PUBLISHED / iterations
    whole = f"{measured(case, True, PUBLISHED, 1)[0]:.1f}" if b * times <= full else f"about {b * times:.0f}"
    off = max(abs(plain[cell] - ours[cell]) for cell in plain | ours)
    return [
        f"{case.method}, {case.size}", f"{case.classes} × {case.d}", f"{len(plain)}", f"{a:.2f}", f"{b:.2f}",
        f"**{a / b:.1f}**", f"about {a * times:.0f}", whole, f"{memory_a:.0f}", f"{memory_b:.0f}", f"{100 * off:.1f}",
    ]  # fmt: skip


def describe() -> str:
    names = [ln.partition(":")[2].strip() for ln in read("/proc/cpuinfo").splitlines() if ln.startswith("model name")]
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}"
    return f"{os.cpu_count()} cores ({names[0] if names else platform.machine()}), {platform.system()}; {versions}"


def read(path: str) -> str:
    return Path(path).read_text() if Path(path).is_file() else ""


def main() -> None:
    parser = argparse.ArgumentParser(description="LinearProbe and AdapterProbe: a grid at once against a plain loop")
    parser.add_argument("--iterations", type=int, default=ITERATIONS, help="of each cell, both ways")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument(
        "--full", type=float, default=10, help="measure ours in full where it takes up to so many seconds"
    )
    parser.add_argument("--note", default="", help="what else the machine did meanwhile; goes into the report")
    parser.add_argument("--out", type=Path, help="where to write; by default grid.md beside this file, for a whole run")
    given = parser.parse_args()
    load = f"; load average at the start {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""

    note = f" {given.note}" if given.note else ""
    head = ["grid", "classes × width", "cells", "plain, CPU s", "at once, CPU s", "ratio", "plain in full, s",
            "at once in full, s", "plain, MB", "at once, MB", "largest difference, points"]  # fmt: skip
    table = [head, ["---", "---", *["---:"] * 9]]
    for case in CASES:
        table.append(line(case, given.iterations, given.repeats, given.full))
        print(" | ".join(table[-1]), flush=True)
    text = f"""# A whole grid at once, against a plain loop

Written by `python benchmarks/grid.py`. {describe()}{load}.{note}

{chr(10).join("| " + " | ".join(cells) + " |" for cells in table)}

* **plain**: nn.Linear, torch.optim.AdamW, autograd, a cell after another; **at once**: `fit` with validation. CPU
  seconds of {given.iterations} iterations a cell, both ways, one thread, the least of {given.repeats}.
* **in full**: {PUBLISHED} iterations a cell, as published. "about" is the measured time times
  {PUBLISHED / given.iterations:g}, since every iteration does the same work; without "about" it was measured, once.
* **MB**: resident memory above what the process held before, at its peak.
* **largest difference**: between the two ways' best validation accuracies, over the cells; rounding can turn a
  row.
* Half of a batch of 32 does not fit the 15 texts of notebook 10, so there six of the twelve linear cells are trained.
* Rows are synthetic, in a narrow cone as those of CLIP and of the bridge are.
"""
    out = given.out or (Path(__file__).with_name("grid.md") if given.iterations >= ITERATIONS else None)
    if out:
        out.write_text(text, encoding="utf-8")
        print(f"written: {out}")


if __name__ == "__main__":
    main()
