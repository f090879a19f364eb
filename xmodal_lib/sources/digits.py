"""Handwritten digits, their names and their sound: a real data set that needs no download, for fast tests.

The pictures are scikit-learn's copy of the test half of "Optical Recognition of Handwritten Digits" (Alpaydin and
Kaynak, UCI, 1998): 1,797 bitmaps of 32x32, each brought to 8x8 by counting the ink of 4x4 blocks (0..16).
"""

from __future__ import annotations

import hashlib
from functools import cache
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits
from torch import Tensor

from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PHRASES = ("{}", "the digit {}", "the number {}", "a handwritten {}", "a scan of the figure {}")
VOICES = ("en-us+m1", "en-us+m3", "en-us+f2", "en-us+f4", "en-gb-x-rp+m2", "en-gb-x-rp+f1", "en-gb-scotland+m4",
          "en-gb-scotland+f3", "en-029+m1", "en-029+f2")  # fmt: skip
RATES = (130, 170)  # words a minute
PITCH = 50  # of 0..100
FONTS = tuple(f"DejaVu{kind}" for kind in ("Sans", "Sans-Bold", "Sans-Oblique", "Sans-BoldOblique", "SansMono",
              "SansMono-Bold", "Serif", "Serif-Bold", "Serif-Italic", "Serif-BoldItalic"))  # fmt: skip

LICENCE = "pictures: UCI Optical Recognition of Handwritten Digits, CC BY 4.0; speech is synthesised by eSpeak NG"


def load() -> Source:
    """Pictures, phrases and spoken words, each row an item of its own (nothing is paired: only the class is shared).

    image: 1,797 rows, dark ink on white when opened; text: 10 digits x 5 phrases; speech: 10 x 10 voices x 2 rates,
    synthesised when opened.
    """
    digit = _scans()[1]
    image = pd.DataFrame({"digit": digit, "word": [WORDS[d] for d in digit]})
    text = pd.DataFrame(
        [{"digit": d, "word": WORDS[d], "text": phrase.format(WORDS[d])} for d, phrase in product(range(10), PHRASES)]
    )
    speech = pd.DataFrame(
        [
            {"digit": d, "word": WORDS[d], "voice": voice, "rate": rate, "pitch": PITCH}
            for d, voice, rate in product(range(10), VOICES, RATES)
        ]
    )
    info = {"image": image, "text": text, "speech": speech}
    rows = {
        m: Table(torch.arange(len(f)), torch.tensor(f["digit"].to_numpy()), torch.arange(len(f)))
        for m, f in info.items()
    }
    return Source(
        name="digits",
        tables=Tables(rows, WORDS).unpaired(),
        info=info,
        open={"image": open_image, "text": lambda i: text["text"].iloc[i], "speech": lambda i: _speak(speech.iloc[i])},
        digest=_digest(info),
        licence=LICENCE,
    )


def tables() -> Tables:
    """Two modalities as instant features of one space, no encoder needed: handwriting, and printed text.

    image (1797, 64): the handwritten digits, ink 0..1. text (100, 64): the same numerals *printed* in ten fonts and
    brought to 8x8 by the same counting of ink; so "text" is a picture of the printed character, no language model.
    """
    pixels, digit = _scans()
    x = torch.from_numpy(pixels).reshape(-1, 64)
    image = Table(x, torch.from_numpy(digit), torch.arange(len(x)))
    y = torch.arange(10).repeat_interleave(len(FONTS))
    text = Table(_printed(), y, torch.arange(len(y)))
    return Tables({"image": image, "text": text}, WORDS).unpaired()


def open_image(i: int, size: int = 64) -> Image.Image:
    """Picture i of 0..1796, as RGB of (size, size), dark ink on white."""
    ink = _scans()[0][i]
    return (
        Image.fromarray((255 * (1 - ink)).astype(np.uint8))
        .resize((size, size), Image.Resampling.BICUBIC)
        .convert("RGB")
    )


@cache
def _scans() -> tuple[np.ndarray, np.ndarray]:
    """Ink (1797, 8, 8) float32 in 0..1, and the digit (1797,) int64."""
    scans = load_digits()
    return (scans.images / 16).astype(np.float32), scans.target.astype(np.int64)


@cache
def _printed() -> Tensor:
    """The ten numerals in each of FONTS, drawn at 32x32 and counted in 4x4 blocks: (10 * fonts, 64)."""
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    fonts = [ImageFont.truetype(folder / f"{name}.ttf", 40) for name in FONTS]
    ink = np.stack([_draw(str(d), font) for d, font in product(range(10), fonts)])
    return torch.from_numpy(ink.reshape(-1, 8, 4, 8, 4).mean((2, 4), dtype=np.float32)).reshape(-1, 64)


def _draw(text: str, font: ImageFont.FreeTypeFont) -> np.ndarray:
    """Ink (32, 32) in {0, 1} of text that fills the height of the square, as the scans do."""
    left, top, right, bottom = font.getbbox(text)
    glyph = Image.new("L", (round(right - left), round(bottom - top)))
    ImageDraw.Draw(glyph).text((-left, -top), text, fill=255, font=font)
    width = min(32, round(glyph.width * 32 / glyph.height))
    square = Image.new("L", (32, 32))
    square.paste(glyph.resize((width, 32)), ((32 - width) // 2, 0))
    return np.asarray(square) > 127


def _speak(row: pd.Series) -> Tensor:
    from xmodal_lib.sources.speech import speak  # loads the synthesiser

    return speak(row["word"], row["voice"], int(row["rate"]), int(row["pitch"]))


def _digest(info: dict[str, pd.DataFrame]) -> str:
    sha = hashlib.sha256(_scans()[0].tobytes())
    for modality, frame in info.items():
        sha.update(modality.encode() + frame.to_csv(index=False).encode())
    return sha.hexdigest()
