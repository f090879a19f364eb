"""CroMA and the rows beside it on a task: which method learns from which base, trained and read alike.

rows = table(task, fields("ours"), seed=1)                       # {"CroMA": Row(CroMA(...), task.base, "pairs")}
trained = meta_train(rows, task.val_episodes)                    # iteration and few-shot fields: by val tasks alone
frame = score(trained.methods, task.episodes, seed=1)            # of `evaluate`, a draw being a seed
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from xmodal_lib import pairings
from xmodal_lib.alignment_published import MODALITIES, published
from xmodal_lib.alignment_tasks import SETTINGS, AlignmentTask
from xmodal_lib.encoders.inputs import log_mel
from xmodal_lib.episodes import Episode
from xmodal_lib.evaluate import evaluate, modality_gap, retrieval
from xmodal_lib.methods import croma_baselines as beside
from xmodal_lib.methods.croma import README_RUN, RELEASED, CroMA, best_iteration, tuned
from xmodal_lib.methods.meta_transfer import MetaTransfer
from xmodal_lib.methods.method import Method
from xmodal_lib.tables import Tables

Fields = dict[str, Any]
PAPER: Fields = {"way": 5, "shot": 5, "batch": 8, "iterations": 800, "rate": 0.1, "loss": "triplet", "margin": 0.1,
                 "reserved": 0.5, "lr_align": 1e-3, "lr_classify": 1e-3}  # fmt: skip
OURS: Fields = {"way": 5, "shot": 13, "batch": 32, "iterations": 80, "rate": 0.5, "loss": "info-nce",
                "lr_align": 1e-3, "lr_classify": 1e-3, "betas": (0.9, 0.999), "steps": 20}  # fmt: skip
RECIPES: dict[str, Fields] = {
    "ours": OURS,  # a larger batch and InfoNCE: the same effect in fewer iterations
    "paper": PAPER,  # its batch at five shots for every number of shots
    "released": RELEASED | {"way": 5, "shot": 5, "batch": 4, "inner": 5, "steps": 50, "iterations": 800, "rate": 1e-4,
                            "lr_align": 1e-4, "lr_classify": 1e-4, "lr": 1e-4},
    "readme": README_RUN | {"iterations": 800},
}  # fmt: skip
ITERATIONS = {"words": 108, "pixels": 54, "languages": 36}  # of "ours": what fits 15 minutes for five draws of all
FEW: tuple[Fields, ...] = ({"adapt": "head", "lr": 1e-2}, {"adapt": "all", "lr": 3e-3})  # ways to learn a test task
MOST = {"pixels": 5}  # rows of a new class that there are to learn from
MAIN = ("from scratch", "source only", "align + classify", "CroMA", "oracle")
LOOK = ("source only", "CroMA")
READINGS = {"nearest mean": beside.NearestMeanReading(), "fresh head": beside.FreshHead(steps=60)}


@dataclass(frozen=True, eq=False)
class Row:
    """A line of the table."""

    method: MetaTransfer
    base: Tables
    reads: str  # of the target in meta-training: nothing, rows, sets, pairs or labels


@dataclass(frozen=True, eq=False)
class Trained:
    """Meta-trained rows, how they were chosen, and what they cost."""

    methods: dict[str, Method]
    curve: pd.DataFrame  # method, iteration, accuracy on tasks of val
    chosen: pd.DataFrame  # a line a method: iteration, fields of few-shot learning, CPU seconds


def names_of(rows: str, points: int = 0) -> Sequence[str]:
    """Names of the rows to train; none for all. `points` is that of each sweep, 0 for no sweeps.

    Raises:
        ValueError: there is no such choice, or a sweep would have one point.
    """
    choices = {"main": MAIN, "look": LOOK, "all": ()}
    if rows not in choices:
        raise ValueError(f"rows={rows!r}; there are {', '.join(choices)}")
    if points == 1 or points < 0:
        raise ValueError(f"points={points}; a sweep has at least 2, and 0 leaves the sweeps out")
    return choices[rows]


def task_of(source: str, root: str, seed: int, pairs: str, *, shots: Sequence[int], queries: int, options: Fields,
            **draw: Any) -> AlignmentTask:  # fmt: skip
    """A setting of `alignment_tasks`, or a data set of the paper; pairs "default" are strong where the data have them.

    More shots than a setting's new classes have rows become as many as they have.

    Raises:
        ValueError: there is no such source, or as `alignment_tasks` and `alignment_published` say.
    """
    if source not in (*SETTINGS, *MODALITIES):
        raise ValueError(f"source={source!r}; there are {', '.join((*SETTINGS, *MODALITIES))}")
    shots = sorted({min(shot, MOST.get(source, shot)) for shot in shots})
    if source in SETTINGS:
        return SETTINGS[source](seed, pairs="strong" if pairs == "default" else pairs, shots=shots, **draw)
    chosen = "" if pairs == "default" else pairs
    return published(source, root, seed, pairs=chosen, shots=shots, queries=queries, **draw, **options)


def fields(recipe: str, iterations: int = 0, way: int = 0, source: str = "") -> Fields:
    """The fields that a recipe gives to every row; 0 is what the recipe has ("ours": see ITERATIONS).

    Raises:
        ValueError: there is no such recipe.
    """
    if recipe not in RECIPES:
        raise ValueError(f"there is no recipe {recipe!r}; there are {', '.join(RECIPES)}")
    own = ITERATIONS.get(source, 0) if recipe == "ours" else 0
    given = {"iterations": iterations or own, "way": way}
    return RECIPES[recipe] | {name: value for name, value in given.items() if value}


def ways_to_learn(recipe: str) -> Sequence[Fields]:
    """What val chooses from for the test tasks: two ways, or with a published recipe its one."""
    return FEW if recipe == "ours" else ({"adapt": "all", "lr": RECIPES[recipe].get("lr", 1e-3)},)


def table(task: AlignmentTask, given: Fields, *, seed: int, weak: Tables | None = None,
          only: Sequence[str] = ()) -> dict[str, Row]:  # fmt: skip
    """The rows by name, in the order of the tables of Liang et al.; `only` names some of them.

    All have the same fields, those of the release apart, and start from the same weights. `weak` is the base with sets
    in place of pairs, where the task's own are strong: the row "weak labels" needs sets.
    """
    s, t = task.modalities
    base, sets = task.base, is_weak(task)
    common = dict(given) | {"source": s, "target": t, "encoders": task.encoders, "seed": seed}
    if sets:
        common["reserved"] = 0.0  # their source rows are halved already
    one = common | {"encoders": shared(task)}
    copied = common | {"encoders": dict.fromkeys((s, t), task.encoders[t])}
    rows = {
        "from scratch": Row(beside.FromScratch(**common), base, "nothing"),
        "source only": Row(beside.SourceOnly(**common), base, "nothing"),
        "reconstruction": Row(beside.Reconstruction(**common), base, "rows"),
        "weak labels": Row(beside.WeakLabels(**common), base if sets else weak or base, "sets"),
        "shared": Row(beside.SharedEncoder(**one), base, "nothing"),
        "shared + align": Row(beside.SharedAlign(**one), base, "pairs"),
        "shared + domain confusion": Row(beside.SharedConfusion(**one), base, "rows"),
        "shared + target labels": Row(beside.SharedTargetLabels(**one), base, "labels"),
        "align + classify": Row(beside.AlignClassify(**common), base, "pairs"),
        "align + meta-classify": Row(beside.AlignMetaClassify(**common), base, "pairs"),
        "CroMA": Row(CroMA(**common), base, "pairs"),
        "CroMA, as the release runs": Row(CroMA(**common | _released(sets)), base, "pairs"),
        "CroMA, random pairs": Row(CroMA(**common), pairings.wrong(base, task.modalities, 1.0, seed), "pairs"),
        "CroMA, identity pairs": Row(CroMA(**copied), pairings.identity(base, task.modalities), "labels"),
        "CroMA + target labels": Row(beside.CroMATargetLabels(**common), base, "labels"),
        "oracle": Row(beside.Oracle(**common), base, "labels"),
        "contrastive oracle": Row(beside.ContrastiveOracle(**common), base, "labels"),
    }
    if not sets and weak is None:
        del rows["weak labels"]
    return {name: row for name, row in rows.items() if not only or name in only}


def is_weak(task: AlignmentTask) -> bool:
    """Whether pairs of the task are sets of several target rows."""
    pair = task.base[task.modalities[1]].pair
    return len(pair.unique()) < len(pair)


def shared(task: AlignmentTask) -> dict[str, nn.Module]:
    """One encoder for both modalities: the target's net as the trunk, and an input layer for each.

    The target's layer is linear in a frame or a pixel. The source's makes what the trunk takes: of bytes an embedding
    each, of features a small picture, of a picture its columns as frames; linear too.
    """
    s, t = task.modalities
    source, target = task.base[s].x, task.base[t].x
    bands = target.shape[1]
    first: nn.Module
    if target.ndim == 4:  # pictures (b, 3, h, w)
        small = target.shape[2] // 4
        first = nn.Sequential(nn.Linear(source.shape[1], bands * small**2), nn.Unflatten(1, (bands, small, small)),
                              nn.Upsample(scale_factor=4))  # fmt: skip
        return {s: first, t: nn.Conv2d(bands, bands, 1), "trunk": task.encoders[t]}
    if source.ndim == 4:
        first = nn.Sequential(nn.Flatten(1, 2), nn.Conv1d(source.shape[1] * source.shape[2], bands, 1))
    else:
        first = nn.Sequential(nn.Embedding(257, bands, padding_idx=0), _Turned())
    return {s: first, t: nn.Conv1d(bands, bands, 1), "trunk": task.encoders[t]}


class _Turned(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)  # (b, L, bands) -> (b, bands, L)


def meta_train(rows: Mapping[str, Row], val: Mapping[int, Sequence[Episode]], *, looks: int = 3,
               few: Sequence[Fields] = FEW) -> Trained:  # fmt: skip
    """Meta-train each row; keep the best of `looks` iterations, then the best of `few`, by tasks of val alone.

    While looking, the first of `few` is used. One choice serves all shots.
    """
    episodes = [e for own in val.values() for e in own]
    methods: dict[str, Method] = {}
    curves, lines = [], []
    for name, row in rows.items():
        start = time.process_time()
        method, curve = row.method, pd.DataFrame()
        if not isinstance(method, beside.FromScratch):
            quick = replace(method, **few[0])
            every = -(-row.method.iterations // looks)
            method, curve = best_iteration(quick, row.base, episodes, every)
        trained = time.process_time()
        tried: list[tuple[Method, pd.DataFrame]] = (
            [(method, curve)] if len(curve) else []
        )  # with the first of `few` it was asked on the way
        for cell in few[len(tried) :]:
            tried.append(tuned(method, {key: [value] for key, value in cell.items()}, episodes))
        methods[name], _ = max(tried, key=lambda cell: cell[1]["accuracy"].max())  # the first one wins ties
        best = int(curve["iteration"].iloc[curve["accuracy"].argmax()]) if len(curve) else 0
        lines.append({"method": name, "reads": row.reads, "iteration": best}
                     | {key: getattr(methods[name], key) for key in few[0]}
                     | {"training": trained - start, "tuning": time.process_time() - trained})  # fmt: skip
        curves.append(curve.assign(method=name))
    return Trained(methods, pd.concat(curves, ignore_index=True), pd.DataFrame(lines))


def score(methods: Mapping[str, Any], episodes: Mapping[int, Sequence[Episode]], seed: int) -> pd.DataFrame:
    """Accuracy of each row on every task; at the middle number of shots, of its encoder read in two more ways too.

    The readings' names are those of the rows and "| nearest mean" or "| fresh head". Columns of `evaluate`, shot, task;
    `seed` is the draw's, so that its tasks are no draws of their own.
    """
    read = {f"{name} | {label}": replace(reading, method=method) for name, method in methods.items()
            for label, reading in READINGS.items()}  # fmt: skip
    described = [({"shot": shot, "task": i}, e) for shot, own in episodes.items() for i, e in enumerate(own)]
    middle = middle_of(episodes)
    frames = [evaluate(methods, described, progress=False),
              evaluate(read, [(of, e) for of, e in described if of["shot"] == middle], progress=False)]  # fmt: skip
    frame = pd.concat(frames, ignore_index=True)
    return frame[frame["metric"].isin(["accuracy", "fit seconds"])].assign(seed=seed)


def middle_of(shots: Iterable[int]) -> int:
    """The middle one, in order of size, of some numbers of shots."""
    several = sorted(set(shots))
    return several[len(several) // 2]


def spreads(frame: pd.DataFrame) -> pd.DataFrame:
    """Standard deviation of the accuracy over the tasks of a draw, mean over draws: columns method, shot, deviation."""
    tasks = frame[frame["metric"] == "accuracy"].groupby(["method", "shot", "seed"], sort=False)["value"].std()
    return tasks.groupby(["method", "shot"], sort=False).mean().rename("deviation").reset_index()


def found(methods: Mapping[str, Any], task: AlignmentTask, seed: int, role: str = "test") -> pd.DataFrame:
    """Retrieval among the pairs of new classes, in both directions: of the very item, and of any of its class.

    Columns method, direction, partner, seed, metric (R@1, R@5, R@10, median rank, gap), value.
    """
    s, t = task.modalities
    pool, lines = task.pools[role], []
    for name, method in methods.items():
        if not {s, t} <= set(getattr(method, "widths_", ())) or method.encoders[s] is method.encoders[t]:
            continue  # it has no encoder of the source
        z = method.embed(pool)
        gap = float(modality_gap(z)["gap"].iloc[0])
        for a, b in ((s, t), (t, s)):
            for partner, ids in (("item", "pair"), ("class", "y")):
                measured = retrieval(z[a], getattr(pool[a], ids), z[b], getattr(pool[b], ids)) | {"gap": gap}
                head = {"method": name, "direction": f"{a} -> {b}", "partner": partner, "seed": seed}
                lines += [head | {"metric": k, "value": v} for k, v in measured.items()]
    return pd.DataFrame(lines)


def partner(task: AlignmentTask, row: int) -> int:
    """Place, among the source rows of new classes, of one that shows what this target row shows."""
    s, t = (task.pools["test"][m] for m in task.modalities)
    return int((s.pair == t.pair[row]).nonzero()[0])


def placed(method: Method, task: AlignmentTask, classes: int) -> tuple[pd.DataFrame, Tensor]:
    """Rows of the first new classes, of both modalities: columns class and modality, and embeddings (n, D)."""
    pool, parts = task.pools["test"], []
    pool = pool.of_classes(pool.classes[:classes])
    for m, z in method.embed(pool).items():
        parts.append(pd.DataFrame({"class": [pool.classes[y] for y in pool[m].y.tolist()], "modality": m}))
        parts[-1]["z"] = list(z)
    frame = pd.concat(parts, ignore_index=True)
    return frame.drop(columns="z"), torch.stack(frame["z"].tolist())


def as_picture(thing: Any) -> Any:
    """What a source opens, drawn: a picture, a stored one (3, h, w), or a sound as log-mel (bands, frames)."""
    if isinstance(thing, Tensor) and thing.ndim == 3:
        low, high = thing.min(), thing.max()
        return Image.fromarray((255 * (thing - low) / (high - low)).byte().permute(1, 2, 0).numpy())
    if isinstance(thing, Image.Image):
        return thing
    wave = torch.as_tensor(thing)
    return log_mel(wave, frames=-(-len(wave) // 160)).numpy()


def small_sound(wave: Any, seconds: float = 2.0) -> np.ndarray:
    """The first seconds of a sound of 16 kHz at 8 kHz, 16 bits: (T,) int16."""
    halved = torch.as_tensor(wave)[: int(16_000 * seconds)]
    halved = nn.functional.avg_pool1d(halved[None], 2)[0]
    return (32_000 * halved / halved.abs().max().clamp(min=1e-6)).short().numpy()


@torch.no_grad()
def nearest(method: Method, task: AlignmentTask, queries: Sequence[int], k: int) -> Tensor:
    """For rows of the source among new classes, the k target rows that come first: (q, k) places in the pool."""
    s, t = task.modalities
    z = {m: nn.functional.normalize(x, dim=1) for m, x in method.embed(task.pools["test"]).items()}
    return (z[s][list(queries)] @ z[t].T).topk(k, 1).indices


def sweeps(task: AlignmentTask, weak: Tables | None, method: Method, oracle: Method, *, seed: int,
           points: int, shot: int) -> pd.DataFrame:  # fmt: skip
    """Accuracy against the share of pairs kept, of wrong pairs, and of wrong labels, at one number of shots.

    The two methods are not meta-trained yet; their few-shot fields stay as they are. Pairs, strong ones and sets: CroMA
    alone. Labels: those of the base, which the oracle alone reads, and those of the support, which both learn from.
    Columns sweep, share, method, seed, metric, value.
    """
    shares = [i / (points - 1) for i in range(points)]
    kinds = {"sets" if is_weak(task) else "pairs": task.base} | ({"sets": weak} if weak is not None else {})
    bases = [("pairs kept", share, f"CroMA, {kind}", method, pairings.fewer(base, task.modalities, share, seed))
             for kind, base in kinds.items() for share in (0.02 * 50**x for x in shares)]  # fmt: skip
    bases += [("wrong pairs", share, f"CroMA, {kind}", method, pairings.wrong(base, task.modalities, share, seed))
              for kind, base in kinds.items() for share in shares]  # fmt: skip
    target, episodes, lines = task.modalities[1], task.episodes[shot], []
    for sweep, share, name, plain, base in bases:
        lines.append((sweep, share, name, _mean(plain.pretrain(base), episodes)))
    clean = method.pretrain(task.base)
    for share in (0.6 * x for x in shares if shot > 1):  # one wrong label would leave a class without any
        few = [replace(e, support=_wrong(e, target, share)) for e in episodes]
        lines.append(("wrong labels", share, "CroMA", _mean(clean, few)))
        noisy = pairings.noisy_labels(task.base, target, share, seed)
        lines.append(("wrong labels", share, "oracle", _mean(oracle.pretrain(noisy), few)))
    frame = pd.DataFrame(lines, columns=["sweep", "share", "method", "value"])
    return frame.assign(seed=seed, metric="accuracy", shot=shot)


def _mean(method: Method, episodes: Sequence[Episode]) -> float:
    frame = evaluate({"": method}, episodes, progress=False)
    return float(frame.loc[frame["metric"] == "accuracy", "value"].mean())


def _wrong(episode: Episode, target: str, share: float) -> Tables:
    return pairings.noisy_labels(episode.support, target, share, episode.seed, keep_classes=True)


def _released(sets: bool) -> Fields:
    """What the release does in place of the common fields: copies that share their encoders among it."""
    return RELEASED | {"clone": "shared", "rate": 1e-3} | ({"reserved": 0.0} if sets else {})
