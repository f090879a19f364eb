"""What the paper's suite costs on a cluster, from units measured on this machine: docs/paper_scale.md.

    python benchmarks/paper_scale.py             # some quarter of an hour; continues where it was stopped
    python benchmarks/paper_scale.py --report    # the page from what is measured so far

Units are CPU seconds of one thread, bytes and memory; each is a line of paper_scale.csv. What the page says beyond them
is computed from them here. Towers have random weights: a pass through them costs the same.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from fast import SETS, clip_like
from PIL import Image
from torch import nn

from xmodal_lib import features
from xmodal_lib.encoders import frozen
from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.encoders.towers import open_clip_towers, split
from xmodal_lib.methods import (
    AdapterProbe,
    LinearProbe,
    Method,
    PartialFinetuning,
    ProGrad,
    Prompting,
    TipAdapter,
    TipAdapterF,
    ZeroShot,
)
from xmodal_lib.methods.cache import CACHE_GRID
from xmodal_lib.methods.finetuning import ADAPTER_GRID, PARTIAL_GRID
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables

ROOT = Path(__file__).parents[1]
KEPT, PAGE = Path(__file__).with_suffix(".csv"), ROOT / "docs" / "paper_scale.md"
COLUMNS = ["unit", "name", "classes", "value"]
SIZES = (10, 100, 1000)  # classes at which a fit is measured; between them its cost is a straight line
SHOTS, SEEDS, ITERATIONS, WIDTH = (1, 2, 4, 8, 16), 3, 12_800, 1024
TRAIN = 1_281_167  # pictures of ImageNet's train list
MAP = (2048, 7, 7)  # below RN50's attention pool
MAP_BYTES = 4 * math.prod(MAP)
EVERY = LinearProbe.every  # iterations between two looks at the validation rows, and the unit of training here
WIDE = CACHE_GRID | {"alpha": tuple(0.1 * 1.45**i for i in range(20))}  # as in notebook 10
PROMPTED = {"CoOp": (Prompting, ("image",)), "ProGrad": (ProGrad, ("image",)),
            "cross-modal prompting": (Prompting, ("image", "text"))}  # fmt: skip
LINEAR = {"linear, image": ("image",), "linear, image + text": ("image", "text")}  # each from two starts


# -- measuring -------------------------------------------------------------------------------------------------


def cpu(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def least(work: Callable[[], object], times: int = 3) -> float:
    return min(cpu(work) for _ in range(times))


def steps(at: Callable[[int], object], few: int, more: int) -> tuple[float, float]:
    """Seconds of each step and those before the first, from two lengths of the same work."""
    first, second = cpu(lambda: at(few)), cpu(lambda: at(more))
    each = (second - first) / (more - few)
    return each, max(0.0, first - few * each)


def towers(name: str) -> dict[str, Encoder]:
    """An open_clip model of random weights, by way of a checkpoint file."""
    import open_clip

    with tempfile.TemporaryDirectory() as folder:
        torch.save(open_clip.create_model(name).state_dict(), Path(folder, "weights.pt"))
        return open_clip_towers(name, Path(folder, "weights.pt"))


def encoding() -> Iterator[tuple[str, str, int, float]]:
    """Seconds a picture: opened, then through each image tower; seconds a sentence."""
    data = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (47, 63, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC).save(data, "jpeg", quality=90)

    def pictures() -> list[Image.Image]:
        return [Image.open(io.BytesIO(data.getvalue())).convert("RGB") for _ in range(8)]

    clip = {name: towers(name) for name in ("RN50", "ViT-B-16")}
    yield "picture", "open", 0, least(lambda: clip["RN50"]["image"].prepare(pictures())) / 8
    image = {"bridge": frozen.efficientnet(128)} | {name: both["image"] for name, both in clip.items()}
    for name, encoder in image.items():
        batch = encoder.prepare(pictures())
        yield "picture", name, 0, least(lambda encoder=encoder, batch=batch: encoder(batch)) / 8
    reader = clip["RN50"]["text"]
    yield "sentence", "RN50", 0, least(lambda: reader(reader.prepare(["a photo of a dog"] * 8))) / 8


def fits(classes: int) -> Iterator[tuple[str, str, int, float]]:
    """Seconds of each method at so many classes, 16 shots and their mirror images, on synthetic rows."""
    episode = clip_like(1, 16, classes, classes, prompts=7 if classes == max(SIZES) else 2)
    few, more = (EVERY, 2 * EVERY) if classes == max(SIZES) else (EVERY, 4 * EVERY)

    def fit(method: Method) -> Method:
        return method.fit(episode.support, episode.val)

    def trained(name: str, of: Callable[[int], Method]) -> Iterator[tuple[str, str, int, float]]:
        each, before = steps(lambda n: fit(of(n)), few, more)
        yield from ((f"{EVERY} iterations", name, classes, each * EVERY), ("before", name, classes, before))

    yield "fit", "zero-shot", classes, cpu(lambda: fit(ZeroShot()))
    for name, modalities in LINEAR.items():
        yield from trained(name, lambda n, modalities=modalities: LinearProbe(modalities=modalities, iterations=n))
    yield from trained("adapter", lambda n: AdapterProbe(iterations=n, grid=ADAPTER_GRID))


def caching(classes: int) -> Iterator[tuple[str, str, int, float]]:
    """Seconds of Tip-Adapter's search, from a few of its sharpnesses beta, and of an epoch of training its keys."""
    episode = clip_like(1, 16, classes, classes)

    def at(n: int, epochs: int = 0) -> Method:
        grid = WIDE | {"beta": WIDE["beta"][:n]}
        method = TipAdapterF(grid=grid, epochs=epochs) if epochs else TipAdapter(grid=grid)
        return method.fit(episode.support, episode.val)

    each, before = steps(at, 1, 4 if classes == max(SIZES) else 40)
    yield "fit", "Tip-Adapter", classes, before + len(WIDE["beta"]) * each
    yield "epoch", "Tip-Adapter-F", classes, max(0.0, cpu(lambda: at(1, 1)) - before - each)


