"""One protocol for all methods: four tasks on the features of one frozen encoder, and every entry of METHODS on each.

    frame = played(TASKS["names"](seed=1, shots=(1, 4)))     # a line a (method, shots, metric), or why it takes no part
    board(frame)                                            # accuracy, what it is behind the best, and what it costs
    absent(frame)                                           # who takes no part in which task, and why not

A new method needs its entry in METHODS and nothing else. No task has validation rows: every method is fitted with the
same settings (RECIPES) in every task, and nothing is chosen by any label that is asked.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn

from xmodal_lib import alignment_rows, visual_rows
from xmodal_lib.alignment_tasks import few_shot, pairs_of, rows_of
from xmodal_lib.claims import holm
from xmodal_lib.encoders.bridge import default_bridge
from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.encoders.small import mlp
from xmodal_lib.episodes import Episode, draw
from xmodal_lib.evaluate import evaluate, interval
from xmodal_lib.features import extract
from xmodal_lib.methods import GTL, METHODS, FromScratch, LinearProbe, Method, PartialFinetuning, Prompting, WiseFT
from xmodal_lib.methods.croma_baselines import Reading, SharedEncoder
from xmodal_lib.methods.meta_transfer import MetaTransfer
from xmodal_lib.methods.multimodal import Multimodal
from xmodal_lib.multimodal_tasks import spoken_drawings
from xmodal_lib.sources import emoji
from xmodal_lib.tables import Tables
from xmodal_lib.tasks import categories
from xmodal_lib.visual_tasks import drawings

WIDTH = 128  # of the features of small nets, where a method trains some
PAIRED, NEW = 20, 50  # classes of "pairs" and of "new modality"
BASE = 100  # concepts to learn from before "new modality"
NOISE = 0.0  # dB of the spoken names of "pairs", as in notebook 11: without it nearly every item is answered rightly
DRAWS = 3  # fewer tell nothing apart
SURE = 0.05  # a method is told apart from the best where its p value, after Holm's correction, is below
MOST = {"names": 16, "pairs": 12, "new modality": 5, "visual": 5}  # shots that every class has
Fields = dict[str, Any]
# by base class, the last that fits holds; what is not named here is the method's own default
RECIPES: dict[str, dict[type[Method], Fields]] = {
    "fast": {
        LinearProbe: {"iterations": 1000},
        PartialFinetuning: {"iterations": 150, "lr": 1e-4},
        Prompting: {"words": "a drawing of a", "epochs": 6},
        Multimodal: {"epochs": 40, "batch": 32, "lr": 0.02},
        MetaTransfer: {k: v for k, v in alignment_rows.OURS.items() if k != "way"}  # which the task gives
        | alignment_rows.FEW[1]
        | {"shot": 2, "iterations": 40},
        GTL: visual_rows.RECIPES["ours"],
    },
    "defaults": {},
}


@dataclass(frozen=True, eq=False)
class Task:
    """One draw of a task: episodes without validation rows, and what there is to learn from before them."""

    name: str
    seed: int
    episodes: Sequence[tuple[Mapping[str, Any], Episode]]  # each with its number of shots
    base: Tables | None = None  # labelled rows of other classes, for a first stage
    given: Mapping[str, Any] = field(default_factory=dict)  # fields that a method is given, if it has one of the name
    transfer: tuple[str, str] | None = None  # source and target modality, where the base has pairs of them
    tower: Encoder | None = None  # of texts, where class names belong to the task

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those to learn from."""
        return self.episodes[0][1].support.modalities


# -- tasks --------------------------------------------------------------------------------------------------------


def names(seed: int, shots: Sequence[int] = (1, 4)) -> Task:
    """Of which category is a drawing of a new concept? Few drawings a class, and the class names as text rows.

    The episodes of notebook 10, without their validation rows.
    """
    source, bridge = emoji.load("category", modalities=("image", "text")), default_bridge(seed, seed)
    tables = extract(source, {m: bridge[m] for m in source.tables.modalities})
    task = categories(source, emoji.base_novel(source, seed), tables, seed=seed)
    episodes = [({"shot": k}, replace(task.episode(k), val=None)) for k in _possible("names", shots)]
    return Task("names", seed, episodes, tower=bridge["text"])


def pairs(seed: int, shots: Sequence[int] = (1, 4)) -> Task:
    """Which of 20 new concepts? An item is a drawing and its name spoken in noise, in the support and in the query.

    The items of notebook 20 as features of the bridge. Those that it keeps for validation are asked too: their voices
    and hands are as new as those of the test.
    """
    whole = spoken_drawings(seed, nets="bridge", concepts=PAIRED, snr=NOISE).episode
    query = whole.query if whole.val is None else whole.val | whole.query
    episodes = [({"shot": k}, draw(whole.support, query, shot=k, seed=seed)) for k in _possible("pairs", shots)]
    return Task("pairs", seed, episodes, given={"modalities": whole.support.modalities, "init": ""})


