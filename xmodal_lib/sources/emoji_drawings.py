"""The drawings: nine sets of SVG icons, rendered once a set and size to PNG on white, kept in one file each.

A file is a safetensors: all PNGs end to end, and where each starts; so a drawing is read without the others.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import resvg_py
from filelock import FileLock
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.ndimage import gaussian_gradient_magnitude
from tqdm.auto import tqdm

from xmodal_lib.home import Unusable, home, replacing
from xmodal_lib.sources import packages
from xmodal_lib.sources.emoji_concepts import concepts

_NOT_BY_NAME = {"1F997"}  # the insect: sets without code points that are older than it call the game "cricket"
RULES = 1  # raise it when the way a drawing is found or rendered changes
EDGES = 1  # raise it when what `edges` returns changes


@dataclass(frozen=True)
class Style:
    """A set of drawings by one hand."""

    name: str
    package: str
    ink: str  # "colour", "one-ink" or "line"
    drawing_family: str  # the sets of one family share outlines


STYLES = {
    style.name: style
    for style in (
        Style("twemoji", "@iconify-json/twemoji", "colour", "twemoji"),
        Style("noto", "@iconify-json/noto", "colour", "noto"),
        Style("noto-v1", "@iconify-json/noto-v1", "colour", "noto"),
        Style("openmoji", "@iconify-json/openmoji", "colour", "openmoji"),
        Style("openmoji-line", "openmoji", "line", "openmoji"),
        Style("fluent", "@iconify-json/fluent-emoji-flat", "colour", "fluent"),
        Style("fluent-one-ink", "@iconify-json/fluent-emoji-high-contrast", "one-ink", "fluent"),
        Style("emojione", "@iconify-json/emojione", "colour", "emojione"),
        Style("emojione-one-ink", "@iconify-json/emojione-monotone", "one-ink", "emojione"),
    )
}


@dataclass(frozen=True)
class Drawings:
    """The rendered drawings of one set: `open(k)` is the PIL image of `concepts[k]`."""

    path: Path
    concepts: tuple[str, ...]  # hex codes
    digest: str  # of the PNGs

    def open(self, k: int) -> Image.Image:
        """Drawing k, RGB on white.

        Raises:
            Unusable: the file is damaged or gone.
        """
        try:
            with safe_open(self.path, framework="numpy") as file:
                start, end = (int(v) for v in file.get_slice("start")[k : k + 2])
                png = file.get_slice("png")[start:end].tobytes()
            return Image.open(io.BytesIO(png)).convert("RGB")
        except (SafetensorError, OSError, SyntaxError, ValueError) as error:
            raise _damaged(self.path) from error


def drawings(style: str, size: int) -> Drawings:
    """The drawings of a set at `size` x `size` pixels, rendered first if they are not in the cache.

    Raises:
        ValueError: no such set, or a size below 8.
        Unusable: the package could not be fetched, or a cached file is damaged.
    """
    check_style(style)
    if size < 8:
        raise ValueError(f"size is {size} pixels; at least 8 are needed")
    package = packages.PACKAGES[STYLES[style].package]
    key = f"{package}|{packages.PACKAGES['emojibase-data']}|resvg {version('resvg-py')}|{RULES}"
    name = f"{style}-{size}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.safetensors"
    path = home() / "emoji" / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            if not path.is_file():
                _render_all(style, size, path)
    return _index(path)


def check_style(style: str) -> None:
    """Raises ValueError if there is no such set."""
    if style not in STYLES:
        raise ValueError(f"no style {style!r}; there are {', '.join(STYLES)}")


def svgs(style: str, table: pd.DataFrame) -> dict[str, str]:
    """SVG source of each concept that a set draws: {hex code: svg}."""
    package = packages.PACKAGES[STYLES[style].package]
    return _line_svgs(package, table) if STYLES[style].ink == "line" else _iconify_svgs(package, table)


def render(svg: str, size: int) -> bytes:
    """PNG of an SVG on white, `size` x `size` pixels."""
    return resvg_py.svg_to_bytes(svg_string=svg, background="#ffffff", width=size, height=size, skip_system_fonts=True)


def edges(picture: Image.Image, sigma: float = 1.0) -> Image.Image:
    """Where the colours of a picture change, dark on white: how steep the steepest of red, green and blue is.

    Colours are smoothed by a Gaussian of `sigma` pixels first. A straight edge between 0 and 255 of one colour is black
    in its middle, one between 0 and 51 a fifth as dark. Ours; no threshold, so nothing has to be chosen.

    Raises:
        ValueError: `sigma` is not positive.
    """
    if sigma <= 0:
        raise ValueError(f"sigma is {sigma} pixels; it must be positive")
    colours = np.asarray(picture.convert("RGB"), np.float32)  # (h, w, 3)
    slope = np.stack([gaussian_gradient_magnitude(c, sigma, mode="nearest") for c in colours.transpose(2, 0, 1)]).max(0)
    step = slope * sigma * np.sqrt(2 * np.pi)  # the height of a straight edge that is as steep
    return Image.fromarray((255 - step.clip(0, 255)).round().astype(np.uint8)).convert("RGB")


@lru_cache(maxsize=64)
def _index(path: Path) -> Drawings:
    try:
        with safe_open(path, framework="numpy") as file:
            meta = file.metadata()
            found = Drawings(path, tuple(json.loads(meta["concepts"])), meta["digest"])
            if found.digest != _digest(file.get_tensor("start"), file.get_tensor("png")):
                raise ValueError("the drawings are not those that were written")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path) from error
    return found


def _damaged(path: Path) -> Unusable:
    return Unusable(f"{path} is damaged or gone; delete it and run this again to render the drawings anew")


def _render_all(style: str, size: int, path: Path) -> None:
    sources = svgs(style, concepts())
    bar = tqdm(sources.items(), desc=f"rendering {style} at {size} px", unit="drawing")
    pngs = [render(svg, size) for _, svg in bar]
    blob = np.frombuffer(b"".join(pngs), np.uint8)
    start = np.cumsum([0, *map(len, pngs)], dtype=np.int64)
    meta = {"concepts": json.dumps(list(sources)), "digest": _digest(start, blob)}
    with replacing(path) as partial:
        save_file({"png": blob, "start": start}, partial, meta)


def _digest(start: np.ndarray, blob: np.ndarray) -> str:
    return hashlib.sha256(start.tobytes() + blob.tobytes()).hexdigest()


def _line_svgs(package: packages.Package, table: pd.DataFrame) -> dict[str, str]:
    there = set(packages.files(package))
    paths: dict[str, str] = {}
    for code in table["concept"]:  # some file names leave the variation selector out
        for path in (f"black/svg/{code}.svg", f"black/svg/{code.replace('-FE0F', '')}.svg"):
            if path in there:
                paths.setdefault(code, path)
    sources = packages.read_many(package, paths.values())
    return {code: source.decode() for code, source in zip(paths, sources, strict=True)}


def _iconify_svgs(package: packages.Package, table: pd.DataFrame) -> dict[str, str]:
    icons, chars = (json.loads(c) for c in packages.read_many(package, ["icons.json", "chars.json"]))
    found = {}
    for code, name in zip(table["concept"], table["name"], strict=True):
        plain = "-".join(part for part in code.lower().split("-") if part != "fe0f")
        for icon in (chars.get(plain), slug(name) if code not in _NOT_BY_NAME else None):
            while icon in icons.get("aliases", {}):
                icon = icons["aliases"][icon]["parent"]
            if icon in icons["icons"]:
                found[code] = _svg(icons["icons"][icon], icons)
                break
    return found


def _svg(icon: dict, defaults: dict) -> str:
    """An iconify icon as a square SVG, the drawing in its middle, `currentColor` black."""
    box = {name: icon.get(name, defaults.get(name, fallback)) for name, fallback in
           (("left", 0), ("top", 0), ("width", 16), ("height", 16))}  # fmt: skip
    side = max(box["width"], box["height"])
    left, top = box["left"] - (side - box["width"]) / 2, box["top"] - (side - box["height"]) / 2
    body = icon["body"].replace("currentColor", "#000000")
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {side} {side}">{body}</svg>'
    )


def slug(name: str) -> str:
    """A name as icon sets write it: "Japanese “post” office" -> "japanese-post-office"."""
    plain = unicodedata.normalize("NFKD", name.lower().replace("'", "")).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
