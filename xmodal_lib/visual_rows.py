"""GTL and what stands beside it on a task of two visual modalities: which method, from which base stage.

rows = table(GTL(**OURS), task)                          # {"GTL": GTL(...), "class means": ClassMeans(), ...}
ready = pretrained(rows, task.base)                      # a base stage that several share is trained once
chosen, grid = tuned(ready, task.episodes("val", shot=1, seed=7, number=4))     # by held-out base classes alone
frame = score(chosen, {1: task.episodes("novel", shot=1, seed=1)}, seed=1)
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from xmodal_lib.episodes import Episode
from xmodal_lib.evaluate import evaluate
from xmodal_lib.methods.gtl import GTL
from xmodal_lib.methods.gtl_baselines import Cache, ClassMeans, Logistic
from xmodal_lib.methods.method import Method
from xmodal_lib.training import accuracy, cells

Fields = dict[str, Any]
PAPER: Fields = {}  # the defaults of GTL, as far as they are known
OURS: Fields = {"domains": 32, "base_epochs": 30, "base_decay_at": (20,), "epochs": 30, "decay_at": (20,)}
RECIPES: dict[str, Fields] = {"ours": OURS, "paper": PAPER}
MAIN = ("class means", "logistic regression", "GTL", "GTL, no estimator", "GTL, no base stage")
SHARED = {
    "GTL, generator fine-tuned": {"generator": "fine-tuned"},
    "GTL, generator fresh": {"generator": "fresh"},
    "GTL, classifier alone": {"tuned": "classifier"},
}  # rows that differ from GTL after the base stage
GRIDS: dict[type[Method], dict[str, Sequence[Any]]] = {
    GTL: {"lr": (1e-3, 3e-3)},
    Logistic: {"c": (1e-3, 1e-2, 1e-1, 1.0)},
    Cache: {"beta": (1.0, 5.5, 20.0)},
}


def table(gtl: GTL, *, only: Sequence[str] = ()) -> dict[str, Method]:
    """The rows by name, none of them trained; `only` names some. With a trunk, rows are read behind a trained GTL's
    concept, where without one the simple rows read the features themselves."""
    body = replace(gtl, domains=0, sampled=False, weight_x=0.0) if "trunk" in gtl.encoders else None
    rows: dict[str, Method] = {
        "class means": ClassMeans(body),
        "class means, each": ClassMeans(body, each=True),
        "logistic regression": Logistic(body),
        "cache": Cache(body),
        "cross-entropy alone": replace(gtl, domains=0, sampled=False, weight_x=0.0),
        "autoencoder": replace(gtl, domains=0, sampled=False),
        "GTL, no estimator": replace(gtl, domains=0),
        "GTL": gtl,
        **{name: replace(gtl, **change) for name, change in SHARED.items()},
        "GTL, no base stage": gtl,
        "GTL, class means of the concept": ClassMeans(gtl),
    }
    return {name: row for name, row in rows.items() if not only or name in only}


def pretrained(rows: Mapping[str, Method], base: Any) -> tuple[dict[str, Method], pd.DataFrame]:
    """Every row after its base stage, and the CPU seconds that this took; equal base stages are trained once."""
    known: dict[str, Method] = {}
    ready: dict[str, Method] = {}
    lines = []
    for name, row in rows.items():
        start = time.process_time()
        body = row if isinstance(row, GTL) else getattr(row, "body", None)
        if name == "GTL, no base stage":
            ready[name] = row
        elif isinstance(body, GTL):
            key = repr(replace(body, generator="frozen", tuned="all"))
            known.setdefault(key, body.pretrain(base))
            ready[name] = _with(row, known[key])
        else:
            ready[name] = row.pretrain(base)
        lines.append({"method": name, "base seconds": time.process_time() - start})
    return ready, pd.DataFrame(lines)


def _with(row: Method, trained: Method) -> Method:
    """The row with the base stage of a GTL."""
    if not isinstance(row, GTL):
        return replace(row, body=trained)  # type: ignore[call-arg]
    other = copy.copy(trained)
    other.__dict__.update({"generator": row.generator, "tuned": row.tuned})  # type: ignore[attr-defined]
    return other


def tuned(
    rows: Mapping[str, Method], episodes: Sequence[Episode], grids: Mapping[type[Method], Any] | None = None
) -> tuple[dict[str, Method], pd.DataFrame]:
    """Choose fields that `fit` reads on episodes of held-out base classes (the first cell wins ties)."""
    chosen, lines = {}, []
    for name, row in rows.items():
        grid = (GRIDS if grids is None else grids).get(type(row), {})
        tried = []
        for cell in cells(grid):
            other = copy.copy(row)
            other.__dict__.update(cell)
            mean = sum(accuracy(other.fit(e.support), e.query) for e in episodes) / len(episodes)
            tried.append((mean, cell, other))
        best = max(tried, key=lambda cell: cell[0])
        chosen[name] = best[2]
        lines.append({"method": name, **best[1], "val accuracy": best[0]})
    return chosen, pd.DataFrame(lines)


def score(rows: Mapping[str, Method], episodes: Mapping[int, Sequence[Episode]], seed: int) -> pd.DataFrame:
    """Lines of `evaluate` with columns shot and task, and retrieval; `seed` is the draw's."""
    described = [({"shot": shot, "task": i}, e) for shot, own in episodes.items() for i, e in enumerate(own)]
    frame = evaluate(rows, described, progress=False)
    return frame[frame["metric"].str.startswith("accuracy") | (frame["metric"] == "fit seconds")].assign(seed=seed)


def retrieval(embeddings: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> pd.DataFrame:
    """Between each two modalities, by class and in cosine: rank-1 (share) and mAP, the mean over queries of the mean
    precision at the places of its class. Columns direction, metric, value."""
    lines = []
    for a in embeddings:
        for b in embeddings:
            if a == b or not len(embeddings[a]) or not len(embeddings[b]):
                continue
            cosine = F.normalize(embeddings[a], dim=1) @ F.normalize(embeddings[b], dim=1).T
            right = labels[a][:, None] == labels[b][cosine.argsort(dim=1, descending=True, stable=True)]
            kept = right.any(1)
            hits = right[kept].double()
            precision = hits.cumsum(1) / torch.arange(1, hits.shape[1] + 1)
            mean = (precision * hits).sum(1) / hits.sum(1)
            for metric, value in (("rank-1", hits[:, 0].mean()), ("mAP", mean.mean())):
                lines.append({"direction": f"{a} -> {b}", "metric": metric, "value": float(value)})
    return pd.DataFrame(lines)
