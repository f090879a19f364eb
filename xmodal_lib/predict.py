"""A fitted method with the encoders it needs, on disk; and its answers for files.

    fitted = RidgeProbe().fit(episode.support, episode.val)                 # the quick choice; any method will do
    predict.save(fitted, "models/animals", {"image": bridge["image"]})      # one line in a notebook
    predict.load("models/animals").folder("photos")                         # or: xmodal predict models/animals photos

PATH.safetensors and PATH.json are those of `methods.store`; encoders are named in them by recipe and digest, and only
small heads are copied. A file that cannot be read is reported and passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.encoders.recipes import checked, made
from xmodal_lib.home import Unusable, is_file, said_by
from xmodal_lib.methods import Method, Prompting, store
from xmodal_lib.sources import manifest
from xmodal_lib.tables import Table, Tables

COLUMNS = {"image": "image", "text": "text", "speech": "audio", "audio": "audio"}  # of a CSV, by modality
ANSWER = ("class", "probability")
Skipped = list[tuple[str, str]]  # item, and why


def save(fitted: Method, path: str | Path, encoders: Mapping[str, Encoder]) -> None:
    """Write a fitted method and which encoders make its rows: {modality: Encoder}, those it is to be asked with.

    Raises:
        NotFitted: it has not been fitted.
        ValueError: an encoder was made by hand, or gives rows that the method cannot take.
    """
    fitted._check_fitted()
    if not encoders:
        raise ValueError('no encoder is named; give those that made the rows, such as {"image": towers["image"]}')
    light = fitted.light() if isinstance(fitted, Prompting) else fitted
    for m, encoder in encoders.items():
        recipe = checked(encoder)
        try:
            light.proba(_tables(light, {m: ([encoder.sample], [0])}, {m: encoder}))
        except (RuntimeError, KeyError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise ValueError(f"{type(fitted).__name__} cannot take the {m} rows of the encoder {recipe['name']!r}, "
                             f"which are of shape {encoder.width}: {first}") from error  # fmt: skip
    store.save(light, path, inputs={m: checked(encoder) for m, encoder in encoders.items()})


def load(path: str | Path, checkpoint: str | None = None) -> Classifier:
    """What `save` wrote, its encoders made again; `checkpoint`: where open_clip weights are, if they have moved.

    Raises:
        FileNotFoundError, Unusable, ValueError: as `store.load`; or an encoder is missing or has changed.
    """
    recipes = store.inputs(path)
    if not recipes:
        raise Unusable(f"{path} names no encoder, so it cannot read files; save it with predict.save(fitted, path, "
                       "encoders)")  # fmt: skip
    found = {m: made(recipe, checkpoint) for m, recipe in recipes.items()}
    tails: dict[str, nn.Module] = {m: tail for m, (_, tail) in found.items() if tail is not None}
    return Classifier(store.load(path, tails), {m: encoder for m, (encoder, _) in found.items()})


@dataclass(frozen=True, eq=False)
class Classifier:
    """A fitted method and an encoder for each modality it is asked with."""

    method: Method
    encoders: Mapping[str, Encoder]

    def folder(self, root: str | Path, batch: int = 32) -> tuple[pd.DataFrame, Skipped]:
        """One line a picture below `root` (or for the one picture it is): file, class, probability.

        Raises:
            FileNotFoundError: there is no such folder, or no picture in it.
            ValueError: the method was saved without an image encoder.
        """
        root = Path(root)
        if "image" not in self.encoders:
            raise ValueError(f"a folder holds pictures, and this method reads {', '.join(self.encoders)}; give a CSV")
        one = root.is_file()
        files = [root] if one else sorted(f for f in root.rglob("*") if manifest.is_picture(f))
        if not files:
            raise FileNotFoundError(f"{root} is no folder with pictures in it" if root.is_dir() else
                                    f"there is no folder {root}")  # fmt: skip
        names = [f.name if one else f.relative_to(root).as_posix() for f in files]
        return self._answered(pd.DataFrame({"file": names}), {"image": (names, root.parent if one else root)}, batch)

    def csv(self, path: str | Path, batch: int = 32) -> tuple[pd.DataFrame, Skipped]:
        """One line a line of a CSV, its own columns first. Its columns image, text and audio, those of them that are
        there and that the method reads, say what each item is; cells may be empty, paths are from the CSV's folder.

        Raises:
            FileNotFoundError: there is no such CSV.
            ValueError: it is none, or has no column that the method reads.
        """
        path = Path(path)
        if not is_file(path):
            raise FileNotFoundError(f"there is no file {path}")
        try:
            rows = list(manifest.filled(manifest.decoded(path.read_bytes())))
        except ValueError as error:
            raise ValueError(f"{path.name} is not a CSV: {error}") from None
        header = [name.strip() for name in rows[0][1]] if rows else []
        if twice := next((name for name in header if header.count(name) > 1), None):
            raise ValueError(f"{path.name} names column {twice!r} twice; keep one")
        frame = pd.DataFrame([cells for _, cells in rows[1:]], [n for n, _ in rows[1:]], header, dtype=str)
        read = {m: COLUMNS[m] for m in self.encoders if COLUMNS.get(m) in frame}
        if not read:
            wanted = ", ".join(dict.fromkeys(COLUMNS.get(m, m) for m in self.encoders))
            raise ValueError(
                f"{path.name} has the columns {', '.join(header) or '(none)'}; this method needs one of: {wanted}"
            )
        if own := [c for c in ANSWER if c in frame]:
            raise ValueError(f"{path.name} has a column {own[0]!r} of its own, where the answer is to go; rename it")
        return self._answered(frame, {m: (frame[c].tolist(), path.parent) for m, c in read.items()}, batch)

    def _answered(self, frame: pd.DataFrame, cells: Mapping[str, tuple[Sequence[str], Path]],
                  batch: int) -> tuple[pd.DataFrame, Skipped]:  # fmt: skip
        """The lines of `frame` that have something to read, with class and probability; and those passed over."""
        proba, answered, skipped = [], [], []
        for start in range(0, len(frame), batch):
            rows: dict[str, tuple[list[Any], list[int]]] = {}
            for i in range(start, min(start + batch, len(frame))):
                opened, why = _opened({m: (values[i], folder) for m, (values, folder) in cells.items()})
                skipped += [(place or f"line {frame.index[i]}", reason) for place, reason in why]
                for m, item in opened.items():
                    items, pairs = rows.setdefault(m, ([], []))
                    items.append(item)
                    pairs.append(i)
            if rows:
                tables = _tables(self.method, rows, self.encoders)
                proba.append(self.method.proba(tables))
                answered += tables.items().tolist()
        best, which = torch.cat(proba).max(1) if proba else (torch.empty(0), torch.empty(0, dtype=torch.int64))
        out = frame.iloc[answered].copy()
        out["class"], out["probability"] = [self.method.classes_[c] for c in which.tolist()], best.numpy().round(4)
        return out.reset_index(drop=True), skipped


OPEN: dict[str, Callable[[Path], Any]] = {"image": manifest.open_image, "audio": manifest.open_audio}


def _opened(cells: Mapping[str, tuple[str, Path]]) -> tuple[dict[str, Any], Skipped]:
    """What could be opened of one item, by modality, and what not."""
    found: dict[str, Any] = {}
    wrong: Skipped = []
    for m, (value, folder) in cells.items():
        kind = COLUMNS[m]
        if not (value := value.strip()):
            continue
        try:
            found[m] = value if kind == "text" else OPEN[kind](folder / value)
        except Exception as error:  # decoders raise errors of a dozen kinds
            wrong.append((value, said_by(error).removeprefix(f"{folder / value}: ")))
    if not found and not wrong:
        wrong.append(("", "nothing to read"))
    return found, wrong


def _tables(method: Method, rows: Mapping[str, tuple[list[Any], list[int]]], encoders: Mapping[str, Encoder]) -> Tables:
    """Rows {modality: (raw items, item numbers)} -> encoded, without labels."""
    made_rows = {}
    for m, (items, pairs) in rows.items():
        x = encoders[m].encode(items)
        made_rows[m] = Table(x, torch.full((len(x),), -1), torch.tensor(pairs))
    return Tables(made_rows, method.classes_)
