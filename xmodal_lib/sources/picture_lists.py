"""Pictures that lists name, in the order of the lists, with a prompt for each class: image and text.

Every listed picture has a line of `info`, also one whose file is missing, which is in no table: positions in the lists
are what published few-shot draws are made of. Nothing is opened here.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from xmodal_lib.sources import image_sets, media, split_json
from xmodal_lib.sources.manifest import LICENCE, MANY
from xmodal_lib.sources.source import Source
from xmodal_lib.sources.split_json import Lists
from xmodal_lib.tables import Table, Tables

READERS = {"fgvc_aircraft": "aircraft"} | dict.fromkeys(("imagenet", *image_sets.SHIFTS), "imagenet")  # module


def load(root: str | Path, name: str, prompts: str | Sequence[str] = "hand_crafted") -> Source:
    """A data set of `image_sets.SETS`: image rows, and text rows that say the name of each class.

    `prompts` are a mode or a list of templates (see `image_sets.templates`). Columns of `info["image"]`: item (the path
    below the folder of pictures), label, name (the label as the lists write it, which two classes may share), split
    (train, val, test; test alone for the shifts of ImageNet), index (the position in the list of that split), path. Of
    `info["text"]`: string, label, template, and kind, "prompt".

    Raises:
        FileNotFoundError: lists, or all pictures, are missing.
        ValueError: lists are damaged or disagree (see `split_json.read`), or there is no such prompt.
    """
    root, known = Path(root), image_sets.SETS[name]
    sentences = image_sets.templates(prompts, name)
    images = root / known.images
    if not images.is_dir():
        raise FileNotFoundError(f"there is no folder {images}; `xmodal data get {name}` says where it is from")
    if name in READERS:
        lists = importlib.import_module(f"xmodal_lib.sources.{READERS[name]}").read(root, known)
    else:
        lists = split_json.read(_there(root / known.split, name))
    expected = known.sizes | {"classes": known.classes}
    hint = f"`xmodal data get {name}` says where to put them"
    return build(name, images, lists, sentences, known.licence, expected, hint)


def from_split(path: str | Path, images: str | Path = "", prompts: str | Sequence[str] = "vanilla") -> Source:
    """Your own pictures by a split file; `images` is the folder that its paths begin in, or else that of the file.

    Raises:
        FileNotFoundError: the file, or all pictures, are missing.
        ValueError: see `split_json.read`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; give a split file: lists train, val, test of [path, label, name]")
    sentences = image_sets.templates(prompts) if prompts else ()
    folder, hint = Path(images or path.parent), "images=DIR is the folder that the paths begin in"
    return build(path.stem, folder, split_json.read(path), sentences, LICENCE, {}, hint)


def build(name: str, images: Path, lists: Lists, templates: Sequence[str], licence: str,
          expected: Mapping[str, int], hint: str) -> Source:  # fmt: skip
    """The source of these lists; `expected` are published counts, of parts and of "classes".

    `hint` says what to do where all pictures are missing.

    Raises:
        FileNotFoundError: none of the pictures is there.
    """
    frame, y = _lines(images, lists)
    sizes = _sizes(frame["path"], name)
    there = np.flatnonzero(sizes > 0)
    if not len(there):
        raise FileNotFoundError(f"none of the {len(frame)} listed pictures is in {images}; "
                                f"{split_json.some(frame['item'].tolist())}; {hint}")  # fmt: skip
    rows = {"image": Table(torch.from_numpy(there), y[there], torch.from_numpy(there))}
    info, doors = {"image": frame}, {"image": _door(frame["path"])}
    digests = {"image": _digest(name, "image", zip(frame["item"], sizes.tolist(), strict=True))}
    if templates:
        said = [(c, template) for c in range(len(lists.names)) for template in templates]
        strings = [image_sets.sentence(template, lists.names[c]) for c, template in said]
        labels = torch.tensor([c for c, _ in said])
        rows["text"] = Table(torch.arange(len(said)), labels, len(frame) + torch.arange(len(said)))
        info["text"] = pd.DataFrame({
            "item": strings, "label": [lists.classes[c] for c, _ in said], "split": "", "kind": "prompt",
            "string": strings, "template": [template for _, template in said],
        })  # fmt: skip
        doors["text"] = strings.__getitem__
        digests["text"] = _digest(name, "text", strings)
    whole = _digest(name, "all", [*digests.items(), *zip(frame["split"], frame["label"], strict=True)])
    report = _report(name, lists, frame, sizes, expected)
    return Source(name, Tables(rows, lists.classes), info, doors, whole, licence, digests, report)


def _lines(images: Path, lists: Lists) -> tuple[pd.DataFrame, torch.Tensor]:
    """A line for each listed picture, and its label."""
    flat = [(part, n, path, label) for part, rows in lists.rows.items() for n, (path, label) in enumerate(rows)]
    frame = pd.DataFrame({
        "item": [path for _, _, path, _ in flat], "label": [lists.classes[label] for *_, label in flat],
        "name": [lists.names[label] for *_, label in flat],
        "split": [part for part, *_ in flat], "index": [n for _, n, *_ in flat],
        "path": [f"{images}/{path}" for _, _, path, _ in flat],
    })  # fmt: skip
    return frame, torch.tensor([label for *_, label in flat], dtype=torch.int64)


def _sizes(paths: pd.Series, name: str) -> np.ndarray:
    """Bytes of each file, 0 where there is none."""
    sizes = np.zeros(len(paths), np.int64)
    for n, path in enumerate(tqdm(paths, desc=f"looking for {name}", unit="picture", disable=len(paths) < 100 * MANY)):
        try:
            sizes[n] = os.stat(path).st_size  # noqa: PTH116 (a million Paths are slow)
        except (OSError, ValueError):  # or a name that no file can have
            continue
    return sizes


def _door(paths: pd.Series) -> Callable[[int], Any]:
    return lambda row: media.picture(Path(paths.iloc[row]))


def _digest(name: str, modality: str, content: Iterable[Any]) -> str:
    sha = hashlib.sha256(f"picture lists 1 {name} {modality}".encode())
    for line in content:
        sha.update(repr(line).encode())
    return sha.hexdigest()


def _there(path: Path, name: str) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; `xmodal data get {name}` says where it is from")
    return path


def _report(name: str, lists: Lists, frame: pd.DataFrame, sizes: np.ndarray, expected: Mapping[str, int]) -> str:
    """What is here on the first line, and a line for each thing that is missing or unexpected."""
    here = frame["split"][sizes > 0].value_counts()
    counts = ", ".join(f"{part} {here.get(part, 0)}" for part in lists.rows)
    lines = [f"{name}: {here.sum()} pictures of {len(lists.classes)} classes; {counts}"]
    if missing := frame["item"][sizes == 0].tolist():
        lines.append(f"{len(missing)} of {len(frame)} pictures are missing or empty ({split_json.some(missing)})")
    if bare := sorted(set(lists.classes) - set(frame["label"][sizes > 0])):
        lines.append(f"{len(bare)} classes have no picture ({split_json.some(bare)})")
    if twice := split_json.repeated(lists):
        lines.append(f"{len(twice)} pictures are listed twice ({split_json.some(twice)})")
    for what, count in expected.items():
        found = len(lists.classes) if what == "classes" else len(lists.rows.get(what, ()))
        if found != count:
            kind = "classes are known" if what == "classes" else f"pictures are listed as {what}"
            lines.append(f"{found} {kind}; published are {count}")
    return "\n".join(lines)
