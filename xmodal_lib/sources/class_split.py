"""A split by class: the classes of val and test are in no other, so that what is asked is new.

Likewise `base_novel`: plenty of the base classes to learn from, and a few of the novel ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from xmodal_lib.sources import lists
from xmodal_lib.sources.listing import Item

PARTS = ("base", "novel")


def by_class(items: Sequence[Item], counts: tuple[int, int], seed: int) -> list[Item]:
    """The same items, their split that of their class: `counts` classes in val and in test, the rest in train.

    Raises:
        ValueError: no class is left for train, or one of the counts is less than 1.
    """
    classes = sorted({item.label for item in items})
    val, test = counts
    if min(counts) < 1 or val + test >= len(classes):
        raise ValueError(
            f"{len(classes)} classes cannot be split into {val} for val, {test} for test and some to train"
        )
    of = dict(zip(mixed(classes, seed), ["test"] * test + ["val"] * val + ["train"] * len(classes), strict=False))
    return [replace(item, split=of[item.label]) for item in items]


def mixed(names: Iterable[str], seed: int) -> list[str]:
    """Names in an order drawn by `seed`."""
    known = sorted(names)
    return [known[i] for i in torch.randperm(len(known), generator=torch.Generator().manual_seed(seed)).tolist()]


def base_novel(items: Sequence[Item], split: str, known: Mapping[str, Collection[str]], share: float,
               seed: int) -> tuple[list[Item], str]:  # fmt: skip
    """The same items, each "base" or "novel" by its class, and a clause for the report that says by what rule.

    split: a name of `known` {name: novel classes}; "random", a `share` of the classes drawn with `seed`, which is our
    own choice; or the path of a text file with a novel class a line. Classes are compared by letters and digits alone.

    Raises:
        ValueError: there is neither such a split nor such a file, a class of the file is unknown, or none is left.
    """
    classes = {spelling(item.label): item.label for item in items}
    if split in known:
        novel, rule = {spelling(name) for name in known[split]} & set(classes), f"split {split!r}"
    elif split == "random":
        drawn = mixed(classes.values(), seed)[: min(max(round(share * len(classes)), 1), len(classes) - 1)]
        novel, rule = {spelling(name) for name in drawn}, f"split 'random' with seed {seed} (ours)"
    elif Path(split).is_file():
        novel, rule = set(lists.parsed(Path(split), lambda line: _known(line, classes))), f"split of {Path(split).name}"
    else:
        names = ", ".join(map(repr, [*known, "random"]))
        raise ValueError(f"split is {split!r}; give {names} or the path of a list of novel classes, one a line")
    if len(novel) in (0, len(classes)):
        raise ValueError(f"{rule}: of {len(classes)} classes {len(novel)} are novel; some must be, and some base")
    placed = [replace(item, split=PARTS[spelling(item.label) in novel]) for item in items]
    return placed, f"{rule}: {len(classes) - len(novel)} classes base, {len(novel)} novel"


def spelling(name: str) -> str:
    """What two spellings of a class have in common.

    >>> spelling("hot-air_balloon") == spelling("hot air balloon")
    True
    """
    return "".join(c for c in name.casefold() if c.isalnum())


def _known(line: str, classes: Mapping[str, str]) -> str:
    if spelling(line) not in classes:
        raise ValueError(f"{line[:40]!r} is no class; there are {len(classes)}, such as {next(iter(classes.values()))}")
    return spelling(line)