def new_modality(seed: int, shots: Sequence[int] = (1, 4)) -> Task:
    """Which of 50 new concepts? Few drawings of each; and of other concepts drawings that pair with names, and tags.

    The question of notebook 30 (text has labels, drawings do not) on features. The base has 100 of the concepts that
    the bridge was trained on. New concepts are learnt from in three families of hands and asked in the two others.
    """
    source, bridge = emoji.load("concept", modalities=("image", "text")), default_bridge(seed, seed)
    halves, rng = emoji.base_novel(source, seed), np.random.default_rng([seed, 90])
    image, text = source.info["image"], source.info["text"]
    kinds = {kind: text[text["kind"] == kind].reset_index(names="text") for kind in ("name", "tag")}
    known = image[image["family"].isin(halves.base) & image["concept"].isin(kinds["tag"]["concept"])]
    known = known[known["concept"].isin(rng.permutation(sorted(known["concept"].unique()))[:BASE])]
    both = known.reset_index(names="image").merge(kinds["name"][["concept", "text"]], on="concept")
    tags = kinds["tag"][kinds["tag"]["concept"].isin(known["concept"])]
    new = image[image["family"].isin(halves.novel)]
    new = new[new.groupby("concept")["style"].transform("nunique") == len(emoji.STYLES)]
    new = new[new["concept"].isin(new.drop_duplicates("family")["concept"])]
    asked = new["drawing_family"].isin(rng.permutation(sorted(new["drawing_family"].unique()))[:2])

    def ready(tables: Tables) -> Tables:
        return extract(source, {m: bridge[m] for m in tables.modalities}, tables=tables)

    base = ready(pairs_of(both, tags, ("text", "image"), "name", None, "base"))
    few = [ready(rows_of(part, "image", "name")) for part in (new[~asked], new[asked])]
    drawn = few_shot(*few, way=NEW, shots=_possible("new modality", shots), tasks=1, queries=3, seed=seed)
    episodes = [({"shot": k}, episode) for k, own in drawn.items() for episode in own]
    given = {"modalities": ("image",), "init": ""}
    return Task("new modality", seed, episodes, base, given, transfer=("text", "image"))


def visual(seed: int, shots: Sequence[int] = (1, 4)) -> Task:
    """Of which new category is a drawing? Few in colour, as many in one ink; the base has other categories, in colour.

    The episodes of notebook 40, on features of the bridge, over concepts that it has not met.
    """
    task, most = drawings(seed, encoder=default_bridge(seed, seed)["image"]), MOST["visual"]
    new = task.source.where("image", family=list(emoji.base_novel(task.source, seed).novel))
    support, query = (part.take(new) for part in task.pools["novel"])
    counts = torch.stack([t.y.bincount(minlength=len(support.classes)) for t in support.rows.values()])  # (M, C)
    kept = [support.classes[c] for c in (counts.amin(0) >= most).nonzero()[:, 0].tolist()]
    task = replace(task, pools=dict(task.pools) | {"novel": (support.of_classes(kept), query.of_classes(kept))})
    episodes = visual_rows.episodes(task, shots=_possible("visual", shots), seed=seed)
    return Task("visual", seed, episodes, task.base, {"modalities": support.modalities, "init": ""})


def _possible(task: str, shots: Sequence[int]) -> list[int]:
    """Those of these numbers that every class of the task has rows for."""
    if not (found := [shot for shot in shots if 1 <= shot <= MOST[task]]):
        raise ValueError(f"shots={list(shots)}; {task!r} has 1 to {MOST[task]}")
    return found


TASKS: dict[str, Callable[..., Task]] = {
    "names": names, "pairs": pairs, "new modality": new_modality, "visual": visual,
}  # fmt: skip


# -- every method on a task ---------------------------------------------------------------------------------------


