"""Bring your own data: a CSV that lists it, or a folder of pictures for each class.

    image,text,audio,label,split,item
    img/rex.jpg,"a dog on grass",,dog,train,rex
    ,,wav/bark.wav,dog,train,
    img/tom.png,,wav/tom.flac,cat,test,tom

Any of image, text and audio may be empty or have no column. Paths are relative to the CSV's folder and stay inside
it. Rows with one `item` show the same item; without an item, a line is an item of its own. `split` is free text
(train, val, test, base, ...), kept as a column of `info`. Everything is read and checked before anything starts.
Labels, splits and items are compared in Unicode's composed form (NFC), in which names that look the same are the same.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import math
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from xmodal_lib.home import is_file, said_by
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables

MODALITIES = ("image", "text", "audio")
COLUMNS = (*MODALITIES, "label", "split", "item")
SPLITS = ("train", "training", "val", "valid", "validation", "test", "base", "novel", "support", "query")
RATE = 16_000  # samples a second of every opened waveform
RATES = (1_000, 1_000_000)  # samples a second of a sound that is read
KERNEL = 20_000_000  # coefficients at most, of the filter that brings a sound to 16 kHz: 44,100 Hz needs 70,000
LOUDEST = 32.0  # of a sample: louder is no waveform in -1..1, but integers written as floats
LONGEST = 500  # times its shorter side: what a picture's longer side may be, as nets resize the shorter one
MANY = 500  # files, from which on a progress bar is shown
LICENCE = "your own data: its licence is yours to state"
NO_ROWS = f"there are no rows; needed: a header of {','.join(COLUMNS)} and a line for each row"


@dataclass(frozen=True)
class Line:
    """One line of a manifest, or one file of a folder tree."""

    where: str  # "line 3" or the file, for messages
    cells: dict[str, str]  # column -> text, every column present
    item: str  # equal for the lines that show one item


def read(path: str | Path) -> Source:
    """The data that a CSV lists: `image`, `text` and `audio` are opened as RGB picture, string and 16 kHz waveform.

    Raises:
        FileNotFoundError: the CSV or a file that it names is missing.
        ValueError: anything else that is wrong, with line and column, and what to do.
    """
    path = Path(path)
    if not is_file(path):
        raise FileNotFoundError(f"{path} is not a file; give the CSV that lists your data")
    try:
        lines = _lines(decoded(path.read_bytes()))
        _check_items(lines)
        return _source(path.stem, path.parent, lines)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path.name}: {said_by(error)}") from error
    except (ValueError, OSError) as error:
        raise ValueError(f"{path.name}: {said_by(error)}") from error


def folders(root: str | Path) -> Source:
    """Pictures in a folder a class, `root/class/**`, or with splits, `root/train/class/**`, `root/test/class/**`.

    Raises:
        FileNotFoundError: there is no such folder, or no class folder in it.
        ValueError: a class has no picture, or a picture cannot be read.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; give the one that holds a folder of pictures a class")
    inside = _subfolders(root)
    split = bool(inside) and all(folder.name.lower() in SPLITS for folder in inside)
    classes = [(f.name, c) for f in inside for c in _subfolders(f)] if split else [("", c) for c in inside]
    if not classes:
        raise FileNotFoundError(f"{root} holds no class folders; put the pictures into {root.name}/CLASS/")
    lines = []
    for name, folder in classes:
        files = sorted(f.relative_to(root).as_posix() for f in folder.rglob("*") if is_picture(f))
        if not files:
            raise ValueError(f"class folder {folder.relative_to(root)} holds no picture; fill it or remove it")
        rest = dict.fromkeys(COLUMNS, "") | {"label": folder.name, "split": name}
        lines += [Line(file, rest | {"image": file}, file) for file in files]
    return _source(root.resolve().name, root, lines)


