"""ImageNet-ESC: classes that ImageNet shows and ESC-50 sounds of, 27 pairs or the 19 close ones; image, audio, text.

`imagenet/` and `esc-50/` side by side, as the entries imagenet and esc50 describe them. No picture belongs to a clip.
Source: Lin et al., CVPR 2023, arXiv 2301.06267; the pairs, `imagenet_esc.csv` beside this file, are those of its public
code. A class is named as in ImageNet, and classes are in the order of ImageNet's labels.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from xmodal_lib.episodes import Episode
from xmodal_lib.sources import esc50, few_shot, image_sets, listing, picture_lists, split_json
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables

TASKS = {"image": "audio", "audio": "image"}  # what is classified, and what helps
LICENCE = f"ImageNet: {image_sets.SETS['imagenet'].licence}; ESC-50: {esc50.LICENCE}"


@dataclass(frozen=True)
class Pair:
    imagenet: int  # label
    sound: str  # category of ESC-50
    close: bool  # whether it is one of the 19


def pairs(count: int = 27) -> list[Pair]:
    """The 27 pairs of classes, or the 19 that are close."""
    if count not in (27, 19):
        raise ValueError(f"classes is {count!r}; ImageNet-ESC has 27 and 19")
    text = Path(__file__).with_suffix(".csv").read_text("utf-8")
    every = [Pair(int(row["imagenet"]), row["sound"], row["close"] == "1") for row in csv.DictReader(io.StringIO(text))]
    return [pair for pair in every if pair.close or count == 27]


def load(root: str | Path, classes: int = 27, prompts: str | Sequence[str] = "classname") -> Source:
    """Pictures, clips and prompts of the shared classes.

    `info["image"]` has every row of ImageNet's lists, as draws are of the whole; the tables only those of the classes.

    Raises:
        FileNotFoundError: one of the two data sets is missing.
        ValueError: there is no such number of classes, or one of the data sets lacks a class.
    """
    root, shared = Path(root), pairs(classes)
    folders = [root / image_sets.SETS["imagenet"].folder, root / "esc-50"]
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}; needed are imagenet/ and esc-50/ side by side")
    pictures = picture_lists.load(folders[0], "imagenet", prompts)
    known = pictures.tables.classes
    if unknown := [pair.imagenet for pair in shared if pair.imagenet >= len(known)]:
        raise ValueError(f"ImageNet has {len(known)} classes here; labels up to {max(unknown)} are needed")
    names = [known[pair.imagenet] for pair in shared]
    label_of = {pair.sound: name for pair, name in zip(shared, names, strict=True)}
    items = [replace(c, split=f"fold {c.more['fold']}") for c in esc50.clips(folders[1], label_of)]
    folds = [f"fold {fold}" for fold in esc50.FOLDS]
    sounds = listing.build("imagenet_esc", "clips", items, names, ("audio",), LICENCE, {"": 40 * classes}, parts=folds)
    if silent := [names[c] for c in range(len(names)) if not (sounds.tables["audio"].y == c).any()]:
        raise ValueError(f"{len(silent)} classes have no clip (first: {silent[0]})")
    heard, first = sounds.tables["audio"], sum(len(frame) for frame in pictures.info.values())
    shown = pictures.tables.of_classes(names)
    rows = {"image": shown["image"], "audio": replace(heard, pair=heard.pair + first), "text": shown["text"]}
    return Source(
        "imagenet_esc",
        Tables(rows, tuple(names)),
        {**pictures.info, **sounds.info},
        {**pictures.open, **sounds.open},
        hashlib.sha256(f"{pictures.digest} {sounds.digest} {classes}".encode()).hexdigest(),
        LICENCE,
        {**pictures.digests, **sounds.digests},
        "\n".join([_said(rows, pictures, names), *sounds.report.split("\n")[1:]]),
    )


def episode(source: Source, task: str, *, shot: int, split: int, seed: int, tables: Tables | None = None) -> Episode:
    """One run of the benchmark, split and seed 1..5: `shot` rows a class of what is classified, one of what helps.

    task "image": pictures of the published draw of seed `split`; query is the whole test list; the first clip of each
    class in fold `seed` helps. task "audio": in fold `split`, the first `shot` clips of each class, the next `shot` to
    validate on, the other folds as query; the one picture a class of the draw of seed `seed` helps. The support also
    holds every prompt; a method chooses by its modalities. `tables` are features of the source's rows.
    Differs: the public code counts splits and seeds from 0.

    Raises:
        ValueError: there is no such task, or a fold has too few clips of a class.
    """
    tables = source.tables if tables is None else tables
    if task not in TASKS:
        raise ValueError(f"task is {task!r}; there are {', '.join(TASKS)}")
    given, prompts = tables.only("image"), tables.only("text")
    if task == "image":
        drawn = few_shot.episode(source, few_shot.draw(source, shot=shot, seed=split), seed=seed, tables=given)
        helped = drawn.support | tables.only("audio").take(_clips(source, seed, slice(0, 1)))
        return Episode(helped | prompts, drawn.val, drawn.query, seed)
    one = few_shot.episode(source, few_shot.draw(source, shot=1, seed=seed), seed=seed, tables=given)
    heard = tables.only("audio")
    support, val = (heard.take(_clips(source, split, part)) for part in (slice(0, shot), slice(shot, 2 * shot)))
    others = [fold for fold in esc50.FOLDS if fold != str(split)]
    return Episode(support | one.support | prompts, val, heard.take(source.where("audio", fold=others)), seed)


def _clips(source: Source, fold: int, part: slice) -> Tensor:
    """Items of these places among the clips of each class in a fold, in the order of ESC-50's table."""
    frame = source.frame("audio").assign(pair=source.tables["audio"].pair.numpy())
    groups = frame[frame["fold"] == str(fold)].sort_values("order").groupby("label")["pair"]
    for name, count in groups.size().reindex(source.tables.classes, fill_value=0).items():
        if count < part.stop:
            raise ValueError(f"class {name!r} has {count} clips in fold {fold}; {part.stop} are needed")
    return torch.tensor([pair for _, own in groups for pair in own.iloc[part]], dtype=torch.int64)


def _said(rows: Mapping[str, Table], pictures: Source, names: Sequence[str]) -> str:
    """What is here, and which pictures of these classes are missing."""
    said = f"imagenet_esc: {len(names)} classes; " + ", ".join(f"{m} {len(table)}" for m, table in rows.items())
    frame = pictures.info["image"]
    wanted = frame.index[frame["label"].isin(names)]
    lost = frame["item"][wanted.difference(pictures.tables["image"].x.tolist())].tolist()
    missing = f"{len(lost)} of {len(wanted)} pictures are missing or empty ({split_json.some(lost)})"
    return "\n".join([said, missing] if lost else [said])
