"""The published few-shot draws of a source of `picture_lists`: positions in its lists, index files, episodes.

    source = catalogue.load("dtd")
    drawn = few_shot.draw(source, shot=16, seed=1)
    features = extract(source, encoders, tables=few_shot.wanted(source, [drawn]))
    episode = few_shot.episode(source, drawn, seed=1, tables=features)

An index file is {"train": {"data": [{impath, label, classname}, ...], "indices": [...]}, "val": likewise}. `indices`
are positions in the whole lists; `impath` begins wherever the data were, so that it is compared by its end only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from xmodal_lib.episodes import Episode, few_shot_indices
from xmodal_lib.home import is_file, replacing, said_by
from xmodal_lib.sources.source import Source
from xmodal_lib.sources.split_json import parsed, some
from xmodal_lib.tables import Tables


@dataclass(frozen=True)
class Drawn:
    """Positions in the lists train and val."""

    train: tuple[int, ...]
    val: tuple[int, ...]


def draw(source: Source, *, shot: int, seed: int, max_val_shot: int = 4, fewer: bool = False) -> Drawn:
    """The draw of CoOp and of Lin et al. (see `few_shot_indices`), of the lists as they are, missing files too.

    Raises:
        ValueError: there is no list train, or a class has fewer rows than `shot` and not `fewer`, which takes all.
    """
    learnt, checked = _listed(source, "train")["label"], _listed(source, "val")["label"]
    if not len(learnt):
        raise ValueError(f"{source.name} has no rows to learn from; it is for testing only")
    count = learnt.value_counts()
    if count.min() < shot and not fewer:
        raise ValueError(f"{source.name}: class {count.idxmin()!r} has {count.min()} rows in train; {shot} are needed "
                         "(fewer=True takes all that such a class has)")  # fmt: skip
    codes = pd.factorize(pd.concat([learnt, checked]))[0].tolist()
    split = (codes[: len(learnt)], codes[len(learnt) :])
    train, val = few_shot_indices(*split, shot=shot, seed=seed, max_val_shot=max_val_shot)
    return Drawn(tuple(train), tuple(val))


def read(path: str | Path, source: Source) -> Drawn:
    """The draw of an index file, which must be one of this source.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or not of its form, or a row is not what the source has at its position.
    """
    path = Path(path)
    if not is_file(path):
        raise FileNotFoundError(f"there is no {path}; `few_shot.draw` makes the same draw without it")
    content = parsed(path, "draw it anew")
    try:
        return Drawn(*(_positions(content, part, _listed(source, part)) for part in ("train", "val")))
    except ValueError as error:
        raise ValueError(f"{path.name}, with the lists of {source.name}: {said_by(error)}") from None


def write(path: str | Path, source: Source, drawn: Drawn, prefix: str = "") -> None:
    """Write an index file; `prefix` goes before each path, "./data/dtd/images" in the published one of DTD."""
    place = {c: n for n, c in enumerate(source.tables.classes)}
    names = _names(source)
    content = {}
    for part, positions in (("train", drawn.train), ("val", drawn.val)):
        rows = _listed(source, part).iloc[list(positions)]
        data = [
            {"impath": f"{prefix.rstrip('/')}/{item}" if prefix else item, "label": place[c], "classname": names[c]}
            for item, c in zip(rows["item"], rows["label"], strict=True)
        ]
        content[part] = {"data": data, "indices": list(positions)}
    with replacing(Path(path)) as partial:
        partial.write_text(json.dumps(content, indent=4), "utf-8")


def wanted(source: Source, drawn: Iterable[Drawn]) -> Tables:
    """The rows that these draws need, with the test list and all prompts: what to extract features of, once for all.

    Raises:
        ValueError: a drawn file is missing.
    """
    every = [_items(source, "test", None), *(table.pair for m, table in source.tables.rows.items() if m != "image")]
    for own in drawn:
        every += [_items(source, "train", own.train), _items(source, "val", own.val)]
    return source.tables.take(torch.cat(every).unique())


def episode(source: Source, drawn: Drawn, *, seed: int, tables: Tables | None = None) -> Episode:
    """Learn from the drawn rows of train and all prompts, validate on those of val, classify all of test.

    `tables` are features of the source's rows; by default its row numbers. Rows of other classes than the source's
    tables have are left out. Without a list val there is no validation.

    Raises:
        ValueError: a drawn file is missing, or the tables lack a row that is needed.
    """
    tables = source.tables if tables is None else tables
    images = tables.only("image")
    parts = {}
    for part, positions in (("train", drawn.train), ("val", drawn.val), ("test", None)):
        items = _items(source, part, positions)
        parts[part] = images.take(items)
        if (short := len(items) - len(parts[part]["image"])) > 0:
            raise ValueError(f"{source.name}: the tables given lack {short} of {len(items)} rows of {part}; extract "
                             "features of few_shot.wanted(...)")  # fmt: skip
    support = parts["train"] | tables.only("text") if "text" in tables.modalities else parts["train"]
    return Episode(support, parts["val"] if drawn.val else None, parts["test"], seed)


def _items(source: Source, part: str, positions: Sequence[int] | None) -> torch.Tensor:
    """Items at these positions of a list, all of which must be there; or all that are there."""
    listed = _listed(source, part)
    lines = listed if positions is None else listed.iloc[list(positions)]
    items = torch.tensor(lines.index[lines["label"].isin(source.tables.classes)].to_numpy())
    there = torch.isin(items, source.tables["image"].pair)
    if positions is not None and not there.all():
        names = source.info["image"]["item"].iloc[items[~there].tolist()].tolist()
        raise ValueError(f"{source.name}: {len(names)} of {len(items)} drawn pictures of {part} are not there "
                         f"({some(names)}); `xmodal data check {source.name}` counts all")  # fmt: skip
    return items[there]


def _listed(source: Source, part: str) -> pd.DataFrame:
    """The lines of a list, in its order."""
    frame = source.info["image"]
    if "index" not in frame:
        raise ValueError(f"{source.name} is no data set of lists of pictures; draw with `episodes.draw`")
    return frame[frame["split"] == part]


def _names(source: Source) -> dict[str, str]:
    """{class: its name in the lists}"""
    frame = source.info["image"]
    return dict(zip(frame["label"], frame["name"], strict=True))


def _positions(content: Any, part: str, listed: pd.DataFrame) -> tuple[int, ...]:
    """The indices of one part, each compared with what the list has there."""
    own = content.get(part) if isinstance(content, dict) else None
    if not isinstance(own, dict) or not all(isinstance(own.get(key), list) for key in ("data", "indices")):
        raise ValueError(f"{part} needs the lists data and indices")
    positions = own["indices"]
    if not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < len(listed) for n in positions):
        raise ValueError(f"indices of {part} must be positions 0..{len(listed) - 1}")
    if len(own["data"]) != len(positions) or len(set(positions)) < len(positions):
        raise ValueError(f"{part} has {len(own['data'])} rows of data and {len(set(positions))} different indices")
    items, names = listed["item"].tolist(), listed["name"].tolist()
    for n, row in zip(positions, own["data"], strict=True):
        given = row if isinstance(row, dict) else {}
        path = f"/{given.get('impath', '')}".replace("\\", "/")
        if not path.endswith(f"/{items[n]}") or given.get("classname") != names[n]:
            said = f"{path[1:80]!r} of class {str(given.get('classname'))[:40]!r}"
            raise ValueError(f"index {n} of {part} is {said}; the list has {items[n]!r} of {names[n]!r} there")
    return tuple(positions)
