"""A saved collection: its files, and pictures and sounds made small enough that one page can hold 5,000 of both."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from xmodal_lib.home import replacing

RATE = 16_000  # of a sound that comes at a rate Opus does not have
PICTURES, SOUNDS = 3_200_000, 5_200_000  # bytes
SEEN = 30_000_000  # pixels of the sheet of thumbnails
LOOKS = ((128, 80), (96, 75), (64, 75), (64, 50), (48, 50), (48, 30), (32, 30))  # side in pixels, quality of WEBP
VOICES = ((0.9, 4100), (0.95, 2500), (0.98, 1500), (1.0, 860))  # compression level of Opus, its bytes a second
FRAME = 150  # bytes that a sound takes beside its samples
LONGEST = 5.0  # seconds kept of a sound


@dataclass(frozen=True, eq=False)
class Stored:
    """The files of a saved collection, read whole."""

    points: pd.DataFrame
    arrays: dict[str, np.ndarray]  # "space/NAME", "map/NAME"; "tiles" (n,), -1 without a picture; "ends" (n,) of sounds
    about: dict[str, dict[str, Any]]
    side: int  # of a thumbnail, in pixels
    pictures: bytes  # thumbnails, row by row on a square sheet, as WEBP
    sounds: bytes  # Ogg files one behind the other
    texts: list[str | None]

    @classmethod
    def read(cls, folder: str | Path) -> Stored:
        folder = Path(folder)
        if not (folder / "points.parquet").is_file():
            raise FileNotFoundError(f"{folder}: there is no saved collection")
        try:
            with safe_open(folder / "arrays.safetensors", "np") as file:
                about = file.metadata()
                arrays = {k: file.get_tensor(k) for k in [*json.loads(about["order"]), "tiles", "ends"]}
            pictures, sounds = ((folder / name).read_bytes() for name in ("pictures.webp", "sounds.bin"))
            texts = json.loads((folder / "texts.json").read_text("utf-8"))
            points = pd.read_parquet(folder / "points.parquet")
            return cls(points, arrays, json.loads(about["about"]), int(about["side"]), pictures, sounds, texts)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{folder}: a damaged collection ({error}); make it again") from error

    def of(self, kind: str) -> dict[str, np.ndarray]:
        """The arrays "kind/NAME", by NAME."""
        return {k.partition("/")[2]: v for k, v in self.arrays.items() if k.startswith(f"{kind}/")}

    def sound(self, line: int) -> bytes:
        """The Ogg file of a point, empty where there is none."""
        ends = self.arrays["ends"]
        return self.sounds[ends[line - 1] if line else 0 : ends[line]]

    @property
    def across(self) -> int:
        """Thumbnails in a row of the sheet."""
        return math.ceil(math.sqrt(self.arrays["tiles"].max() + 1))

    @cached_property
    def _picture(self) -> Image.Image:
        return Image.open(io.BytesIO(self.pictures)).convert("RGB")

    def opened(self, line: int) -> Image.Image | tuple[np.ndarray, int] | str | None:
        tile, side = int(self.arrays["tiles"][line]), self.side
        if tile >= 0:
            left, top = side * (tile % self.across), side * (tile // self.across)
            return self._picture.crop((left, top, left + side, top + side))
        if sound := self.sound(line):
            return soundfile.read(io.BytesIO(sound), dtype="float32")
        return self.texts[line]


def write(
    folder: Path, points: pd.DataFrame, spaces: Mapping[str, np.ndarray], maps: Mapping[str, np.ndarray],
    about: Mapping[str, dict[str, Any]], opened: Iterable[Any],
) -> Path:  # fmt: skip
    """Save a collection; `opened` is what is behind each point: a picture, (samples, rate), words, or None."""
    found = list(opened)
    pictured = np.array([isinstance(x, Image.Image) for x in found])
    sheet, side = _sheet([x for x in found if isinstance(x, Image.Image)])
    sounds = iter(kept := _sounds([x for x in found if isinstance(x, tuple)]))
    arrays = {f"space/{k}": v for k, v in spaces.items()} | {f"map/{k}": v for k, v in maps.items()}
    arrays = {k: np.ascontiguousarray(v, np.float32) for k, v in arrays.items()}
    words = {"about": json.dumps(dict(about), default=float), "order": json.dumps(list(arrays)), "side": str(side)}
    arrays["tiles"] = np.where(pictured, np.cumsum(pictured) - 1, -1).astype(np.int32)
    arrays["ends"] = np.cumsum([len(next(sounds)) if isinstance(x, tuple) else 0 for x in found])
    with replacing(folder) as partial:
        partial.mkdir()
        points.to_parquet(partial / "points.parquet")
        save_file(arrays, partial / "arrays.safetensors", words)
        (partial / "pictures.webp").write_bytes(sheet)
        (partial / "sounds.bin").write_bytes(b"".join(kept))
        texts = [x if isinstance(x, str) else None for x in found]
        (partial / "texts.json").write_text(json.dumps(texts), "utf-8")
    return folder


def _sheet(pictures: Sequence[Image.Image]) -> tuple[bytes, int]:
    """All thumbnails on one square sheet, as WEBP, and the side of one: the largest and finest within the limits."""
    if not pictures:
        return b"", 0
    across = math.ceil(math.sqrt(len(pictures)))
    for side, quality in LOOKS:
        if len(pictures) * side**2 > SEEN and (side, quality) != LOOKS[-1]:
            continue
        sheet = Image.new("RGB", (side * across, side * math.ceil(len(pictures) / across)), "white")
        for k, picture in enumerate(pictures):
            small = picture.convert("RGB")
            small.thumbnail((side, side))
            left, top = (side - small.width) // 2, (side - small.height) // 2
            sheet.paste(small, (side * (k % across) + left, side * (k // across) + top))
        buffer = io.BytesIO()
        sheet.save(buffer, "WEBP", quality=quality, method=2)
        if buffer.tell() <= PICTURES:
            break
    return buffer.getvalue(), side


def _sounds(given: Sequence[tuple[np.ndarray, int]]) -> list[bytes]:
    """Each sound as an Ogg/Opus file: the more seconds in all, the coarser and, at last, the shorter."""
    longest, (level, rate) = LONGEST, VOICES[-1]
    seconds = sum(min(len(x) / r, longest) for x, r in given)
    fine = [voice for voice in VOICES if seconds * voice[1] + len(given) * FRAME <= SOUNDS]
    if fine:
        level, rate = fine[0]
    elif given:
        longest = min(longest, max((SOUNDS / len(given) - FRAME) / rate, 0.2))
    return [_ogg(x, r, longest, level) for x, r in given]


def _ogg(samples: np.ndarray, rate: int, seconds: float, level: float) -> bytes:
    samples = np.asarray(samples, np.float32)[: int(seconds * rate)]
    if rate not in (8000, 12000, 16000, 24000, 48000):
        places = np.arange(0, len(samples), rate / RATE)
        samples, rate = np.interp(places, np.arange(len(samples)), samples).astype(np.float32), RATE
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="OGG", subtype="OPUS", compression_level=level)
    return buffer.getvalue()
