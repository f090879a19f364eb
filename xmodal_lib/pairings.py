"""Changes of what CroMA learns from: fewer pairs, wrong pairs, pairs of a row with itself, wrong labels.

    base = fewer(task.base, task.modalities, 0.25, seed)                       # a quarter of the pairs
    base = wrong(task.base, task.modalities, 1.0, seed)                        # random pairs
    base = noisy_labels(task.base, target, 0.4, seed)                          # seen by the oracle alone
    support = noisy_labels(episode.support, target, 0.4, seed, keep_classes=True)    # seen by all

A *pair* here is a target row whose pair id a source row has too: a strong pair, or one row of a weak set. But for
`identity` nothing is done to source rows, so what is classified stays as it was, unless a method reserves pairs
(`reserved`): it draws these from the pairs that there are.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from xmodal_lib.tables import Tables
from xmodal_lib.training import generator

TRIES = 2000  # draws of wrong labels until every class keeps a row


def fewer(base: Tables, modalities: tuple[str, str], share: float, seed: int) -> Tables:
    """Keep round(share * n) of the n pairs of (source, target); share 1 changes nothing.

    A target row that is no longer paired stays, with an id of its own: alignment passes it by, and the oracle, which
    reads labels and no pairs, sees what it saw before. Of weak sets, target rows are drawn without regard to their set;
    the set keeps all its source rows, and is gone when its last target row is.

    Raises:
        ValueError: a modality is missing, there is no pair, or the share is not in [0, 1] or leaves none.
    """
    paired = _paired(base, modalities)
    keep = _count(share, len(paired))
    if not keep:
        raise ValueError(f"share={share} of {len(paired)} pairs leaves none; alignment needs pairs")
    lost = paired[torch.randperm(len(paired), generator=generator(seed))[keep:].to(paired.device)]
    target = base[modalities[1]]
    pair, start = target.pair.clone(), int(base.items().max()) + 1
    pair[lost] = torch.arange(start, start + len(lost), device=pair.device)
    return _with(base, modalities[1], pair=pair)


def wrong(base: Tables, modalities: tuple[str, str], share: float, seed: int) -> Tables:
    """Give round(share * n) of the n pairs of (source, target) a wrong partner; share 1: random pairs, 0: no change.

    The chosen target rows exchange their pair ids, at random, so that none has its own, and none that of a row of its
    class: source rows lose their partner too, and sets keep their sizes. Labels stay right, so the oracle sees no
    change. An item then has rows of two classes, and `Tables.labels` refuses it.

    Raises:
        ValueError: a modality is missing, there is no pair, the share is not in [0, 1], or too few of the chosen pairs
            are of different classes.
    """
    paired, rng = _paired(base, modalities), generator(seed)
    number = _count(share, len(paired))
    target = base[modalities[1]]
    chosen = paired[torch.randperm(len(paired), generator=rng)[:number].to(paired.device)]
    pair = target.pair.clone()
    order = _exchange(pair[chosen].cpu(), target.y[chosen].cpu(), rng).to(pair.device)
    pair[chosen] = pair[chosen[order]]
    return _with(base, modalities[1], pair=pair)


def identity(base: Tables, modalities: tuple[str, str]) -> Tables:
    """Pair each target row with itself: the source's name holds a copy of the target, and its own rows are gone.

    A control for a perfect alignment. The source is labelled, so this reads target labels and stands beside the oracle.
    The source's name then needs an encoder of the target's kind: `dict.fromkeys(modalities, task.encoders[target])`.

    Raises:
        ValueError: a modality is missing, or the target has no row.
    """
    source, target = _names(base, modalities)
    if not len(base[target]):
        raise ValueError(f"{target} has no row to be paired with itself")
    table = base[target]
    table = replace(table, pair=torch.arange(len(table), device=table.pair.device))
    others = {m: t for m, t in base.rows.items() if m not in modalities}
    return replace(base, rows={source: table, target: table} | others)


def noisy_labels(tables: Tables, modality: str, share: float, seed: int, *, keep_classes: bool = False) -> Tables:
    """Symmetric noise: round(share * n) of a modality's n labelled rows get another class, each as likely.

    Share 0 changes nothing; withheld labels (-1) stay so. `keep_classes` draws again until every class that had a row
    has one, as few-shot learning needs: at one shot that is an exchange of labels.

    Raises:
        ValueError: the modality is missing, the share is not in [0, 1], there is no other class, or no draw keeps every
            class (at one shot a single wrong label cannot).
    """
    y = tables[modality].y if modality in tables.rows else _missing(tables, modality)
    labelled, classes, rng = (y >= 0).nonzero().squeeze(1).cpu(), len(tables.classes), generator(seed)
    number = _count(share, len(labelled))
    if not number:
        return tables
    if classes < 2:
        raise ValueError(f"labels cannot be wrong with {classes} class; at least 2 are needed")
    for _ in range(TRIES if keep_classes else 1):
        chosen = labelled[torch.randperm(len(labelled), generator=rng)[:number]]
        shift = torch.zeros(len(y), dtype=torch.int64)
        shift[chosen] = torch.randint(1, classes, (number,), generator=rng)
        noisy = torch.where(y >= 0, (y + shift.to(y.device)) % classes, y)
        if not keep_classes or len(noisy.unique()) >= len(y.unique()):
            return _with(tables, modality, y=noisy)
    raise ValueError(f"{number} wrong labels among {len(labelled)} {modality} rows leave a class without a row in each "
                     f"of {TRIES} draws; take another share, more shots, or keep_classes=False")  # fmt: skip


def _exchange(pair: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    """A random order (k,) in which no row is at the place of one with its pair id or its class.

    A random order, then each row that has come to such a place changes it with a random one for which that helps both.
    """
    order = torch.randperm(len(pair), generator=rng)

    def clash(rows: Tensor, places: Tensor) -> Tensor:
        same_class = (y[rows] == y[places]) & (y[rows] >= 0)
        return (pair[rows] == pair[places]) | same_class

    rows = torch.arange(len(pair))
    for i in clash(rows, order).nonzero().squeeze(1):
        if clash(i, order[i]):  # not helped already
            fits = (~clash(i, order) & ~clash(rows, order[i])).nonzero().squeeze(1)
            if not len(fits):
                raise ValueError(f"{len(pair)} pairs cannot exchange partners so that each is of another class; take a "
                                 "larger share, or more classes")  # fmt: skip
            j = fits[torch.randint(len(fits), (), generator=rng)]
            order[i], order[j] = order[j].clone(), order[i].clone()
    return order


def _paired(base: Tables, modalities: tuple[str, str]) -> Tensor:
    """Target rows that a source row shares an id with: (n,)."""
    source, target = _names(base, modalities)
    rows = torch.isin(base[target].pair, base[source].pair).nonzero().squeeze(1)
    if not len(rows):
        raise ValueError(f"no item of the base has rows of both {source!r} and {target!r}; there is no pair to change")
    return rows


def _names(base: Tables, modalities: tuple[str, str]) -> tuple[str, str]:
    source, target = modalities
    if source == target:
        raise ValueError(f"source and target are both {source!r}; two modalities are needed")
    for m in modalities:
        if m not in base.rows:
            _missing(base, m)
    return source, target


def _missing(tables: Tables, modality: str) -> Tensor:
    raise ValueError(f"no modality {modality!r}; there are {', '.join(tables.modalities) or 'none'}")


def _count(share: float, n: int) -> int:
    if not 0 <= share <= 1:
        raise ValueError(f"share={share}; a number from 0 to 1 is needed")
    return round(share * n)


def _with(tables: Tables, modality: str, **columns: Tensor) -> Tables:
    return replace(tables, rows={**tables.rows, modality: replace(tables[modality], **columns)})
