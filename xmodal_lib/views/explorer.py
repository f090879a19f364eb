"""The explorer: maps of a collection to move about in, and what is behind their points.

    explorer = Explorer(collection, "t-SNE", beside="t-SNE, adapted")
    explorer.show(results)            # live widgets; where nobody is there to use them, a picture in their place
    explorer.selected                 # positions of the points the reader selected last
    explorer.on_select(print)

Everything a click does is a method here too, so a notebook can do it: `select`, `open`, `colour_by`, `search`, ...
A point is its position in `collection.points`, in every map, filter, order and colour.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from IPython.core.getipython import get_ipython
from IPython.display import display

from xmodal_lib.gap import by_modality, modality_gap
from xmodal_lib.views import map_words, neighbours, plots, selections
from xmodal_lib.views.collection import Collection
from xmodal_lib.views.colours import Colouring, colouring
from xmodal_lib.views.notebook import Results, live
from xmodal_lib.views.shelf import Shelf
from xmodal_lib.views.what_if import Study

NEAR = 5  # neighbours of each modality


class Kept(NamedTuple):
    """The filter: only points with one of these values in this column."""

    column: str
    values: tuple[str, ...]


class Explorer:
    """Maps of a collection, side by side if there are two, and panels: an item, a selection, what moved, what if.

    `label` is the column that names a point, `anchors` a column that is true for points to be marked on the map (the
    words of the classes, say), `predicted` the one with answered classes; without it a point is answered by its five
    nearest neighbours. `studies` are classifiers with sliders.

    Raises:
        ValueError: no such map or column.
    """

    SLIDERS = "right at the sliders"  # the column that a study fills

    def __init__(
        self, collection: Collection, first: str = "", beside: str = "", *, title: str = "", label: str = "name",
        anchors: str = "anchor", predicted: str = "predicted", studies: Mapping[str, Study] | None = None,
        height: int = 520,
    ) -> None:  # fmt: skip
        self.collection, self.title, self.height = collection, title, height
        self.shelf = Shelf(collection, label)
        self.names = [first or next(iter(collection.maps))]  # of the maps that are shown
        for name in (self.names[0], beside):
            if name and name not in collection.maps:
                raise ValueError(f"no map {name!r}; there are {', '.join(collection.maps)}")
        self.names += [beside] if beside else []
        points = collection.points
        self.anchors = points[anchors].eq(True).to_numpy() if anchors in points else np.zeros(len(points), bool)
        self.predicted = points[predicted].astype(str).to_numpy(object) if predicted in points else None
        self.studies = dict(studies or {})
        self.selected = np.array([], np.int64)  # points selected last, sorted
        self.shown = np.ones(len(points), bool)  # points that pass search and filter
        self.selections: dict[str, list[str]] = {}  # name -> row ids
        self.column = "class"  # coloured by
        self._words, self._kept = "", Kept("", ())
        self.extra: dict[str, pd.Series] = {}  # columns that sliders change
        self._units: dict[str, np.ndarray] = {}
        self._gaps: dict[str, pd.DataFrame] = {}
        self._colourings: dict[str, Colouring] = {}
        self._callbacks: list[Callable[[np.ndarray], None]] = []
        self._bench: Any = None

    # -- what can be asked -------------------------------------------------------------------------------------------

    @property
    def selection(self) -> pd.DataFrame:
        """The lines of the points selected last."""
        return self.collection.points.iloc[self.selected]

    def columns(self) -> list[str]:
        """Columns that points can be coloured and filtered by: those whose values come again, and numbers."""
        return [*self._useful, *self.extra]

    @cached_property
    def _useful(self) -> list[str]:
        points = self.collection.points
        useful = [str(c) for c in points if c not in ("row", "item") and self._groups(points[c])]
        first = [c for c in ("class", "modality") if c in useful]
        return [*first, *(c for c in useful if c not in first)]

    @staticmethod
    def _groups(values: pd.Series) -> bool:
        return pd.api.types.is_float_dtype(values) or values.nunique() < max(len(values) / 2, 2)

    def values(self, column: str) -> pd.Series:
        if column not in self.collection.points and column not in self.extra:
            raise ValueError(f"no column {column!r}; there are {', '.join(self.columns())}")
        return self.extra[column] if column in self.extra else self.collection.points[column]

    def colouring(self) -> Colouring:
        if self.column not in self._colourings:  # asked for at every drawing
            self._colourings = {self.column: colouring(self.values(self.column))}
        return self._colourings[self.column]

    def space(self, name: str = "") -> str:
        """The space that a map (the first one) shows; "" if there is none."""
        return self.collection.about.get(name or self.names[0], {}).get("space", next(iter(self.collection.spaces), ""))

    def unit(self, space: str) -> np.ndarray:
        """Unit rows (n, d) of a space, NaN where a point has no place in it."""
        if space not in self._units:
            self._units[space] = neighbours.unit(self.collection.spaces[space])
        return self._units[space]

    def near(self, point: int, k: int = NEAR) -> pd.DataFrame:
        """Nearest neighbours of a point in each modality, in the space of the first map: point, group, cosine."""
        space = self.space()
        if not space:
            return pd.DataFrame(columns=["point", "group", "cosine"])
        return neighbours.nearest(self.unit(space), point, self.shelf.modality, k)

    def gaps(self, name: str = "") -> pd.DataFrame:
        """The modality gap between each two modalities, in the space of a map: a, b, gap, spread."""
        space = self.space(name)
        if space not in self._gaps:
            rows = by_modality(self.unit(space), self.shelf.modality) if space else {}
            self._gaps[space] = modality_gap(rows)
        return self._gaps[space]

    def moved(self) -> pd.DataFrame:
        """Points whose neighbours changed most between the spaces of the two maps: point, kept. Empty for one space."""
        spaces = [self.space(name) for name in self.names]
        if len(set(spaces)) < 2 or "" in spaces:
            return pd.DataFrame(columns=["point", "kept"])
        return neighbours.moved(self.unit(spaces[0]), self.unit(spaces[1]))

    def answers(self, points: np.ndarray) -> tuple[np.ndarray, str]:
        """The class answered for each of these points, and by what, in words."""
        if self.predicted is not None:
            return self.predicted[points], "by the classifier"
        if not self.space():
            return np.full(len(points), "", object), "by nothing: there is no space"
        answered = neighbours.vote(self.unit(self.space()), self.shelf.classes, points)
        return answered, "by the vote of the five nearest other points in the space"

    def quality(self, name: str) -> str:
        """How far to trust a map, in words."""
        words = map_words.note(self.collection.about.get(name, {}))
        return f"{words} {self.collection.off(name)}".strip()

    def alt(self) -> str:
        """The maps in a sentence, for who cannot see them."""
        counts = ", ".join(f"{int((self.shelf.modality == m).sum()):,} {m}" for m in self.shelf.modalities)
        return f"Map of {len(self.shown):,} points ({counts}) coloured by {self.column}: {' and '.join(self.names)}"

    # -- what can be done --------------------------------------------------------------------------------------------

    def on_select(self, callback: Callable[[np.ndarray], None]) -> None:
        """Call `callback(points)` at each selection."""
        self._callbacks.append(callback)

    def select(self, points: Sequence[int] | np.ndarray) -> None:
        """Select these points on every map. One point is opened as an item."""
        self.selected = np.unique(np.asarray(points, np.int64))
        self._tell("selected")
        for callback in self._callbacks:
            callback(self.selected)

    def open(self, point: int) -> None:
        """Show the item of a point in all its modalities, with the point's nearest neighbours."""
        self.select([point])

    def colour_by(self, column: str) -> None:
        self.values(column)  # or an error that says which there are
        self.column = column
        self._tell("coloured")

    def search(self, words: str) -> None:
        """Show only the points in whose texts every one of these words occurs; "" shows all."""
        self._words = words
        self._filter()

    def keep(self, column: str, values: Sequence[str]) -> None:
        """Show only the points with one of these values in a column; no values show all."""
        self._kept = Kept(column, tuple(map(str, values)))
        self._filter()

    def show_all(self) -> None:
        self._words, self._kept = "", Kept("", ())
        self._filter()

    def set_maps(self, *names: str) -> None:
        """Show these maps: one, or two side by side."""
        if unknown := [name for name in names if name not in self.collection.maps]:
            raise ValueError(f"no map {unknown[0]!r}; there are {', '.join(self.collection.maps)}")
        self.names = list(names[:2])
        self._tell("mapped")

    def name_selection(self, name: str) -> None:
        """Keep what is selected now under a name, by row ids.

        Raises:
            ValueError: nothing is selected, or the name is empty.
        """
        if not name.strip() or not len(self.selected):
            raise ValueError("select some points and give a name" if name.strip() else "a selection needs a name")
        self.selections[name.strip()] = self.collection.points["row"].iloc[self.selected].tolist()
        self._tell("named")

    def recall(self, name: str) -> int:
        """Select what was kept under a name; returns how many of its rows this collection does not have."""
        if name not in self.selections:
            raise ValueError(f"no selection {name!r}; there are {', '.join(self.selections) or 'none'}")
        points, missing = selections.find(self.collection.points["row"], self.selections[name])
        self.select(points)
        return missing

    def save_selections(self, path: str | Path) -> Path:
        return selections.save(path, self.selections)

    def load_selections(self, path: str | Path) -> None:
        self.selections |= selections.load(path)
        self._tell("named")

    def judge(self, study: str, **values: Any) -> float:
        """Accuracy of a study at these values of its sliders; column SLIDERS then says which points are right."""
        chosen = self.studies[study]
        right = pd.Series(pd.NA, range(len(self.shown)), dtype="boolean")
        hits = chosen.answers(**values) == np.asarray(chosen.true, object)
        right.iloc[chosen.points] = hits
        self.extra[self.SLIDERS] = right.map({True: "right", False: "wrong"}).astype(object)
        self._colourings.pop(self.SLIDERS, None)
        self._tell("judged")
        return float(hits.mean())

    # -- how it is shown ---------------------------------------------------------------------------------------------

    def picture(self) -> plots.Picture:
        """The first map as a figure, with its quality below."""
        xy = self.collection.maps[self.names[0]]
        there = np.isfinite(xy).all(1)
        frame = pd.DataFrame({"x": xy[:, 0], "y": xy[:, 1], "modality": self.shelf.modality})
        frame["colour"] = self.values(self.column).fillna("no value").to_numpy()
        return plots.latent_map(frame[there], colour="colour", title=self.title, note=self.quality(self.names[0]))

    @property
    def widget(self) -> Any:
        """The live explorer: an ipywidgets box, built when first asked for."""
        if self._bench is None:
            from xmodal_lib.views.bench import Bench  # jupyter-scatter and ipywidgets: only where they are shown

            self._bench = Bench(self)
        return self._bench.box

    def show(self, results: Results | None = None, name: str = "explorer") -> None:
        """Display the explorer; where nobody can use it, its picture."""
        if front_end():
            display(self.widget)
        else:
            (results or Results("")).figure(self.picture(), name, self.alt())

    def _ipython_display_(self) -> None:
        self.show()

    def _tell(self, what: str) -> None:
        if self._bench is not None:
            getattr(self._bench, what)()

    def _filter(self) -> None:
        shown = np.ones(len(self.shown), bool)
        column, values = self._kept
        if values:
            shown &= self.values(column).astype(str).isin(values).to_numpy()
        for word in self._words.lower().split():
            shown &= self._texts.str.contains(word, regex=False).to_numpy()
        self.shown = shown
        self._tell("filtered")

    @cached_property
    def _texts(self) -> pd.Series:
        """All words of a point in lower case, gathered once."""
        points = self.collection.points
        columns = [str(c) for c in points if not pd.api.types.is_numeric_dtype(points[c]) and c != "row"]
        words = points[columns[0]].astype(str)
        for column in columns[1:]:
            words = words + " " + points[column].fillna("").astype(str)
        return words.str.lower()


def front_end() -> bool:
    """Is there somebody who can use a widget? Not under XMODAL_HEADLESS, in a script, or where a tool runs cells.

    JupyterLab, Notebook and VS Code say which cell they run; papermill and nbconvert do not. XMODAL_LIVE=1 overrules.
    """
    if os.environ.get("XMODAL_LIVE"):
        return True
    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None or not live():
        return False
    return "cellId" in kernel.get_parent("shell").get("metadata", {})
