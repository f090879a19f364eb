"""The accuracy curve with its values on hover: one HTML page, which needs no network.

    accuracy_curve_html(frame, "results/accuracy.html")

plotly.js (4.8 MB) comes from the installed package. By default it lies once beside the pages of a folder, as
plotly.min.js; `library="inside"` puts it into the page instead, and any other value is the address to find it at
(such as "../plotly.min.js").
"""

from __future__ import annotations

import html
import json
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from xmodal_lib.home import replacing
from xmodal_lib.views.plots import COLOURS, MARKERS, curve_points, styles

LIBRARY = "plotly.min.js"
SYMBOLS = dict(
    zip(
        MARKERS,
        ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "star", "triangle-left",
         "triangle-right", "pentagon", "hexagon"),
        strict=True,
    )
)  # fmt: skip
DASHES = ("solid", "dash", "dot", "dashdot")
LAYOUT = {
    "template": "simple_white",
    "margin": {"l": 60, "r": 20, "t": 50, "b": 50},
    "legend": {"itemsizing": "constant", "tracegroupgap": 0},
}


def accuracy_curve_html(
    frame: pd.DataFrame, path: str | Path, *, metric: str = "accuracy", title: str = "", library: str = "beside"
) -> Path:
    """The curve of `plots.accuracy_curve` with exact values on hover; a click on a name hides it, two show it alone."""
    return _write(accuracy_figure(frame, metric, title), Path(path), title or "Accuracy against shots", library)


def accuracy_figure(frame: pd.DataFrame, metric: str = "accuracy", title: str = "") -> go.Figure:
    """The plotly figure behind `accuracy_curve_html`.

    A second track is dotted, with open markers, and hidden until its name is clicked.
    """
    means = curve_points(frame, metric)
    names, tracks = list(means["method"].unique()), list(means["track"].unique())
    look, figure = styles(names), go.Figure()
    for i, name in enumerate(names):
        for t, track in enumerate(tracks):
            part = means[(means["method"] == name) & (means["track"] == track)]
            spread = {"array": part["high"] - part["mean"], "arrayminus": part["mean"] - part["low"], "width": 3}
            symbol = SYMBOLS[look[name]["marker"]] + ("-open" if t else "")
            figure.add_scatter(
                x=part["shot"], y=part["mean"], name=html.escape(f"{name} ({track})" if len(tracks) > 1 else name),
                visible="legendonly" if t else True,
                mode="lines+markers", error_y={"type": "data", "thickness": 1, **spread},
                line={"color": look[name]["color"], "dash": "dot" if t else DASHES[i // len(COLOURS) % 4]},
                marker={"symbol": symbol, "size": 8}, customdata=part[["low", "high", "n"]].to_numpy(),
                hovertemplate="%{fullData.name}<br>%{x} shots: <b>%{y:.1f} %</b>"
                "<br>95 % interval %{customdata[0]:.1f} to %{customdata[1]:.1f}, %{customdata[2]} draws<extra></extra>",
            )  # fmt: skip
    shots = sorted(means["shot"].unique().tolist())
    figure.update_xaxes(title="shots (items a class)", type="log", tickvals=shots, ticktext=[str(s) for s in shots])
    figure.update_yaxes(title=f"{metric} (%)")
    height = max(480, 140 + 20 * len(figure.data))  # the whole legend is seen
    return figure.update_layout(title=html.escape(title), hovermode="closest", height=height, **LAYOUT)


def _write(figure: go.Figure, path: Path, title: str, library: str) -> Path:
    """One page; the same figure gives the same bytes."""
    if library == "inside":
        source = f"<script>{get_plotlyjs()}</script>"
    else:
        source = f'<script src="{html.escape(LIBRARY if library == "beside" else library)}"></script>'
    if library == "beside" and not (path.parent / LIBRARY).is_file():
        with replacing(path.parent / LIBRARY) as partial:
            partial.write_text(get_plotlyjs(), encoding="utf-8")
    chart = json.loads(figure.to_json())
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title>\n'
        f'{source}\n</head><body style="margin:8px;font:14px sans-serif">\n<div id="chart"></div>\n'
        f"<script>\nconst figure = {_embedded(chart)};\n"
        'Plotly.newPlot("chart", figure.data, figure.layout, '
        "{responsive: true, displaylogo: false, scrollZoom: true});\n"
        "</script>\n</body></html>\n"
    )
    with replacing(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def _embedded(value: object) -> str:
    """JSON that cannot end the script it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
