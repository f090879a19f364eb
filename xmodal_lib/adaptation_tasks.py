"""Cross-modal adaptation on the drawings, a published image set or your own data: few-shot draws, features by towers.

    given = load("caltech101", root, seed=1, shots=[1, 2], encoder="RN50:openai", views=1)
    frame = evaluate(arms, given.episodes([1, 2]))            # the column `source` names the data set
    against_paper(frame)                                      # Lin et al., CVPR 2023, and ours, method by method

Frames of several data sets and draws are put together by `pd.concat`; a data set that none of them has is shown as
missing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from xmodal_lib import features as cache
from xmodal_lib.encoders.bridge import default_bridge
from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.episodes import Episode
from xmodal_lib.evaluate import interval, per_cent
from xmodal_lib.own_tasks import own_task, with_words
from xmodal_lib.published import published
from xmodal_lib.sources import catalogue, emoji, few_shot
from xmodal_lib.sources.augmented import with_views
from xmodal_lib.sources.image_sets import TARGETS
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Tables
from xmodal_lib.tasks import CategoryTask, categories

MODALITIES = ("image", "text")
ROWS = {  # of the paper's table: our name of each
    "Zero-shot CLIP": "zero-shot",
    "Linear probing": "image, random start",
    "WiSE-FT": "WiSE-FT of image, text start",
    "CoOp": "CoOp",
    "ProGrad": "ProGrad",
    "Tip-Adapter (authors' re-run)": "Tip-Adapter-F",
    "Cross-modal linear": "image + text, text start",
    "Cross-modal partial": "partial finetuning",
    "Cross-modal WiSE-FT": "WiSE-FT of image + text, text start",
    "Cross-modal prompting": "cross-modal prompting",
    "Cross-modal adapter": "adapter",
}
MISSING, NOT_RUN = "missing", "not run"


@dataclass(frozen=True, eq=False)
class ImageSetTask(CategoryTask):
    """A published image set with its published draws. Each picture is a concept of its own; the pools are its lists."""

    source: Source
    drawn: Mapping[int, few_shot.Drawn]  # shots -> positions in the lists
    tables: Tables  # features of the rows that the draws need

    def episode(self, shot: int) -> Episode:
        return few_shot.episode(self.source, self.drawn[shot], seed=self.seed, tables=self.tables)


@dataclass(frozen=True, eq=False)
class AdaptationTask:
    """Episodes of one data set and one draw, on features of a pair of towers or on maps below the last block."""

    name: str  # of the data set
    source: Source
    towers: dict[str, Encoder]
    rows: Tables  # image rows that the draws need, as row numbers of the source
    on: Callable[[Tables], CategoryTask]  # the same draws on other features of these rows
    tables: Tables  # features by `towers`
    cut: tuple[Encoder, nn.Module] | None  # trunk and tail of the image tower, of a deep task
    views: int = 0
    family: Mapping[int, Hashable] = field(default_factory=dict)  # item -> what never parts; empty: each by itself
    captions: Mapping[int, str] = field(default_factory=dict)  # item -> its name
    names: Mapping[str, str] = field(default_factory=dict)  # class -> how it is called in a prompt
    report: str = ""  # what is here, and what is left out

    @cached_property
    def task(self) -> CategoryTask:
        return self.on(self.tables)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.task.classes

    def pools(self) -> pd.DataFrame:
        """How many pictures there are to learn from, to choose on and to be asked, and of how many families."""
        count = {}
        for name, pool in self.task.pools.items():
            items = pool.items().tolist()
            families = {"families": len({self.family[i] for i in items})} if self.family else {}
            count[name] = {"classes": len(pool.labels().unique()), **families, "pictures": len(items)}
        return pd.DataFrame(count)

    def episodes(self, shots: Sequence[int]) -> list[tuple[dict[str, Any], Episode]]:
        """An episode for each number of shots, with `views` more rows of each drawn picture."""
        return [self._episode(self.task, k, self.towers["image"]) for k in shots]

    def deep(self) -> tuple[Encoder, nn.Module, CategoryTask]:
        """The image tower's trunk, its tail (to be trained), and the task on the maps between them.

        Raises:
            ValueError: the task was loaded without `deep`.
        """
        if self.cut is None:
            raise ValueError("the image tower was not cut in two; load the task with deep=True")
        maps = cache.extract(self.source, {"image": self.cut[0]}, tables=self.rows)
        return *self.cut, self.on(maps | self.tables.only("text"))

    def deep_episodes(self, shots: Sequence[int]) -> tuple[nn.Module, list[tuple[dict[str, Any], Episode]]]:
        """The tail of the image tower, to be trained, and the same episodes on the maps below it.

        Raises:
            ValueError: the task was loaded without `deep`.
        """
        trunk, tail, task = self.deep()
        episodes: list[tuple[dict[str, Any], Episode]] = []
        for shot in shots:
            columns, drawn = self._episode(task, shot, trunk)
            query = episodes[0][1].query if episodes else drawn.query  # maps are large, and all shots ask the same rows
            episodes.append((columns, replace(drawn, query=query)))
        return tail, episodes

    def _episode(self, task: CategoryTask, shot: int, encoder: Encoder) -> tuple[dict[str, Any], Episode]:
        drawn = task.episode(shot)
        if self.views:
            kind = "flip" if self.views == 1 else "crop"
            more = with_views(drawn.support, self.source, encoder, self.views, kind, seed=drawn.seed)
            drawn = Episode(more, drawn.val, drawn.query, drawn.seed)
        return {"source": self.name, "shot": shot}, drawn


def load(
    source: str, root: str = "", *, seed: int, shots: Sequence[int], encoder: str = "bridge", views: int = 0,
    deep: bool = False, features: str = "", min_families: int = 10, prompts: str | Sequence[str] = "hand_crafted",
    fewer: bool = False,
) -> AdaptationTask:  # fmt: skip
    """The drawings, one of `image_sets.TARGETS` in the folder `root`, or "any": the first of these that is here; or the
    path of your own data (see `catalogue.load`).

    `encoder` is "bridge" or MODEL:WEIGHTS of open_clip, a tag or a checkpoint file. `views` more rows of each drawn
    picture: 1 is its mirror image, more are random crops. With `deep` features are computed from the maps below the
    last block, which `deep_episodes` need too: one pass through the tower. `features` (a file) and `min_families` are
    for the drawings, `prompts` and `fewer` (see `few_shot.draw`) for image sets.

    Raises:
        FileNotFoundError: the data set is not here; says where to put it.
        ValueError: there is no such data set or encoder, or a class has too few pictures for the shots.
        Unusable: the weights of the encoder are not here.
    """
    if source == "drawings":
        towers = _towers(encoder, seed, deep)
        return _drawings(towers, seed=seed, views=views, features=features, min_families=min_families)
    if source not in ("any", *TARGETS):
        if not Path(source).exists():
            known = ", ".join(TARGETS)
            raise ValueError(f"source={source!r}; there are drawings, any, {known}, or the path of your own data")
        if not source.endswith(".json"):
            return _own(with_words(catalogue.load(source)), shots, _towers(encoder, seed, deep), seed=seed, views=views)
        name, opened = Path(source).stem, catalogue.load(source)
    elif source == "any":
        name, opened = _here(root, prompts)
    else:
        name, opened = source, catalogue.load(source, root, prompts=prompts)
    drawn = {k: few_shot.draw(opened, shot=k, seed=seed, fewer=fewer) for k in shots}  # before the slow part
    return _image_set(name, opened, drawn, _towers(encoder, seed, deep), seed=seed, views=views)


Towers = tuple[dict[str, Encoder], tuple[Encoder, nn.Module] | None]


def _towers(encoder: str, seed: int, deep: bool) -> Towers:
    """The image and text tower, and of a deep task the image tower cut in two: a transformer before its last block,
    RN50 before its attention pool, the bridge before its last convolution."""
    if encoder == "bridge":
        both = default_bridge(seed, seed)
    else:
        from xmodal_lib.encoders.towers import named_towers  # open_clip, which takes seconds to import

        both = named_towers(encoder)
    towers = {m: both[m] for m in MODALITIES}
    if not deep:
        return towers, None
    from xmodal_lib.encoders.towers import split

    trunk, tail = split(towers["image"], last_blocks=0 if encoder == "bridge" else 1)
    if towers["image"].trunk is None:
        towers["image"] = Encoder(f"{towers['image'].name}-tail", tail, trunk=trunk)
        tail = split(both["image"], last_blocks=1)[1]  # the encoder keeps the other for itself, frozen
    return towers, (trunk, tail)


def _drawings(made: Towers, *, seed: int, views: int, features: str, min_families: int) -> AdaptationTask:
    towers, cut = made
    source = emoji.load("category", modalities=MODALITIES)
    halves = emoji.base_novel(source, seed)
    tables = cache.load(features) if features else cache.extract(source, towers)

    def on(given: Tables) -> CategoryTask:
        return categories(source, halves, given, seed=seed, min_families=min_families)

    first = on(tables)
    few = ", ".join(f"{emoji.readable(name)} {n}" for name, n in first.left_out.items())
    name, category = source.by_item("image", "name"), source.by_item("image", "category")
    return AdaptationTask(
        "drawings", source, towers, source.tables.only("image").take(first.items()), on, tables, cut, views,
        source.by_item("image", "family"), {i: f"{word} ({category[i]})" for i, word in name.items()},
        {c: emoji.readable(c) for c in first.classes}, f"left out, with their novel families: {few or 'none'}",
    )  # fmt: skip


def _image_set(
    name: str, source: Source, drawn: Mapping[int, few_shot.Drawn], made: Towers, *, seed: int, views: int
) -> AdaptationTask:
    towers, cut = made
    rows = few_shot.wanted(source, drawn.values())
    images = source.tables.only("image")
    parts = {"support": "train", "validation": "val", "query": "test"}
    pools = {pool: images.take(source.where("image", split=part)) for pool, part in parts.items()}
    tables = cache.extract(source, towers, tables=rows)
    itself = {i: str(i) for i in images.items().tolist()}

    def on(given: Tables) -> CategoryTask:
        return ImageSetTask(pools, given.only("text"), itself, {}, seed, source, drawn, given)

    named = dict(zip(source.tables.classes, source.tables.classes, strict=True))
    named |= dict(zip(source.column("image", "label"), source.column("image", "name"), strict=True))
    names = {c: word.replace("_", " ") for c, word in named.items()}
    captions = {i: names[c] for i, c in source.by_item("image", "label").items()}
    return AdaptationTask(name, source, towers, rows.only("image"), on, tables, cut, views, captions=captions,
                          names=names, report=source.report)  # fmt: skip


def _own(source: Source, shots: Sequence[int], made: Towers, *, seed: int, views: int) -> AdaptationTask:
    towers, cut = made

    def on(given: Tables) -> CategoryTask:
        return own_task(source, given, seed=seed)

    first = on(source.tables)
    for shot in shots:  # before the slow part
        first.episode(shot)
    tables = cache.extract(source, towers, tables=source.tables)
    names = {c: c.replace("_", " ") for c in source.tables.classes}
    captions = {i: names[c] for i, c in source.by_item("image", "label").items()}
    return AdaptationTask(source.name, source, towers, source.tables.only("image"), on, tables, cut, views,
                          captions=captions, names=names, report=source.report)  # fmt: skip


def _here(root: str, prompts: str | Sequence[str]) -> tuple[str, Source]:
    """The first of the targets that can be read."""
    if root:
        raise ValueError(f"root={root!r} is the folder of one data set, and source='any' looks in $XMODAL_DATA")
    for name in TARGETS:
        try:
            return name, catalogue.load(name, prompts=prompts)
        except (FileNotFoundError, ValueError):
            continue
    raise FileNotFoundError(f"none of {', '.join(TARGETS)} is here; `xmodal data get NAME` says where to put one")


def against_paper(frame: pd.DataFrame) -> pd.DataFrame:
    """The paper's table: a line for each of its methods, (method, "paper"), and below it ours, (method, "here").

    Accuracy in per cent with few-shot validation: the mean over the draws of a data set, then over the data sets that
    have the method at that number of shots. Without one of TARGETS in the frame there is the paper's alone.
    """
    paper = published("cross-modal adaptation")
    ours = _cells(frame[frame["source"].isin(TARGETS)])
    shots = sorted({*paper["shots"], *ours["shot"]} - {0})
    lines: dict[tuple[str, str], dict[int, str]] = {}
    for row in paper["method"].unique():
        known = paper[paper["method"] == row].set_index("shots")["accuracy"]
        lines[row, "paper"] = {
            k: f"{known[k]:.1f}" if k in known else f"{known.get(0, float('nan')):.1f}" for k in shots
        }
        if len(ours):
            own = ours[ours["method"] == ROWS.get(row)].groupby("shot")["mean"].mean()
            lines[row, "here"] = {k: f"{100 * own[k]:.1f}" if k in own else NOT_RUN for k in shots}
    index = pd.MultiIndex.from_tuples(lines, names=["method", "from"])
    return pd.DataFrame(list(lines.values()), index=index).rename_axis(columns="shots")


def by_data_set(frame: pd.DataFrame, shot: int) -> pd.DataFrame:
    """Ours at one number of shots: a line a data set, then their mean, a column for each method of the paper.

    Per cent with few-shot validation, mean ± half of the 95 % interval over draws. With one of TARGETS in the frame
    each of them has a line, and one without any score is "missing"; beside ours what Tip-Adapter's release logs for
    zero-shot CLIP RN50, which tells whether the features are right.
    """
    ours = _cells(frame)
    ours = ours[ours["shot"] == shot]
    there = list(ours["source"].unique())
    lines = {}
    for name in TARGETS if set(there) & set(TARGETS) else there:
        own = {cell.method: cell for cell in ours[ours["source"] == name].itertuples()}
        empty = NOT_RUN if name in there else MISSING
        lines[name] = {row: _said(own[m]) if m in own else empty for row, m in ROWS.items()}
    if len(lines) > 1:
        mean = ours.groupby("method")["mean"].mean()
        lines[f"mean of {len(there)}"] = {r: f"{100 * mean[m]:.1f}" if m in mean else NOT_RUN for r, m in ROWS.items()}
    table, logged = (
        pd.DataFrame(lines).T.rename_axis("data set"),
        published("Tip-Adapter").set_index("table")["accuracy"],
    )
    if logged.index.isin(table.index).any():
        table.insert(0, "Zero-shot CLIP, logged", [f"{logged[n]:.1f}" if n in logged else "" for n in table.index])
    return table


def here_and_missing(frame: pd.DataFrame) -> str:
    """Which data sets the means are of, and which are missing, in a sentence."""
    there = [name for name in TARGETS if name in set(frame["source"])]
    gone = [name for name in TARGETS if name not in there]
    if not there:
        return f"Ours: no scores of the {len(TARGETS)} data sets are here."
    rest = f" Not among these scores: {', '.join(gone)}." if gone else ""
    return textwrap.fill(f"Ours: mean of {len(there)} of {len(TARGETS)} data sets.{rest}", 100)


def confused(answers: pd.DataFrame, names: Sequence[str], most: int = 30) -> tuple[list[int], list[int], list[str]]:
    """y, yhat and class names, from the frame of `predictions`, of the `most` classes with most wrong answers."""
    wrong = answers.loc[answers["y"] != answers["yhat"], "y"].value_counts()
    kept = range(len(names)) if len(names) <= most else sorted(wrong.index[:most])
    place = {c: n for n, c in enumerate(kept)}
    own = answers[answers["y"].isin(kept) & answers["yhat"].isin(kept)]
    return own["y"].map(place).tolist(), own["yhat"].map(place).tolist(), [names[c] for c in kept]


def _cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval over draws of the accuracy of each (source, method, shot), with few-shot validation."""
    own = frame[(frame["metric"] == "accuracy") & (frame["track"] == "few-shot val")]
    lines = []
    for key, group in own.groupby(["source", "method", "shot"], sort=False):
        mean, low, high = interval(group["value"].to_numpy())
        lines.append((*key, mean, low, high, len(group)))
    return pd.DataFrame(lines, columns=["source", "method", "shot", "mean", "low", "high", "n"])


def _said(cell: Any) -> str:
    return per_cent(cell.mean, cell.low, cell.high)
