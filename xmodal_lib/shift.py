"""Domain shift: learn in some domains, be asked in others.

    given = load("drawings", seed=1, shots=[4])                              # or "imagenet" with its four shifts
    frame = evaluate(methods, given.learnt.episodes([4]), domains=given.domains)       # one line a (method, domain)

Source: the robustness experiment of Lin et al., CVPR 2023: ImageNet is learnt from, and V2, Sketch, A and R are asked.
A domain may have fewer classes than were learnt (A and R have 200 of 1,000): it is answered among its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from xmodal_lib import adaptation_tasks
from xmodal_lib.adaptation_tasks import AdaptationTask
from xmodal_lib.features import extract
from xmodal_lib.sources import catalogue, emoji, imagenet
from xmodal_lib.sources.emoji import BaseNovel
from xmodal_lib.sources.image_sets import SETS, SHIFTS
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


@dataclass(frozen=True, eq=False)
class Shift:
    """What is learnt from, and the domains that are asked: the learnt one first."""

    learnt: AdaptationTask
    domains: dict[str, Tables]  # features
    sources: dict[str, Source]  # of the pictures of each domain
    missing: dict[str, str]  # domain -> why it is not among them
    concept: Mapping[int, str]  # item -> what it shows, of the drawings; empty: its class

    def about(self) -> pd.DataFrame:
        """So many classes, concepts and pictures has each domain."""
        lines = {}
        for name, query in self.domains.items():
            items = query.items().tolist()
            concepts = {"concepts": len({self.concept[i] for i in items})} if self.concept else {}
            lines[name] = {"classes": len(query.labels().unique()), **concepts, "pictures": len(items)}
        return pd.DataFrame(lines).T.rename_axis("domain")

    def shown(self) -> tuple[list[Any], list[str]]:
        """Pictures of one concept, or of one class, in every domain, and a caption for each."""
        kinds = {name: self._kinds(name) for name in self.domains}
        common = sorted(set.intersection(*(set(kind.values()) for kind in kinds.values())))
        wanted = common[len(common) // 3]
        pictures, captions = [], []
        for name, kind in kinds.items():
            rows = [i for i, k in kind.items() if k == wanted][: None if self.concept else 2]
            style = self.sources[name].by_item("image", "style") if self.concept else dict.fromkeys(rows, name)
            pictures += self.sources[name].opened("image", rows)
            captions += [style[i] for i in rows]
        return pictures, captions

    def _kinds(self, domain: str) -> dict[int, str]:
        """{item of the domain's source: its concept, or its class}"""
        query = self.domains[domain]
        if self.concept:
            return {i: self.concept[i] for i in query.items().tolist()}
        label, asked = self.sources[domain].by_item("image", "label"), self.sources[domain].where("image", split="test")
        return {i: label[i] for i in asked.tolist()}


def load(source: str, root: str = "", *, seed: int, shots: Sequence[int], min_families: int = 10,
         **options: Any) -> Shift:  # fmt: skip
    """The styles of the drawings, or "imagenet" in the folder `root` with its shifts beside it in their usual folders.

    A shift that is missing or disagrees is left out, with the reason in `missing`. `options` as of
    `adaptation_tasks.load`.

    Raises:
        FileNotFoundError, ValueError, Unusable: as there; or none of the four shifts is here.
    """
    if source not in ("drawings", "imagenet"):
        raise ValueError(f"source={source!r}; there are drawings and imagenet")
    learnt = adaptation_tasks.load(source, root, seed=seed, shots=shots, min_families=min_families, **options)
    if source == "drawings":
        halves = emoji.base_novel(learnt.source, seed)

        def on(tables: Tables) -> CategoryTask:
            return drawing_styles(learnt.source, halves, tables, seed=seed, min_families=min_families)[0]

        _, domains = drawing_styles(learnt.source, halves, learnt.tables, seed=seed, min_families=min_families)
        own = replace(learnt, on=on)
        return Shift(own, domains, dict.fromkeys(domains, own.source), {}, own.source.by_item("image", "concept"))
    sources, missing = {"imagenet": learnt.source}, {}
    domains = {"imagenet": learnt.task.episode(shots[0]).query}
    for name in SHIFTS:
        try:
            shifted = catalogue.load(name, Path(root).parent / SETS[name].folder if root else "")
            imagenet.label_map(learnt.source, shifted)  # before the slow part
        except (FileNotFoundError, ValueError) as error:
            missing[name] = str(error)
            continue
        seen = extract(shifted, {"image": learnt.towers["image"]})
        domains[name], sources[name] = imagenet.query(learnt.source, shifted, seen), shifted
    if len(missing) == len(SHIFTS):
        raise FileNotFoundError(f"none of {', '.join(SHIFTS)} is here: {missing[SHIFTS[0]]}")
    return Shift(learnt, domains, sources, missing, {})
