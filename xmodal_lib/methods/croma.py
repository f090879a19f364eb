"""CroMA: a target modality without labels learns quickly, since it was aligned with one that has them.

Source: Liang et al., "Cross-Modal Generalization: Learning in Low Resource Modalities via Meta-Alignment", ACM MM 2021
(arXiv 2012.02813), algorithm 1, and its release. The source modality has labels; of the target there are, in
meta-training, only rows in pairs with source rows. With encoders e_s, e_t and a classifier phi of `way` classes on top
of either, a meta-iteration is two Reptile steps (`reptile`):

    align      a task of pairs           inner steps on the alignment loss (`alignment`)     e_s and e_t move
    classify   a task of labelled rows   inner steps on the cross-entropy of phi(e_s(x))     phi moves

Afterwards `fit` takes e_t and phi and a few labelled target rows of new classes.

| | fields |
|---|---|
| the paper | `CroMA(reserved=0.5)`, with batch 4, 8, 16 for 1, 5, 10 shots; that share is not stated |
| the public release as it should run | `CroMA(**RELEASED)` |
| as it does run | `CroMA(**RELEASED, clone="shared")`: copies share the encoders, which so take no meta-step |
| the command in its readme | `CroMA(**README_RUN)` |

Differs: alignment comes first in a meta-iteration, as published; the release classifies first. Its extra layer behind
the target encoder is for the encoder to have. What its shared copies do to the evaluation (the few target labels of
every test task stay in the meta-learner) is not offered.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from xmodal_lib.episodes import Episode
from xmodal_lib.methods.meta_tasks import Part
from xmodal_lib.methods.meta_transfer import MetaTransfer
from xmodal_lib.methods.method import Method
from xmodal_lib.tables import Tables
from xmodal_lib.training import accuracy, cells

RELEASED: dict[str, Any] = {"outer": "adam", "classify": "head and encoder", "loss": "centroid", "sets": "class",
                            "reserved": 0.5}  # fmt: skip
README_RUN: dict[str, Any] = RELEASED | {"way": 3, "shot": 5, "batch": 8, "align_batch": 4, "inner": 9, "steps": 9,
                                         "rate": 1e-4, "lr_align": 1e-4, "lr_classify": 1e-4, "lr": 1e-4,
                                         "margin": 0.5}  # fmt: skip
FEW_SHOT = ("steps", "lr", "adapt", "head", "batch")  # fields that `fit` reads


@dataclass
class CroMA(MetaTransfer):
    """Meta-alignment and meta-classification of the source (the module's docstring)."""

    def _parts(self, base: Tables) -> list[Part]:
        frozen = self.classify == "head"
        return [self._align(base), self._classify(base, self.source, frozen=frozen)]


def best_iteration(
    method: MetaTransfer, base: Tables, episodes: Sequence[Episode], every: int = 100
) -> tuple[MetaTransfer, pd.DataFrame]:
    """Meta-train, and keep the iteration that is best on tasks of meta-validation classes (the first one wins ties).

    Returns the method as it was then, and columns iteration and accuracy (mean over the episodes' queries); with no
    iterations, one line, of the method as it starts.
    """
    method = copy.deepcopy(method)
    best, lines = method, []
    for iteration in method.meta_train(base):
        if iteration % every == 0 or iteration == method.iterations:
            lines.append({"iteration": iteration, "accuracy": _mean_accuracy(method, episodes)})
            if lines[-1]["accuracy"] > max([line["accuracy"] for line in lines[:-1]], default=-1.0):
                best = copy.deepcopy(method)
    if not lines:
        lines.append({"iteration": 0, "accuracy": _mean_accuracy(method, episodes)})
    return best, pd.DataFrame(lines)


def tuned(
    method: Method, grid: Mapping[str, Sequence[Any]], episodes: Sequence[Episode]
) -> tuple[Method, pd.DataFrame]:
    """Choose fields of few-shot learning on tasks of meta-validation classes (the first cell wins ties).

    For a method or reading that is meta-trained already, and stays as it is: `steps`, `lr`, `adapt`, `head`, `batch`.
    Returns a method with the best cell of `grid`, and a line a cell with its accuracy (mean over the episodes).

    Raises:
        ValueError: a name in the grid is no such field.
    """
    if strange := [name for name in grid if name not in FEW_SHOT or not hasattr(method, name)]:
        raise ValueError(f"{strange[0]!r} is no field of few-shot learning of {type(method).__name__}; there are "
                         f"{', '.join(name for name in FEW_SHOT if hasattr(method, name))}")  # fmt: skip
    tried, lines = [], []
    for cell in cells(grid):
        other = copy.copy(method)  # and not dataclasses.replace, which would drop what is meta-learnt
        for name, value in cell.items():
            setattr(other, name, value)
        tried.append(other)
        lines.append(cell | {"accuracy": _mean_accuracy(other, episodes)})
    scores = [line["accuracy"] for line in lines]
    return tried[scores.index(max(scores))], pd.DataFrame(lines)


def _mean_accuracy(method: Method, episodes: Sequence[Episode]) -> float:
    return sum(accuracy(method.fit(e.support, e.val), e.query) for e in episodes) / len(episodes)
