"""Episodes: which labelled rows a method may learn from, and which it must classify."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch

from xmodal_lib.tables import Tables, shared_items


@dataclass(frozen=True, eq=False)
class Episode:
    """One draw: support, val and query share classes and no item.

    Raises:
        ValueError: an item is in two of the three, or their classes differ.
    """

    support: Tables  # labelled: `shot` items a class
    val: Tables | None  # labelled, for selection; None = the validation-free track
    query: Tables  # to classify
    seed: int  # of this draw

    def __post_init__(self) -> None:
        parts = {"support": self.support, "val": self.val, "query": self.query}
        given = {name: part for name, part in parts.items() if part is not None}
        for a, left in given.items():
            for b, right in given.items():
                if left.classes != right.classes:
                    raise ValueError(f"{a} and {b} have different classes")
                if a < b and len(both := shared_items(left, right)):
                    raise ValueError(f"item {int(both[0])} is in {a} and in {b}; they must share no item")


def few_shot_indices(
    train_labels: Sequence[int], val_labels: Sequence[int], *, shot: int, seed: int, max_val_shot: int = 4
) -> tuple[list[int], list[int]]:
    """Positions of `shot` training rows and min(shot, max_val_shot) validation rows a class, as CoOp draws them.

    Classes come in order of first appearance, rows in the order drawn; both draws share one stream of Python's
    `random`. A class with fewer rows gives all it has. Reproduces the published index files of CoOp and of Lin et
    al., CVPR 2023. The draws of two shots are not nested.

    >>> few_shot_indices([0, 0, 1, 1, 1], [0, 1], shot=1, seed=1)
    ([0, 4], [0, 1])

    Raises:
        ValueError: fewer than one row a class is asked for, or a label is no whole number.
    """
    if shot < 1 or max_val_shot < 0:
        raise ValueError(f"shot={shot} and max_val_shot={max_val_shot}; at least 1 and 0 are needed")
    if wrong := [label for label in (*train_labels, *val_labels) if label != label or label % 1]:
        raise ValueError(f"label {wrong[0]} is no whole number")
    rng = random.Random(seed)

    def sample(labels: Sequence[int], k: int) -> list[int]:
        rows = defaultdict(list)
        for i, label in enumerate(labels):
            rows[int(label)].append(i)
        return [i for own in rows.values() for i in (rng.sample(own, k) if len(own) >= k else own)]

    train = sample(train_labels, shot)
    return train, sample(val_labels, min(shot, max_val_shot))


def split(tables: Tables, families: Sequence[Hashable], fractions: Sequence[float], *, seed: int) -> list[Tables]:
    """Deal whole families into parts, class by class, in about these fractions of a class's families.

    `families` names the family of each of `tables.items()`; the items of one family never part. Each part gets at
    least one family of a class while there are enough; the first parts are served first.

    Raises:
        ValueError: `families` is not aligned with the items, or the fractions do not sum to 1.
    """
    items, labels = tables.items(), tables.labels()
    if len(families) != len(items):
        raise ValueError(f"{len(families)} families for {len(items)} items; one an item is needed, in order of items()")
    if not abs(sum(fractions) - 1) <= 1e-6 or min(fractions) <= 0:  # so that NaN is refused
        raise ValueError(f"fractions {tuple(fractions)} must be positive and sum to 1")
    home: dict[Hashable, int] = {}  # family -> the class that deals it: the first one it is seen in
    for family, label in zip(families, labels.tolist(), strict=True):
        home.setdefault(family, label)
    part_of: dict[Hashable, int] = {}
    rng = random.Random(seed)
    for label in range(len(tables.classes)):
        own = sorted((f for f, c in home.items() if c == label), key=str)
        rng.shuffle(own)
        for family, part in zip(own, _deal(len(own), fractions), strict=True):
            part_of[family] = part
    dealt = torch.tensor([part_of[f] for f in families], dtype=torch.int64)
    return [tables.take(items[dealt == p]) for p in range(len(fractions))]


def draw(
    support: Tables,
    query: Tables,
    val: Tables | None = None,
    *,
    shot: int,
    seed: int,
    val_shot: int | None = None,
    query_shot: int | None = None,
    way: int | None = None,
    spread: dict[int, Hashable] | None = None,
    always: Tables | None = None,
) -> Episode:
    """Draw an episode from pools: `shot` items a class from `support`, min(shot, 4) from `val`, all of `query`.

    `val_shot` and `query_shot` set other numbers; `way` draws so many classes; `spread` {item id: group} makes the
    items of a class come from different groups (of concepts, say) while it has some; `always` are rows that every
    support holds and that count as no shot (prompts).

    Raises:
        ValueError: a class has too few items, fewer than one is asked for, or there are fewer classes than `way`.
    """
    rng = random.Random(seed)
    if way is not None:
        if not 1 <= way <= len(support.classes):
            raise ValueError(f"way={way}, but there are {len(support.classes)} classes")
        names = [support.classes[c] for c in sorted(rng.sample(range(len(support.classes)), way))]
        support, query = support.of_classes(names), query.of_classes(names)
        val = val.of_classes(names) if val is not None else None
        always = always.of_classes(names) if always is not None else None
    chosen = _shots(support, shot, rng, spread, "support")
    if val is not None:
        val = _shots(val, min(shot, 4) if val_shot is None else val_shot, rng, spread, "val")
    if query_shot is not None:
        query = _shots(query, query_shot, rng, spread, "query")
    return Episode(chosen | always if always is not None else chosen, val, query, seed)


def draw_each(
    support: Tables, query: Tables, *, shot: int, seed: int, way: int | None = None, query_shot: int | None = None
) -> Episode:
    """Draw an episode of unpaired modalities: `shot` items a class *and modality*, of the same classes in all.

    Raises:
        ValueError: as `draw`.
    """
    parts = [draw(support.only(m), query.only(m), shot=shot, seed=seed, way=way,
                  query_shot=query_shot if len(query[m]) else None) for m in support.modalities]  # fmt: skip
    learn, ask = parts[0].support, parts[0].query
    for part in parts[1:]:
        learn, ask = learn | part.support, ask | part.query
    return Episode(learn, None, ask, seed)


def _shots(pool: Tables, shot: int, rng: random.Random, spread: dict[int, Hashable] | None, role: str) -> Tables:
    """`shot` items a class, from as many different groups as there are."""
    if shot < 1:
        raise ValueError(f"{role}: {shot} items a class are asked for; at least 1 is needed")
    items, labels = pool.items(), pool.labels()
    chosen: list[int] = []
    for c, name in enumerate(pool.classes):
        own = items[labels == c].tolist()
        if len(own) < shot:
            raise ValueError(f"class {name!r} has {len(own)} items in the {role} pool; {shot} are needed")
        rng.shuffle(own)
        if spread is not None:
            seen: dict[Hashable, int] = defaultdict(int)
            rounds = []
            for i in own:
                rounds.append(seen[spread[i]])
                seen[spread[i]] += 1
            own = [i for _, i in sorted(zip(rounds, own, strict=True), key=lambda pair: pair[0])]
        chosen += own[:shot]
    return pool.take(torch.tensor(chosen, dtype=torch.int64))


def _deal(n: int, fractions: Sequence[float]) -> list[int]:
    """Part of each of n shuffled families: rounded shares, every part one while there are enough."""
    edges = [round(n * sum(fractions[: p + 1])) for p in range(len(fractions))]
    counts = [hi - lo for lo, hi in zip([0, *edges[:-1]], edges, strict=True)]
    for p, count in enumerate(counts):
        if count == 0 and max(counts) > 1:
            counts[counts.index(max(counts))] -= 1
            counts[p] = 1
    return [p for p, count in enumerate(counts) for _ in range(count)]
