"""The panels beside the explorer's maps: an item, a selection, what moved between two spaces, and sliders."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets as w
import numpy as np
import pandas as pd

from xmodal_lib.views import controls, panels

if TYPE_CHECKING:
    from xmodal_lib.views.explorer import Explorer

LINES = 400  # items of a selection that are joined by a line
TILES = 60  # of a gallery
LISTED = 300  # points that can be chosen from a list
ASKED = 2000  # points of a selection whose confusion is told
FIRST = ("choose …", -1)  # of a list one may choose from
HELP = ("Take the lasso at the map's left edge (or press long) and draw around points; click a point to open it; "
        "drag to move, scroll to zoom. By keys: search, then select all that is shown.")  # fmt: skip


class ItemPanel:
    """The item of a point in all its modalities, and the point's nearest neighbours in each."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        self.html = w.HTML(panels.say(HELP))
        self.go = controls.choice("Go to a neighbour", [FIRST], -1, "100%")
        controls.seen(self.go, False)
        controls.on(self.go, self._go)
        self.box = w.VBox([self.html, self.go])

    def show(self, point: int) -> None:
        e, shelf = self.explorer, self.explorer.shelf
        facts = {
            str(c): v for c, v in e.collection.points.iloc[point].items() if c != "item" and pd.notna(v) and str(v)
        }
        facts |= {c: series.iloc[point] for c, series in e.extra.items() if pd.notna(series.iloc[point])}
        facts = {c: f"{v:.3g}" if isinstance(v, float) else v for c, v in facts.items() if v != shelf.names[point]}
        colour = e.colouring()
        near, parts = e.near(point), []
        for group, part in near.groupby("group", sort=False):
            tiles = [shelf.tile(i, f"cos {c:.2f}", colour.of(i), shelf.items[i] == shelf.items[point])
                     for i, c in zip(part["point"], part["cosine"], strict=True)]  # fmt: skip
            parts.append(f'<h4>nearest {panels.safe(group)}</h4><div class="near">{"".join(tiles)}</div>')
        words = ("A dark frame: a row of the same item. The line below a tile has its colour on the map." if parts
                 else "This point has no place in the space, so it has no neighbours.")  # fmt: skip
        head = panels.item(shelf.names[point], facts, shelf.views(point), colour.of(point))
        self.html.value = head + panels.block(*parts, f'<p class="soft">{words}</p>')
        names = [(f"{shelf.names[i]} ({g}, {c:.2f})", i) for i, g, c in near.itertuples(index=False)]
        controls.put(self.go, -1, [FIRST, *names])
        controls.seen(self.go, bool(names))

    def _go(self, point: int) -> None:
        if point >= 0:
            self.explorer.open(point)


