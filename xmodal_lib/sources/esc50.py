"""ESC-50 (Piczak 2015): 2,000 sounds of five seconds in 50 classes and five folds; audio.

`meta/esc50.csv` (filename, fold, target, category) and `audio/*.wav`, in the folder given or in `ESC-50-master/` or
`ESC-50/` below it. All of it is documented.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from xmodal_lib.sources import listing, lists
from xmodal_lib.sources.listing import Item
from xmodal_lib.sources.source import Source

FOLDERS = ("", "ESC-50-master", "ESC-50")
FOLDS = ("1", "2", "3", "4", "5")
LICENCE = "CC BY-NC 3.0"


def load(root: str | Path, fold: int = 5) -> Source:
    """A row a clip, with its fold, target and `order`, the line of the table. Opened, it is at 16 kHz as everywhere.

    split: clips of `fold` are test, those of the fold before it (5 before 1) val, the others train. The folds are
    published; that one is for validation is our choice.

    Raises:
        FileNotFoundError: the table, or all clips, are missing.
        ValueError: there is no such fold, or a line of the table is not of its form.
    """
    if str(fold) not in FOLDS:
        raise ValueError(f"fold is {fold!r}; ESC-50 has {', '.join(FOLDS)}")
    part = {str(fold): "test", str((fold - 2) % 5 + 1): "val"}
    items = [Item(c.id, c.label, c.media, split=part.get(c.more["fold"], "train"), more=c.more)
             for c in clips(Path(root))]  # fmt: skip
    classes = sorted({item.label for item in items})
    return listing.build("esc50", "clips", items, classes, ("audio",), LICENCE, {"": 2000, "classes": 50})


def clips(root: Path, label_of: Mapping[str, str] | None = None) -> list[Item]:
    """The clips in the order of the table; of the categories of `label_of` only, if given, and labelled as it says."""
    path = next((p for f in FOLDERS if (p := root / f / "meta" / "esc50.csv").is_file()), None)
    if path is None:
        raise FileNotFoundError(f"there is no {root / 'meta' / 'esc50.csv'}; get ESC-50")
    items = []
    for number, row in enumerate(csv.DictReader(io.StringIO(lists.text_of(path))), 2):
        name, category, fold = (row.get(key) or "" for key in ("filename", "category", "fold"))
        if not name.endswith(".wav") or "/" in name or "\\" in name or not category or fold not in FOLDS:
            raise ValueError(f"{path.name}, line {number}: needed are filename, NAME.wav, fold, 1 to 5, and category")
        if label_of is None or category in label_of:
            media = {"audio": listing.sound(path.parents[1] / "audio" / name)}
            more = {"member": category, "fold": fold, "target": row.get("target") or "", "order": number - 2}
            items.append(Item(name[:-4], label_of[category] if label_of else category, media, more=more))
    return items
