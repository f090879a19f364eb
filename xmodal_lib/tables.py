"""Rows of several modalities, linked by pair ids: the one data type that every floor above shares.

>>> image = Table(torch.zeros(3, 8), torch.tensor([0, 0, 1]), torch.tensor([10, 11, 12]))
>>> text = Table(torch.zeros(2, 4), torch.tensor([0, 1]), torch.tensor([10, 99]))
>>> tables = Tables({"image": image, "text": text}, ("cat", "dog"))
>>> tables.items()
tensor([10, 11, 12, 99])
>>> tables.only("image").of_classes(["dog"])
Tables(image: 1 rows of (8,); 1 items, 1 classes)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of one modality. Row i holds x[i], is of class y[i], and shows item pair[i].

    Raises:
        ValueError: `x`, `y` and `pair` are not tensors of one length, or `y` or `pair` is not a vector of int64.
    """

    x: Tensor  # (n, *shape)  features (n, d), tokens, spectrograms, or row numbers of a Lookup encoder
    y: Tensor  # (n,) int64   index into Tables.classes; -1 where the label is withheld
    pair: Tensor  # (n,) int64   equal ids, in whichever modality, show the same item

    def __post_init__(self) -> None:
        for name, given in (("x", self.x), ("y", self.y), ("pair", self.pair)):
            if not isinstance(given, Tensor) or not given.ndim:
                raise ValueError(f"{name} is a {type(given).__name__}; a tensor with an entry a row is needed")
        for name, ids in (("y", self.y), ("pair", self.pair)):
            if ids.dtype != torch.int64 or ids.shape != (len(self.x),):
                raise ValueError(
                    f"{name} is {ids.dtype} of shape {tuple(ids.shape)}; int64 of shape ({len(self.x)},) is needed"
                )

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Tensor | slice) -> Table:
        """The rows of an index, a boolean mask or a slice, in that order."""
        return Table(self.x[rows], self.y[rows], self.pair[rows])

    def to(self, device: torch.device | str) -> Table:
        return Table(self.x.to(device), self.y.to(device), self.pair.to(device))


