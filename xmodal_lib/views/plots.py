"""DataFrame -> figure, ready for a paper: 3.25 or 6.75 inches wide, colours that everybody can tell apart.

    figure = accuracy_curve(frame)                                  # of evaluate(); shows itself in a notebook
    save(figure, "results", "accuracy", alt="Accuracy against shots; ...")

Colour never stands alone: a marker, a line style or a direct label says the same.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.style import context
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from PIL import Image, ImageColor

from xmodal_lib.home import replacing

NARROW, WIDE = 3.25, 6.75  # inches: one column and two
# Okabe and Ito's colours, without the yellow that is too pale for lines
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
GREY = "#B8B8B8"
History = Sequence[tuple[int, float]]  # (step, loss)
RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "legend.fontsize": 6.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "legend.frameon": False,
    "hatch.linewidth": 0.4,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,  # text in the PDF stays text
    "ps.fonttype": 42,
    "svg.hashsalt": "xmodal",  # the ids in an SVG, and so its bytes, repeat
}


class Picture(Figure):
    """A figure that belongs to no window and shows itself in a notebook as a small PNG."""

    def _repr_png_(self) -> bytes:
        with context(["default", RC]):
            raw = _png(self, 110)
        small = io.BytesIO()  # 64 colours are enough to look at, and a third of the bytes in a committed notebook
        _few_colours(Image.open(io.BytesIO(raw)).convert("RGB")).save(small, "PNG", optimize=True)
        return small.getvalue()


def styled(draw: Callable[..., Picture]) -> Callable[..., Picture]:
    """Draws under RC, whatever the user's own matplotlib settings are."""

    @wraps(draw)
    def inside(*args: Any, **kwargs: Any) -> Picture:
        with context(["default", RC]):
            return draw(*args, **kwargs)

    return inside


def styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and line style of each name, in order, so that the same list looks the same in every figure."""
    return {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "ls": DASHES[i // 7 % 4]}
        for i, name in enumerate(names)
    }


@styled
def accuracy_curve(
    frame: pd.DataFrame, *, metric: str = "accuracy", reference: str | None = None, chance: float | None = None,
    title: str = "",
) -> Picture:  # fmt: skip
    """Accuracy (per cent) against shots with 95 % intervals over draws, from the frame of `evaluate`.

    Up to five methods share one panel. More get a panel each, in which all others are grey; `reference` is drawn
    into every panel as a dotted black line. `chance` is in per cent. The validation-free track, where there are two,
    is dashed with open markers.
    """
    means = curve_points(frame, metric)
    names, tracks = list(means["method"].unique()), list(means["track"].unique())
    if reference is not None and reference not in names:
        raise ValueError(f"no method {reference!r} to refer to; there are {', '.join(names)}")
    draw = _one_panel if len(names) <= 5 else _panels
    return draw(means, names, tracks, reference, chance, title)


def curve_points(frame: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """One line a (method, track, shot): mean, low, high in per cent, and n draws; what the curves show.

    Intervals are cut at 0 and 100: with two or three draws a t-interval is wider than an accuracy can be.

    Raises:
        ValueError: a column is missing, or there is no such metric.
    """
    from xmodal_lib.evaluate import summary  # with torch and scipy: seconds that a map need not wait for

    if missing := {"method", "track", "seed", "shot", "metric", "value"} - set(frame.columns):
        raise ValueError(f"the frame has no column {sorted(missing)[0]!r}; give what evaluate() returns, with shots")
    chosen = frame[frame["metric"] == metric]
    if chosen.empty:
        raise ValueError(f"no metric {metric!r}; there are {', '.join(frame['metric'].unique())}")
    means = summary(chosen, ["method", "track", "shot"]).sort_values("shot", kind="stable")
    order = {name: i for i, name in enumerate(chosen["method"].unique())}
    means = means.sort_values("method", key=lambda column: column.map(order), kind="stable")
    return means.assign(**{c: 100 * means[c].clip(0, 1) for c in ("mean", "low", "high")}).reset_index(drop=True)


def _one_panel(
    means: pd.DataFrame, names: list[str], tracks: list[str], reference: str | None, chance: float | None, title: str
) -> Picture:
    figure = Picture(figsize=(WIDE, 2.6), layout="constrained")
    axes, look = figure.subplots(), styles(names)
    for i, name in enumerate(names):
        for t, track in enumerate(tracks):
            part = means[(means["method"] == name) & (means["track"] == track)]
            x = part["shot"] * 2 ** (0.05 * (i - (len(names) - 1) / 2))  # side by side, so that intervals show
            style = look[name] | ({"ls": "--", "mfc": "white"} if t else {})
            error = np.nan_to_num(np.stack([part["mean"] - part["low"], part["high"] - part["mean"]]))
            label = _wrapped(name, 30) if not t else None
            axes.errorbar(x, part["mean"], error, label=label, elinewidth=0.8, capsize=1.5, **style)
    _shot_axis(axes, means)
    axes.set(xlabel="shots (items a class)", ylabel=_chance(axes, chance), title=title)
    handles, labels = axes.get_legend_handles_labels()
    if len(tracks) > 1:
        handles += _track_handles(tracks)
        labels += tracks
    figure.legend(handles, labels, loc="outside right upper", labelspacing=0.7)
    return figure


def _panels(
    means: pd.DataFrame, names: list[str], tracks: list[str], reference: str | None, chance: float | None, title: str
) -> Picture:
    shown = [name for name in names if name != reference]
    columns = 4 if len(shown) > 6 else 3
    rows = math.ceil(len(shown) / columns)
    figure = Picture(figsize=(WIDE, 0.5 + 1.45 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    look = styles(names)
    for axes, name in zip(grid.flat, shown, strict=False):
        for other in shown:
            part = means[(means["method"] == other) & (means["track"] == tracks[0])]
            axes.plot(part["shot"], part["mean"], color=GREY, lw=0.5, zorder=1)
        for t, track in enumerate(tracks):
            part = means[(means["method"] == name) & (means["track"] == track)]
            colour = look[name]["color"]
            axes.fill_between(part["shot"], part["low"], part["high"], color=colour, alpha=0.1 if t else 0.2, lw=0)
            style = {"ls": "--", "mfc": "white"} if t else {}
            axes.plot(part["shot"], part["mean"], **{**look[name], "ls": "-", "ms": 3, **style}, zorder=3)
        if reference is not None:
            part = means[(means["method"] == reference) & (means["track"] == tracks[0])]
            axes.plot(part["shot"], part["mean"], color="black", ls=":", lw=1, zorder=2)
        axes.set_title(_wrapped(name, 27 if columns == 4 else 36), weight="bold", size=6)
        _shot_axis(axes, means)
    ylabel = [_chance(axes, chance) for axes in grid.flat[: len(shown)]][-1]  # when all panels are drawn
    for axes in grid.flat[len(shown) :]:
        axes.remove()
    for column in range(columns):  # the lowest panel of each column carries the shots
        if below := range(column, len(shown), columns):
            grid.flat[below[-1]].tick_params(labelbottom=True)
    figure.supxlabel("shots (items a class)", size=7)
    figure.supylabel(ylabel, size=7)
    handles, labels = [Line2D([], [], color=GREY, lw=0.8)], ["the other methods"]
    if reference is not None:
        handles, labels = [Line2D([], [], color="black", ls=":", lw=1), *handles], [reference, *labels]
    if len(tracks) > 1:
        handles, labels = [*_track_handles(tracks), *handles], [*tracks, *labels]
    above = {"title": title or None, "title_fontsize": 8}  # a title of the figure would lie on the legend
    figure.legend(handles, labels, loc="outside upper center", ncols=len(handles), **above)
    return figure


@styled
def differences(table: pd.DataFrame, *, by: str | None = "shot", title: str = "") -> Picture:
    """Paired differences in points with 95 % intervals, from tables of `paired` put together: a line a comparison.

    A panel for each value of `by`. Filled: the interval leaves out 0; open: it does not.
    """
    table = table.reset_index(drop=True)
    one_b = table["b"].nunique() == 1
    name = table["a"] if one_b else table["a"] + "\nover " + table["b"]
    lines = list(dict.fromkeys(name))
    panels = list(table[by].unique()) if by in table.columns else [None]
    labels = ["\n".join(_wrapped(part, 36) for part in line.split("\n")) for line in lines]
    height = 0.75 + sum(0.1 + 0.11 * (label.count("\n") + 1) for label in labels)
    figure = Picture(figsize=(WIDE if len(panels) > 1 else 4.5, height), layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True, sharex=True, squeeze=False)[0]
    for axes, value in zip(grid, panels, strict=True):
        axes.axvline(0, color="black", lw=0.6)
        chosen = table if value is None else table[table[by] == value]
        for i in chosen.index:
            y, (mean, low, high) = lines.index(name[i]), 100 * chosen.loc[i, ["mean", "low", "high"]].astype(float)
            sure = low > 0 or high < 0
            colour = COLOURS[0] if mean >= 0 else COLOURS[1]
            axes.plot([low, high], [y, y], color=colour, lw=1)
            axes.plot(mean, y, MARKERS[0] if mean >= 0 else "s", color=colour, mfc=colour if sure else "white", ms=4)
        axes.set_title("" if value is None else f"{by} {value}" if by != "shot" else _shots(value))
        axes.grid(axis="y", color="#EEEEEE", lw=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
    grid[0].set_yticks(range(len(lines)), labels)
    grid[0].set_ylim(len(lines) - 0.4, -0.6)
    against = f" to {table['b'][0]}" if one_b else ""
    figure.supxlabel(f"difference{against} within each draw (points), 95 % interval", size=7)
    _title(figure, title)
    return figure


@styled
def confusion(y: Sequence[int], yhat: Sequence[int], classes: Sequence[str], *, title: str = "") -> Picture:
    """How items of each true class (a line) are answered: per cent of the line; cells of 5 % and more say how much."""
    n = len(classes)
    count = np.zeros((n, n))
    np.add.at(count, (np.asarray(y), np.asarray(yhat)), 1)
    share = 100 * count / count.sum(1, keepdims=True).clip(min=1)
    side = NARROW if n <= 10 else WIDE
    figure = Picture(figsize=(side, side * (0.95 if n > 10 else 0.9)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axes.spines[:].set_visible(False)
    for i, j in zip(*np.nonzero(share >= 5), strict=True):
        colour = "white" if share[i, j] > 55 else "black"
        axes.text(j, i, f"{share[i, j]:.0f}", ha="center", va="center", color=colour, size=6.5 if n <= 10 else 5)
    lines = [f"{c} ({int(total)})" for c, total in zip(classes, count.sum(1), strict=True)]
    size = 6.5 if n <= 30 else 195 / n
    axes.set_xticks(range(n), classes, rotation=90, size=size)
    axes.set_yticks(range(n), lines, size=size)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#EEEEEE", lw=0.4)
    axes.tick_params(which="minor", length=0)
    axes.set(xlabel="answered", ylabel="true class (items)", title=title)
    bar = figure.colorbar(image, ax=axes, shrink=0.5, aspect=25, pad=0.01)
    bar.set_label("% of the true class")
    bar.outline.set_visible(False)
    return figure


@styled
def gap(frame: pd.DataFrame, *, title: str = "") -> Picture:
    """The modality gap from the side: rows of two modalities along the line between their centroids.

    `frame` is what `projections.along_gap` returns: columns along, across, modality.
    """
    figure = Picture(figsize=(NARROW, 2.9), layout="constrained")
    top, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2.6))
    gap_panel(top, axes, frame)
    axes.set(ylabel="across (first component)")
    top.set(ylabel="rows", title=title)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, markerscale=2)
    return figure


def gap_panel(top: Axes, axes: Axes, frame: pd.DataFrame) -> None:
    """The rows along the line between the centroids (`axes`), and above how many there are where (`top`)."""
    centres, bins = {}, np.linspace(frame["along"].min(), frame["along"].max() + 1e-9, 41).tolist()
    for i, (name, part) in enumerate(frame.groupby("modality", sort=False)):
        style: Any = {"color": COLOURS[i], "label": name}
        axes.scatter(part["along"], part["across"], s=5, alpha=0.5, lw=0, marker=MARKERS[i], rasterized=True, **style)
        top.hist(part["along"], bins, weights=np.full(len(part), 1 / len(part)), alpha=0.6, color=COLOURS[i])
        centres[name] = part["along"].mean()
    (a, at), (b, bt) = centres.items()
    height = frame["across"].mean()
    arrow = {"arrowstyle": "<->", "lw": 1.2, "color": "black", "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (at, height), (bt, height), arrowprops=arrow)
    note = f"gap {abs(at - bt):.2f}"
    axes.annotate(note, ((at + bt) / 2, height), (0, 4), textcoords="offset points", ha="center", path_effects=_halo())
    axes.set(xlabel=f"along the gap, from {b} to {a}")
    top.set(yticks=[])
    top.spines["left"].set_visible(False)


@styled
def latent_map(
    frame: pd.DataFrame, *, colour: str = "class", shape: str | None = "modality", pair: str | None = None,
    title: str = "", note: str = "", width: float = WIDE,
) -> Picture:  # fmt: skip
    """A map of rows: columns x and y, a column for the colour and one for the marker.

    Up to seven colours get a legend; more are named on the map, at the median of their points. `pair` names a column
    whose equal values are joined by a thin line. `note` goes below (the words of `projections.trust`).
    """
    figure = Picture(figsize=(width, width * 0.8), layout="constrained")
    axes = figure.subplots()
    groups = list(dict.fromkeys(frame[colour]))
    kinds = list(dict.fromkeys(frame[shape])) if shape in frame.columns else [None]
    if pair is not None:
        ends = [part[["x", "y"]].to_numpy() for _, part in frame.groupby(pair) if len(part) > 1]
        axes.add_collection(LineCollection(ends, colors=GREY, lw=0.3, zorder=0, rasterized=True))
    size = float(np.clip(6000 / len(frame), 4, 25)) * width / WIDE
    for k, kind in enumerate(kinds):
        part = frame if kind is None else frame[frame[shape] == kind]
        colours = [COLOURS[groups.index(g) % len(COLOURS)] for g in part[colour]]
        look: Any = {"marker": MARKERS[k], "s": size * (1 + k), "alpha": 0.75, "edgecolors": "black" if k else "none"}
        axes.scatter(part["x"], part["y"], c=colours, lw=0.3 if k else 0, zorder=1 + k, rasterized=True, **look)
    axes.set(xticks=[], yticks=[], title=title)
    axes.spines[:].set_visible(False)
    axes.set_aspect("equal", "datalim")
    handles = [
        Line2D([], [], ls="", marker=MARKERS[k], mfc="#777777", mec="black" if k else "none", mew=0.3, label=kind)
        for k, kind in enumerate(kinds)
        if kind is not None
    ]
    if len(groups) <= len(COLOURS):
        handles += [Line2D([], [], ls="", marker="o", color=COLOURS[i], label=g) for i, g in enumerate(groups)]
    if note:
        figure.supxlabel(_wrapped(note, round(width * 19)), size=6, color="#444444")
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), round(width * 1.3)))
    if len(groups) > len(COLOURS):
        middles = frame.groupby(colour, sort=False)[["x", "y"]].median()
        _spread(figure, axes, {str(g): tuple(middles.loc[g]) for g in groups})
    return figure


@styled
def examples(images: Sequence[Image.Image], captions: Sequence[str], *, columns: int = 8, title: str = "") -> Picture:
    """A contact sheet: pictures in rows, each with its caption below."""
    if len(images) != len(captions) or not len(images):
        raise ValueError(f"{len(images)} pictures and {len(captions)} captions; give as many of both, at least one")
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    side = WIDE / max(columns, 4)
    texts = [_wrapped(str(c), max(int(side * 19), 8), max_lines=3, placeholder=" …") for c in captions]
    below = 0.13 * max(text.count("\n") + 1 for text in texts)
    figure = Picture(
        figsize=(side * columns, rows * (side * 0.92 + below) + (0.2 if title else 0)), layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, text in zip(grid.flat, images, texts, strict=False):
        axes.imshow(np.asarray(image.convert("RGB")))
        axes.text(0.5, -0.04, text, transform=axes.transAxes, ha="center", va="top", size=6)
    _title(figure, title)
    return figure


@styled
def loss_curve(
    history: History | Mapping[str, History] | pd.DataFrame, *, y: str = "loss", log: bool = False, title: str = ""
) -> Picture:
    """Loss against steps: a history [(step, loss), ...], several by name, or a frame with columns step, loss, name."""
    frame = history if isinstance(history, pd.DataFrame) else _history(history)
    figure = Picture(figsize=(NARROW, 2.0), layout="constrained")
    axes = figure.subplots()
    names = list(frame["name"].unique()) if "name" in frame.columns else [""]
    look = styles(names)
    for name in names:
        part = frame[frame["name"] == name] if name else frame
        every = max(len(part) // 8, 1)
        axes.plot(part["step"], part["loss"], label=name, markevery=every, **{**look[name], "ms": 3})
    axes.set(xlabel="step", ylabel=y, title=title, yscale="log" if log else "linear")
    if names != [""]:
        figure.legend(loc="outside lower center", ncols=min(len(names), 2))
    return figure


@styled
def sweep(frame: pd.DataFrame, x: str, y: str, *, mark: float | None = None, title: str = "") -> Picture:
    """One number against a setting: columns `x` and `y` (a share, shown in per cent); `mark` is a value to point at."""
    figure = Picture(figsize=(NARROW, 2.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(frame[x], 100 * frame[y], marker="o", ms=2.5, color=COLOURS[0])
    if mark is not None:
        axes.axvline(mark, color="#777777", lw=0.6, ls=(0, (1, 3)))
    axes.grid(axis="y", color="#EEEEEE", lw=0.6)
    axes.set(xlabel=x, ylabel=f"{y} (%)", title=title)
    return figure


@styled
def cost(frame: pd.DataFrame, x: str, y: str, *, title: str = "") -> Picture:
    """Accuracy (`y`, a share) against cost (`x`, CPU seconds, log axis): a point a method, named at the side."""
    frame = frame.sort_values(y, ascending=False)
    figure = Picture(figsize=(WIDE, 2.8), layout="constrained")
    axes, look = figure.subplots(), styles(list(frame["method"]))
    for _, line in frame.iterrows():
        style = look[line["method"]] | {"ls": ""}
        axes.plot(max(line[x], 0.01), 100 * line[y], label="\n".join(textwrap.wrap(line["method"], 34)), **style)
    axes.set_xscale("log")
    axes.grid(color="#EEEEEE", lw=0.6)
    axes.set(xlabel="CPU seconds of a fit (0.01 and less at the left edge)", ylabel="accuracy (%)", title=title)
    figure.legend(loc="outside right center", labelspacing=0.6)
    return figure


@styled
def waveforms(waves: Mapping[str, Any], *, rate: int = 16_000, title: str = "") -> Picture:
    """Sounds below each other, on one time axis: {caption: (T,) samples at `rate` Hz}."""
    figure = Picture(figsize=(WIDE, 0.35 + 0.55 * len(waves)), layout="constrained")
    grid = figure.subplots(len(waves), 1, sharex=True, sharey=True, squeeze=False)
    for axes, (caption, wave) in zip(grid.flat, waves.items(), strict=True):
        samples = np.asarray(wave)
        axes.plot(np.arange(len(samples)) / rate, samples, lw=0.4, color=COLOURS[0], rasterized=True)
        axes.set_ylabel("\n".join(textwrap.wrap(caption, 18)), rotation=0, ha="right", va="center")
        axes.set_yticks([])
        axes.spines[["left", "bottom"]].set_visible(axes is grid.flat[-1])
        axes.spines["left"].set_visible(False)
        axes.tick_params(bottom=axes is grid.flat[-1])
    grid.flat[-1].set_xlabel("seconds")
    _title(figure, title)
    return figure


@styled
def shares(frame: pd.DataFrame, *, label: str = "share of the class weight", title: str = "") -> Picture:
    """Stacked bars: one line of `frame` a class (its index), one column a part; the parts of a line sum to 1."""
    figure = Picture(figsize=(NARROW if len(frame) <= 12 else WIDE, 0.9 + 0.14 * len(frame)), layout="constrained")
    axes, left = figure.subplots(), np.zeros(len(frame))
    for i, name in enumerate(frame.columns):
        hatch = ("", "////", "....", "xxxx")[i % 4]
        axes.barh(
            range(len(frame)), frame[name], left=left, color=COLOURS[i], ec="white", lw=0.4, hatch=hatch, label=name
        )
        left += frame[name].to_numpy()
    axes.set_yticks(range(len(frame)), [str(c) for c in frame.index])
    axes.set(xlim=(0, 1), ylim=(len(frame) - 0.5, -0.5), xlabel=label, title=title)
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=len(frame.columns))
    return figure


def save(figure: Figure, folder: str | Path, name: str, *, alt: str) -> list[Path]:
    """Write NAME.pdf, NAME.svg, NAME.png (200 dots an inch) and NAME.txt, the text for who cannot see the picture.

    The same figure gives the same bytes.

    Raises:
        ValueError: the text is empty.
    """
    if not alt.strip():
        raise ValueError(f"figure {name!r} has no alt text; say in a sentence or two what it shows")
    folder, written = Path(folder), []
    with context(["default", RC]):
        pdf = {"CreationDate": None, "ModDate": None, "Creator": "xmodal", "Producer": "xmodal", "Title": name}
        content = {
            "pdf": _bytes(figure, "pdf", metadata=pdf),
            "svg": _bytes(
                figure, "svg", metadata={"Date": None, "Creator": "xmodal", "Title": name, "Description": alt}
            ),
            "png": _png(figure, 200),
            "txt": alt.strip().encode() + b"\n",
        }
    for suffix, raw in content.items():
        with replacing(folder / f"{name}.{suffix}") as path:
            path.write_bytes(raw)
        written.append(folder / f"{name}.{suffix}")
    return written


def _bytes(figure: Figure, kind: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=settings.pop("dpi", 300), **settings)
    return buffer.getvalue()


def _png(figure: Figure, dpi: int) -> bytes:
    return _bytes(figure, "png", dpi=dpi, metadata={"Software": None})


def _few_colours(picture: Image.Image) -> Image.Image:
    """Each pixel as the nearest of 64 colours, COLOURS and white among them: a median cut alone may turn blue teal."""
    own = [value for colour in (*COLOURS, "#FFFFFF") for value in ImageColor.getrgb(colour)]
    palette = (picture.quantize(56).getpalette() or [])[: 56 * 3] + own
    pixels = np.asarray(picture).astype(np.int64) @ (1 << 16, 1 << 8, 1)  # (h, w)
    shades, place = np.unique(pixels, return_inverse=True)
    rgb = np.stack([shades >> 16, shades >> 8 & 255, shades & 255], 1)  # (n, 3)
    nearest = np.square(rgb[:, None] - np.reshape(palette, (-1, 3))).sum(2).argmin(1)
    few = Image.fromarray(nearest[place].reshape(pixels.shape).astype(np.uint8))
    few.putpalette(palette)
    return few


def _shot_axis(axes: Axes, means: pd.DataFrame) -> None:
    shots = sorted(means["shot"].unique())
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(shots))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(shots[0] / 1.2, shots[-1] * 1.2)
    axes.grid(axis="y", color="#EEEEEE", lw=0.6)
    axes.set_axisbelow(True)


def _chance(axes: Axes, chance: float | None) -> str:
    """A line at chance where it does not squeeze the curves; the axis label says it in any case."""
    if chance is None:
        return "accuracy (%)"
    low, high = axes.get_ylim()
    if chance > low - 0.2 * (high - low):
        axes.axhline(chance, color="#777777", lw=0.6, ls=(0, (1, 3)))
    return f"accuracy (%; chance {chance:.1f})"


def _track_handles(tracks: Sequence[str]) -> list[Line2D]:
    looks = [{"ls": "-"}, {"ls": "--", "mfc": "white"}]
    return [Line2D([], [], color="#555555", marker="o", ms=3, lw=1, **look) for look in looks[: len(tracks)]]  # type: ignore[arg-type]


def _history(history: History | Mapping[str, History]) -> pd.DataFrame:
    named = history if isinstance(history, Mapping) else {"": history}
    lines = [(step, loss, name) for name, steps in named.items() for step, loss in steps]
    return pd.DataFrame(lines, columns=["step", "loss", "name"])


def _title(figure: Figure, title: str) -> None:
    if title:
        figure.suptitle(title, size=8)


def _shots(value: int) -> str:
    return f"{value} shot" if value == 1 else f"{value} shots"


def _wrapped(text: str, width: int, **settings: Any) -> str:
    return "\n".join(textwrap.wrap(text, width, break_on_hyphens=False, **settings))


def _halo() -> list:
    return [withStroke(linewidth=2, foreground="white")]


def _spread(figure: Figure, axes: Axes, labels: Mapping[str, tuple[float, float]]) -> None:
    """Write each label at its place, and move those apart that cover one another."""
    canvas = FigureCanvasAgg(figure)
    texts = [axes.text(*at, name, ha="center", va="center", size=6, weight="bold", path_effects=_halo())
             for name, at in labels.items()]  # fmt: skip
    canvas.draw()  # lays the figure out, so that sizes are known
    figure.set_layout_engine("none")
    boxes = [text.get_window_extent() for text in texts]
    half = np.array([[box.width / 2 + 1, box.height / 2 + 1] for box in boxes])
    at = np.array([[(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2] for box in boxes])
    order = np.sign(np.arange(len(at))[:, None] - np.arange(len(at)))  # which goes up where two lie level
    for _ in range(500):
        apart = at[:, None] - at[None]  # (n, n, 2)
        cover = half[:, None] + half[None] - np.abs(apart)
        hit = (cover > 0.5).all(2) & (order != 0)
        if not hit.any():
            break
        up = np.where(np.abs(apart[..., 1]) < 1e-6, order, np.sign(apart[..., 1]))
        at[:, 1] += (hit * up * cover[..., 1]).sum(1) * 0.3  # up and down, since a label is wider than high
    for text, place in zip(texts, axes.transData.inverted().transform(at), strict=True):
        text.set_position(tuple(place))
