"""What the cells of a notebook call: show a figure or a table and keep it, write the metrics, show a source."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from xmodal_lib.home import replacing
from xmodal_lib.views import plots


@dataclass(frozen=True)
class Results:
    """The folder a notebook writes to: its parameter `out`. With "" everything is shown and nothing is kept."""

    out: str

    def figure(self, fig: Figure, name: str, alt: str) -> None:
        """Show a figure; keep it as PDF, SVG and PNG with its text alternative."""
        display(fig, metadata={"image/png": {"alt": alt}})
        if self.out:
            plots.save(fig, self.out, name, alt=alt)

    def table(self, frame: pd.DataFrame, name: str) -> None:
        """Keep a table as parquet."""
        if self.out:
            with replacing(Path(self.out, f"{name}.parquet")) as path:
                frame.to_parquet(path)

    def metrics(self, **values: float) -> None:
        """Keep the headline numbers, flat, as metrics.json."""
        if self.out:
            with replacing(Path(self.out, "metrics.json")) as path:
                path.write_text(json.dumps({k: float(v) for k, v in values.items()}, indent=1), encoding="utf-8")


def show_source(thing: Callable[..., Any]) -> Markdown:
    """The code of a function, method or class as it stands in the library: read it here, not a pasted copy."""
    lines = inspect.cleandoc("\n" + inspect.getsource(thing))
    return Markdown(f"`{thing.__module__}.{thing.__qualname__}`\n\n```python\n{lines}\n```")


def percent(frame: pd.DataFrame, index: str, columns: str) -> pd.DataFrame:
    """A summary (columns mean, low, high) as a table of per cent with its interval: "41.2 ± 1.3"."""
    from xmodal_lib.evaluate import per_cent  # with torch, which the explorer does without

    cell = [per_cent(*line) for line in frame[["mean", "low", "high"]].itertuples(index=False)]
    table = frame.assign(cell=cell).pivot(index=index, columns=columns, values="cell")
    table = table.reindex(index=frame[index].unique(), columns=sorted(frame[columns].unique()))
    return table.rename_axis(columns=columns).fillna("")


def live() -> bool:
    """Is somebody at the notebook? Widgets are shown only then: a stored widget is an empty box to a reader."""
    return not os.environ.get("XMODAL_HEADLESS")


def slider(show: Callable[[float], Any], *, start: float = 0.5, label: str = "", step: float = 0.05) -> None:
    """A slider over 0..1 that calls `show(value)` as it moves; nothing where nobody is there to move it."""
    if live():
        import ipywidgets

        knob = ipywidgets.FloatSlider(value=start, min=0, max=1, step=step, description=label)
        display(ipywidgets.VBox([knob, ipywidgets.interactive_output(show, {"value": knob})]))