@dataclass(frozen=True, eq=False)
class Tables:
    """Modality name -> Table, over one list of classes.

    Raises:
        ValueError: a class name occurs twice, or a label lies outside `classes`.
    """

    rows: Mapping[str, Table]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", MappingProxyType(dict(self.rows)))
        if isinstance(self.classes, str):
            raise ValueError(f"classes is the text {self.classes!r}; a list of names is needed")
        object.__setattr__(self, "classes", tuple(self.classes))
        if len(set(self.classes)) < len(self.classes):
            twice = next(c for c in self.classes if self.classes.count(c) > 1)
            raise ValueError(f"class {twice[:60]!r} is named twice; class names must differ")
        for modality, table in self.rows.items():
            if len(table) and not -1 <= int(table.y.min()) <= int(table.y.max()) < len(self.classes):
                raise ValueError(f"{modality}: labels {int(table.y.min())}..{int(table.y.max())} do not index "
                                 f"{len(self.classes)} classes")  # fmt: skip

    def __repr__(self) -> str:
        tables = ", ".join(f"{m}: {len(t)} rows of {tuple(t.x.shape[1:])}" for m, t in self.rows.items())
        return f"Tables({tables}; {len(self.items())} items, {len(self.classes)} classes)"

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.rows)

    def __getitem__(self, modality: str) -> Table:
        if modality not in self.rows:
            raise KeyError(f"no modality {modality!r}; there are {', '.join(self.rows) or 'none'}")
        return self.rows[modality]

    def items(self) -> Tensor:
        """Ids of all items, sorted, each once: (n_items,) int64."""
        pairs = [table.pair for table in self.rows.values()]
        return torch.cat(pairs).unique() if pairs else torch.empty(0, dtype=torch.int64)

    def places(self) -> dict[str, Tensor]:
        """Place of each row's item in `items()`: {modality: (n_m,)}."""
        items = self.items()
        return {m: torch.searchsorted(items, table.pair) for m, table in self.rows.items()}

    def labels(self) -> Tensor:
        """Class of each of `items()`: (n_items,) int64.

        Raises:
            ValueError: two rows of one item are of different classes.
        """
        y, places = torch.empty_like(self.items()), self.places()
        for modality, table in self.rows.items():
            y[places[modality]] = table.y
        for modality, table in self.rows.items():
            wrong = y[places[modality]] != table.y
            if wrong.any():
                raise ValueError(f"{modality}: item {int(table.pair[wrong][0])} has rows of two classes")
        return y

    def only(self, *modalities: str) -> Tables:
        """The rows of these modalities."""
        return replace(self, rows={m: self[m] for m in modalities})

    def take(self, ids: Tensor) -> Tables:
        """The rows that show one of these items, in table order."""
        return replace(self, rows={m: t[torch.isin(t.pair, ids)] for m, t in self.rows.items()})

    def of_classes(self, names: Sequence[str]) -> Tables:
        """The rows of these classes, relabelled: class `names[c]` becomes c.

        Raises:
            ValueError: a name is no class of these tables.
        """
        unknown = [name for name in names if name not in self.classes]
        if unknown:
            raise ValueError(f"class {unknown[0]!r} is not one of the {len(self.classes)} classes")
        new = torch.full((len(self.classes) + 1,), -1, device=self._device())  # its last entry serves label -1
        for c, name in enumerate(names):
            new[self.classes.index(name)] = c
        kept = {m: t[new[t.y] >= 0] for m, t in self.rows.items()}
        return Tables({m: replace(t, y=new[t.y]) for m, t in kept.items()}, tuple(names))

    def unpaired(self) -> Tables:
        """The same rows, each an item of its own."""
        rows, start = {}, 0
        for m, t in self.rows.items():
            rows[m] = replace(t, pair=torch.arange(start, start + len(t), device=t.pair.device))
            start += len(t)
        return replace(self, rows=rows)

    def paired(self, *modalities: str) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The wide view: every combination of one row a modality that shows one item.

        Returns x {modality: (n, *shape)}, y (n,) and pair (n,), sorted by item. An item that lacks a modality is
        left out; one with two captions and three pictures gives six combinations.
        """
        tables = [self[m] for m in modalities or self.modalities]
        ids, picks = tables[0].pair, [torch.arange(len(tables[0]), device=tables[0].pair.device)]
        for table in tables[1:]:
            left, right = _join(ids, table.pair)
            ids, picks = ids[left], [p[left] for p in picks] + [right]
        order = torch.argsort(ids, stable=True)
        names = modalities or self.modalities
        x = {m: t.x[p[order]] for m, t, p in zip(names, tables, picks, strict=True)}
        return x, tables[0].y[picks[0][order]], ids[order]

    def withheld(self) -> Tables:
        """The same rows with every label -1: what a method may see of a query."""
        return replace(self, rows={m: replace(t, y=torch.full_like(t.y, -1)) for m, t in self.rows.items()})

    def __or__(self, other: Tables) -> Tables:
        """The rows of both, this one's first; equal ids show the same item.

        Raises:
            ValueError: the two have different classes.
        """
        if self.classes != other.classes:
            raise ValueError("the two tables have different classes; use of_classes() to bring them to one list")
        rows = dict(self.rows)
        for m, t in other.rows.items():
            rows[m] = _stack(rows[m], t) if m in rows else t
        return replace(self, rows=rows)

    def to(self, device: torch.device | str) -> Tables:
        return replace(self, rows={m: t.to(device) for m, t in self.rows.items()})

    def _device(self) -> torch.device:
        return next((t.y.device for t in self.rows.values()), torch.device("cpu"))


def usable(tables: Tables, modality: str, who: str, role: str = "support", hint: str = "set `modalities`") -> Table:
    """Rows of one modality, of which there must be some, all finite. `who` says who needs them, `role` what these are.

    Raises:
        ValueError: there is none.
        FloatingPointError: a row has an entry that is not finite.
    """
    table = tables.rows.get(modality)
    if table is None or not len(table):
        held = ", ".join(tables.modalities) or "nothing"
        raise ValueError(f"{who} {modality!r}, but the {role} holds {held}; {hint}")
    if table.x.is_floating_point() and not table.x.isfinite().all():
        row = int((~table.x.isfinite()).nonzero()[0, 0])
        raise FloatingPointError(f"{role}: {modality} row {row} is not finite")
    return table


def check_labelled(tables: Tables, role: str) -> None:
    """Raises ValueError where a row has no label."""
    for modality, table in tables.rows.items():
        if (table.y < 0).any():
            row = int((table.y < 0).nonzero()[0])
            raise ValueError(f"{role}: {modality} row {row} has no label (-1); each row needs one here")


def class_means(x: Tensor, y: Tensor, classes: int) -> Tensor:
    """Mean row of each class: (n, d), (n,) -> (classes, d). A class without rows gets zeros."""
    total = torch.zeros(classes, *x.shape[1:], dtype=x.dtype, device=x.device).index_add_(0, y, x)
    return total / torch.bincount(y, minlength=classes).clamp(min=1).view(-1, *[1] * (x.ndim - 1))


def places(classes: Sequence[str], among: Sequence[str]) -> list[int]:
    """Where each class stands in another list of classes.

    >>> places(("bee", "ant"), ("ant", "bee", "cat"))
    [1, 0]

    Raises:
        ValueError: a class is not in it.
    """
    place = {name: n for n, name in enumerate(among)}
    if unknown := [name for name in classes if name not in place]:
        raise ValueError(f"{len(unknown)} of {len(classes)} classes were not learnt "
                         f"(first: {', '.join(unknown[:3])})")  # fmt: skip
    return [place[name] for name in classes]


def shared_items(left: Tables, right: Tables) -> Tensor:
    """Ids that occur in both, sorted."""
    a, b = left.items(), right.items()
    return a[torch.isin(a, b)]


def _join(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Row numbers of all pairs with left[i] == right[j], ordered by i."""
    order = torch.argsort(right, stable=True)
    first = torch.searchsorted(right[order], left)
    count = torch.searchsorted(right[order], left, right=True) - first
    rows = torch.arange(len(left), device=left.device).repeat_interleave(count)
    step = torch.arange(len(rows), device=left.device) - (count.cumsum(0) - count)[rows]
    return rows, order[first[rows] + step]


def _stack(a: Table, b: Table) -> Table:
    if a.x.shape[1:] != b.x.shape[1:]:
        raise ValueError(f"rows of shape {tuple(a.x.shape[1:])} and {tuple(b.x.shape[1:])} do not stack")
    return Table(torch.cat([a.x, b.x]), torch.cat([a.y, b.y]), torch.cat([a.pair, b.pair]))


def concat(parts: Iterable[Tables]) -> Tables:
    """All parts joined by `|`, in order."""
    first, *rest = parts
    for part in rest:
        first = first | part
    return first
