"""Features of a source's rows, computed once and kept: one folder a (data set, modality, encoder), one line a row.

A folder holds `x.npy` (n, *width), room for every row of the modality, and `sums.npy` (n,) uint32, the checksum of
each row that has been computed and 0 for the others. So a subset and the whole set share one cache, a killed run keeps
its rows, and a damaged row is noticed and computed again.
"""

from __future__ import annotations

import json
import math
import sys
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.home import Unusable, home, replacing
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables

BLOCK = 1024  # rows that one process takes at a time


def extract(source: Source, encoders: Mapping[str, Encoder], *, tables: Tables | None = None,
            progress: bool = True) -> Tables:  # fmt: skip
    """Tables whose x are features, (n, *width) float32, of the rows of `tables` (default: all rows of the source).

    The result has the modalities of `encoders`, and no other. Memory is bounded by the encoder's batch while
    extracting. Rows that are in the cache are read, and are the same bit for bit as if they were computed with the
    others now; safe to run several times at once.

    Raises:
        ValueError: an encoder is given for a modality that the tables do not have, or `tables` hold no row numbers
            of this source.
    """
    tables = source.tables if tables is None else tables
    for m in encoders:
        if m not in tables.rows:
            raise ValueError(f"an encoder is given for {m!r}; the tables have {', '.join(tables.rows) or 'nothing'}")
        x, n = tables[m].x, len(source.info[m])
        if x.dtype != torch.int64 or x.ndim != 1 or (len(x) and not 0 <= int(x.min()) <= int(x.max()) < n):
            raise ValueError(f"{m}: x must be row numbers 0..{n - 1} of {source.name!r}, int64 (n,); "
                             f"it is {x.dtype} of shape {tuple(x.shape)}")  # fmt: skip
    rows = {m: replace(tables[m], x=_features(source, m, e, tables[m].x, progress)) for m, e in encoders.items()}
    return Tables(rows, tables.classes)


def save(tables: Tables, path: Path | str) -> None:
    """Write tables as one safetensors file, with the class names."""
    columns = ("x", "y", "pair")
    content = {f"{m}/{c}": getattr(t, c).contiguous() for m, t in tables.rows.items() for c in columns}
    with replacing(Path(path)) as partial:
        save_file(content, partial, metadata={"classes": json.dumps(tables.classes)})