def entrant(name: str, task: Task, recipe: str = "fast") -> Method:
    """The method of this name of METHODS, as it takes part: `METHODS[name]()` with the fields of the recipe, those that
    the task gives, and the small nets or the text tower that its base class needs.

    Raises:
        ValueError: there is no such recipe, or its base class has no use for the task; the words say why.
    """
    if recipe not in RECIPES:
        raise ValueError(f"recipe={recipe!r}; there are {', '.join(RECIPES)}")
    cls = METHODS[name]
    _check_use(cls, task)
    own = {f.name for f in fields(cls)}
    given: Fields = {}
    for base, settings in RECIPES[recipe].items():
        given |= settings if issubclass(cls, base) else {}
    given |= {key: value for key, value in task.given.items() if key in own}
    if issubclass(cls, PartialFinetuning):  # one more layer after the frozen ones: it starts as the identity
        tuned = given.get("modalities", ("image",))
        given |= {"tuned": tuned, "encoders": {m: _identity(_width(task, m)) for m in tuned}}
    if issubclass(cls, Prompting):
        given["encoders"] = {"prompt": task.tower}
    if issubclass(cls, Multimodal):
        given["encoders"] = {m: mlp(_width(task, m), WIDTH) for m in task.modalities}
    if issubclass(cls, MetaTransfer):
        held, hidden = task.base or task.episodes[0][1].support, None if issubclass(cls, SharedEncoder) else 256
        nets = {m: mlp(t.x.shape[1], WIDTH, hidden) for m, t in held.rows.items()}
        given |= {"encoders": nets | {"trunk": mlp(WIDTH, WIDTH)}, "way": len(task.episodes[0][1].query.classes)}
        given |= dict(zip(("source", "target"), task.transfer or (), strict=False))
    if issubclass(cls, Reading):
        given["method"] = entrant("CroMA", task, recipe)
    if issubclass(cls, WiseFT):
        given["probe"] = entrant("linear probe", task, recipe)
    return cls(**given)


def played(task: Task, methods: Iterable[str] = (), recipe: str = "fast") -> pd.DataFrame:
    """Every method (or these) on a draw of a task, its first stage run once.

    One line a (method, episode, metric): the columns of `evaluate` and `task`, with the metrics "accuracy", "fit
    seconds" and "base seconds" of CPU, and "numbers" (`stored`). A method that cannot do all of the task has one line,
    of metric "absent" and no value, whose column `why` says what it lacks.
    """
    parts = []
    for name in methods or METHODS:
        try:
            method, start = entrant(name, task, recipe), time.process_time()
            method = method if task.base is None else method.pretrain(task.base)
            parts.append(_lines(name, method, task, time.process_time() - start))
        except (ValueError, FloatingPointError) as error:
            why = str(error).replace(METHODS[name].__name__, "it")
            parts.append(pd.DataFrame([{"method": name, "metric": "absent", "value": np.nan, "why": why}]))
    return pd.concat(parts, ignore_index=True).fillna({"why": ""}).assign(task=task.name, seed=task.seed)


def stored(fitted: Method) -> int:
    """Numbers that a fitted method holds beside what it was given: its learnt attributes, each tensor once.

    Learnt weights, and also what a method keeps to answer or to look back at: support rows, a start.
    """
    found: dict[tuple[int, int], int] = {}

    def walk(value: Any) -> None:
        if isinstance(value, Tensor):
            found[value.data_ptr(), value.numel()] = value.numel() if value.is_floating_point() else 0
        elif isinstance(value, nn.Module):
            walk(list(value.state_dict().values()))
        elif isinstance(value, Method):
            walk([held for name, held in vars(value).items() if name.endswith("_") or isinstance(held, Method)])
        elif isinstance(value, Mapping | list | tuple):
            for part in value.values() if isinstance(value, Mapping) else value:
                walk(part)

    walk(fitted)
    return sum(found.values())


def _check_use(cls: type[Method], task: Task) -> None:
    episode = task.episodes[0][1]
    one = len(episode.query.modalities) == 1
    alone = sum(map(len, episode.query.rows.values())) == len(episode.query.items())
    if issubclass(cls, Multimodal) and alone:
        raise ValueError("it joins the modalities of an item, and here an item has one")
    if issubclass(cls, MetaTransfer | Reading) and not one:
        raise ValueError("it learns and answers in one target modality, and here several are asked")
    if issubclass(cls, MetaTransfer | Reading) and task.base is None and not issubclass(cls, FromScratch):
        raise ValueError("it meta-learns on base classes, and here are none")
    if issubclass(cls, Prompting) and task.tower is None:
        raise ValueError("it learns the words around class names, and here no names are given")


def _lines(name: str, method: Method, task: Task, base_seconds: float) -> pd.DataFrame:
    lines = []
    for columns, episode in task.episodes:
        held: list[int] = []

        def count(fitted: Method, held: list[int] = held) -> Method:
            held.append(stored(fitted))
            return fitted

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)  # scikit-learn, at one shot
            found = evaluate({name: method}, [(columns, episode)], variants={name: {"": count}}, progress=False)
        found = found[(found["method"] == name) & found["metric"].isin(["accuracy", "fit seconds"])]
        more = {"base seconds": base_seconds, "numbers": float(held[0])}
        head = found.iloc[0].drop(["metric", "value"]).to_dict()
        lines += [found, pd.DataFrame([head | {"metric": metric, "value": value} for metric, value in more.items()])]
    return pd.concat(lines, ignore_index=True).assign(why="")