def partial() -> Iterator[tuple[str, str, int, float]]:
    """Seconds of a step of partial finetuning, RN50's attention pool and a head; and of the pool on one map."""
    tail = split(towers("RN50")["image"], 1)[1]
    rng = torch.Generator().manual_seed(0)
    for classes in SIZES:
        y = torch.arange(classes)
        maps = Table(torch.rand(classes, *MAP, generator=rng), y, y)
        texts = Table(torch.rand(classes, WIDTH, generator=rng), y, y + classes)
        support = Tables({"image": maps, "text": texts}, tuple(f"class {c}" for c in range(classes)))

        def at(n: int, support: Tables = support) -> Method:
            return PartialFinetuning({"image": tail}, iterations=n).fit(support)

        yield "step", "partial finetuning", classes, steps(at, 10, 30)[0]
    with torch.no_grad():
        yield "row", "partial finetuning", 0, least(lambda: tail(maps.x[:16])) / 16


def prompting() -> Iterator[tuple[str, str, int, float]]:
    """Seconds a step and a class, where RN50's text tower runs in every step: each class is a prompt of its own."""
    classes = 4
    tower = {"prompt": towers("RN50")["text"]}
    episode = clip_like(1, 16, classes, classes, prompts=8)
    for name, (method, modalities) in PROMPTED.items():

        def at(n: int, method: type[Prompting] = method, modalities: tuple[str, ...] = modalities) -> Method:
            batch = {1: 32, 2: 64}[len(modalities)]  # four steps an epoch
            return method(tower, modalities=modalities, epochs=n, batch=batch).fit(episode.support)

        per_epoch = len(episode.support["image"]) // 32
        yield "step and class", name, 0, steps(at, 1, 2)[0] / per_epoch / classes


