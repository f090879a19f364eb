"""Reading sound, frames and stored arrays from files; no data set is known here.

A video is decoded once: its frames are kept as JPEG below `home() / "frames"`, and every reading, the first too, is
of those.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor

from xmodal_lib.home import home, replacing, said_by
from xmodal_lib.sources.manifest import at_16_khz, open_audio
from xmodal_lib.sources.manifest import open_image as picture

VIDEO = (".mp4", ".avi", ".flv", ".mkv", ".webm", ".mov")
PICTURE = (".jpg", ".jpeg", ".png", ".bmp")
QUALITY = 95  # of a kept frame, as JPEG
SLACK = 1e-3  # seconds: what a container may round a timestamp by
PAUSE = 600.0  # seconds at most between two frames; a longer one is a damaged timestamp


def waveform(path: Path) -> Tensor:
    """The sound of a file, or of a video: (T,) float32 at 16 kHz in -1..1, channels averaged.

    Raises:
        ValueError: it cannot be decoded, or holds no sample.
    """
    wave = _sound(path) if path.suffix.lower() in VIDEO else open_audio(path)
    if not len(wave):
        raise ValueError(f"{path} holds no sound; remove it, and its item counts as one without sound")
    return wave


def frames(path: Path, fps: float = 1.0, start: float = 0.0, end: float | None = None) -> list[Image.Image]:
    """The RGB pictures that a video shows at start, start + 1 / fps, ... before `end` (seconds); at least one.

    Times are those of the container's timestamps, counted from its first frame, so a rate that varies does no harm.

    Raises:
        FileNotFoundError: there is no such file.
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
    due, shown, since = start, None, 0.0
    with _opened(path, "video") as container:
        for time, frame in _timed(container, start):
            if shown is not None and time - since > PAUSE:
                raise ValueError(f"{time - since:.0f} s lie between two frames")
            while shown is not None and due < time - SLACK and (end is None or due < end - SLACK):
                taken.append(shown.to_image())
                due = start + len(taken) / fps
            if end is not None and due >= end - SLACK:
                break
            shown, since = frame, time
    if not taken:
        raise ValueError(f"{path} shows nothing at {start:g} s; is it cut short?")
    return taken


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
        found = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)  # NumPy leaves damaged files open
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
            raise ValueError("it holds " + (str(found.dtype) if isinstance(found, np.ndarray) else "several arrays"))
        return torch.from_numpy(found.astype(np.float32))
    except Exception as error:  # of a damaged header NumPy raises whatever comes
        raise ValueError(f"{path} is no NumPy file of numbers ({said_by(error)}); compute it again") from None


def tokens(ids: Path, padding: Path) -> tuple[Tensor, Tensor]:
    """A stored text: its token ids (L,) int64, and (L,) float32 with 1 where there is padding.

    Raises:
        ValueError: the two differ in length, are no NumPy files, or hold other numbers than these.
    """
    kept = array(ids).flatten()  # stored as (1, L); ids are below 2^24
    if not ((kept >= 0) & (kept < 2**24) & (kept == kept.floor())).all():
        raise ValueError(f"{ids} holds numbers that are no token ids; make it again")
    pair = kept.long(), array(padding).flatten()
    if not ((pair[1] == 0) | (pair[1] == 1)).all():
        raise ValueError(f"{padding} holds marks other than 0 and 1; make it again")
    if len(pair[0]) != len(pair[1]):
        raise ValueError(f"{ids} has {len(pair[0])} tokens and {padding.name} {len(pair[1])} marks; make both again")
    return pair


def _sound(path: Path) -> Tensor:
    with _opened(path, "audio") as container:
        rate = container.streams.audio[0].rate
        planar = av.AudioResampler(format="fltp")  # only the number format changes
        parts, form = [], None
        for frame in container.decode(audio=0):
            own = (frame.format.name, frame.layout.nb_channels, frame.sample_rate)
            if own != (form := form or own) or own[2] != rate:
                raise ValueError("its sound changes its rate or its channels on the way")
            parts += [part.to_ndarray() for part in planar.resample(frame)]
        wave = np.concatenate([part.mean(0) for part in parts]) if parts else np.zeros(0, np.float32)
        if not np.isfinite(wave).all():
            raise ValueError("samples are not finite numbers")
        return at_16_khz(wave, rate)


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[av.container.InputContainer]:
    """The container, with what goes wrong while it is read told by name. Nothing but this file is opened."""
    try:
        with av.open(str(path), options={"protocol_whitelist": "file"}, metadata_errors="replace") as container:
            if not getattr(container.streams, kind):
                raise ValueError(f"it has no {kind} stream")
            yield container
    except Exception as error:  # of a damaged file PyAV raises its own errors, and others
        said = getattr(error, "strerror", None) or said_by(error)
        raise ValueError(f"{path}: no {kind} can be decoded ({said}); replace or remove the file") from None


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
