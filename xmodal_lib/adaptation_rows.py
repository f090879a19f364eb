"""The classifiers of cross-modal adaptation, each four times: started from text or not, with text rows or without.

arms = heads(iterations=3000) | prompted(bridge["text"], names, epochs=10)    # {"CLAP: text start, image": ...}
frame = scored(arms, episodes)                      # both tracks; WiSE-FT beside each linear probe
squares(frame, shot=1), effects(frame)              # the 2x2 of each classifier, and its paired differences
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from xmodal_lib import features
from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.episodes import Episode
from xmodal_lib.evaluate import WITH_VAL, WITHOUT_VAL, both_tracks, evaluate, paired, per_cent, summary
from xmodal_lib.methods import (
    CLAP,
    ZSLP,
    AdapterProbe,
    LinearProbe,
    LogisticPath,
    LPPlusPlus,
    Method,
    NearestMean,
    PartialFinetuning,
    ProGrad,
    Prompting,
    TipAdapter,
    TipAdapterF,
)
from xmodal_lib.methods.cache import CACHE_GRID
from xmodal_lib.methods.convex import regression
from xmodal_lib.published import published
from xmodal_lib.sources.augmented import with_views
from xmodal_lib.sources.emoji_words import PROMPTS, class_prompts, readable
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables
from xmodal_lib.training import generator

STARTS = ("random", "text")
ROWS = {"image": ("image",), "image + text": ("image", "text")}
FREE = ", validation-free"
# the search of Tip-Adapter, wider than for CLIP, whose zero-shot logits are smaller than the bridge's
WIDE = CACHE_GRID | {"alpha": tuple(0.1 * 1.45**i for i in range(20))}  # 0.1 to 116
# ours: one cell each of the published grids; rates at which a random head can learn in a few hundred steps
CELLS: dict[str, dict[str, Sequence[Any]]] = {
    "linear probe": {"lr": (1e-3,), "weight_decay": (0.01,), "batch": (8,)},
    "adapter": {"lr": (1e-4,), "weight_decay": (0.0,), "batch": (8,)},
    "partial finetuning": {"lr": (1e-3, 1e-4, 1e-5), "weight_decay": (0.0,), "batch": (8,)},
}
Described = tuple[dict[str, Any], Episode]


def name_of(classifier: str, start: str, rows: str) -> str:
    return f"{classifier}: {start} start, {rows}"


def heads(iterations: int) -> dict[str, Method]:
    """Every classifier on fixed features. Those without a start (means, logistic regression) stand under "random".

    The linear probe and the adapter train the one cell of CELLS, and not their grids of twelve.
    """
    arms: dict[str, Method] = {}
    for start, rows in squared():
        init, used = "text" if start == "text" else "", ROWS[rows]
        arms |= {
            name_of("linear probe", start, rows): LinearProbe(
                grid=CELLS["linear probe"], init=init, modalities=used, iterations=iterations
            ),
            name_of("adapter", start, rows): AdapterProbe(
                grid=CELLS["adapter"], init=init, modalities=used, iterations=iterations
            ),
            name_of("Tip-Adapter", start, rows): TipAdapter(init=init, modalities=used, grid=WIDE),
            name_of("Tip-Adapter-F", start, rows): TipAdapterF(init=init, modalities=used, grid=WIDE),
            name_of("ZS-LP", start, rows): ZSLP(init=init, modalities=used),
            name_of("CLAP", start, rows): CLAP(init=init, modalities=used),
        }
        if start == "text":
            arms[name_of("LP++", start, rows)] = LPPlusPlus(modalities=used)
        else:
            arms[name_of("logistic regression", start, rows)] = LogisticPath(modalities=used)
            arms[name_of("class means", start, rows)] = NearestMean(modalities=used)
    return arms


def prompted(tower: Encoder, names: Mapping[str, str], epochs: int, starts: Sequence[str] = STARTS,
             rows: Sequence[str] = tuple(ROWS)) -> dict[str, Method]:  # fmt: skip
    """CoOp and ProGrad with a context of four tokens: the words "a drawing of a" (text start), or random numbers."""
    arms: dict[str, Method] = {}
    for start, own in squared():
        fields: dict[str, Any] = {"words": "a drawing of a"} if start == "text" else {"tokens": 4}
        fields |= {"encoders": {"prompt": tower}, "names": dict(names), "modalities": ROWS[own], "epochs": epochs}
        if start in starts and own in rows:
            arms |= {name_of(name, start, own): kind(**fields) for name, kind in PROMPTED.items()}
    return arms


PROMPTED: dict[str, type[Prompting]] = {"prompting": Prompting, "ProGrad": ProGrad}


def partial(tail: nn.Module, iterations: int, name: str = "partial finetuning") -> dict[str, Method]:
    """Partial finetuning of the image encoder's `tail`. Without validation the rate is 1e-4."""
    return {
        name_of(name, start, rows): PartialFinetuning(
            {"image": tail}, init="text" if start == "text" else "", modalities=ROWS[rows], iterations=iterations,
            lr=1e-4, grid=CELLS["partial finetuning"], every=max(1, iterations // 10),
        )
        for start, rows in squared()
    }  # fmt: skip


def squared() -> Iterator[tuple[str, str]]:
    """The four corners (start, rows)."""
    return ((start, rows) for start in STARTS for rows in ROWS)


def switches(start: str, iterations: int) -> dict[str, Method]:
    """The cross-modal linear probe with one switch changed at a time."""
    base = LinearProbe(grid=CELLS["linear probe"], init="text" if start == "text" else "", iterations=iterations)
    arms: dict[str, Method] = {"base": base}
    arms |= {f"scale: {scale:g}": replace(base, scale=scale) for scale in (20.0, 54.6)}
    arms["scale: learnt"] = replace(base, learn_scale=True)
    arms |= {f"text weight: {weight:g}": replace(base, shares=(1 - weight, weight)) for weight in (0.125, 0.25, 0.75)}
    return arms


def with_prompts(support: Tables, tower: Encoder, kind: str) -> Tables:
    """The support with other text rows: the prompts of this kind (`emoji.PROMPTS`) of each class."""
    lines = [(c, text) for c, name in enumerate(support.classes) for text in class_prompts(name, kind)]
    y = torch.tensor([c for c, _ in lines])
    first = 1 + max(int(table.pair.max()) for table in support.rows.values())
    text = Table(tower.encode([text for _, text in lines]), y, torch.arange(first, first + len(y)))
    return replace(support, rows={**support.rows, "text": text})


def changed(episode: Episode, source: Source, bridge: Mapping[str, Encoder]) -> dict[str, Episode]:
    """The episode with other prompts, or with more views of each drawing of the support, all of them kept."""
    given, text = episode.support, bridge["text"]
    supports = {f"prompts: {kind}": with_prompts(given, text, kind) for kind in PROMPTS if kind != "crafted"}
    views: dict[str, dict[str, Any]] = {"views: flip": {}, "views: ten crops": {"views": 10, "kind": "resized crop"}}
    for name, fields in views.items():
        supports[name] = with_views(given, source, bridge["image"], progress=False, **fields)
    return {name: replace(episode, support=support) for name, support in supports.items()}


def deeper(source: Source, tower: Encoder, layer: str, items: Tensor) -> tuple[Tables, nn.Module]:
    """What a frozen trunk gives for the images of these items, and the tail to be trained on it.

    layer: "none", the head alone; "projection", the linear layer into the common space as well; or the number of blocks
    as in `towers.split` ("0": and what comes after the blocks; "-1": the whole tower).

    Raises:
        ValueError: the tower has no projection of its own, or cannot be split there.
    """
    from xmodal_lib.encoders.towers import split

    trunk: Encoder = tower
    tail: nn.Module = nn.Identity()
    if layer == "projection":
        if tower.trunk is None:
            raise ValueError(f"{tower.name} is one module: give a number of blocks in place of 'projection'")
        trunk, tail = tower.trunk, copy.deepcopy(tower.module).requires_grad_(True)
    elif layer != "none":
        trunk, tail = split(tower, int(layer))
    images = source.tables.only("image").take(items)
    return features.extract(source, {"image": trunk}, tables=images, progress=False), tail


def scored(arms: Mapping[str, Method], episodes: Sequence[Described]) -> pd.DataFrame:
    """Accuracies of all arms in both tracks, as `evaluate` gives them; for a linear probe those of WiSE-FT too.

    A training that can be asked for its end without validation (`without_val`) is run once for both tracks.
    """
    once = {name: arm for name, arm in arms.items() if hasattr(arm, "without_val")}
    twice = {name: arm for name, arm in arms.items() if name not in once}
    variants: dict[str, dict[str, Any]] = {name: {name + FREE: lambda fitted: fitted.without_val()} for name in once}
    for name in once:
        if name.startswith("linear probe: "):
            mixed = name.replace("linear probe", "WiSE-FT")
            variants[name] |= {mixed: lambda fitted: fitted.at(0.5),
                               mixed + FREE: lambda fitted: fitted.without_val().at(0.5)}  # fmt: skip
    parts = [evaluate(once, episodes, variants=variants, progress=False)] if once else []
    parts += [evaluate(twice, list(both_tracks(episodes)), progress=False)] if twice else []
    frame = pd.concat(parts, ignore_index=True)
    free = frame["method"].str.endswith(FREE)
    frame.loc[free, "track"] = WITHOUT_VAL
    frame["method"] = frame["method"].str.removesuffix(FREE)
    return frame[frame["metric"] == "accuracy"].reset_index(drop=True)


def corners(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the columns classifier, start and rows, read off the names."""
    parts = frame["method"].str.extract(r"^(?P<classifier>.*): (?P<start>\w+) start, (?P<rows>.*)$")
    return pd.concat([frame, parts], axis=1)


def squares(frame: pd.DataFrame, shot: int, track: str) -> pd.DataFrame:
    """Mean accuracy of each classifier (a line) in each corner, with columns mean, low, high for `percent`."""
    own = corners(frame[(frame["shot"] == shot) & (frame["track"] == track)])
    own = own.dropna(subset="classifier").assign(corner=lambda t: t["start"] + " start, " + t["rows"])
    return summary(own, by=["classifier", "corner"])


EFFECTS = {
    "text rows, random start": (("random", "image + text"), ("random", "image")),
    "text rows, text start": (("text", "image + text"), ("text", "image")),
    "text start, image rows": (("text", "image"), ("random", "image")),
    "start and rows together": (("text", "image + text"), ("random", "image")),
}


def effects(frame: pd.DataFrame, shot: int, track: str) -> pd.DataFrame:
    """Paired differences of each classifier's corners: columns classifier, effect, mean, low, high, n."""
    own = frame[(frame["shot"] == shot) & (frame["track"] == track)]
    there, lines = set(own["method"]), []
    for classifier in dict.fromkeys(corners(own)["classifier"].dropna()):
        for effect, (a, b) in EFFECTS.items():
            names = name_of(classifier, *a), name_of(classifier, *b)
            if {*names} <= there:
                lines.append(paired(own, *names, by=["shot", "track"]).assign(classifier=classifier, effect=effect))
    return pd.concat(lines, ignore_index=True)


# the paper's second table: (prior method, with text rows) here and by their names there
SECOND = {
    "linear probe": (name_of("linear probe", "random", "image"), name_of("linear probe", "text", "image + text"),
                     "Linear probing", "Cross-modal linear"),
    "WiSE-FT": (name_of("WiSE-FT", "text", "image"), name_of("WiSE-FT", "text", "image + text"),
                "WiSE-FT", "Cross-modal WiSE-FT"),
    "prompting": (name_of("prompting", "random", "image"), name_of("prompting", "random", "image + text"),
                  "CoOp", "Cross-modal prompting"),
    "adapter, after Tip-Adapter-F": (name_of("Tip-Adapter-F", "text", "image"),
                                     name_of("adapter", "text", "image + text"),
                                     "Tip-Adapter (authors' re-run)", "Cross-modal adapter"),
}  # fmt: skip


def second(frame: pd.DataFrame, track: str = WITH_VAL) -> pd.DataFrame:
    """The paper's second table: what the cross-modal form of each prior method adds, here (with its interval) and
    there, in points; one line a (method, shot) that was run."""
    paper = published("cross-modal adaptation").set_index(["method", "shots"])["accuracy"]
    lines = []
    for method, (prior, ours, prior_there, ours_there) in SECOND.items():
        own = frame[(frame["track"] == track) & frame["method"].isin([prior, ours])]
        if own["method"].nunique() < 2:
            continue
        for _, gain in paired(own, ours, prior, by=["shot"]).iterrows():
            k = int(gain["shot"])
            here = per_cent(gain["mean"], gain["low"], gain["high"], signed=True)
            there = f"{paper[ours_there, k] - paper[prior_there, k]:+.1f}" if (prior_there, k) in paper.index else ""
            lines.append({"method": method, "shot": k, "here": here, "paper": there})
    table = pd.DataFrame(lines).pivot(index="method", columns="shot", values=["here", "paper"])
    return table.reindex([method for method in SECOND if method in table.index]).fillna("")


def words_and_images(frame: pd.DataFrame, shots: Sequence[int] = (1, 2, 3)) -> pd.DataFrame:
    """Lines to pair: "n images and a word" against "n + 1 images", both as of shot n, and "n images".

    The word is the cross-modal linear probe (text start, text rows); images alone start at random, or from text in
    the lines "..., text start". A draw of n + 1 shots holds the n.
    """
    arms = {"n images and a word": (name_of("linear probe", "text", "image + text"), 0),
            "n + 1 images": (name_of("linear probe", "random", "image"), 1),
            "n images": (name_of("linear probe", "random", "image"), 0),
            "n + 1 images, text start": (name_of("linear probe", "text", "image"), 1),
            "n images and a word, random start": (name_of("linear probe", "random", "image + text"), 0)}  # fmt: skip
    parts = [
        frame[(frame["method"] == method) & (frame["shot"] == n + more)].assign(method=name, shot=n)
        for n in shots for name, (method, more) in arms.items()
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def one_shot_lines(
    pool: Tables, query: Tables, prompts: Tables, names: Sequence[str], *, draws: int = 30, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two classes in a plane, and the lines that one drawing of each leaves possible, without and with their prompts.

    The plane is spanned by the first two principal components of the pool's unit rows of both classes; text rows are
    moved by the difference between the mean of these and their own mean. A line is fitted in the plane itself, by
    logistic regression that is held very loosely: between two points that is the line halfway.

    Returns points (x, y, class, kind: "drawing", "shot" or "prompt", draw) and lines (draw, rows, a, b, c with
    a x + b y + c = 0, accuracy on the query's drawings).
    """
    rows = {"pool": pool.only("image"), "query": query.only("image"), "text": prompts.only("text")}
    own = {k: next(iter(t.of_classes(names).rows.values())) for k, t in rows.items()}
    unit = {k: F.normalize(t.x, dim=1) for k, t in own.items()}
    centre = unit["pool"].mean(0)
    axes = torch.linalg.svd(unit["pool"] - centre, full_matrices=False)[2][:2]  # (2, d)
    flat = {k: (z - (unit["text"].mean(0) if k == "text" else centre)) @ axes.T for k, z in unit.items()}
    parts = [_points(flat["query"], own["query"].y, names, "drawing"),
             _points(flat["text"], own["text"].y, names, "prompt")]  # fmt: skip
    rng, lines = generator(seed, 7), []
    for draw in range(draws):
        shots = [int(places[torch.randint(len(places), (1,), generator=rng)])
                 for places in ((own["pool"].y == c).nonzero()[:, 0] for c in range(2))]  # fmt: skip
        image, y = flat["pool"][shots], own["pool"].y[shots]
        parts.append(_points(image, y, names, "shot", draw))
        both = torch.cat([image, flat["text"]]), torch.cat([y, own["text"].y])
        for kind, x, labels in (("image", image, y), ("image + text", *both)):
            weight, bias = regression(LogisticRegression(C=1e6, max_iter=1000), x, labels)
            right = ((flat["query"] @ weight.T + bias).argmax(1) == own["query"].y).double().mean().item()
            (a, b), c = (weight[1] - weight[0]).tolist(), (bias[1] - bias[0]).item()
            lines.append({"draw": draw, "rows": kind, "a": a, "b": b, "c": c, "accuracy": right})
    return pd.concat(parts, ignore_index=True), pd.DataFrame(lines)


def spread(lines: pd.DataFrame) -> pd.DataFrame:
    """How far the directions of lines scatter (degrees; 52 if anything goes), and how well they do: by rows.

    The circular standard deviation of doubled angles, halved: a line and the same turned by 180 degrees are one.
    """
    found = {}
    for kind, part in lines.groupby("rows", sort=False):
        angle = 2 * np.arctan2(part["b"], part["a"])
        length = float(np.hypot(np.cos(angle).mean(), np.sin(angle).mean()))
        degrees = np.degrees(np.sqrt(-2 * np.log(max(length, 1e-9)))) / 2
        found[kind] = {"scatter (degrees)": degrees, "accuracy": part["accuracy"].mean(),
                       "worst tenth": part["accuracy"].quantile(0.1)}  # fmt: skip
    return pd.DataFrame(found).T.rename_axis("rows")


def _points(xy: Tensor, y: Tensor, names: Sequence[str], kind: str, draw: int = -1) -> pd.DataFrame:
    table = pd.DataFrame(xy.numpy(), columns=["x", "y"])
    table["class"] = [readable(names[c]) for c in y.tolist()]
    return table.assign(kind=kind, draw=draw)
