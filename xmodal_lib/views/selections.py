"""Named selections of points, kept by row id: they outlast the session, a filter, and another order of the points.

save("selections.json", {"odd ones": ["image 12", "speech 40"]})
points, missing = find(collection.points["row"], load("selections.json")["odd ones"])
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from xmodal_lib.home import replacing

Named = Mapping[str, Sequence[str]]  # name -> row ids
KIND = "xmodal selections"


def save(path: str | Path, selections: Named) -> Path:
    """Write all selections as one JSON file, readable by people."""
    content = {"kind": KIND, "selections": {name: [str(row) for row in rows] for name, rows in selections.items()}}
    with replacing(Path(path)) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return Path(path)


def load(path: str | Path) -> dict[str, list[str]]:
    """What `save` wrote.

    Raises:
        ValueError: there is no such file, or it holds no selections.
    """
    try:
        content = json.loads(Path(path).read_text("utf-8"))
    except OSError:
        raise ValueError(f"{path}: there is no such file of selections") from None
    except ValueError as error:
        raise ValueError(f"{path}: not a file of selections ({error})") from None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise ValueError(f"{path}: not a file of selections")
    return {str(name): [str(row) for row in rows] for name, rows in content["selections"].items()}


def find(rows: Iterable[str], wanted: Sequence[str]) -> tuple[np.ndarray, int]:
    """Positions among `rows` of the wanted ids, ascending, and how many of them are not there."""
    place = pd.Index(list(rows)).get_indexer(pd.Index(list(dict.fromkeys(wanted)), dtype=object))
    return np.sort(place[place >= 0]), int((place < 0).sum())