def storing() -> Iterator[tuple[str, str, int, float]]:
    """Bytes a row in the feature cache; memory and seconds of a process that reads ImageNet's train list from it."""
    for name in ("float32", "float16"):
        out = subprocess.run([sys.executable, __file__, "--read", name], check=True, text=True, stdout=subprocess.PIPE)
        for unit, value in json.loads(out.stdout).items():
            yield unit, name, 0, value


def read(kind: str) -> dict[str, float]:
    """A cache with room for all rows, which takes no disk where nothing is written; its rows are zeros, and right."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XMODAL_HOME"] = folder
        encoder = Encoder("rows", nn.Flatten(), lambda items: torch.zeros(len(items), WIDTH), sample=0,
                          float16=kind == "float16")  # fmt: skip
        table = Table(torch.arange(TRAIN), torch.zeros(TRAIN, dtype=torch.int64), torch.arange(TRAIN))
        source = Source("zeros", Tables({"image": table}, ("any",)), {"image": pd.DataFrame(index=range(TRAIN))},
                        {"image": lambda row: row}, "0" * 64, "none")  # fmt: skip
        few = Tables({"image": Table(*(column[:256] for column in (table.x, table.y, table.pair)))}, ("any",))
        features.extract(source, {"image": encoder}, tables=few, progress=False)
        x, sums = (next(Path(folder).rglob(f"{name}.npy")) for name in ("x", "sums"))
        stored = (x.stat().st_size + sums.stat().st_size) / TRAIN
        np.save(sums, np.full(TRAIN, np.load(sums)[0]))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        took = cpu(lambda: features.extract(source, {"image": encoder}, progress=False)["image"].x.sum())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "bytes a row": stored,
        "read all, s": took,
        "read all, GB": peak * 1024 / 1e9,
        "before, GB": before * 1024 / 1e9,
    }


def measure() -> None:
    """What is not measured yet, the quick parts first."""
    frame = units()
    done = set(zip(frame["unit"], frame["name"], frame["classes"], strict=True))
    parts: list[tuple[tuple[str, str, int], Callable[[], Iterator[tuple[str, str, int, float]]]]] = [
        (("bytes a row", "float16", 0), storing), (("sentence", "RN50", 0), encoding),
        (("step and class", "cross-modal prompting", 0), prompting),
        (("row", "partial finetuning", 0), partial),
        *((("before", "adapter", c), lambda c=c: fits(c)) for c in SIZES),
        *((("epoch", "Tip-Adapter-F", c), lambda c=c: caching(c)) for c in SIZES),
    ]  # fmt: skip
    for last, part in parts:
        if last not in done:
            lines = []
            for line in part():
                print(*line, flush=True)
                lines.append([*line[:3], f"{line[3]:.6g}"])
            with KEPT.open("a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(lines)


def units() -> pd.DataFrame:
    return pd.read_csv(KEPT, names=COLUMNS) if KEPT.is_file() else pd.DataFrame(columns=COLUMNS)


# -- multiplying -----------------------------------------------------------------------------------------------


class Costs:
    """CPU seconds, bytes and memory of the suite, from the units."""

    def __init__(self, frame: pd.DataFrame):
        self.known = frame.set_index(["unit", "name", "classes"])["value"].astype(float).sort_index()

    def at(self, unit: str, name: str, classes: int = 0) -> float:
        """A unit; at a number of classes that was not measured, on the line between those that were."""
        if not classes:
            return self.known[unit, name, 0]
        return float(np.interp(classes, SIZES, [self.known[unit, name, c] for c in SIZES]))

    def fits(self, source: str, shot: int) -> dict[str, float]:
        """CPU seconds of each method on one draw of a data set at a number of shots."""
        classes, tests, _ = SETS[source]

        def trained(name: str) -> float:
            each = self.at(f"{EVERY} iterations", name, classes)
            return self.at("before", name, classes) + ITERATIONS / EVERY * each

        def finetuned(name: str) -> float:
            row, step = self.at("row", name), self.at("step", name, classes)
            looks = ITERATIONS / EVERY * min(shot, 4) * classes * row
            grid = len(PARTIAL_GRID["lr"]) * len(PARTIAL_GRID["weight_decay"])
            return grid * (ITERATIONS * step + looks) + tests * row

        def prompted(name: str, batch: int) -> float:
            epochs = 50 if shot <= 1 else 100 if shot <= 4 else 200
            steps = epochs * max(1, 2 * shot * classes // batch)
            return steps * classes * self.at("step and class", name)

        search = self.at("fit", "Tip-Adapter", classes)
        return {
            "zero-shot": self.at("fit", "zero-shot", classes),
            **{f"{name}, {start} start": trained(name) for name in LINEAR for start in ("random", "text")},
            "adapter": trained("adapter"),
            "Tip-Adapter": search,
            "Tip-Adapter-F": search
            + TipAdapterF.epochs * (shot / 16) ** 2 * self.at("epoch", "Tip-Adapter-F", classes),
            "partial finetuning": finetuned("partial finetuning"),
            **{name: prompted(name, 32 // len(modalities)) for name, (_, modalities) in PROMPTED.items()},
        }

    def job(self, source: str, shot: int, prompts: bool = False) -> float:
        """CPU hours of one job of `10/sets`."""
        return sum(s for name, s in self.fits(source, shot).items() if prompts or name not in PROMPTED) / 3600

    def pictures(self, source: str) -> int:
        """At most so many are encoded: all of test; for each draw the shots and their mirror images, and validation."""
        classes, tests, _ = SETS[source]
        return tests + SEEDS * classes * sum(2 * shot + min(shot, 4) for shot in SHOTS)

    def encoding(self, pictures: int, tower: str = "RN50") -> float:
        """CPU hours."""
        return pictures * (self.at("picture", "open") + self.at("picture", tower)) / 3600

    def memory(self, source: str) -> float:
        """GB that a job holds for partial finetuning: the maps that it reads; a copy of those that it asks, and another
        while an episode is made; and a copy of those to learn from for each episode."""
        classes, tests, _ = SETS[source]
        drawn = classes * (sum(shot + min(shot, 4) for shot in SHOTS))
        copies = 2 * tests + sum(classes * (2 * shot + min(shot, 4)) for shot in SHOTS)
        return (tests + drawn + copies) * MAP_BYTES / 1e9 + self.at("before, GB", "float32")


# -- the page --------------------------------------------------------------------------------------------------

TEXT = """# The suite of Lin et al. on a cluster: jobs, hours, memory, disk

