"""Depth pictures: 16-bit PNG -> metres -> a grey picture that an encoder of pictures takes.

>>> shown(np.array([[0.0, 0.008, 4.0, 8.0, 9.0]], np.float32)).getpixel((2, 0))
(128, 128, 128)
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from xmodal_lib.home import said_by
from xmodal_lib.sources.listing import Media

FAR = 8.0  # metres; the SUN RGB-D toolbox cuts there, and the sensors see little beyond


def metres(path: Path, rotated: bool = False) -> np.ndarray:
    """The depth (h, w) float32 of a PNG of 16-bit millimetres, 0 where nothing was measured.

    `rotated`: the bits of each number stand three places further left, as SUN RGB-D stores them.

    Raises:
        ValueError: it cannot be decoded, or is no picture of 16 bits.
    """
    try:
        with Image.open(path) as image:
            if not image.mode.startswith("I"):
                raise ValueError(f"it is no picture of 16 bits, but of mode {image.mode}")
            stored = np.asarray(image).astype(np.uint16)
    except Exception as error:  # decoders raise errors of a dozen kinds
        said = said_by(error).replace(repr(str(path)), "it")
        raise ValueError(f"{path}: no depth can be read ({said}); replace or remove the file") from None
    if rotated:
        stored = np.bitwise_or(stored >> 3, stored << 13, dtype=np.uint16)
    return stored.astype(np.float32) / 1000


def shown(depth: np.ndarray) -> Image.Image:
    """Depth in metres (h, w) as a grey RGB picture: near is bright, `FAR` and beyond dark, not measured black.

    Grey is 255 - 254 depth / FAR, so that equal steps of depth are equal steps of grey. Ours: papers that fine-tune an
    encoder on depth often give it HHA (disparity, height, angle), which needs each camera's calibration.
    """
    known = np.isfinite(depth) & (depth > 0)
    grey = np.where(known, 255 - 254 * np.where(known, depth, 0).clip(0, FAR) / FAR, 0)
    return Image.fromarray(grey.round().astype(np.uint8)).convert("RGB")


def picture(path: Path, rotated: bool = False) -> Media:
    """A depth file as `shown` shows it."""
    return Media(partial(_open, path, rotated), (path,), detail=f"depth to {FAR:g} m")


def _open(path: Path, rotated: bool) -> Image.Image:
    return shown(metres(path, rotated))
