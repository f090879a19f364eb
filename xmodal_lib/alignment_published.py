"""The papers' three data sets as an `AlignmentTask`: Yummly-28K, CIFAR to ESC-50, CMU Wilderness.

Differs: Liang et al., ACM MM 2021, start from ResNet-18 of ImageNet, BERT and a net of AudioSet; here the target's nets
are small and start from nothing, and a source that is text comes as features of MiniLM, or as bytes. `encoders` of the
task may be replaced by any other, and `rows` says which rows they are to be given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal_lib.alignment_tasks import (
    PAIRS,
    WIDTH,
    AlignmentTask,
    assembled,
    pairs_of,
    pixel_rows,
    preparing,
    rows_of,
    speech_rows,
)
from xmodal_lib.encoders import frozen
from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.encoders.letters import ByteNet, byte_rows
from xmodal_lib.encoders.small import PixelNet, SpeechNet, mlp
from xmodal_lib.sources import catalogue
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables

MODALITIES = {"yummly": ("text", "image"), "cifar_esc": ("image", "audio"), "wilderness": ("text", "audio")}
SIZE = {"yummly": 64, "cifar_esc": 32}  # pixels
FRAMES = 500  # of 10 ms: five seconds, the length of a clip of ESC-50
VERSE_BYTES = 256


def published(
    name: str, root: str | Path, seed: int, *, way: int = 5, shots: Sequence[int] = (1, 5, 10), tasks: int = 8,
    val_tasks: int = 8, queries: int = 10, pairs: str = "", **options: Any,
) -> AlignmentTask:  # fmt: skip
    """The task of one of MODALITIES, from its files below `root`; `options` are those of the source's `load`.

    Of the rows of a class of train a half is for alignment, the other half for classification; of a class of val or
    test a half is to learn from, and `queries` of the other half are asked. In CMU Wilderness these are chapters.
    pairs: "strong", "weak" (all rows of a class are one set), or "" for what the data are; those of CIFAR and ESC-50
    are weak.

    Raises:
        FileNotFoundError: the data are not there.
        ValueError: no such data set or pairs, or a class has too few rows.
    """
    if name not in MODALITIES:
        raise ValueError(f"no data set {name!r} for alignment; there are {', '.join(MODALITIES)}")
    weak = name == "cifar_esc"
    if pairs not in ("", *PAIRS) or (weak and pairs == "strong"):
        raise ValueError(f"pairs={pairs!r}; {name} has {'weak' if weak else ', '.join(PAIRS)}")
    source = catalogue.load(name, root, seed=seed, **options)
    rng = np.random.default_rng([seed, 4])
    s, t = MODALITIES[name]
    kind = {m: _kinds(source.info[m], rng) for m in (s, t)}
    if not weak:  # the rows of an item are of one kind
        of = dict(zip(source.info[s]["item"], kind[s], strict=True))
        kind[t] = source.info[t]["item"].map(of).fillna("align")
    rows: dict[str, Tables] = {}
    few: dict[str, tuple[Tables, Tables]] = {}
    for role, split in (("base", "train"), ("val", "val"), ("test", "test")):
        own = {}
        for m in (s, t):
            info = source.info[m].assign(kind=kind[m])
            chosen = info["split"] == split
            if role != "base" and "kind" in source.info[m]:  # new languages read other chapters
                chosen &= info["kind"] == "ask"
            own[m] = info[chosen].rename_axis(m).reset_index()
        rows[role] = _sets(own, s, t, role) if weak else _pairs(own, s, t, role, pairs == "weak")
        if role != "base":
            asked = _asked(own[t], rng)
            few[role] = (
                rows_of(own[t][asked == 0], t, "label"),
                rows_of(own[t][asked == 1], t, "label"),
            )
    ready, encoders = _nets(name, source)
    return assembled(source, rows, few, ready, encoders, way, shots, tasks, val_tasks, queries, seed)


def _kinds(info: pd.DataFrame, rng: np.random.Generator) -> pd.Series:
    """Of each row whether it is for "align", "classify" or, where chapters say so, "ask"."""
    if "kind" in info.columns:
        return info["kind"]
    turn = info.sample(frac=1, random_state=rng).groupby("label").cumcount().sort_index()
    return pd.Series(np.where(turn % 2, "classify", "align"), index=info.index)


def _asked(info: pd.DataFrame, rng: np.random.Generator) -> pd.Series:
    """0 for the rows of a class that may be learnt from, 1 for those that are asked: half each, whole groups."""
    unit = info["group"].str.rpartition("/")[2].where(info["group"] != "", info["item"])
    if (info["group"] == "").all():
        turn = info.sample(frac=1, random_state=rng).groupby("label").cumcount().sort_index()
        return turn % 2
    known = rng.permutation(sorted(unit.unique()))
    return unit.map({u: i % 2 for i, u in enumerate(known)})


def _pairs(own: Mapping[str, pd.DataFrame], s: str, t: str, role: str, weak: bool) -> Tables:
    """Items that both modalities show, and, of the base, source rows for classification."""
    both = own[s][["item", "label", "kind", s]].merge(own[t][["item", t]], on="item")
    more = None
    if role == "base":
        more = own[s][own[s]["kind"] == "classify"]
        both = both[both["kind"] == "align"]
        both = both[both["label"].isin(more["label"])]
        more = more[more["label"].isin(both["label"])]
    return pairs_of(both.reset_index(drop=True), more, (s, t), "label", "label" if weak else None, role)


def _sets(own: Mapping[str, pd.DataFrame], s: str, t: str, role: str) -> Tables:
    """One set of rows a class: half of the source's, all of the target's; the source's other half is alone."""
    classes = sorted(own[t]["label"].unique())
    number = {c: i for i, c in enumerate(classes)}
    rows, start = {}, len(classes)
    for m in (s, t):
        y = torch.tensor(own[m]["label"].map(number).to_numpy(np.int64))
        alone = torch.tensor((own[m]["kind"] == "classify").to_numpy()) & (m == s) & (role == "base")
        pair = torch.where(alone, start + torch.arange(len(y)), y)
        rows[m] = Table(torch.tensor(own[m][m].to_numpy()), y, pair)
    return Tables(rows, tuple(classes))


