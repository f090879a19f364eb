"""What if the weight of the words were larger, or the shots fewer? A classifier behind sliders, and its accuracy.

study = Study({"shots": (1, 4, 16), "alpha": (0, 0.5, 1)}, predict, points, true)
study.accuracy(shots=4, alpha=0.5)
study.sweep("alpha", {"shots": 4, "alpha": 0.5})       # accuracy at each alpha, all else as it is
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Study:
    """A classifier of some points that is quick enough to be asked at each move of a slider.

    `predict(**values)` answers a class name for each of `points` (m,), positions in the collection; `true` (m,) are
    their classes. `about` says in a sentence what the sliders do.

    Raises:
        ValueError: a slider has no values, or there are not as many labels as points.
    """

    sliders: Mapping[str, Sequence[float]]  # name -> its values, ascending
    predict: Callable[..., Sequence[str] | np.ndarray]
    points: np.ndarray
    true: Sequence[str] | np.ndarray
    about: str = ""
    start: Mapping[str, float] = field(default_factory=dict)  # first value of a slider; else its middle one

    def __post_init__(self) -> None:
        for name, values in self.sliders.items():
            if not len(values):
                raise ValueError(f"slider {name!r} has no values")
        if len(self.points) != len(self.true) or not len(self.points):
            raise ValueError(f"{len(self.points)} points and {len(self.true)} classes; one for each, at least one")

    def begin(self) -> dict[str, float]:
        """A value for each slider."""
        return {name: self.start.get(name, values[len(values) // 2]) for name, values in self.sliders.items()}

    def answers(self, **values: Any) -> np.ndarray:
        """Class names (m,) answered at these values."""
        return np.asarray(self.predict(**values), object)

    def accuracy(self, **values: Any) -> float:
        return float(np.mean(self.answers(**values) == np.asarray(self.true, object)))

    def sweep(self, name: str, values: Mapping[str, float]) -> list[tuple[float, float]]:
        """(value, accuracy) for each value of one slider, the others held."""
        return [(value, self.accuracy(**{**values, name: value})) for value in self.sliders[name]]