Written by `python benchmarks/paper_scale.py`: CPU seconds of one thread; {machine}.{note} The suite is {sets} data
sets x {shots} shots x {seeds} seeds x {methods} methods, which is {fits:,} fits, on features of RN50 ({width} wide),
with {iterations:,} iterations a cell and the published grids.

    xmodal reproduce --profile paper --engine slurm --jobs 50 10/table

submits {jobs} jobs of notebook 10, one for each {axes}, and then the table over those that ended well. A job trains
all methods at every number of shots on its draw, on one core without a graphics card, and none waits for another.
Pictures are encoded when a job first asks for them; the jobs of a data set share that work through the cache.

{table}

In all {hours:,.0f} CPU hours and {disk:.0f} GB of cache; on {jobs} cores or more it takes as long as its longest job,
{longest:.0f} hours. Partial finetuning is {share:.0%} of the hours, and the reason for the memory and the disk: it
learns from maps of {map_kb:.0f} kB a picture. With `partial_shots: []` {less:,.0f} CPU hours remain, and {row:.0f}
bytes a picture, {rows_gb:.1f} GB for all data sets. The profile asks for what the dearest job takes: {enough}.

The three methods of learnt prompts are not in this table, as the profile leaves them out: every step runs the text
tower on a prompt for each class. `prompt_epochs: 0` adds them, and {prompts_small:,.0f} CPU hours for the ten smaller
data sets, {prompts_large:,.0f} for ImageNet.

