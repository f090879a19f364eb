"""Two linear probes with a convex loss: LP++, which learns how far to trust the text, and plain logistic regression.

Both add a bias to the scores of a head: logits = s W z + b.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from xmodal_lib.methods.adaptation import CosineMethod, Rows, _check_classes
from xmodal_lib.tables import Tables, class_means
from xmodal_lib.training import check_finite

C_PATH = (1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6)


@dataclass
class BiasedProbe(CosineMethod):
    """Base: `scale * head_ @ embedding + bias_`, learnt from the pooled rows of `modalities`."""

    modalities: tuple[str, ...] = ("image",)

    bias_: Tensor = field(init=False, repr=False, compare=False)  # (C,)

    def logits(self, query: Tables) -> Rows:
        return {m: scores + self.bias_ for m, scores in super().logits(query).items()}

    def _pooled(self, tables: Tables, modalities: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Unit rows (n, d) and labels (n,)."""
        rows = [self._embed_rows(m, tables[m].x) for m in modalities]
        return torch.cat(rows), torch.cat([tables[m].y for m in modalities])

    def _learnable(self, support: Tables) -> tuple[Tensor, Tensor]:
        if isinstance(self.modalities, str) or not self.modalities:
            raise ValueError(f"modalities={self.modalities!r}; a tuple of names is needed, such as ('image', 'text')")
        for m in self.modalities:
            self._of(support, m)
        z, y = self._pooled(support, self.modalities)
        _check_classes(y, support.classes, self.modalities)
        return z, y


@dataclass
class LPPlusPlus(BiasedProbe):
    """LP++: image weights plus the text weights times a factor a class, by gradient descent with step sizes known.

    Source: Huang et al., "LP++", CVPR 2024 (arXiv 2404.02285), and its release. With T (C, d) the zero-shot head and F
    (n, d) the unit rows, logits_c = s (f . (w_c + alpha_c t_c)) + b_c with s = 1. Start: w_c is the sum of the rows of
    class c; alpha 250 times the mean over classes of the mean f . t_c of its rows; b 0. All rows are one batch. Step
    sizes 4 n / lambda_max(F'F) for w and b, with momentum, and n / (4 max_c sum (f . t_c)^2) for alpha, every tenth
    step. With `val` the step that is best on it (the last one wins ties); without, the last step.

    Differs: b starts at 0 (release: random, small). The release never clears alpha's gradient, so each of its steps
    goes along the sum of all gradients so far: `accumulate=True`. In the paper alpha moves along the present one.

    Raises:
        ValueError: a field is impossible, or a modality or a class has no rows.
        FloatingPointError: a row or the loss is not finite.
    """

    scale: float = 1.0  # no temperature
    steps: int = 300
    momentum: float = 0.9
    alpha_every: int = 10  # steps
    first_alpha: float = 250.0
    accumulate: bool = False  # alpha's step as in the release

    alpha_: Tensor = field(init=False, repr=False, compare=False)  # (C,)

    def _fit(self, support: Tables, val: Tables | None) -> None:
        for name in ("steps", "alpha_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; at least 1 is needed")
        z, y = self._learnable(support)
        text = self._prototypes(support, "text")  # (C, d)
        like, (n, s) = z @ text.T, (len(z), self.scale)  # (n, C)
        own = like.gather(1, y[:, None])
        alpha = (self.first_alpha * class_means(own, y, len(text)).mean()).expand(len(text)).clone().requires_grad_()
        w = (class_means(z, y, len(text)) * y.bincount().unsqueeze(1)).requires_grad_()
        b = torch.zeros(len(text)).requires_grad_()
        rate_w = 4 * n / (s * s * torch.linalg.matrix_norm(z, 2).square().item())
        rate_alpha = n / (4 * s * s * like.square().sum(0).max().item())
        optimiser = torch.optim.SGD([w, b], lr=rate_w, momentum=self.momentum)
        held = None if val is None else self._pooled(val, list(val.rows))
        most, self.history_ = -1, []
        for step in range(self.steps):
            loss = F.cross_entropy(s * (z @ w.T + alpha * like) + b, y)
            check_finite(loss.item(), step, "LPPlusPlus")
            self.history_.append((step, loss.item()))
            optimiser.zero_grad()
            if not self.accumulate:
                alpha.grad = None
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                if (step + 1) % self.alpha_every == 0:
                    alpha -= rate_alpha * alpha.grad  # type: ignore[operator]
                head = w + alpha[:, None] * text
                right = int(((s * held[0] @ head.T + b).argmax(1) == held[1]).sum()) if held else most
                if right >= most:
                    most, self.head_, self.bias_ = right, head, b.detach().clone()
                    self.alpha_ = alpha.detach().clone()


@dataclass
class LogisticPath(BiasedProbe):
    """Logistic regression by L-BFGS; the inverse weight of its L2 penalty is searched on `val`, or is `c`.

    Source: the linear probe of CoOp's release, after Radford et al., ICML 2021: the first best of 7 values of C, then 8
    steps that halve, on a logarithmic scale, the two decades around it; the last step's better one is kept.

    Differs: rows are unit, so that those of several modalities count alike (release: as long as they come out, which
    changes what a C means), and each fit starts from the one before.

    Raises:
        ValueError: a field is impossible, or a modality or a class has no rows.
        FloatingPointError: a row is not finite.
    """

    scale: float = 1.0  # multiplies the rows
    c: float = 1.0  # without `val`
    path: tuple[float, ...] = C_PATH
    halvings: int = 8
    iterations: int = 1000  # at most, of L-BFGS

    def _fit(self, support: Tables, val: Tables | None) -> None:
        if not self.c > 0 or not self.path or min(self.path) <= 0:
            raise ValueError(f"c={self.c}, path={self.path}; numbers above 0 are needed")
        z, y = self._learnable(support)
        model = LogisticRegression(C=self.c, max_iter=self.iterations, warm_start=True)
        if val is None:
            self.c_, answer = self.c, regression(model, self.scale * z, y)
        else:
            held, labels = self._pooled(val, list(val.rows))
            found: dict[float, tuple[int, Tensor, Tensor]] = {}

            def right(c: float) -> int:
                if c not in found:
                    weight, bias = regression(model.set_params(C=c), self.scale * z, y)
                    hits = (self.scale * held @ weight.T + bias).argmax(1) == labels
                    found[c] = int(hits.sum()), weight, bias
                return found[c][0]

            for c in sorted(self.path):  # the firmly held first: they take few iterations, and start the next
                right(c)
            peak = max(self.path, key=right)  # the first of the best
            self.c_, left, end = peak, peak / 10, peak * 10
            for _ in range(self.halvings):
                middle = (left * end) ** 0.5
                lower = right(left) >= right(end)
                self.c_, left, end = (left, left, middle) if lower else (end, middle, end)
            answer = found[self.c_][1:]
        self.head_, self.bias_ = answer


def regression(model: LogisticRegression, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Fit scikit-learn's model to rows (n, d) and labels (n,), each class present: weight (C, d), bias (C,)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of the weakest penalties; validation judges them
        model.fit(z.cpu().numpy(), y.cpu().numpy())
    weight, bias = torch.from_numpy(model.coef_).to(z), torch.from_numpy(model.intercept_).to(z)
    if len(weight) == 1:  # scikit-learn keeps one line for two classes
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    return weight.clone(), bias.clone()