def _nets(name: str, source: Source) -> tuple[Callable[[Tables], Tables], dict[str, nn.Module]]:
    """What makes x of row numbers, and the small nets that take it."""
    encoders: dict[str, Encoder] = {}
    nets: dict[str, nn.Module] = {}
    made: dict[str, Tensor] = {}
    s, t = MODALITIES[name]
    if "image" in (s, t):
        size = SIZE[name]
        encoders["image"] = _pictures(size)
        nets["image"] = nn.Sequential(PixelNet(WIDTH).net, nn.Flatten(), nn.Linear(64 * (size // 8) ** 2, WIDTH))
    if "audio" in (s, t):
        encoders["audio"], nets["audio"] = speech_rows(FRAMES), SpeechNet(WIDTH)
    if name == "wilderness":
        texts = [source.open["text"](row) for row in range(len(source.info["text"]))]
        made["text"], nets["text"] = byte_rows(texts, VERSE_BYTES), ByteNet(WIDTH)
    elif name == "yummly":
        stored = source.open["text"](0)
        stays = isinstance(stored, Tensor)  # features of BERT, as released
        encoders["text"] = _stored_mean(stored) if stays else frozen.minilm()
        nets["text"] = mlp(encoders["text"].width[0], WIDTH)
    return preparing(source, made, encoders), nets


def _pictures(size: int) -> Encoder:
    """Pictures, or stored ones (3, h, w), as rows (3, size, size)."""
    like = pixel_rows(size)

    def prepare(pictures: Sequence[Any]) -> Tensor:
        if isinstance(pictures[0], Tensor):
            return torch.stack([F.adaptive_avg_pool2d(p, size) for p in pictures])
        return like.prepare([p.resize((size, size)) for p in pictures])  # type: ignore[return-value]

    return Encoder(f"resized-{size}", nn.Identity(), prepare, sample=like.sample, mode=f"{size}", float16=True)


def _stored_mean(sample: Tensor) -> Encoder:
    """Stored features of words (L, d), as their mean."""

    def prepare(texts: Sequence[Any]) -> Tensor:
        return torch.stack([text.mean(0) for text in texts])

    return Encoder("stored-mean", nn.Identity(), prepare, sample=sample, mode=f"mean {sample.shape[1]}")
