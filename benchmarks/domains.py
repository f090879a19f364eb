"""What the disturbance estimator costs: 128 adapters as a loop, as one product, and the active ones alone.

    python benchmarks/domains.py            # half a minute; prints the table and writes benchmarks/domains.md

A step is forward and backward of U(h) for rows (64, 1280) with adapters to 64 numbers, the sizes of Yang et al. The
loop is the plain reference: one adapter after the other for all rows, as the inferred code does it. All ways see the
same rows and weights and give the same numbers (checked to 1e-4). CPU milliseconds of one thread, the least of some
repeats, the ways in turn. The number of active adapters follows from the gate: sparsemax of a fresh gate, one that has
been sharpened, and softmax, where all are.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from pathlib import Path

import torch

from xmodal_lib.methods.domains import WAYS, Domains

ROWS, WIDTH, NUMBER, OUT, REPEATS = 64, 1280, 128, 64, 15
GATES = {"softmax": ("softmax", 1.0), "sparsemax, fresh": ("sparsemax", 1.0), "sparsemax, sharp": ("sparsemax", 8.0)}


def step(net: Domains, way: str, h: torch.Tensor) -> tuple[float, torch.Tensor]:
    """CPU seconds of a forward and a backward pass, and U."""
    net.way = way
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
    answers = {way: step(net, way, h)[1] for way in WAYS}
    for way in WAYS:
        torch.testing.assert_close(answers[way], answers["loop"], atol=1e-4, rtol=1e-4)
    best = dict.fromkeys(WAYS, float("inf"))
    for _ in range(REPEATS):
        best = {way: min(b, step(net, way, h)[0]) for way, b in best.items()}
    active = (shares > 0).sum(1).double().mean()
    columns = [f"{1e3 * best[way]:.0f}" for way in ("loop", "dense", "active")]
    return [name, f"{active:.1f}", *columns, f"**{best['active'] / best['loop']:.2f}**"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(Path(__file__).with_suffix(".md")), help='the page to write; "" for none')
    given = parser.parse_args()
    torch.set_num_threads(1)
    head = ["gate", "active a row", "loop, CPU ms", "dense, CPU ms", "active, CPU ms", "active / loop"]
    lines = [f"| {' | '.join(head)} |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for name in GATES:
        lines.append(f"| {' | '.join(measure(name))} |")
        print(lines[-1], flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    about = (f"Written by `python benchmarks/domains.py`. {os.cpu_count()} cores, {platform.system()}; Python "
             f"{platform.python_version()}, torch {torch.__version__}; {ROWS} rows of {WIDTH}, {NUMBER} adapters to "
             f"{OUT}, one thread, the least of {REPEATS}; peak memory of the process {peak:.0f} MB.")  # fmt: skip
    title = "# The estimator of latent domains: a loop, one product, the active adapters alone"
    if given.out:
        Path(given.out).write_text("\n".join([title, "", about, "", *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
