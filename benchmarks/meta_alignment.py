"""What a meta-iteration costs: CroMA of xmodal_lib against a plain loop that makes the same updates.

    python benchmarks/meta_alignment.py            # a minute; prints the table and writes benchmarks/meta_alignment.md
    python benchmarks/meta_alignment.py --iterations 3 --repeats 2 --out ""    # a quick look

The setting is the run in the release's readme: 3 ways, 5 shots, 9 inner steps, batches of 8, of 4 pairs for alignment,
texts of 12 tokens of 768 numbers through an LSTM, target rows of 64 numbers through a small net; 1.15 million weights.
The plain loop is what anybody would write first: a deep copy of the nets for each inner loop, torch.optim.Adam as it
comes, its state handed from task to task as released, `backward`, and the outer Adam on the difference. It is given the
numbers of the rows that the other draws within the clock. CPU seconds of one thread, the least of some repeats, the two
ways in turn. Before, both run from the same weights in float64 and must end within 1e-6 of one another; in float32 they
need not: a first step of Adam divides a difference by itself, and where that is a rounding error, its sign is chance.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import resource
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
import torch._dynamo  # the first step of any torch.optim loads it: let it be loaded before the clock starts
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal_lib.encoders.recurrent import TokenLSTM
from xmodal_lib.methods.croma import README_RUN, CroMA
from xmodal_lib.methods.meta_tasks import Nets
from xmodal_lib.methods.reptile import Adam
from xmodal_lib.tables import Table, Tables
from xmodal_lib.training import generator

CLASSES, EACH, TOKENS, WIDTH, TARGET, SPACE = 30, 20, 12, 768, 64, 128
SETTING = README_RUN | {"source": "text", "target": "image", "fresh": False, "seed": 1}
NEAR = 1e-6  # of the final weights
TITLE = "# A meta-iteration of CroMA, against a plain loop"
Tasks = list[tuple[list[tuple[Tensor, Tensor, Tensor]], list[tuple[Tensor, Tensor]]]]  # rows of align, of classify


class PlainLSTM(nn.Module):
    """What TokenLSTM is, by torch's own LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(WIDTH, 256, batch_first=True), nn.Linear(256, SPACE)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x)[0].amax(1))


def base(dtype: torch.dtype) -> Tables:
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(CLASSES).repeat_interleave(EACH)
    ids = torch.arange(len(y))
    text, image = torch.randn(CLASSES, TOKENS, WIDTH, generator=rng), torch.randn(CLASSES, TARGET, generator=rng)
    rows = {
        "text": Table((text[y] + torch.randn(len(y), TOKENS, WIDTH, generator=rng)).to(dtype), y, ids),
        "image": Table((image[y] + torch.randn(len(y), TARGET, generator=rng)).to(dtype), y, ids),
    }
    return Tables(rows, tuple(f"class {c}" for c in range(CLASSES)))


def method(iterations: int, dtype: torch.dtype, own: bool = True) -> CroMA:
    """Texts go through the library's own LSTM, or through torch's."""
    torch.manual_seed(0)
    image = nn.Sequential(nn.Linear(TARGET, 256), nn.ReLU(), nn.Linear(256, SPACE), nn.Linear(SPACE, SPACE))
    encoders = {"text": (TokenLSTM(WIDTH, SPACE) if own else PlainLSTM()).to(dtype), "image": image.to(dtype)}
    return CroMA(encoders=encoders, iterations=iterations, **SETTING)


def started(data: Tables) -> Nets:
    """The nets that every run begins with."""
    begun = method(0, data["text"].x.dtype)
    assert not list(begun.meta_train(data))
    return Nets(begun.encoders_, begun.head_)


def plainly(nets: Nets) -> Nets:
    """A copy whose texts go through torch's own LSTM."""
    nets = copy.deepcopy(nets)
    lstm = PlainLSTM().to(nets.head[1].weight.dtype)
    lstm.load_state_dict(nets.encoders["text"].state_dict())
    nets.encoders["text"] = lstm
    return nets


def tasks(data: Tables, iterations: int) -> Tasks:
    """The numbers of the rows that the library will draw."""
    numbers = torch.arange(CLASSES * EACH)
    align, classify = method(0, torch.float32)._parts(data)
    drawn = []
    for part, x in ((align, (numbers, numbers)), (classify, numbers)):
        rng = generator(SETTING["seed"], zlib.crc32(part.name.encode()))
        drawn.append([list(replace(part, x=x).batches(None, SETTING["inner"], rng)) for _ in range(iterations)])
    return list(zip(*drawn, strict=True))


def hinge(zs: Tensor, zt: Tensor, y: Tensor, margin: float) -> Tensor:
    """The released alignment loss."""
    member = F.one_hot(y).to(zs)
    member = member[:, member.sum(0) > 0]
    a, b = (member.T @ F.normalize(z, dim=1) / member.sum(0)[:, None] for z in (zt, zs))
    s = a @ b.T
    return F.relu(margin + s - s.diag()).sum() / len(zs)


