"""How far a map can be trusted, in words: what is said beside every map, from its `map_quality.quality`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

READABLE, GROUPED = 0.6, 0.3  # shares of kept neighbours, from which on neighbours, or groups, may be read off a map


def note(about: Mapping[str, Any]) -> str:
    """What is said beside a map: its own "note", else a sentence of its "quality", else that nobody measured."""
    if about.get("note"):
        return str(about["note"])
    return trust(about["quality"]) if about.get("quality") else "How far this map can be trusted was not measured."


def trust(measured: Mapping[str, float]) -> str:
    """How far to trust a map with this `quality`, in plain words."""
    overlap, k = measured["overlap"], int(measured["k"])
    words = (
        f"{overlap:.0%} of the {k} nearest neighbours in the space are among the {k} nearest on this map "
        f"(trustworthiness {measured['trustworthiness']:.2f} of 1): "
    )
    if overlap >= READABLE:
        words += "neighbours may be read off it."
    elif overlap >= GROUPED:
        words += "read groups off it, and look single neighbours up in the space."
    else:
        words += "it shows the coarse arrangement only; do not read neighbours off it."
    return words + " Distances between groups and their sizes mean little."


def brief(measured: Mapping[str, float]) -> str:
    """The same in one line, for a map among several."""
    overlap = measured["overlap"]
    words = "read neighbours" if overlap >= READABLE else "read groups only" if overlap >= GROUPED else "coarse only"
    return f"{overlap:.0%} of neighbours kept, trust {measured['trustworthiness']:.2f}: {words}"