{each}

## All of ImageNet's train list

The suite does not need it: {train:,} pictures, {full32:.1f} GB as float32 or {full16:.1f} GB as float16, checksums
included. Encoding takes {whole}. Reading all rows back, with their checksums, takes {read32:.0f} CPU seconds and
{peak32:.1f} GB at most where they are float32, for then the file itself is mapped; {read16:.0f} seconds and
{peak16:.1f} GB where they are float16, which become float32 in memory. Of both, {base:.1f} GB are the program.

## Where the numbers come from

* **Measured**: a picture of 500 x 375 opened and resized ({open:.0f} ms), the bridge's image tower at 128 pixels
  ({bridge:.0f} ms), RN50 ({rn50:.0f} ms) and ViT-B/16 ({vit:.0f} ms) at 224, eight pictures at a time; the bytes of a
  row; the memory of reading; for the linear probes and the adapter the seconds before the first and of every {every}
  iterations of the whole grid, with a look at the validation rows, at {sizes} classes; of one cell of partial
  finetuning a step, at as many, and one map through the attention pool; an epoch of Tip-Adapter-F; some of the
  {betas} sharpnesses of Tip-Adapter's search; a step of prompting. `benchmarks/paper_scale.csv` has them all.
* **Multiplied**: to {iterations:,} iterations, since each does the same work (`benchmarks/grid.md` checked it); to
  the nine cells of partial finetuning, with a look at its validation maps every {every} iterations; to the other
  start of the linear probe; to other numbers of classes, on straight lines between the measured ones; to other shots,
  where only an epoch of Tip-Adapter-F (with their square), the looks and the number of steps of prompting change; to
  data sets, draws and pictures. A job's memory is the maps of its pictures, copies of them for the episodes (two of
  what is asked, one a number of shots of what is learnt from), and the program.
* **Assumed**: cores as fast as this one; no picture drawn twice, so the cache is at most this; no time in the queue.
  Left out: sentences ({sentence:.0f} ms each), the answers of all methods but partial finetuning, figures. Nothing
  was measured on a graphics card.
"""


def by_data_set(costs: Costs) -> pd.DataFrame:
    """A line a data set; a job is one draw with all numbers of shots, and has its part of the encoding."""
    lines = {}
    for source, (classes, _, _) in SETS.items():
        pictures, each = costs.pictures(source), [costs.job(source, shot) for shot in SHOTS]
        lines[source] = {
            "classes": classes,
            "pictures": pictures,
            "encoding, CPU h": costs.encoding(pictures),
            "maps on disk, GB": pictures * MAP_BYTES / 1e9,
            "fits of all draws, CPU h": SEEDS * sum(each),
            "longest job, h": sum(each) + costs.encoding(pictures) / SEEDS,
            "its memory, GB": costs.memory(source),
        }
    return pd.DataFrame(lines).T


def markdown(frame: pd.DataFrame, first: str, show: Callable[[float], str]) -> str:
    lines = [[first, *frame.columns], ["---", *["---:"] * frame.shape[1]]]
    lines += [[str(name), *map(show, row)] for name, row in zip(frame.index, frame.to_numpy(), strict=True)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:.1f}"


def duration(seconds: float) -> str:
    size, unit = next((s, u) for s, u in ((3600, "h"), (60, "min"), (1, "s")) if seconds >= s or s == 1)
    return f"{seconds / size:,.1f} {unit}"


def wrapped(block: str) -> str:
    """A paragraph or a list in lines of the page's width; anything else as it is."""
    if block.startswith(("|", "#", "    ")):
        return block
    items = re.split(r"\n(?=\* )", block.rstrip("\n"))
    fill = textwrap.TextWrapper(120, subsequent_indent="  " * block.startswith("*"), break_on_hyphens=False).fill
    return "\n".join(fill(" ".join(item.split())) for item in items) + "\n" * block.endswith("\n")