def load(path: Path | str) -> Tables:
    """Read what `save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or not tables.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such file of features")
    try:
        with safe_open(path, "pt") as file:
            classes = tuple(json.loads(file.metadata()["classes"]))
            columns = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no dict)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a file of features, or a damaged one ({error}); make it again") from error
    modalities = dict.fromkeys(key.partition("/")[0] for key in columns)
    rows = {m: Table(columns[f"{m}/x"], columns[f"{m}/y"], columns[f"{m}/pair"]) for m in modalities}
    return Tables(rows, classes)


def _features(source: Source, modality: str, encoder: Encoder, rows: Tensor, progress: bool) -> Tensor:
    if encoder.trunk is not None:
        below = _features(source, modality, encoder.trunk, rows, progress)
        with torch.no_grad():
            parts = [encoder.module(part).float() for part in below.split(1024)]
        return torch.cat(parts) if parts else torch.empty(0, *encoder.width)
    folder = home() / "features" / source.digest_of(modality)[:16] / f"{modality}-{encoder.name}-{encoder.digest[:16]}"
    cache = _Cache(folder, len(source.info[modality]), encoder)
    wanted = np.unique(rows.numpy())
    if len(cache.missing(wanted)):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            cache.prepare()
        title = f"{source.name} {modality}: {encoder.name}"
        cache.fill(wanted, source.open[modality], title if progress else None)
    return cache.read(rows.numpy())


class _Cache:
    def __init__(self, folder: Path, n: int, encoder: Encoder) -> None:
        self.folder, self.encoder = folder, encoder
        x_type = np.dtype("f2" if encoder.float16 else "f4")
        self.kinds = {"x": ((n, *encoder.width), x_type), "sums": ((n,), np.dtype("u4"))}

    def missing(self, rows: np.ndarray, note: bool = False) -> np.ndarray:
        """Those of these rows that are not there, or not as they were written."""
        x, sums = self._map("x"), self._map("sums")
        if x is None or sums is None:
            return rows
        good = np.array([sums[row] != 0 and _checksum(x[row]) == sums[row] for row in rows], dtype=bool)
        damaged = int((sums[rows[~good]] != 0).sum())
        if damaged and note:
            _say(f"{self.folder.name}: {damaged} cached rows are damaged; computing them again")
        return rows[~good]

    def prepare(self) -> None:
        """Make room for every row, unless there is; files of another shape are replaced."""
        if self._map("x") is not None and self._map("sums") is not None:
            return
        if (self.folder / "x.npy").exists():
            _say(f"{self.folder.name}: the cached file is damaged; computing it again")
        (self.folder / "sums.npy").unlink(missing_ok=True)
        for name, (shape, dtype) in self.kinds.items():
            with replacing(self.folder / f"{name}.npy") as path, path.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": shape})
                file.truncate(file.tell() + dtype.itemsize * math.prod(shape))

    def fill(self, rows: np.ndarray, open_row: Callable[[int], Any], title: str | None) -> None:
        """Compute those of these rows that are missing; what is done stays, whenever the process ends.

        Rows are taken in blocks, each under a lock. A block that another process has is left for the end, when it is
        done or given up: so several processes share the work.
        """
        rows = self.missing(rows, note=True)
        blocks = {int(k): rows[rows // BLOCK == k] for k in np.unique(rows // BLOCK)}
        with tqdm(total=len(rows), desc=title, unit="row", leave=False, disable=title is None or not len(rows)) as bar:
            for patient in (False, True):
                for k in list(blocks):
                    lock = FileLock(self.folder / f"lock-{k}")
                    with suppress(Timeout), lock.acquire(blocking=patient):
                        block = blocks.pop(k)
                        todo = self.missing(block)
                        bar.update(len(block) - len(todo))
                        self._fill(todo, open_row, bar)

    def _fill(self, rows: np.ndarray, open_row: Callable[[int], Any], bar: tqdm) -> None:
        with (self.folder / "x.npy").open("r+b") as x, (self.folder / "sums.npy").open("r+b") as sums:
            for start in range(0, len(rows), self.encoder.batch):
                part = rows[start : start + self.encoder.batch]
                values = self._compute(part, open_row)
                self._write("x", x, part, values)
                x.flush()  # a checksum follows its row: a kill in between leaves the row to be done again
                self._write("sums", sums, part, np.array([_checksum(value) for value in values], dtype=np.uint32))
                sums.flush()
                bar.update(len(part))

    def read(self, rows: np.ndarray) -> Tensor:
        """(n, *width) float32; the file itself, mapped, where all of its rows are asked for in order."""
        x = self._map("x")
        if not len(rows):
            return torch.empty(0, *self.encoder.width)
        if x is None:
            raise Unusable(f"{self.folder / 'x.npy'} cannot be read again; is the disk or the memory full?")
        if x.dtype == np.float32 and np.array_equal(rows, np.arange(len(x))):
            return torch.from_numpy(np.load(self.folder / "x.npy", mmap_mode="c"))  # c: writes stay in this process
        return torch.from_numpy(x[rows].astype(np.float32))

    def _compute(self, part: np.ndarray, open_row: Callable[[int], Any]) -> np.ndarray:
        name, (shape, dtype) = self.encoder.name, self.kinds["x"]
        values = self.encoder.encode([open_row(int(row)) for row in part]).cpu().numpy().astype(dtype)
        if values.shape[1:] != shape[1:]:
            raise ValueError(f"encoder {name!r} says its width is {shape[1:]}; it gives rows of {values.shape[1:]}")
        finite = np.isfinite(values).reshape(len(part), -1).all(1)
        if not finite.all():
            raise ValueError(f"encoder {name!r} gives a value that is not finite for row {part[~finite][0]}")
        return values

    def _write(self, kind: str, file: Any, part: np.ndarray, values: np.ndarray) -> None:
        shape, dtype = self.kinds[kind]  # by seek and write, not through the map: a full disk is then an OSError
        size = dtype.itemsize * math.prod(shape[1:])
        data = (self.folder / f"{kind}.npy").stat().st_size - size * shape[0]  # where the rows begin
        for row, value in zip(part.tolist(), values, strict=True):
            file.seek(data + row * size)
            file.write(value.tobytes())

    def _map(self, kind: str) -> np.ndarray | None:
        try:  # mode r: a file with room for more than the memory holds can be mapped, mode c cannot
            x = np.load(self.folder / f"{kind}.npy", mmap_mode="r")
        except (OSError, ValueError, EOFError):
            return None
        return x if (x.shape, x.dtype) == self.kinds[kind] else None


def _checksum(row: np.ndarray) -> int:
    return max(1, zlib.crc32(np.ascontiguousarray(row).view(np.uint8).data))  # 0 says: not computed


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stderr)