class SelectionPanel:
    """The points of a selection as a gallery, a table and a confusion; and selections by name."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        self.said, self.heard = w.HTML(), w.HTML()
        self.parts = {"Gallery": w.HTML(), "Table": w.HTML(), "Confusion": w.HTML()}
        self.part = w.ToggleButtons(options=list(self.parts), style={"button_width": "auto"})
        controls.on(self.part, lambda name: self._fill())
        self.pick = controls.choice("Open one", [FIRST], -1, "100%")
        controls.on(self.pick, self._open)
        self.sort = controls.choice("Sorted by", ["position", *explorer.columns()], "position", "100%")
        controls.on(self.sort, lambda column: self._list())
        every = controls.button("Select all shown", "every point that passes search and filter",
                                lambda: explorer.select(np.flatnonzero(explorer.shown)))  # fmt: skip
        none = controls.button("Select none", "end the selection", lambda: explorer.select([]))
        self.name = controls.text("Name", "", "for this selection", "190px")
        keep = controls.button("Keep", "keep the selection under this name", self._keep)
        self.kept = controls.choice("Kept", [FIRST], -1, "150px")
        controls.on(self.kept, self._recall)
        self.path = controls.text("File", "selections.json", width="190px")
        save = controls.button("Save", "write all named selections to this file", self._save)
        load = controls.button("Load", "read named selections from this file", self._load)
        rows = [
            controls.bar(every, none),
            controls.bar(self.name, keep, self.kept),
            controls.bar(self.path, save, load),
        ]
        self.box = w.VBox([self.said, self.part, self.sort, *self.parts.values(), self.pick, *rows, self.heard])
        self.show(explorer.selected)

    def show(self, points: np.ndarray) -> None:
        shelf = self.explorer.shelf
        for control in (self.part, self.pick, self.sort):
            controls.seen(control, len(points) > 0)
        if not len(points):
            self.said.value = panels.say(f"Nothing is selected. {HELP}")
            self._clear()
            return
        counts = pd.Series(shelf.classes[points]).value_counts()
        top = ", ".join(f"{name} {n:,}" for name, n in counts.head(4).items())
        top += f" and {len(counts) - 4} more classes." if len(counts) > 4 else "."
        if len(pd.unique(pd.Series(shelf.items[points]))) > LINES:
            top += f" Lines join the first {LINES} items only."
        self.said.value = panels.block(f"<h3>{len(points):,} points selected</h3><p>{panels.safe(top)}</p>")
        self._list()

    def named(self) -> None:
        controls.put(self.kept, -1, [FIRST, *((name, name) for name in self.explorer.selections)])

    def ordered(self) -> np.ndarray:
        """The points of the selection as they are sorted."""
        points, column = self.explorer.selected, self.sort.value
        if column == "position":
            return points
        return points[self.explorer.values(column).iloc[points].reset_index(drop=True).argsort(kind="stable")]

    def _list(self) -> None:
        self._clear()
        shelf = self.explorer.shelf
        listed = [(f"{shelf.names[i]} ({shelf.modality[i]})", i) for i in self.ordered()[:LISTED].tolist()]
        controls.put(self.pick, -1, [FIRST, *listed])
        self._fill()

    def _clear(self) -> None:
        for part in self.parts.values():
            part.value = ""

    def _open(self, point: int) -> None:
        if point >= 0:
            self.explorer.open(point)

    def _fill(self) -> None:
        """Show the part that is looked at; make it when it is looked at first."""
        points, name = self.ordered(), self.part.value
        for other, part in self.parts.items():
            controls.seen(part, other == name)
        if len(points) and not self.parts[name].value:
            make = {"Gallery": self._gallery, "Table": self._table, "Confusion": self._confusion}[name]
            self.parts[name].value = make(points)

    def _gallery(self, points: np.ndarray) -> str:
        colour = self.explorer.colouring()
        tiles = "".join(self.explorer.shelf.tile(i, colour=colour.of(i)) for i in points[:TILES].tolist())
        rest = f'<p class="soft">the first {TILES} of {len(points):,}</p>' if len(points) > TILES else ""
        return panels.block(f'<div class="gallery" tabindex="0" aria-label="gallery">{tiles}</div>{rest}')

    def _table(self, points: np.ndarray) -> str:
        return panels.block(panels.table(self.explorer.collection.points.iloc[points].drop(columns="item")))

    def _confusion(self, points: np.ndarray) -> str:
        some = points[:ASKED]
        answered, by = self.explorer.answers(some)
        cut = f"Of the first {ASKED:,}: " if len(points) > len(some) else ""
        return panels.confusion(self.explorer.shelf.classes[some], answered, by, cut)

    def _keep(self) -> None:
        name = self.name.value.strip()
        self._try(lambda: self.explorer.name_selection(name), f"Kept as “{name}”.")

    def _recall(self, name: str | int) -> None:
        if isinstance(name, str) and (missing := self.explorer.recall(name)):
            self.heard.value = panels.warn(f"{missing} rows of “{name}” are not in this collection.")

    def _save(self) -> None:
        self._try(lambda: self.explorer.save_selections(self.path.value), f"Saved to {self.path.value}.")

    def _load(self) -> None:
        self._try(lambda: self.explorer.load_selections(self.path.value), f"Loaded from {self.path.value}.")

    def _try(self, act: Callable[[], Any], done: str) -> None:
        try:
            act()
            self.heard.value = panels.block(f'<p class="soft" role="status">{panels.safe(done)}</p>')
        except (ValueError, OSError) as problem:
            self.heard.value = panels.warn(str(problem))


class MovedPanel:
    """The points whose neighbourhoods changed most between the spaces of the two maps."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer, self.top = explorer, np.array([], np.int64)
        self.html = w.HTML()
        self.take = controls.button("Select these", "select the points above", lambda: explorer.select(self.top))
        self.box = w.VBox([self.html, self.take])

    def show(self) -> None:
        e, shelf = self.explorer, self.explorer.shelf
        spaces = [e.space(name) for name in e.names]
        controls.seen(self.take, len(set(spaces)) > 1)
        if len(e.names) < 2:
            self.html.value = panels.say("Choose a second map under “Beside it”: this panel compares two.")
            return
        if len(set(spaces)) < 2:
            self.html.value = panels.say(
                f"Both maps are of the space “{spaces[0]}”: no neighbourhood can have changed."
            )
            return
        table, colour = e.moved(), e.colouring()
        top = table.head(30)
        self.top = top["point"].to_numpy()
        words = (f"From “{spaces[0]}” to “{spaces[1]}” a point keeps {table['kept'].mean():.0%} of its ten nearest "
                 f"neighbours on average. Of {len(table):,} points looked at, these changed most:")  # fmt: skip
        lines = pd.DataFrame({"name": shelf.names[self.top], "class": shelf.classes[self.top],
                              "modality": shelf.modality[self.top],
                              "kept": [f"{kept:.0%}" for kept in top["kept"]]})  # fmt: skip
        tiles = "".join(shelf.tile(i, colour=colour.of(i)) for i in self.top[:12].tolist())
        self.html.value = panels.block("<h3>Neighbourhoods that changed</h3>", f"<p>{panels.safe(words)}</p>",
                                       f'<div class="gallery">{tiles}</div><p></p>', panels.table(lines))  # fmt: skip