def plain(data: Tables, meta: Nets, todo: Tasks) -> Iterator[Nets]:
    """The meta-iterations, as anybody would write them; gives the nets after each."""
    text, image = data["text"].x, data["image"].x
    outer = torch.optim.Adam(meta.parameters(), SETTING["rate"])
    states: dict[str, dict] = {}

    def learn(kind: str, nets: Nets, learning: list[nn.Module], lr: float, batches: list) -> None:
        inner = torch.optim.Adam([p for net in learning for p in net.parameters()], lr, betas=(0.0, 0.999))
        if kind in states:
            inner.load_state_dict(states[kind])
        for batch in batches:
            inner.zero_grad()
            if kind == "align":
                s, t, y = batch
                zs, zt = nets.encoders["text"](text[s]), nets.encoders["image"](image[t])
                loss = hinge(zs, zt, y, SETTING["margin"])
            else:
                rows, y = batch
                loss = F.cross_entropy(nets.head(nets.encoders["text"](text[rows])), y)
            loss.backward()
            inner.step()
        states[kind] = inner.state_dict()
        for p, q in zip(meta.parameters(), nets.parameters(), strict=True):
            p.grad = p.data - q.data
        outer.step()

    for align, classify in todo:
        nets = copy.deepcopy(meta)
        learn("align", nets, list(nets.encoders.values()), SETTING["lr_align"], align)
        nets = copy.deepcopy(meta)
        learn("classify", nets, [nets.encoders["text"], nets.head], SETTING["lr_classify"], classify)
        yield meta


def ours(data: Tables, todo: Tasks, own: bool = True) -> Iterator[Nets]:
    croma = method(len(todo), data["text"].x.dtype, own)
    for _ in croma.meta_train(data):
        yield Nets(croma.encoders_, croma.head_)


def timed(run: Iterator[Nets]) -> tuple[float, Nets]:
    """CPU seconds of a meta-iteration, without the first one and what is set up before; the final weights."""
    steps = [(time.process_time(), nets) for nets in run]
    (begun, _), (done, nets) = steps[0], steps[-1]
    return (done - begun) / (len(steps) - 1), nets


def apart(a: Nets, b: Nets) -> float:
    """The largest difference of a weight."""
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return max((p - q).abs().max().item() for p, q in pairs)


def checked(iterations: int) -> tuple[float, float]:
    """Run both in float64: how far the weights moved, and how far apart they are.

    Raises:
        AssertionError: they are not the same sequence of updates.
    """
    data = base(torch.float64)
    start, todo = started(data), tasks(data, iterations)
    (_, one), (_, other) = timed(plain(data, plainly(start), todo)), timed(ours(data, todo))
    moved, off = apart(start, one), apart(one, other)
    if not off < NEAR < moved:
        raise AssertionError(f"the final weights differ by {off:.1e}; they had moved by {moved:.1e}")
    return moved, off


def bound(repeats: int) -> float:
    """CPU seconds of the LSTM's matrix products and Adam's steps in a meta-iteration, the least of several."""
    net = TokenLSTM(WIDTH, SPACE)
    w_x, w_h = net.lstm.weight_ih_l0.detach(), net.lstm.weight_hh_l0.detach()
    adam, grads = Adam([net], 1e-9, (0.0, 0.999)), [torch.randn_like(p) for p in net.parameters()]
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        for b in (SETTING["batch"], SETTING["align_batch"]) * SETTING["inner"]:
            x, h, gates = (torch.ones(TOKENS * b, width) for width in (WIDTH, w_h.shape[1], len(w_h)))
            _ = x @ w_x.T, gates.T @ x, gates.T @ h
            for _ in range(TOKENS - 1):
                _ = h[:b] @ w_h.T, gates[:b] @ w_h
            adam.step(grads)
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=10, help="meta-iterations timed together")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", default=str(Path(__file__).with_suffix(".md")), help='the page to write; "" for none')
    given = parser.parse_args()
    torch.set_num_threads(1)
    moved, off = checked(given.iterations)
    data = base(torch.float32)
    start, todo = started(data), tasks(data, given.iterations)
    best = [float("inf")] * 3
    for repeat in range(given.repeats + 1):  # the first warms
        for way, run in enumerate((plain(data, plainly(start), todo), ours(data, todo, False), ours(data, todo))):
            seconds, _ = timed(run)
            if repeat:
                best[way] = min(best[way], seconds)
    lines = ["| loop | LSTM | CPU ms | ratio |", "| --- | --- | ---: | ---: |"]
    for way, seconds in zip(("plain | torch", "CroMA | torch", "CroMA | TokenLSTM"), best, strict=True):
        lines.append(f"| {way} | {1e3 * seconds:.0f} | **{seconds / best[0]:.2f}** |")
    print("\n".join(lines))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    weights = sum(p.numel() for p in start.parameters())
    about = (f"Written by `python benchmarks/meta_alignment.py`. {os.cpu_count()} cores, {platform.system()}; Python "
             f"{platform.python_version()}, torch {torch.__version__}; {weights:,} weights, 3 ways, 5 shots, 9 inner "
             f"steps, batch 8, 4 pairs, {TOKENS} x {WIDTH} tokens, target rows of {TARGET} numbers; one thread, "
             f"{given.iterations} meta-iterations, the least of {given.repeats}; peak memory of the process "
             f"{peak:.0f} MB.")  # fmt: skip
    notes = (f"In float64 the weights moved by up to {moved:.1e}, and those of the two differ by {off:.1e} at most. A "
             "ratio below 1 means that CroMA is the quicker one: it copies no nets and steps Adam in one kernel, "
             "which at beta 0 has no mean of gradients to read; TokenLSTM makes one product of all steps for each "
             "weight's gradient, and none for the texts themselves, which do not learn. What bounds it: the LSTM's "
             f"matrix products and Adam's steps alone take {1e3 * bound(given.repeats):.0f} ms of CroMA's, and no "
             "sequence of these updates can do without them.")  # fmt: skip
    if given.out:
        Path(given.out).write_text("\n".join([TITLE, "", about, "", *lines, "", notes, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