def found(source: Source) -> str:
    """What a source of this module holds, in a few sentences."""
    table = {m: source.tables[m] for m in source.tables.modalities}
    y = source.tables.labels()
    count = torch.bincount(y, minlength=len(source.tables.classes))
    least = int(count.argmin())
    frame = pd.concat([source.info[m][["item", "split"]] for m in table]).drop_duplicates()
    splits = Counter(frame["split"].replace("", "(none)"))
    return (
        f"{source.name}: {len(y)} items of {len(count)} classes; rows: "
        + ", ".join(f"{m} {len(t)}" for m, t in table.items())
        + f". Splits: {', '.join(f'{name} {n}' for name, n in splits.items())} items."
        + f" Smallest class: {source.tables.classes[least]!r} with {int(count[least])}."
    )


def decoded(raw: bytes) -> str:
    """The text of a CSV in UTF-8, with or without a byte-order mark, or in UTF-16 with one (as Excel writes it)."""
    utf16 = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = raw.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line} is not UTF-8 text; save the file as CSV UTF-8") from None
    if "\0" in text:
        raise ValueError(f"line {text[: text.index(chr(0))].count(chr(10)) + 1} holds a zero byte; this is no text CSV")
    return text


def filled(text: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each line of a CSV that has any text; the first is its header, all are as long as that.

    Cells are separated by commas, semicolons or tabs, whichever the header has.

    Raises:
        ValueError: quotes are wrong, or a line has more or fewer cells than the header.
    """
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = next((d for d in ",;\t" if d in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    width = 0
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            width = width or len(cells)
            if len(cells) != width:
                raise ValueError(
                    f"line {reader.line_num} has {len(cells)} cells and the header {width}; "
                    "put a cell that holds a comma in double quotes"
                )
            yield reader.line_num, cells
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} is no CSV ({error}); check its quotes") from None


def _lines(text: str) -> list[Line]:
    """The filled lines of a CSV with a known header."""
    rows = filled(text)
    header = _header(next(rows, (1, []))[1])
    empty = dict.fromkeys(COLUMNS, "")
    lines = [_line(n, empty | dict(zip(header, map(str.strip, cells), strict=True))) for n, cells in rows]
    if not lines:
        raise ValueError(NO_ROWS)
    return lines


def _header(cells: Sequence[str]) -> list[str]:
    if not cells:
        raise ValueError(NO_ROWS)
    names = [cell.strip().lower() for cell in cells]
    for name in names:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"the columns are {', '.join(COLUMNS)}"
            raise ValueError(f"line 1 has an unknown column {name[:40]!r}; {hint}")
        if names.count(name) > 1:
            raise ValueError(f"line 1 names column {name!r} twice; keep one")
    if "label" not in names:
        raise ValueError("line 1 has no column 'label'; every row needs the name of its class")
    if not set(names) & set(MODALITIES):
        raise ValueError(f"line 1 has none of the columns {', '.join(MODALITIES)}; at least one is needed")
    return names


def _line(number: int, row: dict[str, str]) -> Line:
    if not row["label"]:
        raise ValueError(f"line {number}, column label: empty; write the name of the class or remove the line")
    if not any(row[m] for m in MODALITIES):
        raise ValueError(f"line {number} has no {', '.join(MODALITIES)}; fill one or remove the line")
    for column in ("image", "audio"):
        path = PurePosixPath(row[column])
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(
                f"line {number}, column {column}: {row[column]!r} leaves the CSV's folder; "
                "write paths relative to it, and put the CSV above all its files"
            )
        row[column] = path.as_posix() if row[column] else ""  # one file has one name: ./rex.jpg is rex.jpg
    for column in ("label", "split", "item"):
        row[column] = unicodedata.normalize("NFC", row[column])
    return Line(f"line {number}", row, f"item {row['item']}" if row["item"] else f"line {number}")


def _check_items(lines: Sequence[Line]) -> None:
    """One item has one label and one split, and one file lies in one split."""
    seen: dict[tuple[str, str, str], Line] = {}
    for line in lines:
        of_item = [(line.item, column) for column in ("label", "split") if line.cells["item"]]
        of_file = [(line.cells[m], "split") for m in ("image", "audio") if line.cells[m]]
        for kind, keys in (("item", of_item), ("file", of_file)):
            for name, column in keys:
                first = seen.setdefault((kind, name, column), line)
                if (a := first.cells[column]) != (b := line.cells[column]):
                    shown = line.cells["item"] if kind == "item" else name
                    raise ValueError(
                        f"{line.where}, column {column}: {kind} {shown!r} has {b!r} here and {a!r} on {first.where}; "
                        f"one {kind} has one {column}"
                    )


def _source(name: str, root: Path, lines: Sequence[Line]) -> Source:
    classes = tuple(sorted({line.cells["label"] for line in lines}))
    items = {item: i for i, item in enumerate(dict.fromkeys(line.item for line in lines))}
    sha = hashlib.sha256(b"manifest 1")
    rows, info, doors = {}, {}, {}
    for modality in MODALITIES:
        first: dict[tuple[str, str], Line] = {}
        for line in lines:  # an item's picture may stand on several lines, once for each caption: it is one row
            if line.cells[modality]:
                first.setdefault((line.item, line.cells[modality]), line)
        kept = list(first.values())
        if not kept:
            continue
        values = [line.cells[modality] for line in kept]
        frame = pd.DataFrame({modality: values, **{c: [ln.cells[c] for ln in kept] for c in ("label", "split")}})
        frame["item"] = [line.cells["item"] or line.item for line in kept]
        content = [v.encode() for v in values] if modality == "text" else _hashes(root, modality, kept)
        for line, digest in zip(kept, content, strict=True):
            sha.update(repr((modality, line.cells["label"], line.cells["split"], line.item, digest)).encode())
        y = torch.tensor([classes.index(line.cells["label"]) for line in kept])
        rows[modality] = Table(torch.arange(len(kept)), y, torch.tensor([items[line.item] for line in kept]))
        info[modality], doors[modality] = frame, _door(root, modality, values)
    return Source(name, Tables(rows, classes), info, doors, sha.hexdigest(), LICENCE)


def _door(root: Path, modality: str, values: list[str]) -> Callable[[int], Any]:
    if modality == "text":
        return values.__getitem__
    opened = open_image if modality == "image" else open_audio
    return lambda i: opened(root / values[i])


def _hashes(root: Path, modality: str, lines: Sequence[Line]) -> list[bytes]:
    """SHA-256 of the bytes of each file, after a look that it can be read."""
    missing = [line for line in lines if not is_file(root / line.cells[modality])]
    if missing:
        value, others = missing[0].cells[modality], len(missing) - 1
        hint = "; write folders with /" if "\\" in value else "; paths are relative to the CSV's folder"
        more = f" ({others} more files are missing)" if others else ""
        raise FileNotFoundError(f"{missing[0].where}, column {modality}: there is no file {value!r}{hint}{more}")
    check, hashes = {"image": _check_image, "audio": _check_audio}[modality], []
    for line in tqdm(lines, desc=f"checking {modality} files", unit="file", disable=len(lines) < MANY):
        try:
            path = root / line.cells[modality]
            raw = path.read_bytes()
            check(path)
        except Exception as error:  # decoders raise errors of a dozen kinds
            raise ValueError(
                f"{line.where}, column {modality}: {line.cells[modality]!r} cannot be read ({said_by(error)}); "
                "replace the file or remove the line"
            ) from error
        hashes.append(hashlib.sha256(raw).digest())
    return hashes


def _check_image(path: Path) -> None:
    _decode_image(path, quick=True)


def _check_audio(path: Path) -> None:
    wave, rate = _decode_audio(path)
    if not len(wave):
        raise ValueError("no samples")
    resampling(rate)


def open_image(path: Path) -> Image.Image:
    """The picture as RGB, upright by its EXIF tag; what is transparent becomes white; 16 bits become 8.

    Of an animated picture this is the first frame.

    Raises:
        ValueError: it cannot be decoded, or is no picture that a net could see (see `_decode_image`).
    """
    try:
        return _decode_image(path)
    except Exception as error:  # decoders raise errors of a dozen kinds
        said = said_by(error).replace(repr(str(path)), "it")
        raise ValueError(f"{path}: no picture can be read ({said}); replace or remove the file") from None


def open_audio(path: Path) -> Tensor:
    """The waveform (T,) float32 at 16 kHz in -1..1, channels averaged.

    Raises:
        ValueError: it cannot be decoded, or a sample is not a finite number, or far out of -1..1.
    """
    try:
        wave, rate = _decode_audio(path)
        return at_16_khz(wave, rate)
    except Exception as error:
        raise ValueError(f"{path}: no sound can be read ({said_by(error)}); replace or remove the file") from None


def at_16_khz(wave: np.ndarray, rate: int) -> Tensor:
    """A sound (T,) of any usual rate -> float32 (T',) at 16 kHz in -1..1; raises as `resampling`."""
    from torchaudio.functional import resample  # where it is used: it takes two seconds

    own, new = resampling(rate)
    return resample(torch.from_numpy(wave), own, new).clamp(-1, 1)


def resampling(rate: int) -> tuple[int, int]:
    """From and to which rate a sound is brought.

    Raises:
        ValueError: no sound has such a rate, or the filter to 16 kHz would be of gigabytes, as for 44,101 Hz.
    """
    if not rate or not RATES[0] <= rate <= RATES[1]:
        raise ValueError(f"a rate of {rate} Hz; {RATES[0]} to {RATES[1]} are read")
    shared = math.gcd(rate, RATE)
    if (rate // shared) * (RATE // shared) > KERNEL:
        raise ValueError(f"a rate of {rate} Hz is no simple multiple of {RATE} Hz; convert it to 44100, 48000 or 16000")
    return rate, RATE


def _decode_image(path: Path, quick: bool = False) -> Image.Image:
    """A picture as RGB; `quick` decodes a JPEG at an eighth of its size, which shows whether it is whole.

    Raises:
        ValueError: it is of floating-point numbers, of more than 16 bits, or longer than 500 times its shorter side.
        Exception: of any kind, from the decoder.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged EXIF, a large picture: neither harms the pixels
        with Image.open(path) as image:
            if max(image.size) > LONGEST * min(image.size):
                raise ValueError(f"{image.width} x {image.height} pixels; no side may be {LONGEST} times the other")
            if quick:
                image.draft("RGB", (16, 16))
            upright = ImageOps.exif_transpose(image)
        if upright.mode == "F":
            raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
        if upright.mode.startswith("I"):
            deep = np.asarray(upright)
            if deep.min() < 0 or deep.max() > 65_535:
                raise ValueError("its pixels are out of 0..65535; save it with 8 or 16 bits")
            upright = Image.fromarray((deep // 257).astype(np.uint8))
        if "transparency" in upright.info or upright.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
            upright = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
        return upright.convert("RGB")


def _decode_audio(path: Path) -> tuple[np.ndarray, int]:
    """(T,) float32 of channels averaged, and its rate. libsndfile's own errors are RuntimeErrors. Of a file and
    not of its bytes: where they are damaged it seeks before the first, and cannot be told that this failed.

    Raises:
        ValueError: a sample is not a finite number, or far out of -1..1.
    """
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)  # (T, channels)
    if not np.isfinite(wave).all():
        raise ValueError("samples are not finite numbers")
    if len(wave) and (loudest := float(np.abs(wave).max())) > LOUDEST:
        raise ValueError(f"samples are up to {loudest:.6g}, where -1..1 is needed")
    return wave.mean(1), rate


def _subfolders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))


def is_picture(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and path.suffix.lower() in Image.registered_extensions()