class StudyPanel:
    """Sliders of a classifier, its accuracy as they move, and a curve along each."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer, names = explorer, list(explorer.studies) or ["none"]
        self.which = controls.choice("Classifier", names, names[0], "100%")
        self.follow = controls.tick("Colour the map by right and wrong", False, "at every move, the points asked")
        self.about, self.shown, self.curves = w.HTML(), w.HTML(), w.HTML()
        self.sliders: dict[str, w.SelectionSlider] = {}
        self.rows = w.VBox([])
        self.box = w.VBox([self.which, self.about, self.shown, self.rows, self.follow, self.curves])
        if explorer.studies:
            controls.on(self.which, self._choose)
            controls.on(self.follow, lambda value: self._move())
            self._choose(names[0])

    def _choose(self, name: str) -> None:
        study = self.explorer.studies[name]
        self.about.value = panels.block(f'<p class="soft">{panels.safe(study.about)}</p>')
        start, style = study.begin(), {"description_width": "96px"}
        self.sliders = {
            label: w.SelectionSlider(options=[(f"{v:g}", v) for v in values], value=start[label], description=label,
                                     style=style, layout={"width": "98%"})
            for label, values in study.sliders.items()
        }  # fmt: skip
        for slider in self.sliders.values():
            controls.on(slider, lambda value: self._move())
        self.rows.children = list(self.sliders.values())
        self._move()

    def _move(self) -> None:
        name, values = self.which.value, {label: slider.value for label, slider in self.sliders.items()}
        study = self.explorer.studies[name]
        accuracy = self.explorer.judge(name, **values)
        if self.follow.value:
            self.explorer.colour_by(self.explorer.SLIDERS)
        words = f'<span class="soft">right of {len(study.points):,} points asked</span>'
        self.shown.value = panels.block(f'<p><span class="big" role="status">{accuracy:.1%}</span> {words}</p>')
        drawn = [panels.curve(study.sweep(label, values), values[label], label) for label in self.sliders]
        self.curves.value = panels.block("<h4>Accuracy along each slider, the others held</h4>", *drawn)
