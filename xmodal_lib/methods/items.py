"""Training rows found by item, and the batches that are drawn from them. An item may lack a modality."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xmodal_lib.tables import Tables


@dataclass(frozen=True, eq=False)
class Batch:
    """b items and the rows that they have."""

    x: dict[str, Tensor]  # modality -> (b_m, *shape), modalities that no item of the batch has left out
    places: dict[str, Tensor | None]  # modality -> (b_m,) item of each row, 0..b-1; None: row i shows item i
    y: Tensor  # (b,)
    items: Tensor  # (b,) place of each item in the training set

    def of(self, modality: str, item_values: Tensor) -> Tensor:
        """Values of the items (b, ...) for the rows of one modality: (b_m, ...)."""
        place = self.places[modality]
        return item_values if place is None else item_values[place]


@dataclass(frozen=True, eq=False)
class Items:
    """Training rows, found by item."""

    x: dict[str, Tensor]  # modality -> (n_m, *shape)
    row: dict[str, Tensor | None]  # modality -> (n,) its row of each item, -1: it has none; None: row i is of item i
    y: Tensor  # (n,)

    @classmethod
    def of(cls, tables: Tables, modalities: Sequence[str]) -> Items:
        """Raises ValueError where an item has two rows of a modality, a label is withheld, or a class has no item."""
        held = tables.only(*modalities)
        ids, y, places = held.items(), held.labels(), held.places()
        if (y < 0).any():
            raise ValueError(f"item {int(ids[y < 0][0])} has no label (-1); every item to learn from needs one")
        empty = (y.bincount(minlength=len(tables.classes)) == 0).nonzero()
        if len(empty):
            raise ValueError(f"class {tables.classes[int(empty[0])]!r} has no item; each class needs one")
        rows: dict[str, Tensor | None] = {}
        for m, table in held.rows.items():
            place = places[m]
            if len(place.unique()) < len(place):
                twice = int(table.pair[place.bincount(minlength=len(ids))[place] > 1][0])
                raise ValueError(f"item {twice} has several rows of {m}; at most one is needed here")
            row = torch.full_like(ids, -1)
            row[place] = torch.arange(len(place), device=ids.device)
            rows[m] = None if torch.equal(row, torch.arange(len(ids), device=ids.device)) else row
        return cls({m: t.x for m, t in held.rows.items()}, rows, y)

    def batch(self, items: Tensor) -> Batch:
        x: dict[str, Tensor] = {}
        places: dict[str, Tensor | None] = {}
        for m, row in self.row.items():
            rows = items if row is None else row.index_select(0, items)
            if row is None or (has := rows >= 0).all():
                x[m], places[m] = self.x[m].index_select(0, rows), None
            elif has.any():
                x[m], places[m] = self.x[m][rows[has]], has.nonzero().squeeze(1)
        return Batch(x, places, self.y[items], items)

    def batches(self, size: int, rng: torch.Generator) -> Iterator[Batch]:
        """One shuffled pass; the last batch may be smaller."""
        for items in torch.randperm(len(self.y), generator=rng).to(self.y.device).split(size):
            yield self.batch(items)