def _width(task: Task, modality: str) -> int:
    return task.episodes[0][1].support[modality].x.shape[1]


def _identity(width: int) -> nn.Module:
    layer = nn.Linear(width, width)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(width))
        layer.bias.zero_()
    return layer


# -- what the scores say ------------------------------------------------------------------------------------------


def gains(frame: pd.DataFrame, reference: str = "") -> pd.DataFrame:
    """What each method is ahead of the reference, within each draw of a task, accuracies being means over its shots.

    "" takes the method with the best mean of each task. Columns task, method, reference, accuracy (its mean), then of
    the difference: mean, low, high (95 % interval), n draws, p (two-sided t-test) and holm, the p value after Holm's
    correction over the task. Sorted by accuracy within a task.

    Not tested (p NaN): fewer than DRAWS draws, or the same difference in all of them; with accuracies of a hundred
    items two draws agree by chance.

    Raises:
        ValueError: the reference takes no part in a task.
    """
    scores = frame[frame["metric"] == "accuracy"]
    parts = []
    for task, own in scores.groupby("task", sort=False):
        wide = own.pivot_table(index="seed", columns="method", values="value", sort=False)
        order = wide.mean().sort_values(ascending=False, kind="stable").index
        if reference and reference not in wide:
            raise ValueError(f"{reference!r} takes no part in {task!r}; there are {', '.join(order)}")
        against, lines = reference or order[0], []
        for method in order:
            gain = (wide[method] - wide[against]).dropna().to_numpy()
            mean, low, high = interval(gain)
            p = np.nan if method == against else _p(gain)
            lines.append({"task": task, "method": method, "reference": against, "accuracy": wide[method].mean(),
                          "mean": mean, "low": low, "high": high, "n": len(gain), "p": p})  # fmt: skip
        parts.append(pd.DataFrame(lines).assign(holm=holm(np.array([line["p"] for line in lines]))))
    return pd.concat(parts, ignore_index=True)


def board(frame: pd.DataFrame) -> pd.DataFrame:
    """`gains` to the best of each task, with the cost, and whether a method stands with the best.

    Further columns: with_best (its difference to the best is not told from 0: holm is not below SURE, or it is not
    tested), "fit seconds" (mean over shots), "base seconds", numbers (at most, over shots).
    """
    best = gains(frame)
    best["with_best"] = ~(best["holm"] < SURE)
    cost = frame.pivot_table(index=["task", "method"], columns="metric", values="value", aggfunc="mean")
    cost["numbers"] = frame[frame["metric"] == "numbers"].groupby(["task", "method"])["value"].max()
    return best.merge(cost[["fit seconds", "base seconds", "numbers"]].reset_index(), on=["task", "method"])


def leaders(table: pd.DataFrame) -> pd.DataFrame:
    """Of `board`, a line a task: its best method, which methods are not told apart from it, and which are."""
    lines = {}
    for task, own in table.groupby("task", sort=False):
        best, others = own.iloc[0], own.iloc[1:]
        names = {said: ", ".join(others.loc[others["with_best"] == with_it, "method"]) or "none"
                 for said, with_it in (("not told apart", True), ("told apart", False))}  # fmt: skip
        lines[task] = {"draws": best["n"], "best mean": f"{best['method']}, {100 * best['accuracy']:.1f} %", **names}
    return pd.DataFrame(lines).T.rename_axis("task")


def absent(frame: pd.DataFrame) -> pd.DataFrame:
    """Who takes no part in which task, and why not: a line a (task, why), with the names of the methods."""
    out = frame[frame["metric"] == "absent"].drop_duplicates(["task", "method", "why"])
    return out.groupby(["task", "why"], sort=False)["method"].agg(", ".join).rename("methods").reset_index()


def ranks(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean rank over the tasks, among the methods that take part in all of them; 1 is best, ties share their mean.

    Columns method and mean, low, high (95 % interval) and n over draws. Empty where no method takes part in all.
    """
    scores = frame[frame["metric"] == "accuracy"]
    wide = scores.pivot_table(index=["seed", "task"], columns="method", values="value").dropna(axis=1)
    places = wide.rank(axis=1, ascending=False).groupby("seed").mean()
    columns = ["method", "mean", "low", "high", "n"]
    lines = [(method, *interval(places[method].to_numpy()), len(places)) for method in places]
    return pd.DataFrame(lines, columns=columns).sort_values("mean", kind="stable", ignore_index=True)


def _p(gain: np.ndarray) -> float:
    """p of a two-sided t-test that the mean is 0; NaN where there are too few draws, or all say the same."""
    if len(gain) < DRAWS or np.ptp(gain) < 1e-9:
        return np.nan
    return float(stats.ttest_1samp(gain, 0).pvalue)
