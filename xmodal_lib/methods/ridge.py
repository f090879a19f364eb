"""The quick choice, a cross-modal linear probe in closed form: a second of work instead of a minute.

As in `adaptation`, a class name is one more shot; but the loss is squared, so the best head is solved for, not trained.
With z_i (d,) unit rows of modality m, less the mean of their modality (which removes the gap between modalities), and
weights q_i that give modality m its share and each class of it the same part,

    S = sum_i q_i z_i z_i'                       (d, d)
    R = sum_i q_i e_y(i) z_i'                    (C, d)   e_c the unit vector of class c
    W = R (S + ridge tr(S) I)^-1                 (C, d)   least squares to the one-hot labels, held by an L2 penalty

More share for the text brings W nearer to zero-shot, and more ridge brings it nearer to the class means; both are
chosen on the validation rows. `benchmarks/fast.py` measures it beside the grid.

Source: regularised least-squares classification. Its head spans the directions of a ridged linear discriminant analysis
(Hastie, Tibshirani and Buja, 1994), which Wang et al., ICLR 2024 (arXiv 2402.04087), use beside the texts of CLIP; here
the texts are rows like the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from xmodal_lib.methods.adaptation import CosineMethod, Rows, _check_classes
from xmodal_lib.tables import Tables
from xmodal_lib.training import cells

RIDGE_GRID = {"share": (0.1, 0.3, 0.5, 0.7, 0.9), "ridge": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)}


class Moments(NamedTuple):
    """What the solution needs of the rows of one modality."""

    mean: Tensor  # (d,)
    square: Tensor  # S (d, d)
    sums: Tensor  # R (C, d)


@dataclass
class RidgeProbe(CosineMethod):
    """A linear head on unit features by least squares, over the pooled rows of `modalities`.

    With `val`, every cell of `grid` is solved, and the one with the best validation accuracy kept (the least
    cross-entropy breaks ties, then the first wins); `scales` are tried too. Without `val` the fields `share`, `ridge`
    and `scale` hold. Nothing is random: `seed` changes nothing.

    Raises:
        ValueError: a field is impossible, a modality or a class has no rows, or all rows are alike.
        FloatingPointError: a row is not finite.
    """

    scale: float = 8.0  # multiplies the scores, of which a support row has 1 for its own class on average
    modalities: tuple[str, ...] = ("image", "text")
    share: float = 0.7  # of the modalities after the first one, in equal parts
    ridge: float = 0.01  # in units of the trace of S
    grid: Mapping[str, Sequence[float]] = field(default_factory=lambda: dict(RIDGE_GRID))
    scales: tuple[float, ...] = (2.0, 4.0, 8.0, 16.0, 32.0)

    means_: Rows = field(init=False, repr=False, compare=False)  # modality -> (d,)

    def _fit(self, support: Tables, val: Tables | None) -> None:
        own = {"share": self.share, "ridge": self.ridge}
        options = [own] if val is None else cells(self.grid)
        self._check_fields([own, *options])
        tables = {m: self._of(support, m) for m in self.modalities}
        _check_classes(torch.cat([t.y for t in tables.values()]), support.classes, self.modalities)
        found = [moments(self._embed_rows(m, t.x), t.y, len(support.classes)) for m, t in tables.items()]
        self.means_ = {m: moment.mean for m, moment in zip(tables, found, strict=True)}
        if val is not None:
            held = torch.cat([self._centred(m, t.x) for m, t in val.rows.items()])  # (n, d)
            labels = torch.cat([t.y for t in val.rows.values()])
        self.scale_, best, lines = self.scale, (-1.0, 0.0), []
        for cell in options:
            head = solve(found, **cell)
            if val is None:
                self.head_ = head
                continue
            scores = held @ head.T
            right = (scores.argmax(1) == labels).double().mean().item()
            loss, scale = min((F.cross_entropy(s * scores, labels).item(), s) for s in self.scales)
            lines.append(cell | {"val_accuracy": right, "val_loss": loss, "scale": scale})
            if (right, -loss) > best:
                best, self.head_, self.scale_, self.cell_ = (right, -loss), head, scale, cell
        self.cells_ = pd.DataFrame(lines)

    def logits(self, query: Tables) -> Rows:
        self._check_fitted()
        return {m: self.scale_ * self._centred(m, t.x) @ self.head_.T for m, t in query.rows.items()}

    def _centred(self, modality: str, x: Tensor) -> Tensor:
        """Unit rows less the mean of their modality; of the first one, for a modality that was not learnt from."""
        return self._embed_rows(modality, x) - self.means_.get(modality, self.means_[self.modalities[0]])

    def _check_fields(self, options: Sequence[Mapping[str, float]]) -> None:
        if isinstance(self.modalities, str) or not self.modalities:
            raise ValueError(f"modalities={self.modalities!r}; a tuple of names is needed, such as ('image', 'text')")
        if set(self.grid) != {"share", "ridge"} or not all(self.grid.values()):
            raise ValueError(f"a grid needs values of share and ridge; this one has {dict(self.grid)}")
        for cell in options:
            if not 0 <= cell["share"] <= 1 or not cell["ridge"] > 0:
                raise ValueError(f"share={cell['share']}, ridge={cell['ridge']}; a share from 0 to 1 and a ridge above "
                                 "0 are needed")  # fmt: skip
        if not self.scales or min(*self.scales, self.scale) <= 0:
            raise ValueError(f"scale={self.scale}, scales={self.scales}; numbers above 0 are needed")


def moments(z: Tensor, y: Tensor, classes: int) -> Moments:
    """Moments of rows z (n, d) with labels y (n,); every class that has rows weighs the same."""
    q = 1 / y.bincount(minlength=classes)[y]  # (n,)
    q = (q / q.sum()).unsqueeze(1)
    mean = (q * z).sum(0)
    z = z - mean
    return Moments(mean, (q * z).T @ z, z.new_zeros(classes, z.shape[1]).index_add_(0, y, q * z))


def solve(found: Sequence[Moments], share: float, ridge: float) -> Tensor:
    """The head (C, d) in closed form, of such a length that a support row scores 1 for its own class on average.

    `share` goes to the modalities after the first one, in equal parts. Over the classes the scores of a row sum to 0.
    """
    others = len(found) - 1
    shares = [1 - share, *[share / others] * others] if others else [1.0]
    square = sum(part * m.square for part, m in zip(shares, found, strict=True))  # (d, d)
    sums = sum(part * m.sums for part, m in zip(shares, found, strict=True))  # (C, d)
    assert isinstance(square, Tensor) and isinstance(sums, Tensor)
    if not square.trace() > 0:
        raise ValueError("all rows of a modality are alike, so no head can tell classes apart")
    held = square + ridge * square.trace() * torch.eye(len(square), dtype=square.dtype, device=square.device)
    head = torch.cholesky_solve(sums.T, torch.linalg.cholesky(held)).T
    return head / (head * sums).sum()
