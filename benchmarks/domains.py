"""What the disturbance estimator costs: 128 adapters as a loop, as one product, and the active ones alone.

    python benchmarks/domains.py            # half a minute; prints the tables and writes benchmarks/domains.md

A step is forward and backward of U(h) for rows (64, 1280) with adapters to 64 numbers, the sizes of Yang et al. The
loop is the plain reference: one adapter after the other for all rows, as the inferred code does it. "einsum" is all in
one einsum, "dense" all in one matrix product, "active" the adapters with a share alone, grouped. All ways see the same
rows and weights and give the same numbers (checked to 1e-4). CPU milliseconds of one thread, the least of some repeats,
the ways in turn. The number of active adapters follows from the gate: sparsemax of a fresh gate, one that has been
sharpened, and softmax, where all are.

Then stage 1 of GTL at the paper's size (d 128, batches of 64, random rows in the number of the embedded drawings).
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from pathlib import Path

import torch

from xmodal_lib.methods import GTL
from xmodal_lib.methods.domains import WAYS, Domains
from xmodal_lib.tables import Table, Tables

ROWS, WIDTH, NUMBER, OUT, REPEATS = 64, 1280, 128, 64, 15
ALL = ("loop", "einsum", "dense", "active")
BASE, CLASSES, EPOCHS = 1800, 14, 2
GATES = {"softmax": ("softmax", 1.0), "sparsemax, fresh": ("sparsemax", 1.0), "sparsemax, sharp": ("sparsemax", 8.0)}


class Einsum(Domains):
    """All adapters in one einsum."""

    def _dense(self, h: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bd,dmw,bw->bm", g, self.weight, h) + g @ self.bias


def step(net: Domains, way: str, h: torch.Tensor) -> tuple[float, torch.Tensor]:
    """CPU seconds of a forward and a backward pass, and U."""
    net.way = way if way in WAYS else "dense"
    net.__class__ = Einsum if way == "einsum" else Domains
    net.zero_grad()
    start = time.process_time()
    u, _ = net(h)
    u.square().sum().backward()
    return time.process_time() - start, u.detach()


def measure(name: str) -> list[str]:
    """One line of the table."""
    gate, sharpness = GATES[name]
    torch.manual_seed(0)
    net, h = Domains(WIDTH, NUMBER, OUT, gate=gate), torch.randn(ROWS, WIDTH)
    with torch.no_grad():
        net.score.weight *= sharpness
    shares = net.shares(h)
    answers = {way: step(net, way, h)[1] for way in ALL}
    for way in ALL:
        torch.testing.assert_close(answers[way], answers["loop"], atol=1e-4, rtol=1e-4)
    best = dict.fromkeys(ALL, float("inf"))
    for _ in range(REPEATS):
        best = {way: min(b, step(net, way, h)[0]) for way, b in best.items()}
    active = (shares > 0).sum(1).double().mean()
    columns = [f"{1e3 * best[way]:.0f}" for way in ALL]
    return [name, f"{active:.1f}", *columns, f"**{min(best, key=lambda way: best[way])}**"]


def training() -> str:
    """What stage 1 takes with the fastest way for each gate, in words."""
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(BASE) % CLASSES
    rows = Table(torch.randn(CLASSES, WIDTH, generator=rng)[y] + torch.randn(BASE, WIDTH, generator=rng), y,
                 torch.arange(BASE))  # fmt: skip
    base, found = Tables({"image": rows}, tuple(map(str, range(CLASSES)))), []
    for gate in ("sparsemax", "softmax"):
        start = time.process_time()
        GTL(gate=gate, base_epochs=EPOCHS, base_decay_at=()).pretrain(base)
        epoch = (time.process_time() - start) / EPOCHS
        found.append(f"{gate} {epoch:.2f} CPU s an epoch, {120 * epoch / 60:.1f} minutes for 120")
    return f"Stage 1 of GTL on {BASE} rows, mean of {EPOCHS} epochs: {'; '.join(found)}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(Path(__file__).with_suffix(".md")), help='the page to write; "" for none')
    given = parser.parse_args()
    torch.set_num_threads(1)
    head = ["gate", "active a row", *(f"{way}, CPU ms" for way in ALL), "fastest"]
    lines = [f"| {' | '.join(head)} |", "| --- | ---: | ---: | ---: | ---: | ---: | --- |"]
    for name in GATES:
        lines.append(f"| {' | '.join(measure(name))} |")
        print(lines[-1], flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    about = (f"Written by `python benchmarks/domains.py`. {os.cpu_count()} cores, {platform.system()}; Python "
             f"{platform.python_version()}, torch {torch.__version__}; {ROWS} rows of {WIDTH}, {NUMBER} adapters to "
             f"{OUT}, one thread, the least of {REPEATS}; peak memory of the process {peak:.0f} MB.")  # fmt: skip
    trained = training()
    print(trained)
    title = "# The estimator of latent domains: a loop, one product, the active adapters alone"
    if given.out:
        Path(given.out).write_text("\n".join([title, "", about, "", *lines, "", trained, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
