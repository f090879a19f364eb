"""The explorer's widgets: controls above, maps on the left, panels on the right.

A control calls a method of the `Explorer`; the explorer then says what changed (`selected`, `filtered`, ...), and the
bench draws that. So a click, a key and a line of code do the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as w
import numpy as np
import pandas as pd

from xmodal_lib.views import controls, neighbours, panels
from xmodal_lib.views.explorer_panels import LINES, ItemPanel, MovedPanel, SelectionPanel, StudyPanel
from xmodal_lib.views.live_map import LiveMap
from xmodal_lib.views.shelf import FACTS

if TYPE_CHECKING:
    from xmodal_lib.views.explorer import Explorer

INK, PAIR, GAP = "#1d2733", (0.35, 0.4, 0.46, 0.55), "#CC79A7"
NAMED = 60  # prototypes that get a label
WIDE = (1.25, 0.9)  # width of a map over its height, at least: alone, and beside another
TOOLS = 50  # pixels of width of a map's own toolbar and frame
ONE, ALL, NONE = "one map only", "everything", "none"


class Bench:
    def __init__(self, explorer: Explorer) -> None:
        self.explorer, self.shelf = explorer, explorer.shelf
        self.maps: list[LiveMap] = []
        modalities = self.shelf.modalities
        self.sizes = np.linspace(6, 11, max(len(modalities), 2))[: len(modalities)].tolist()  # pixels, by modality
        self.seats = [Seat(explorer), Seat(explorer)]
        self.board = w.HBox([], layout={"grid_gap": "10px", "width": "100%"})
        self.legend, self.head = w.HTML(), w.HTML()
        self.item, self.selection = ItemPanel(explorer), SelectionPanel(explorer)
        self.changes, self.study = MovedPanel(explorer), StudyPanel(explorer)
        self._controls()
        self._draw_with()
        rows = [w.HTML(panels.STYLE), self.head, *self._bars(), self._body()]
        self.box = w.VBox(rows, layout={"width": "100%"})
        self.box.add_class("xm-all")
        self._over: dict[str, tuple[list[Any], list[Any]]] = {}  # what is drawn over a map, but for the pairs
        self._placed: dict[tuple[str, str], list[tuple[str, np.ndarray]]] = {}  # prototypes, which take a while
        self._ready = False  # draw over the points once, not at each of these
        self.mapped()
        self.coloured()
        self.filtered()
        self._ready = True
        self._lines()
        if len(explorer.selected):
            self.selected()

    # -- what the explorer tells -------------------------------------------------------------------------------------

    def selected(self) -> None:
        points = self.explorer.selected
        for live in self.maps:
            live.select(points)
        self._lines(fresh=False)
        self.selection.show(points)
        if len(points) == 1:
            self.item.show(int(points[0]))
        if len(points):
            self.tabs.value = "Item" if len(points) == 1 else "Selection"

    def coloured(self) -> None:
        colours = self.explorer.colouring()
        for live in self.maps:
            live.colour(colours.codes, list(colours.colours.values()))
        controls.put(self.colour, self.explorer.column, self.explorer.columns())
        self._legend()
        self._lines()

    def filtered(self) -> None:
        shown, self._placed = self.explorer.shown, {}
        for live in self.maps:
            live.filter(shown)
        n = int(shown.sum())
        none = panels.warn("Nothing matches. “Show all” brings the points back.")
        some = panels.block(f'<p class="soft" role="status">{n:,} of {len(shown):,} points shown</p>')
        self.status.value = some if n else none
        self._legend()
        self._lines()

    def mapped(self) -> None:
        names, colours = self.explorer.names, self.explorer.colouring()
        for k, (seat, name) in enumerate(zip(self.seats, names, strict=False)):
            if k == len(self.maps):
                self._add(name, seat)
                self.maps[k].colour(colours.codes, list(colours.colours.values()))
                self.maps[k].filter(self.explorer.shown)
                self.maps[k].select(self.explorer.selected)
            elif seat.name != name:
                self.maps[k].move(self.explorer.collection.maps[name])
            seat.show(name)
        wide, shown = WIDE[len(names) - 1], self.seats[: len(names)]
        self.left.layout.flex = f"{len(names) + 2} 1 {len(names) * (wide * self.explorer.height + TOOLS):.0f}px"
        for live in self.maps:
            live.widen(wide)
        for seat in self.seats[: len(self.maps)]:  # hidden, not taken away: the map of it would raise an error
            controls.seen(seat.box, seat in shown)
        controls.put(self.first, names[0])
        controls.put(self.second, names[1] if len(names) > 1 else ONE)
        self.link.disabled = len(names) < 2
        self.head.value = self._heading()
        self._turn(self.tabs.value)
        self._lines()
        # last: a map that is already shown may miss what comes later
        self.board.children = [seat.box for seat in self.seats[: len(self.maps)]]

    def named(self) -> None:
        self.selection.named()

    def judged(self) -> None:
        controls.put(self.colour, self.explorer.column, self.explorer.columns())

    # -- the controls ------------------------------------------------------------------------------------------------

    def _controls(self) -> None:
        e, maps = self.explorer, list(self.explorer.collection.maps)
        self.first = controls.choice("Map", maps, e.names[0])
        self.second = controls.choice("Beside it", [ONE, *maps], ONE)
        self.colour = controls.choice("Colour", e.columns(), e.column)
        self.search = controls.text("Search", placeholder="words, then Enter", width="210px")
        few = [c for c in e.columns() if c in e.collection.points and e.values(c).nunique() <= 200]
        self.by = controls.choice("Show only", [ALL, *few], ALL)
        self.values = w.SelectMultiple(options=[], rows=4, layout={"width": "170px"})
        self.values.tooltip = "values to keep; hold Ctrl for several"
        controls.seen(self.values, False)
        self.status = w.HTML()
        names = [t for t in ("Item", "Selection", "Moved", "What if") if t != "What if" or e.studies]
        self.tabs = w.ToggleButtons(options=names, style={"button_width": "auto"})
        self.tabs.add_class("xm-tabs")
        for control in (self.first, self.second):
            controls.on(control, lambda _: e.set_maps(*self._chosen()))
        controls.on(self.colour, e.colour_by)
        controls.on(self.search, e.search)
        controls.on(self.by, self._choose_column)
        controls.on(self.values, lambda values: e.keep(self.by.value, values))
        self.tabs.observe(lambda change: self._turn(change["new"]), "value")

    def _draw_with(self) -> None:
        """Controls of what is drawn over the points."""
        e, modalities = self.explorer, self.shelf.modalities
        self.proto = controls.choice("Class prototypes of", [NONE, *modalities], modalities[0])
        self.pairs = controls.tick("Pairs as lines", True, "join the rows of each selected item")
        self.anchor = controls.tick("Text anchors", False, "mark the words of the classes")
        self.gap = controls.tick("Modality gap", False, "join the centres of the modalities")
        self.link = controls.tick("Zoom together", False, "move and zoom both maps")
        self.anchor.disabled, self.gap.disabled = not e.anchors.any(), len(modalities) < 2
        for control in (self.proto, self.pairs, self.anchor, self.gap):
            controls.on(control, lambda _: self._lines())
        controls.on(self.link, self._link)

    def _bars(self) -> list[w.Widget]:
        clear = controls.button("Show all", "end search and filter", self._clear)
        seen = [self.first, self.second, self.colour, self.search, self.by, self.values, clear, self.status]
        return [controls.bar(*seen), controls.bar(self.proto, self.anchor, self.pairs, self.gap, self.link)]

    def _body(self) -> w.Widget:
        self.panes: dict[str, Any] = {
            "Item": self.item,
            "Selection": self.selection,
            "Moved": self.changes,
            "What if": self.study,
        }
        left = w.VBox([self.board, self.legend], layout={"min_width": "300px"})
        boxes = [pane.box for pane in self.panes.values()]
        side = w.VBox([self.tabs, *boxes], layout={"flex": "2 1 360px", "min_width": "300px"})
        side.add_class("xm-panel")
        self.left = left
        layout = {"flex_flow": "row wrap", "grid_gap": "12px", "align_items": "flex-start", "width": "100%"}
        return w.HBox([left, side], layout=layout)

    def _chosen(self) -> list[str]:
        return [self.first.value, *([self.second.value] if self.second.value != ONE else [])]

    def _choose_column(self, column: str) -> None:
        controls.seen(self.values, column != ALL)
        values = [] if column == ALL else sorted(self.explorer.values(column).astype(str).unique())
        controls.put(self.values, (), values)
        self.explorer.keep(column, ())

    def _clear(self) -> None:
        controls.put(self.search, "")
        controls.put(self.by, ALL)
        controls.seen(self.values, False)
        self.explorer.show_all()

    def _link(self, together: bool) -> None:
        for live in self.maps:
            live.widget.view_sync = f"xmodal-{id(self)}" if together else None

    def _turn(self, name: str) -> None:
        for other, pane in self.panes.items():
            controls.seen(pane.box, other == name)
        if name == "Moved":
            self.changes.show()

    # -- the maps ----------------------------------------------------------------------------------------------------

    def _add(self, name: str, seat: Seat) -> None:
        sizes = pd.Index(self.shelf.modalities).get_indexer(pd.Index(self.shelf.modality))
        live = LiveMap(self.explorer.collection.maps[name], size=sizes, sizes=self.sizes, height=self.explorer.height,
                       facts=FACTS, card=self.shelf.card, wide=WIDE[0])  # fmt: skip
        live.on_select(self.explorer.select)
        live.on_hover(lambda point: self._hover(live, point))
        self.maps.append(live)
        seat.frame.children = [live.widget]

    def _hover(self, live: LiveMap, point: int | None) -> None:
        for other in self.maps[: len(self.explorer.names)]:
            if other is not live:
                other.point_at(point)

    def _lines(self, fresh: bool = True) -> None:
        """Pairs of the selection on each map, and prototypes, anchors and gap, which a selection leaves as they are."""
        e = self.explorer
        if not self._ready:
            return
        if fresh:
            self._over = {}
        for live, name in zip(self.maps, e.names, strict=False):
            xy = e.collection.maps[name]
            if name not in self._over:
                self._over[name] = self._marks(live, name, xy)
            lines, labels = self._over[name]
            live.draw([*(self._pairs(xy) if self.pairs.value else []), *lines], labels)

    def _marks(self, live: LiveMap, name: str, xy: np.ndarray) -> tuple[list[Any], list[Any]]:
        """Lines and labels of prototypes, anchors and gap on a map."""
        e, r = self.explorer, live.unit(8)
        lines: list[Any] = []
        labels: list[Any] = []
        if self.proto.value != NONE and e.space(name):
            if (name, self.proto.value) not in self._placed:
                self._placed[name, self.proto.value] = self._prototypes(e.unit(e.space(name)), xy)
            for words, at in self._placed[name, self.proto.value]:
                lines += [(diamond(at, r), INK, 2), (diamond(at, 0.55 * r), self._class_colour(words), 3)]
                labels.append((at[0], at[1] + 2 * r, words))
        if self.anchor.value:
            for point in np.flatnonzero(e.anchors & live.visible):
                lines += [(square(xy[point], r), INK, 2)]
                labels.append((xy[point, 0], xy[point, 1] - 2 * r, f"“{self.shelf.names[point]}”"))
        if self.gap.value:
            for a, b, gap, _ in e.gaps(name).itertuples(index=False):
                ends = np.array([np.nanmean(xy[self.shelf.modality == m], axis=0) for m in (a, b)])
                lines.append((ends, GAP, 4))
                labels.append((*ends.mean(0), f"gap {a} to {b}: {gap:.2f}"))
        return lines, labels

    def _pairs(self, xy: np.ndarray) -> list[Any]:
        e, lines = self.explorer, []
        for point in e.selected[~pd.Series(self.shelf.items[e.selected]).duplicated().to_numpy()][:LINES].tolist():
            own = np.sort(self.shelf.of_item(point))
            own = own[e.shown[own] & np.isfinite(xy[own]).all(1)]
            lines += [(xy[[own[0], other]], PAIR, 1) for other in own[1:]]  # a bend in a line would grow a spike
        return lines

    def _prototypes(self, z: np.ndarray, xy: np.ndarray) -> list[tuple[str, np.ndarray]]:
        own = (self.shelf.modality == self.proto.value) & self.explorer.shown & ~self.explorer.anchors
        names, means = neighbours.prototypes(np.where(own[:, None], z, np.nan), self.shelf.classes)
        at = neighbours.place(z, np.where(own[:, None], xy, np.nan), means[:NAMED])
        return [(name, where) for name, where in zip(names, at, strict=False) if np.isfinite(where).all()]

    def _class_colour(self, name: str) -> str:
        return self.explorer.colouring().colours.get(name, INK) if self.explorer.column == "class" else INK

    # -- words -------------------------------------------------------------------------------------------------------

    def _heading(self) -> str:
        e = self.explorer
        counts = " · ".join(f"{int((self.shelf.modality == m).sum()):,} {m}" for m in self.shelf.modalities)
        gaps = "".join(
            f'<span class="chip"><span class="soft">gap {panels.safe(a)} to {panels.safe(b)}</span> {gap:.2f}</span>'
            for a, b, gap, _ in e.gaps().itertuples(index=False)
        )
        words = panels.safe(f"{counts}, of {pd.Series(self.shelf.items).nunique():,} items")
        title = f"<h3>{panels.safe(e.title)}</h3>" if e.title else ""
        return panels.block(f'{title}<p><span class="soft">{words}</span> &nbsp; {gaps}</p>')

    def _legend(self) -> None:
        e = self.explorer
        colours = e.colouring()
        if colours.ramp:
            words = panels.scale(colours.low, colours.high, list(colours.colours.values()), e.column)
        else:
            words = panels.legend(colours.colours, colours.counts(e.shown), e.column)
        self.legend.value = words + panels.key(dict(zip(self.shelf.modalities, self.sizes, strict=True)))


class Seat:
    """The place of one map: its name, the map, and how far to trust it."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer, self.name = explorer, ""
        self.head, self.foot, self.frame = w.HTML(), w.HTML(), w.VBox([])
        self.frame.add_class("xm-map")
        self.box = w.VBox([self.head, self.frame, self.foot], layout={"flex": "1 1 0", "min_width": "0"})

    def show(self, name: str) -> None:
        self.name, space = name, self.explorer.space(name)
        of = f' <span class="soft">of the space “{panels.safe(space)}”</span>' if space else ""
        self.head.value = panels.block(f"<p><b>{panels.safe(name)}</b>{of}</p>")
        self.foot.value = panels.block(f'<p class="soft">{panels.safe(self.explorer.quality(name))}</p>')


def diamond(at: np.ndarray, r: float) -> np.ndarray:
    return np.asarray(at) + r * np.array([(0, 1), (1, 0), (0, -1), (-1, 0), (0, 1)])


def square(at: np.ndarray, r: float) -> np.ndarray:
    return np.asarray(at) + 0.8 * r * np.array([(-1, -1), (-1, 1), (1, 1), (1, -1), (-1, -1)])
