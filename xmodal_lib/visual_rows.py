"""GTL and what stands beside it on a task of two visual modalities: which method, from which base stage, tuned on what.

rows = table(GTL(**fields("ours")))                              # {"linear probe": Logistic(), ..., "GTL": GTL(...)}
trained = train(rows, task, shot=2, seed=1)                      # base stages; fields of `fit` by held-out base classes
frame = score(trained.methods, episodes(task, shots=[1, 5], seed=1), seed=1)     # of `evaluate`; a draw is a seed
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from xmodal_lib.disentangling import probes, within_items
from xmodal_lib.episodes import Episode
from xmodal_lib.evaluate import evaluate
from xmodal_lib.methods.gtl import GTL
from xmodal_lib.methods.gtl_baselines import Cache, ClassMeans, Logistic, OnRows
from xmodal_lib.methods.gtl_losses import kl_to_standard
from xmodal_lib.methods.gtl_nets import Posterior
from xmodal_lib.methods.method import Method
from xmodal_lib.tables import Tables
from xmodal_lib.training import accuracy, cells
from xmodal_lib.visual_published import NAMES, published, tower
from xmodal_lib.visual_tasks import VisualTask, drawings

Fields = dict[str, Any]
RECIPES: dict[str, Fields] = {
    "ours": {"domains": 16, "base_epochs": 12, "base_decay_at": (8,), "epochs": 20, "decay_at": (14,)},  # for speed
    "paper": {},  # the defaults of GTL: what the paper says, and what is inferred where it is silent
}
BARE = "GTL, no base stage"
LATE: dict[str, Fields] = {  # rows that are GTL up to the end of the base stage
    "GTL, generator fine-tuned": {"generator": "fine-tuned"},
    "GTL, generator fresh": {"generator": "fresh"},
}
MAIN = ("linear probe", "class means", "cross-entropy alone", "plain VAE", "GTL", "GTL, generator fine-tuned", BARE)
GRIDS: dict[type[Method], dict[str, Sequence[Any]]] = {
    GTL: {"lr": (1e-3, 3e-3)},
    Logistic: {"c": (1e-3, 1e-2, 1e-1, 1.0)},
    Cache: {"beta": (1.0, 5.5, 20.0)},
}


@dataclass(frozen=True, eq=False)
class Trained:
    """Rows after their base stage, and how the fields of `fit` were chosen."""

    methods: dict[str, Method]
    chosen: pd.DataFrame  # a line a method: base seconds (of CPU; 0 where a stage is shared), fields, val accuracy


def task_of(
    source: str, root: str, seed: int, *, level: str = "category", encoder: str = "default", pixels: int = 0,
    **options: Any,
) -> VisualTask:  # fmt: skip
    """The drawings, or a published data set below `root`. encoder: "default" (EfficientNet) or MODEL:WEIGHTS of
    open_clip; with `pixels` a small net to be trained instead.

    Raises:
        ValueError: there is no such source, level or encoder. FileNotFoundError: the data are not there.
    """
    encoder = "efficientnet" if encoder == "default" else encoder
    if source == "drawings":
        own = None if pixels else tower(encoder)
        return drawings(seed, level=level, pixels=pixels, encoder=own)  # type: ignore[arg-type]
    if source not in NAMES:
        raise ValueError(f"source={source!r}; there are drawings, {', '.join(NAMES)}")
    return published(source, root, seed, encoder=encoder, pixels=pixels, **options)


def fields(recipe: str, epochs: int = 0) -> Fields:
    """The fields of GTL by a recipe. `epochs`, unless 0, is the length of both stages, the rate falling after two
    thirds.

    Raises:
        ValueError: there is no such recipe.
    """
    if recipe not in RECIPES:
        raise ValueError(f"recipe={recipe!r}; there are {', '.join(RECIPES)}")
    fall = (max(1, 2 * epochs // 3),)
    short = {"base_epochs": epochs, "base_decay_at": fall, "epochs": epochs, "decay_at": fall} if epochs else {}
    return RECIPES[recipe] | short


def table(gtl: GTL, rows: str = "all") -> dict[str, Method]:
    """The rows by name, none of them trained: "all", "main", or "look" (GTL and the plain VAE, which views need).

    Where GTL has a trunk to train, the simple rows read the concept of the row "cross-entropy alone", since there are
    no features; else they read the features.

    Raises:
        ValueError: there is no such choice.
    """
    choices = {"all": (), "main": MAIN, "look": ("GTL", "plain VAE")}
    if rows not in choices:
        raise ValueError(f"rows={rows!r}; there are {', '.join(choices)}")
    alone = replace(gtl, domains=0, sampled=False, weight_x=0.0)
    body = alone if gtl.encoders else None
    made: dict[str, Method] = {
        "linear probe": Logistic(body),
        "class means": ClassMeans(body),
        "class means, each modality": ClassMeans(body, each=True),
        "cache": Cache(body),
        "cross-entropy alone": alone,
        "autoencoder": replace(gtl, domains=0, sampled=False),
        "plain VAE": replace(gtl, domains=0),
        "GTL": gtl,
        **{name: replace(gtl, **change) for name, change in LATE.items()},
        BARE: gtl,
        "class means of GTL's concept": ClassMeans(gtl),
    }
    return {name: row for name, row in made.items() if name in (choices[rows] or made)}


def pretrained(rows: Mapping[str, Method], base: Tables) -> tuple[dict[str, Method], dict[str, float]]:
    """Every row after its base stage, and CPU seconds; a stage that several rows share is trained once."""
    known: dict[str, GTL] = {}
    ready, seconds = {}, {}
    for name, row in rows.items():
        start = time.process_time()
        stage = row.body if isinstance(row, OnRows) else row
        if name == BARE:
            ready[name] = row
        elif isinstance(stage, GTL):
            same = replace(stage, generator="frozen")
            key = repr({k: v for k, v in vars(same).items() if k != "encoders"})
            known[key] = known[key] if key in known else same.pretrain(base)
            late = {"generator": stage.generator} if stage is row else {"body": known[key]}
            ready[name] = _with(known[key] if stage is row else row, **late)
        else:
            ready[name] = row.pretrain(base)
        seconds[name] = time.process_time() - start
    return ready, seconds


def train(rows: Mapping[str, Method], task: VisualTask, *, shot: int, seed: int, number: int = 3) -> Trained:
    """The base stage of each row; then a cell of GRIDS, by `number` episodes of held-out base classes (the first cell
    wins ties). Each row is tuned for itself, at one number of shots."""
    ready, seconds = pretrained(rows, task.base)
    val = [apart(e) for e in task.episodes("val", shot=shot, seed=seed, number=number)]
    methods, lines = {}, []
    for name, row in ready.items():
        tried = []
        for cell in cells(GRIDS.get(type(row), {})):
            other = _with(row, **cell)
            tried.append((sum(accuracy(other.fit(e.support), e.query) for e in val) / len(val), cell, other))
        best, cell, methods[name] = max(tried, key=lambda found: found[0])
        said = ", ".join(f"{k} {v:g}" for k, v in cell.items())
        lines.append({"method": name, "base seconds": seconds[name], "chosen": said, "val accuracy": best})
    return Trained(methods, pd.DataFrame(lines))


def possible(task: VisualTask, shots: Sequence[int]) -> list[int]:
    """Those numbers of shots for which every novel and held-out base class has enough rows of every modality.

    Raises:
        ValueError: there is none.
    """
    pools = [task.pools[role][0] for role in ("val", "novel")]
    most = min(int(t.y.bincount(minlength=len(p.classes)).min()) for p in pools for t in p.rows.values())
    if not (found := [shot for shot in shots if shot <= most]):
        raise ValueError(f"shots={list(shots)}; some class has {most} rows of a modality to learn from")
    return found


def episodes(
    task: VisualTask, *, shots: Sequence[int], seed: int, number: int = 1, way: int = 0
) -> list[tuple[Fields, Episode]]:
    """For each number of shots, so many episodes of `way` novel classes, with columns shot, way and task. 0: of all of
    them ("all"); none where there are no more classes than `way`."""
    few = way or None
    if way >= len(task.pools["novel"][0].classes) or not number:
        return []
    return [({"shot": shot, "way": str(way or "all"), "task": i}, apart(e)) for shot in shots
            for i, e in enumerate(task.episodes("novel", shot=shot, seed=seed, number=number, way=few))]  # fmt: skip


def apart(episode: Episode) -> Episode:
    """Every row an item of its own: a row of either modality is asked by itself."""
    support, query = episode.support.unpaired(), episode.query.unpaired()
    shift = len(support.items())
    moved = {m: replace(t, pair=t.pair + shift) for m, t in query.rows.items()}
    return Episode(support, None, replace(query, rows=moved), episode.seed)


def score(rows: Mapping[str, Method], asked: Sequence[tuple[Fields, Episode]], seed: int) -> pd.DataFrame:
    """Lines of `evaluate`: accuracy of all rows and of each modality's, and seconds of a fit; `seed` is the draw's."""
    frame = evaluate(rows, asked, progress=False)
    return frame[frame["metric"].str.startswith("accuracy") | (frame["metric"] == "fit seconds")].assign(seed=seed)


def measures(rows: Mapping[str, Method], episode: Episode, seed: int) -> pd.DataFrame:
    """What the spaces of fitted rows are like, on the rows that an episode asks: retrieval for all; for GTL and its
    kin also the error of reconstruction, probes, and how far concept and disturbance depend on one another.

    Columns method, what, of, value, seed.
    """
    parts = []
    y = {m: t.y for m, t in episode.query.rows.items()}
    for name, row in rows.items():
        fitted = row.fit(episode.support)
        found = [retrieval(fitted.embed(episode.query), y)]
        if isinstance(fitted, GTL):
            found += [disentangled(fitted, episode.query)]
            found += [reconstruction(fitted, episode.query)] if fitted.weight_x else []
        parts.append(pd.concat(found, ignore_index=True).assign(method=name, seed=seed))
    return pd.concat(parts, ignore_index=True)


def disentangled(method: GTL, rows: Tables, most: int = 200) -> pd.DataFrame:
    """The numbers of `disentangling` for those latents that the method learns, and for the chance of a probe; those
    within items on at most `most` rows of a modality.

    Columns what, of, value: "probe" has "LATENT: modality" and "LATENT: class".
    """
    rows = replace(rows, rows={m: t for m, t in rows.rows.items() if len(t)})
    learnt = ("concept", *(("disturbance",) if method.weight_x else ()), *(("estimate",) if method.domains else ()))
    probed = probes(method, rows)
    lines = [("probe", f"{q['latent']}: {q['of']}", q["accuracy"]) for _, q in probed.iterrows()
             if q["latent"] in learnt]  # fmt: skip
    lines += [("probe", f"chance: {name}", own["chance"].iloc[0]) for name, own in probed.groupby("of")]
    if method.weight_x:
        few = replace(rows, rows={m: t[:: -(-len(t) // most)] for m, t in rows.rows.items()})
        lines += [("within items", m, float(value.mean())) for m, value in within_items(method, few).items()]
    return pd.DataFrame(lines, columns=["what", "of", "value"])


def reconstruction(method: GTL, rows: Tables) -> pd.DataFrame:
    """Share of the variance of standardised rows, around the mean of the base, that g(means of z) does not give back.

    1: no better than the mean of the base. Columns what, of (modality), value.
    """
    lines = []
    for m, q in method.posterior(rows).items():
        if len(rows[m]):
            s = method._standard(rows[m].x)
            with torch.no_grad():
                error = method.nets_["generator"](q.concept, q.disturbance) - s
            lines.append(("not reconstructed", m, float(error.square().sum() / s.square().sum())))
    return pd.DataFrame(lines, columns=["what", "of", "value"])


def structure(method: GTL, rows: Tables) -> pd.DataFrame:
    """How much of the latent space is in use: numbers whose posterior mean varies over rows (variance above 0.01), the
    divergence from the prior in nats a row, and latent domains (those with 1 % of the shares; active for one row).

    A line a latent: in use, of, nats. Source of the measure: Burda et al., ICLR 2016, section 5.2.
    """
    parts = list(method.posterior(rows).values())
    q = Posterior(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
    lines = {}
    for name in ("concept", "disturbance"):
        mean, log = getattr(q, name), getattr(q, f"{name}_log")
        nats = float(kl_to_standard(mean, log).mean())
        lines[name] = {"in use": float((mean.var(0) > 0.01).sum()), "of": mean.shape[1], "nats": nats}
    if q.shares.shape[1]:
        used = float((q.shares.mean(0) >= 0.01).sum())
        lines["domains"] = {"in use": used, "of": q.shares.shape[1], "nats": float("nan")}
        lines["domains of one row"] = lines["domains"] | {"in use": float((q.shares > 0).sum(1).float().mean())}
    return pd.DataFrame(lines).T.rename_axis("latent")


def latents(method: GTL, rows: Tables, *, classes: int = 9, most: int = 80) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """Rows of the first classes, at most so many of a class and modality, to be drawn: columns class and modality, and
    means {latent: (n, ...)}."""
    rows = rows.of_classes(rows.classes[:classes])
    kept = {
        m: torch.cat([(t.y == c).nonzero()[:most, 0] for c in range(len(rows.classes))]) for m, t in rows.rows.items()
    }
    rows = replace(rows, rows={m: t[kept[m]] for m, t in rows.rows.items() if len(t)})
    named = [(rows.classes[y], m) for m, t in rows.rows.items() for y in t.y.tolist()]
    q = method.posterior(rows).values()
    found = {name: torch.cat([getattr(part, name) for part in q]) for name in ("concept", "disturbance")}
    return pd.DataFrame(named, columns=["class", "modality"]), found


def redrawn(method: GTL, rows: Tables, classes: int = 3) -> list[tuple[str, Tensor]]:
    """Captions and pictures (3, p, p), from pictures of two modalities: the first of each class as it is, then given
    back from its own latents, then from its concept with the disturbance of its fellow in the other modality."""
    number = min(classes, len(rows.classes))
    first = {m: t[torch.stack([(t.y == c).nonzero()[0, 0] for c in range(number)])] for m, t in rows.rows.items()}
    q = method.posterior(replace(rows, rows=first))
    other = dict(zip(first, reversed(list(q.values())), strict=True))
    lines: list[tuple[str, Tensor]] = [(f"{rows.classes[y]} ({m})", x) for m, t in first.items()
                                       for x, y in zip(t.x, t.y.tolist(), strict=True)]  # fmt: skip
    for text, disturbance in (("given back", q), ("disturbance swapped", other)):
        for m, t in first.items():
            made = method.generated(q[m].concept, disturbance[m].disturbance)
            lines += [(text, x) for x in made.view_as(t.x)]
    return lines


def retrieval(embeddings: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> pd.DataFrame:
    """Between each two modalities, by class and in cosine: rank-1 (share) and mAP, the mean over queries of the mean
    precision at the places of its class. A query whose class is not there is left out. Columns what, of, value."""
    unit = {m: F.normalize(z, dim=1) for m, z in embeddings.items() if len(z)}
    lines = []
    for a, b in ((a, b) for a in unit for b in unit if a != b):
        first, mean = [], []
        for z, y in zip(unit[a].split(256), labels[a].split(256), strict=True):
            order = (z @ unit[b].T).argsort(dim=1, descending=True, stable=True)
            right = y[:, None] == labels[b][order]  # (q, m)
            hits = right[right.any(1)].double()
            precision = hits.cumsum(1) / torch.arange(1, hits.shape[1] + 1, device=hits.device)
            first.append(hits[:, 0])
            mean.append((precision * hits).sum(1) / hits.sum(1))
        for what, values in (("rank-1", first), ("mAP", mean)):
            if len(found := torch.cat(values)):
                lines.append((what, f"{a} -> {b}", float(found.mean())))
    return pd.DataFrame(lines, columns=["what", "of", "value"])


def _with(row: Any, **changed: Any) -> Any:
    """A copy with these fields, which keeps what the base stage learnt (`dataclasses.replace` would drop it)."""
    other = copy.copy(row)
    other.__dict__.update(changed)
    return other
