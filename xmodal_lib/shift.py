"""Domain shift: learn in some domains, be asked in others.

task, domains = drawing_styles(source, halves, tables, seed=1)       # two hands learnt from, four domains asked
frame = across(methods, [({"shot": 4}, task.episode(4))], domains)   # one line a (method, draw, domain)

Source: the robustness experiment of Lin et al., CVPR 2023: ImageNet is learnt from, and V2, Sketch, A and R are asked.
A domain may have fewer classes than were learnt (A and R have 200 of 1,000): it is answered among its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping

import pandas as pd
import torch
from torch import Tensor

from xmodal_lib.episodes import Episode
from xmodal_lib.methods.method import Method
from xmodal_lib.sources.emoji import BaseNovel
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Tables
from xmodal_lib.tasks import CategoryTask, categories

LEARNT = ("twemoji", "noto", "noto-v1")  # the sets without a version in one ink: no outline returns in another domain
OTHERS = {
    "other colour": ("openmoji", "fluent", "emojione"),
    "one ink": ("fluent-one-ink", "emojione-one-ink"),
    "line": ("openmoji-line",),
}


def drawing_styles(
    source: Source, halves: BaseNovel, tables: Tables, *, seed: int, min_families: int = 10
) -> tuple[CategoryTask, dict[str, Tables]]:
    """The category task on drawings in the styles LEARNT, and the query of each domain: "learnt styles" and OTHERS.

    Every domain asks the same concepts, those of the query pool that each of them draws; so a difference between
    domains is one of style.

    Raises:
        ValueError: as `tasks.categories`.
    """
    own = tables.only("image").take(source.where("image", style=list(LEARNT)))
    task = categories(source, halves, own | tables.only("text"), seed=seed, min_families=min_families)
    concept = source.by_item("image", "concept")
    asked = {concept[i] for i in task.pools["query"].items().tolist()}
    styles = {"learnt styles": LEARNT, **OTHERS}
    drawn = {domain: {concept[i] for i in source.where("image", style=list(own)).tolist()} & asked
             for domain, own in styles.items()}  # fmt: skip
    common = list(set.intersection(*drawn.values()))
    images = tables.only("image").of_classes(task.classes)
    rows = {name: source.where("image", style=list(own), concept=common) for name, own in styles.items()}
    return task, {name: images.take(items) for name, items in rows.items()}


def across(
    methods: Mapping[str, Method],
    episodes: Iterable[tuple[Mapping[str, object], Episode]],
    domains: Mapping[str, Tables],
    *,
    variants: Mapping[str, Mapping[str, Callable[[Method], Method]]] | None = None,
) -> pd.DataFrame:
    """Fit each method on each episode once and ask it in every domain.

    Returns the columns of `evaluate` and `domain`; metrics "accuracy" and "macro accuracy". `variants` as there.

    Raises:
        ValueError: a domain has a class that was not learnt.
    """
    lines = []
    for columns, episode in episodes:
        known = {name: _columns(name, query, episode.support.classes) for name, query in domains.items()}
        for name, method in methods.items():
            own = copy.copy(method)
            own.seed = episode.seed
            fitted = own.fit(episode.support, episode.val)
            derived = {shown: derive(fitted) for shown, derive in (variants or {}).get(name, {}).items()}
            for shown, answering in {name: fitted, **derived}.items():
                head = {"method": shown, "seed": episode.seed, **columns}
                for domain, query in domains.items():
                    scores = _scores(answering, query, known[domain], episode.support.classes)
                    lines += [{**head, "domain": domain, "metric": k, "value": v} for k, v in scores.items()]
    return pd.DataFrame(lines)


def _columns(name: str, query: Tables, learnt: tuple[str, ...]) -> Tensor:
    """Where the classes of a domain stand among those learnt."""
    if missing := set(query.classes) - set(learnt):
        raise ValueError(f"domain {name!r} has {len(missing)} classes that were not learnt, such as {min(missing)!r}")
    return torch.tensor([learnt.index(c) for c in query.classes])


def _scores(fitted: Method, query: Tables, columns: Tensor, classes: tuple[str, ...]) -> dict[str, float]:
    asked = Tables(query.withheld().rows, classes)
    yhat = fitted.proba(asked).cpu()[:, columns].argmax(1)
    right = (yhat == query.labels().cpu()).double()  # every answer is in: only now are the labels read
    each = [right[query.labels().cpu() == c].mean() for c in query.labels().cpu().unique()]
    return {"accuracy": right.mean().item(), "macro accuracy": torch.stack(each).mean().item()}
