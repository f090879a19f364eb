"""One map drawn by jupyter-scatter (WebGL): points keep their number whatever is coloured, filtered, moved or linked.

A point is its position in the collection, always. Its traps, found by measuring, are dealt with here once:
the data frame has a plain RangeIndex; points that are not on a map stay in it, hidden by the filter; both axes have
one scale, set here, so that lines and labels stay where they belong; a colour is a column of our own, sent anew.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

with warnings.catch_warnings():  # of pandas 3, about how it is used there
    warnings.simplefilter("ignore")
    import jscatter
    from jscatter.label_placement import LabelPlacement, to_js

MARGIN = 0.94  # of the frame -1..1 that a map fills
LIGHT, DARK = "#ffffff", "#1d2733"


class LiveMap:
    """Points of a collection at xy (n, 2), NaN where a point is not on the map.

    `card(point)` gives what hovering shows: a data URI, and values of `facts`. `size` (n,) are pixels. The map is
    `height` pixels high and at least `wide` times as wide, which a flat one uses.
    """

    def __init__(
        self, xy: np.ndarray, *, size: np.ndarray, height: int, facts: Sequence[str],
        card: Callable[[int], tuple[str, Mapping[str, str]]], sizes: Sequence[float] = (4, 7, 10), wide: float = 1,
    ) -> None:  # fmt: skip
        self.n, self.height, self.wide = len(xy), height, wide
        self.shown = np.ones(self.n, bool)  # by the filter
        self._selected: list[Callable[[np.ndarray], None]] = []
        self._hovered: list[Callable[[int | None], None]] = []
        self._labels: list[tuple[float, float, str]] = []
        self._quiet = False
        self._place(xy)
        used, size = np.unique(size, return_inverse=True)
        sizes = [sizes[min(i, len(sizes) - 1)] for i in used]
        data = pd.DataFrame({"x": self.at[:, 0], "y": self.at[:, 1]})
        data["colour"] = pd.Categorical(["all"] * self.n, ["all"])
        data["size"] = _categories(size, len(sizes))
        for name in facts:
            data[name] = ""
        few = max(0.35, min(1.0, (5000 / max(self.n, 1)) ** 0.35))  # many points are drawn smaller
        self.scatter = jscatter.Scatter(
            x="x", y="y", data=data, x_scale=(-1, 1), y_scale=(-1, 1), height=height, color_by="colour",
            color_map=["#0072B2"], size_by="size", size_map=[max(2.0, s * few) for s in sizes],
            opacity=0.85 if self.n < 20_000 else 0.5, opacity_by=None, axes=False, legend=False, background_color=LIGHT,
            camera_distance=self.near,
            color_selected=DARK, lasso_color="#0072B2", lasso_on_long_press=True, tooltip=True,
            reticle_color=(0.1, 0.2, 0.3, 0.12),
            tooltip_properties=list(facts), tooltip_histograms=False, tooltip_preview="x",
            tooltip_preview_type="image", tooltip_preview_image_height=96, tooltip_preview_image_size="contain",
            transition_points_duration=900,
        )  # fmt: skip
        self._hide()
        self.widget = self.scatter.show(["pan_zoom", "lasso", "full_screen", "download", "reset"])
        self.widget._handle_tooltip = lambda event: self._tooltip(event, card)
        self.widget.observe(self._on_selection, "selection")
        self.widget.observe(self._on_hover, "hovering")

    def on_select(self, callback: Callable[[np.ndarray], None]) -> None:
        """Call `callback(points)` when the reader selects points on this map: sorted positions, maybe none."""
        self._selected.append(callback)

    def on_hover(self, callback: Callable[[int | None], None]) -> None:
        """Call `callback(point)` as the pointer comes to a point of this map, with None as it leaves."""
        self._hovered.append(callback)

    def point_at(self, point: int | None) -> None:
        """Ring a point as if the pointer were on it; -1 ends that (None would be taken for point 0)."""
        self._quiet = True
        try:
            self.widget.hovering = -1 if point is None or not self.visible[point] else point
        finally:
            self._quiet = False

    def select(self, points: np.ndarray) -> None:
        """Show these points as selected; nobody is told."""
        self._quiet = True
        try:
            on_it = points[self.visible[points]]
            self.scatter.selection(on_it if len(on_it) else None)
        finally:
            self._quiet = False

    def colour(self, codes: np.ndarray, colours: Sequence[str]) -> None:
        """Colour point i by `colours[codes[i]]`; or, where codes are floats in 0..1, along the ramp `colours`."""
        numbers = np.issubdtype(codes.dtype, np.floating)
        if not numbers:  # colours that no point has would shift those of the others
            used, codes = np.unique(codes, return_inverse=True)
            colours = [colours[i] for i in used]
        self.scatter._data["colour"] = codes if numbers else _categories(codes, len(colours))
        self.scatter.color(by="colour", map=list(colours), norm=(0, 1) if numbers else None, skip_widget_update=True)
        self._send(moving=False)

    def move(self, xy: np.ndarray) -> None:
        """Go over to another map of the same points, by an animation."""
        self._labels = []  # of the other map
        self._place(xy)
        data = self.scatter._data
        data["x"], data["y"] = self.at.T
        self.scatter.xy(x="x", y="y", x_scale=(-1, 1), y_scale=(-1, 1), skip_widget_update=True)
        self.scatter.camera(distance=self.near)
        self._send(moving=True)
        self._hide()

    def widen(self, wide: float) -> None:
        """Be at least `wide` times as wide as high. The height stays: the canvas would not follow it."""
        if wide != self.wide:
            self.wide = wide
            self.scatter.camera(distance=self.near)

    def filter(self, shown: np.ndarray) -> None:
        """Show only these points, a mask (n,)."""
        self.shown = shown
        self._hide()

    @property
    def visible(self) -> np.ndarray:
        """Mask (n,) of the points that are on the map and pass the filter."""
        return self.shown & self.on_map

    def draw(
        self, lines: Sequence[tuple[np.ndarray, str, float]], labels: Sequence[tuple[float, float, str]] = ()
    ) -> None:
        """Lines (vertices (m, 2), colour, width) and labels (x, y, words) over the points, in the map's coordinates.

        Of labels that would overlap, the last is seen; the others come as the reader zooms in.
        """
        drawn = [
            jscatter.Line([tuple(v) for v in self.frame(vertices)], line_color=colour, line_width=width)
            for vertices, colour, width in lines
            if np.isfinite(vertices).all()
        ]
        self.scatter.annotations(drawn)
        labels = [(x, y, words) for x, y, words in labels if np.isfinite([x, y]).all()]
        if labels != self._labels:
            self._labels = labels
            self._label(labels)

    def frame(self, xy: np.ndarray) -> np.ndarray:
        """The map's own coordinates -> the frame -1..1 that is drawn."""
        return (np.asarray(xy, float) - self.middle) / self.half * MARGIN

    def unit(self, pixels: float) -> float:
        """So many pixels, unzoomed, in the map's own coordinates."""
        return float(pixels / (self.height / 2) * self.half / MARGIN * self.near)

    @property
    def near(self) -> float:
        """How far the camera is, 1 showing the whole frame: a map that is flatter than the frame comes nearer."""
        return float(max(self.reach[0] / self.wide, self.reach[1]) / self.half) or 1.0

    # -- how it is done ------------------------------------------------------------------------------------------

    def _place(self, xy: np.ndarray) -> None:
        xy = np.asarray(xy, float)
        self.on_map = np.isfinite(xy).all(1)
        there = xy[self.on_map] if self.on_map.any() else np.zeros((1, 2))
        self.middle = (there.min(0) + there.max(0)) / 2
        self.reach = np.ptp(there, axis=0) / 2
        self.half = float(self.reach.max()) or 1.0
        self.at = np.where(self.on_map[:, None], self.frame(xy), 0.0)

    def _hide(self) -> None:
        visible = self.visible
        self.scatter.filter(None if visible.all() else np.flatnonzero(visible))

    def _send(self, moving: bool) -> None:
        widget = self.widget
        with widget.hold_sync():
            widget.prevent_filter_reset = True
            widget.transition_points = moving
            widget.non_spatial_points_update = not moving
            widget.points = self.scatter.get_point_list()

    def _label(self, labels: Sequence[tuple[float, float, str]]) -> None:
        labels = labels or [(*self.middle, " ")]  # none at all would leave the old ones standing
        # with the corners of the frame: else it takes the labels' own extent for the frame's, and shows what collides
        xy = np.array([*self.frame(np.array([(x, y) for x, y, _ in labels])), (-1, -1), (1, 1)])
        words = pd.Categorical([*(words for *_, words in labels), "", ""])
        frame = pd.DataFrame({"x": xy[:, 0], "y": xy[:, 1], "words": words, "weight": np.arange(len(xy))})
        placed = LabelPlacement(frame, "words!", "x", "y", tile_size=self.height, size=13, color=DARK,
                                background=LIGHT, font=jscatter.arial.bold, exclude=["words:"],
                                importance="weight", positioning="center_of_mass")  # fmt: skip
        with warnings.catch_warnings():  # of pandas 3 too
            warnings.simplefilter("ignore")
            placed.compute()
        self.widget.label_tile_size, self.widget.label_placement = placed.tile_size, placed
        self.widget.labels = to_js(placed.get_labels_from_tiles(self.widget.label_tiles))

    def _on_selection(self, change: Mapping[str, Any]) -> None:
        if self._quiet:
            return
        new = change["new"]
        points = np.sort(np.asarray([] if new is None else new, np.int64))
        for callback in self._selected:
            callback(points)

    def _on_hover(self, change: Mapping[str, Any]) -> None:
        if not self._quiet:
            for callback in self._hovered:
                callback(change["new"])

    def _tooltip(self, event: Mapping[str, Any], card: Callable[[int], tuple[str, Mapping[str, str]]]) -> None:
        preview, facts = card(int(event["index"]))
        self.widget.send(
            {"type": event["type"], "index": event["index"], "preview": preview, "properties": dict(facts)}
        )


def _categories(codes: np.ndarray, n: int) -> Any:
    return pd.Categorical.from_codes(pd.Index(codes), pd.Index([str(i) for i in range(n)]))
