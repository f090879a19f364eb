"""Reading sound, frames and stored arrays from files; no data set is known here.

A video is decoded once: its frames are kept as JPEG below `home() / "frames"`, and every reading, the first too, is
of those.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import soundfile
import torch
import torchaudio
from filelock import FileLock
from PIL import Image
from torch import Tensor

from xmodal_lib.home import home, replacing
from xmodal_lib.sources.manifest import RATE, open_audio, open_image

VIDEO = (".mp4", ".avi", ".flv", ".mkv", ".webm", ".mov")
PICTURE = (".jpg", ".jpeg", ".png", ".bmp")
UNREADABLE = (OSError, SyntaxError, ValueError, struct.error, zlib.error, Image.DecompressionBombError)  # of Pillow
QUALITY = 95  # of a kept frame, as JPEG
SLACK = 1e-3  # seconds: what a container may round a timestamp by


def waveform(path: Path) -> Tensor:
    """The sound of a file, or of a video: (T,) float32 at 16 kHz in -1..1, channels averaged.

    Raises:
        ValueError: it cannot be decoded, or holds no sample.
    """
    try:
        wave = _sound(path) if path.suffix.lower() in VIDEO else open_audio(path)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path}: no sound can be read ({error.error_string}); replace or remove the file") from None
    if not len(wave):
        raise ValueError(f"{path} holds no sound; remove it, and its item counts as one without sound")
    return wave


def frames(path: Path, fps: float = 1.0, start: float = 0.0, end: float | None = None) -> list[Image.Image]:
    """The RGB pictures that a video shows at start, start + 1 / fps, ... before `end` (seconds); at least one.

    Times are those of the container's timestamps, counted from its first frame, so a rate that varies does no harm.

    Raises:
        ValueError: it cannot be decoded, or shows nothing at `start`.
    """
    if fps <= 0 or start < 0 or (end is not None and end <= start):
        raise ValueError(f"{path}: frames at {fps} a second from {start} to {end} s are none")
    info = path.stat()
    key = repr((str(path.resolve()), info.st_size, info.st_mtime_ns, fps, start, end, QUALITY))
    digest = hashlib.sha256(key.encode()).hexdigest()
    folder = home() / "frames" / digest[:2] / digest
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / ".lock"):
            if not folder.is_dir():
                _keep(folder, decode(path, fps, start, end))
    return pictures(folder)


def decode(path: Path, fps: float = 1.0, start: float = 0.0, end: float | None = None) -> list[Image.Image]:
    """What `frames` shows, decoded now and not kept."""
    taken: list[Image.Image] = []
    due, shown = start, None
    with _opened(path, "video") as container:
        for time, frame in _timed(container, start):
            while shown is not None and due < time - SLACK and (end is None or due < end - SLACK):
                taken.append(shown.to_image())
                due = start + len(taken) / fps
            if end is not None and due >= end - SLACK:
                break
            shown = frame
    if not taken:
        raise ValueError(f"{path} shows nothing at {start:g} s; is it cut short?")
    return taken


def picture(path: Path) -> Image.Image:
    """The picture of a file as RGB (see `open_image`).

    Raises:
        ValueError: it cannot be decoded.
    """
    try:
        return open_image(path)
    except UNREADABLE as error:
        said = str(error).replace(repr(str(path)), "it")
        raise ValueError(f"{path}: no picture can be read ({said}); replace or remove the file") from None


def pictures(folder: Path) -> list[Image.Image]:
    """The pictures of a folder as RGB, by name, with numbers in it as numbers.

    Raises:
        ValueError: there is none.
    """
    found = [f for f in folder.iterdir() if f.suffix.lower() in PICTURE and not f.name.startswith(".")]
    if not found:
        raise ValueError(f"{folder} holds no picture; remove it, and its item counts as one without frames")
    return [picture(f) for f in sorted(found, key=natural)]


def natural(path: Path) -> list[tuple[int, str]]:
    """A key that sorts 2.jpg before 10.jpg."""
    return [(int(p), "") if p.isdigit() else (0, p) for p in re.split(r"(\d+)", path.name)]


def array(path: Path) -> Tensor:
    """A stored float array, as float32: a filter bank (frames, 128).

    Raises:
        ValueError: it is no NumPy file of numbers; one of objects is not opened.
    """
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float32))
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no NumPy file of numbers ({error}); compute it again") from None


def tokens(ids: Path, padding: Path) -> tuple[Tensor, Tensor]:
    """A stored text: its token ids (L,) int64, and (L,) float32 with 1 where there is padding.

    Raises:
        ValueError: the two differ in length, or are no NumPy files.
    """
    pair = array(ids).flatten().long(), array(padding).flatten()  # stored as (1, L); ids are below 2^24
    if len(pair[0]) != len(pair[1]):
        raise ValueError(f"{ids} has {len(pair[0])} tokens and {padding.name} {len(pair[1])} marks; make both again")
    return pair


def _sound(path: Path) -> Tensor:
    with _opened(path, "audio") as container:
        rate = container.streams.audio[0].rate
        planar = av.AudioResampler(format="fltp")  # only the number format changes
        parts = [part.to_ndarray() for frame in container.decode(audio=0) for part in planar.resample(frame)]
    wave = np.concatenate([part.mean(0) for part in parts]) if parts else np.zeros(0, np.float32)
    return torchaudio.functional.resample(torch.from_numpy(wave), rate, RATE).clamp(-1, 1)


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[av.container.InputContainer]:
    """The container, with what goes wrong while it is read told by name."""
    try:
        with av.open(str(path)) as container:
            if not getattr(container.streams, kind):
                raise ValueError(f"{path} has no {kind} stream; replace or remove the file, or take it out of the list")
            yield container
    except av.FFmpegError as error:
        raise ValueError(f"{path}: no {kind} can be decoded ({error.strerror}); replace or remove the file") from None


def _timed(container: av.container.InputContainer, start: float) -> Iterator[tuple[float, av.VideoFrame | None]]:
    """Frames in order, each with its second, from one at or before `start` on; None marks the end."""
    stream = container.streams.video[0]
    base = float(stream.time_base or 0)  # seconds a tick
    zero = (stream.start_time or 0) * base
    if start > 1:
        container.seek(int((start + zero) / base), stream=stream)  # to the key frame before
        first = next(container.decode(stream), None)
        if first is None or (first.pts or 0) * base - zero > start:  # a container without an index may miss it
            start = 0
        container.seek(int((start + zero) / base), stream=stream)
    last = -1.0
    for frame in container.decode(stream):
        stamp = frame.pts if frame.pts is not None else frame.dts
        last = last if stamp is None else max(last, stamp * base - zero)
        yield last, frame
    yield last + 2 * SLACK, None


def _keep(folder: Path, taken: list[Image.Image]) -> None:
    with replacing(folder) as partial:
        partial.mkdir()
        for i, frame in enumerate(taken):
            frame.save(partial / f"{i:05d}.jpg", quality=QUALITY)
