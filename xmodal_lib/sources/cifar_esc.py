"""Pictures of CIFAR-10 and CIFAR-100 (Krizhevsky 2009), sounds of ESC-50 (Piczak 2015), in 17 concepts; image, audio.

`cifar-10-batches-bin/{data_batch_1..5,test_batch}.bin` with `batches.meta.txt`, `cifar-100-binary/{train,test}.bin`
with `fine_label_names.txt` (the binary versions: the others are pickles, which are not read), and `ESC-50-master/`
(or `ESC-50/`) with `meta/esc50.csv` and `audio/`. No picture belongs to a sound: a concept is a weak pair of two sets.
Differs: the 17 concepts are those of Liang et al., ACM MM 2021, who picture some of their members and list none; which
classes are in which, `cifar_esc.csv` beside this file, is our choice.
Differs: of the 17, 5 are for val and 5 for test, so that tasks of five classes can be drawn of both.
"""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from xmodal_lib.sources import class_split, esc50, listing, lists
from xmodal_lib.sources.listing import Item, Media
from xmodal_lib.sources.source import Source

PIXELS = 3 * 32 * 32  # bytes of a picture: red, green, blue
BATCHES = (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch")
TEN, HUNDRED, ESC = "cifar-10-batches-bin", "cifar-100-binary", ("ESC-50-master", "ESC-50")
PICKLES = {TEN: "cifar-10-batches-py", HUNDRED: "cifar-100-python"}
LICENCE = "CIFAR: for research; ESC-50: CC BY-NC 3.0"


def load(root: str | Path, split: str = "class", layout: str = "", seed: int = 0, each: int | None = None) -> Source:
    """Image rows of CIFAR and audio rows of ESC-50, each an item of its own; classes are the concepts.

    split: "class" only: 5 concepts in val, 5 in test, drawn with `seed`. layout: "raw" or "". `each`: at most so many
    pictures of each class of CIFAR, the first ones.

    Raises:
        FileNotFoundError: one of the three data sets is not there.
        ValueError: an unknown split or layout, or a file that is not of its form.
    """
    root = Path(root)
    if split != "class":
        raise ValueError(f"split is {split!r}; CIFAR and ESC-50 have 'class'")
    if lists.choose(root, layout, (TEN, HUNDRED, *ESC), (), "cifar_esc") != "raw":
        raise ValueError("CIFAR and ESC-50 have the layout 'raw' only")
    concepts = members()
    pictures = {name: c for c, (images, _) in concepts.items() for name in images}
    sounds = {name: c for c, (_, own) in concepts.items() for name in own}
    esc = next((root / name for name in ESC if (root / name).is_dir()), root / ESC[0])
    items = [*_cifar(root / TEN, "batches.meta.txt", BATCHES, 1, pictures, each),
             *_cifar(root / HUNDRED, "fine_label_names.txt", ("train", "test"), 2, pictures, each),
             *esc50.clips(esc, sounds)]  # fmt: skip
    items = class_split.by_class(items, (5, 5), seed)
    # an item has one modality, and that is no fault
    return _without_lines(listing.build("cifar_esc", "rows", items, sorted(concepts), ("image", "audio"), LICENCE, {}))


def members() -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """{concept: (classes of CIFAR, classes of ESC-50)}, of the table beside this file."""
    text = Path(__file__).with_suffix(".csv").read_text("utf-8")
    return {row["concept"]: (tuple(row["images"].split()), tuple(row["sounds"].split()))
            for row in csv.DictReader(io.StringIO(text))}  # fmt: skip


def record(path: Path, start: int) -> Image.Image:
    """The picture that begins at byte `start` of a binary file."""
    with path.open("rb") as file:
        file.seek(start)
        raw = np.frombuffer(file.read(PIXELS), np.uint8)
    if len(raw) < PIXELS:
        raise ValueError(f"{path} is cut short; fetch it again")
    return Image.fromarray(raw.reshape(3, 32, 32).transpose(1, 2, 0).copy())


def _cifar(folder: Path, names: str, files: tuple[str, ...], labels: int, wanted: dict[str, str],
           each: int | None) -> list[Item]:  # fmt: skip
    """Items of one CIFAR: a record is `labels` bytes, the last of which is the class, and a picture."""
    if not folder.is_dir():
        pickled = folder.with_name(PICKLES[folder.name])
        also = f"; {pickled.name} holds pickles, which are not read" if pickled.is_dir() else ""
        raise FileNotFoundError(f"there is no folder {folder}: get the binary version of CIFAR{also}")
    known = [line.strip() for line in lists.text_of(folder / names).splitlines() if line.strip()]
    items: list[Item] = []
    count: dict[str, int] = {}
    for name in files:
        path = folder / f"{name}.bin"
        raw = np.fromfile(path, np.uint8) if path.is_file() else np.zeros(0, np.uint8)
        if len(raw) % (labels + PIXELS):
            raise ValueError(f"{path} has {len(raw)} bytes, which is no whole number of records; fetch it again")
        for n, label in enumerate(raw.reshape(-1, labels + PIXELS)[:, labels - 1].tolist()):
            if label >= len(known):
                raise ValueError(f"{path}: record {n} is of class {label}; {names} names {len(known)}")
            own = known[label]
            count[own] = count.get(own, 0) + 1
            if own in wanted and (each is None or count[own] <= each):
                start = n * (labels + PIXELS) + labels
                media = Media(partial(record, path, start), (path,), detail=str(start))
                items.append(Item(f"{folder.name[:8].rstrip('-')}-{name}-{n:05d}", wanted[own], {"image": media},
                                  more={"member": own}))  # fmt: skip
    return items


def _without_lines(source: Source) -> Source:
    """Its report without the lines that count items of one modality as lacking the other, unless files are missing."""
    lines = source.report.split("\n")
    rows = {m: len(t) for m, t in source.tables.rows.items()}
    kept = [line for line in lines[1:] if "have nothing" in line]
    return replace(source, report="\n".join([f"{lines[0]}; " + ", ".join(f"{m} {n}" for m, n in rows.items()), *kept]))
