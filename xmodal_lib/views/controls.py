"""Labelled controls of the explorer: every one has its name beside it and is reached by the Tab key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as w


def choice(label: str, options: Any, value: Any = None, width: str = "auto") -> w.Dropdown:
    return w.Dropdown(options=options, value=value, description=label, style={"description_width": "initial"},
                      layout={"width": width})  # fmt: skip


def tick(label: str, value: bool, tooltip: str) -> w.Checkbox:
    return w.Checkbox(value, description=label, tooltip=tooltip, indent=False, layout={"width": "auto"})


def button(label: str, tooltip: str, act: Callable[[], Any]) -> w.Button:
    made = w.Button(description=label, tooltip=tooltip, layout={"width": "auto"})
    made.on_click(lambda _: act())
    return made


def text(label: str, value: str = "", placeholder: str = "", width: str = "200px") -> w.Text:
    """A line of words, handed on at Enter."""
    return w.Text(value, description=label, placeholder=placeholder, continuous_update=False,
                  style={"description_width": "initial"}, layout={"width": width})  # fmt: skip


def bar(*children: w.Widget) -> w.HBox:
    box = w.HBox(children)
    box.add_class("xm-bar")
    return box


def seen(control: w.Widget, there: bool) -> None:
    control.layout.display = "" if there else "none"


def on(control: w.Widget, act: Callable[[Any], Any]) -> None:
    """Call `act(value)` when the reader changes a control, not when `put` does."""
    control.observe(lambda change: None if getattr(control, "quiet", False) else act(change["new"]), "value")


def put(control: w.Widget, value: Any, options: Any = None) -> None:
    """Set a control to what is so already."""
    control.quiet = True
    try:
        if options is not None:
            control.options = options
        control.value = value
    finally:
        control.quiet = False