def page(frame: pd.DataFrame, note: str) -> str:
    costs = Costs(frame)
    sheet = yaml.safe_load((ROOT / "params" / "profiles" / "paper.yaml").read_text("utf-8"))
    entry = sheet["10_cross_modal_adaptation"]["jobs"]["sets"]
    axes, asked = entry["matrix"], entry["resources"]
    table = by_data_set(costs)
    needs = {"minutes": 60 * table["longest job, h"].max(), "mem_mb": 1000 * table["its memory, GB"].max()}
    few = {key: "" if most < asked[key] else ", **too few**" for key, most in needs.items()}
    enough = [f"`{key}: {asked[key]}` where {most:,.0f} are needed{few[key]}" for key, most in needs.items()]
    sums = table.drop(columns=["classes", "longest job, h", "its memory, GB"]).sum()
    hours = sums["encoding, CPU h"] + sums["fits of all draws, CPU h"]
    each = {
        f"{c} classes ({s})": costs.fits(s, 16) for c, s in ((10, "eurosat"), (100, "caltech101"), (1000, "imagenet"))
    }
    partial = SEEDS * sum(costs.fits(s, k)["partial finetuning"] for s in SETS for k in SHOTS) / 3600
    prompts = {s: SEEDS * sum(costs.job(s, k, True) - costs.job(s, k) for k in SHOTS) for s in SETS}
    row = costs.at("bytes a row", "float32")
    words = {
        "machine": f"{os.cpu_count()} cores, {platform.system()}, torch {torch.__version__}",
        "note": f" {note}" if note else "",
        "sets": len(SETS), "shots": len(SHOTS), "seeds": SEEDS, "methods": len(costs.fits("dtd", 1)),
        "fits": len(SETS) * len(SHOTS) * SEEDS * len(costs.fits("dtd", 1)), "width": WIDTH, "iterations": ITERATIONS,
        "jobs": math.prod(map(len, axes.values())), "axes": " and ".join(axes),
        "every": EVERY, "betas": len(WIDE["beta"]),
        "table": markdown(pd.concat([table, sums.to_frame("**together**").T]), "data set", number),
        "hours": hours, "longest": table["longest job, h"].max(), "disk": sums["maps on disk, GB"],
        "share": partial / hours, "map_kb": MAP_BYTES / 1e3, "less": hours - partial,
        "row": row, "rows_gb": sums["pictures"] * row / 1e9,
        "enough": "; ".join(enough), "prompts_large": prompts.pop("imagenet"), "prompts_small": sum(prompts.values()),
        "each": markdown(pd.DataFrame(each), "one fit at 16 shots, CPU time", duration),
        "train": TRAIN, "full32": TRAIN * row / 1e9, "full16": TRAIN * costs.at("bytes a row", "float16") / 1e9,
        "whole": ", ".join(f"{costs.encoding(TRAIN, n):,.0f} CPU hours with {n}" for n in ("RN50", "ViT-B-16")),
        **{f"{k}{bits}": costs.at(unit, f"float{bits}") for bits in (32, 16)
           for k, unit in (("read", "read all, s"), ("peak", "read all, GB"))},
        **{k: 1000 * costs.at("picture", n) for k, n in
           {"open": "open", "bridge": "bridge", "rn50": "RN50", "vit": "ViT-B-16"}.items()},
        "base": costs.at("before, GB", "float32"), "sizes": ", ".join(map(str, SIZES)),
        "sentence": 1000 * costs.at("sentence", "RN50"),
    }  # fmt: skip
    return "\n\n".join(wrapped(block.format(**words)) for block in TEXT.split("\n\n"))


def main() -> None:
    parser = argparse.ArgumentParser(description="What the paper's suite costs on a cluster")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--read", choices=("float32", "float16"), help="a process of `storing`")
    parser.add_argument("--note", default="", help="what else the machine did meanwhile; goes into the page")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.read:
        print(json.dumps(read(given.read)))
        return
    if not given.report:
        measure()
    PAGE.write_text(page(units(), given.note), encoding="utf-8")
    print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
