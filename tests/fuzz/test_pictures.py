"""The door of pictures: `manifest.open_image`, by which every source and `predict` open one."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.law import damaged, door, lawful, one_line
from xmodal_lib.sources import manifest

LOSSLESS = {"PNG": ("1", "L", "LA", "RGB", "RGBA", "P", "I;16"), "BMP": ("L", "RGB"), "TIFF": ("L", "RGB", "CMYK", "F")}
LOSSY = {"JPEG": ("L", "RGB", "CMYK"), "GIF": ("P",), "WEBP": ("RGB", "RGBA"), "ICO": ("RGBA",), "TIFF": ("LAB", "I")}
KINDS = [(kind, mode) for known in (LOSSLESS, LOSSY) for kind, modes in known.items() for mode in modes]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures") / "a.png"


def picture(mode: str, width: int, height: int, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65_536, (height, width), np.uint16))
    if mode in ("I", "F"):
        return Image.fromarray(rng.integers(0, 256, (height, width)).astype(np.int32 if mode == "I" else np.float32))
    base = Image.fromarray(
        rng.integers(0, 256, (height, width, 4), np.uint8), "RGBA" if mode in ("RGBA", "LA") else None
    )
    if mode == "LAB":
        return Image.frombytes("LAB", (width, height), base.convert("RGB").tobytes())
    return base.convert(mode) if mode in ("LA", "RGBA") else base.convert("RGB").convert(mode)


@st.composite
def saved(draw, kinds=KINDS) -> tuple[bytes, Image.Image]:
    """A right picture as a file: of any mode, animated, or with the EXIF tag that turns it."""
    kind, mode = draw(st.sampled_from(kinds))
    made = picture(mode, draw(st.integers(1, 20)), draw(st.integers(1, 20)), draw(st.integers(0, 9)))
    more: dict = {}
    if kind in ("JPEG", "WEBP", "PNG") and draw(st.booleans()):
        exif = Image.Exif()
        exif[0x0112] = draw(st.integers(0, 9))
        more["exif"] = exif
    if kind in ("GIF", "WEBP") and draw(st.booleans()):
        more |= {"save_all": True, "append_images": [made.rotate(90), made.copy()]}
    if kind == "ICO":
        more["sizes"] = [made.size]
    file = io.BytesIO()
    made.save(file, kind, **more)
    return file.getvalue(), made


@given(kind=st.sampled_from(["PNG", "BMP", "TIFF"]), mode=st.sampled_from(["L", "RGB", "I;16"]),
       size=st.tuples(st.integers(1, 30), st.integers(1, 30)), seed=st.integers(0, 9))  # fmt: skip
@door
def test_what_was_put_in_comes_out(path: Path, kind: str, mode: str, size: tuple[int, int], seed: int) -> None:
    made = picture(mode if kind != "BMP" else "RGB", *size, seed)
    made.save(path, kind)
    raw = np.asarray(made)
    wanted = (raw // 257).astype(np.uint8) if made.mode == "I;16" else raw
    read = manifest.open_image(path)
    assert read.mode == "RGB"
    assert np.array_equal(np.asarray(read), wanted if wanted.ndim == 3 else np.repeat(wanted[..., None], 3, 2))


@given(st.data())
@door
def test_any_picture_is_read_or_refused_in_a_line(path: Path, data: st.DataObject) -> None:
    """Right ones, and damaged ones; what the check before a long work lets pass, opens."""
    raw, made = data.draw(saved())
    whole = data.draw(st.integers(0, 3)) == 0
    path.write_bytes(raw if whole else data.draw(damaged(raw)))
    try:
        manifest._check_image(path)
        passed = True
    except Exception:
        passed = False
    with lawful(), warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning is a second line
        try:
            read = manifest.open_image(path)
        except ValueError:
            assert not passed or raw[:2] == b"\xff\xd8"  # a JPEG's check decodes an eighth
            assert not whole or made.mode in ("F", "LAB")
            raise
        assert read.mode == "RGB" and min(read.size) > 0
        assert not whole or sorted(read.size) == sorted(made.size)


def png(width: int, height: int, bits: int = 8) -> bytes:
    """A PNG that says it is so large, and holds a few rows."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    body = zlib.compress(b"\0" * 10_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("raw", [png(2**31 - 1, 2**31 - 1), png(60_000, 60_000), png(0, 0), png(1, 60_000), b"",
                                 b"\0" * 9, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])  # fmt: skip
def test_pictures_that_no_net_can_see(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="no picture can be read") as caught:
        manifest.open_image(path)
    one_line(caught.value)
