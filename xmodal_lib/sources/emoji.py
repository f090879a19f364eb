"""The embedded data set: emoji as drawings by five hands, as words, and as spoken words; on request as edges.

>>> source = load("category", styles=("twemoji",), categories=("food-fruit", "tool"), per_category=4)
>>> source.tables.classes
('food-fruit', 'tool')
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from xmodal_lib.sources import packages, speech
from xmodal_lib.sources.emoji_concepts import class_categories, concepts, other_words, records
from xmodal_lib.sources.emoji_drawings import EDGES, STYLES, Drawings, check_style, drawings, edges
from xmodal_lib.sources.emoji_splits import BaseNovel, base_novel, pair_rows
from xmodal_lib.sources.emoji_words import (
    PROMPTS,
    caption,
    class_prompts,
    prompt_table,
    readable,
    texts_without_category,
)
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables

__all__ = [
    "MODALITIES", "PROMPTS", "STYLES", "VOICES", "BaseNovel", "base_novel", "caption", "class_prompts", "concepts",
    "licences", "load", "pair_rows", "prompt_table", "readable",
]  # fmt: skip

MODALITIES = ("image", "text", "speech")
DERIVED = ("edges",)  # computed from the rows of another modality, and loaded where it is named
VOICES = (*speech.TRAIN_VOICES, *speech.HELD_OUT_VOICES)

_variation = cache(speech.variation)  # both levels ask for the same


def load(
    level: Literal["category", "concept"] = "category",
    *,
    modalities: Sequence[str] = MODALITIES,
    size: int = 128,
    styles: Sequence[str] = tuple(STYLES),
    voices: Sequence[str] = VOICES,
    categories: Sequence[str] | None = None,
    per_category: int | None = None,
    snr: float | None = None,
    seed: int = 0,
) -> Source:
    """The emoji, one row a drawing, a text or a spoken name; each row is an item of its own (see `pair_rows`).

    Classes are the categories that are large enough, or, at level "concept", the concepts of all categories.
    `categories` and `per_category` (at most so many concepts of each, of different families first) make it smaller.
    `size` is in pixels, `snr` in dB the noise added to speech; `seed` draws how each spoken name is spoken.

    `info` has the drawings and voices of all concepts, also of those that are of no class at this level; `tables` says
    which rows are. Every line has concept (hex code), name, category, group and family; beside these
    image: style, drawing_family, ink ("colour", "one-ink", "line");
    edges (only if `modalities` names it): the same, for the drawings in colour, each shown by its edges alone;
    text: kind ("class", "prompt", "name", "tag"), string, held_out (of a concept's tags, every second),
    category_word (whether the string has a word of its category's or group's name);
    speech: voice, held_out (voices not for training), rate, pitch, seed.
    Tags never hold a word of their concept's name, nor, at level "category", of the category's name. Lines of kind
    "class" and "prompt" speak of a whole class: at level "category" their concept, name and family are "".

    Raises:
        ValueError: no such level, modality, style, voice or category, or a size too small.
        Unusable: a package could not be fetched, or a cached file is damaged.
    """
    _check(level, modalities, styles)
    table, classes = _chosen(level, categories, per_category)
    drawn = concepts() if categories is None and per_category is None else table  # rows are the same at both levels
    makers: dict[str, Callable[[], tuple[pd.DataFrame, Callable[[int], Any], str]]] = {
        "image": lambda: _images(drawn, styles, size),
        "edges": lambda: _edges(drawn, styles, size),
        "text": lambda: _texts(table, level, classes),
        "speech": lambda: _spoken(drawn, voices, seed, snr),
    }
    info, opens, digests = {}, {}, {}
    for modality in modalities:
        info[modality], opens[modality], made = makers[modality]()
        digests[modality] = _hash(f"emoji {modality} {made} {info[modality].to_csv(index=False)}")
    return Source(
        name=f"emoji-{level}",
        tables=_tables(info, classes, level),
        info=info,
        open=opens,
        digest=_hash(json.dumps([level, str(packages.PACKAGES["emojibase-data"]), classes, digests])),
        digests=digests,
        licence="; ".join(dict.fromkeys(licences()["licence"])),
    )


def licences() -> pd.DataFrame:
    """What the embedded data is made of: what, package, version, licence, author."""
    what = {STYLES[style].package: f"drawings, {style}" for style in STYLES}
    lines = [(what.get(p.name, "names, tags"), p.name, p.version, p.licence, p.author)
             for p in packages.PACKAGES.values()]  # fmt: skip
    espeak = ("spoken names", "espeakng-loader", version("espeakng-loader"), "GPL-3.0-or-later", "eSpeak NG")
    return pd.DataFrame([*lines, espeak], columns=["what", "package", "version", "licence", "author"])


def _check(level: str, modalities: Sequence[str], styles: Sequence[str]) -> None:
    if level not in ("category", "concept"):
        raise ValueError(f"no level {level!r}; there are category and concept")
    unknown = [m for m in modalities if m not in MODALITIES + DERIVED]
    if unknown or not modalities:
        raise ValueError(f"no modality {unknown[0] if unknown else ''!r}; there are {', '.join(MODALITIES + DERIVED)}")
    if "image" in modalities and not styles:
        raise ValueError(f"images need at least one style of {', '.join(STYLES)}")
    if "edges" in modalities and not _coloured(styles):
        raise ValueError(f"edges need at least one style in colour: {', '.join(_coloured(tuple(STYLES)))}")
    for style in styles:
        check_style(style)


def _chosen(
    level: str, categories: Sequence[str] | None, per_category: int | None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The concepts to load, and the classes."""
    table = concepts()
    large = class_categories(table)
    allowed = large if level == "category" else tuple(table["category"].unique())
    unknown = [category for category in categories or () if category not in allowed]
    if unknown:
        raise ValueError(f"no category {unknown[0]!r}; there are {', '.join(allowed)}")
    if per_category is not None and per_category < 1:
        raise ValueError(f"per_category is {per_category}; at least 1 concept of each category is needed")
    chosen = [category for category in allowed if categories is None or category in categories]
    table = table[table["category"].isin(chosen)]
    if per_category is not None:
        first = (~table.duplicated(["category", "family"])).sort_values(ascending=False, kind="stable")
        table = table.loc[first.index].groupby("category", sort=False).head(per_category).sort_index()
    table = table.reset_index(drop=True)
    return table, tuple(chosen) if level == "category" else tuple(table["name"])


def _images(
    table: pd.DataFrame, styles: Sequence[str], size: int
) -> tuple[pd.DataFrame, Callable[[int], Image.Image], str]:
    packages.fetch_all(packages.PACKAGES[STYLES[style].package] for style in styles)
    sets = {style: drawings(style, size) for style in styles}
    parts = []
    for style, drawn in sets.items():
        place = {concept: k for k, concept in enumerate(drawn.concepts)}
        part = table[table["concept"].isin(place)].drop(columns="tags")
        about = {"style": style, "drawing_family": STYLES[style].drawing_family, "ink": STYLES[style].ink}
        parts.append(part.assign(**about, place=part["concept"].map(place)))
    info = pd.concat(parts, ignore_index=True)
    where = list(zip(info["style"], info.pop("place"), strict=True))

    def open_image(row: int) -> Image.Image:
        style, place = where[row]
        return sets[style].open(place)

    return info, open_image, _drawn_digest(size, sets)


def _edges(
    table: pd.DataFrame, styles: Sequence[str], size: int
) -> tuple[pd.DataFrame, Callable[[int], Image.Image], str]:
    info, open_image, made = _images(table, _coloured(styles), size)
    return info, lambda row: edges(open_image(row)), f"{made} edges {EDGES}"


def _coloured(styles: Sequence[str]) -> list[str]:
    return [style for style in styles if style in STYLES and STYLES[style].ink == "colour"]


def _drawn_digest(size: int, sets: Mapping[str, Drawings]) -> str:
    made = [f"{packages.PACKAGES[STYLES[style].package]} {drawn.digest}" for style, drawn in sets.items()]
    return " ".join([str(size), *made])


def _texts(table: pd.DataFrame, level: str, classes: tuple[str, ...]) -> tuple[pd.DataFrame, Callable[[int], str], str]:
    lines: list[dict[str, Any]] = []
    if level == "category":
        groups = dict(zip(table["category"], table["group"], strict=True))
        for category in classes:
            about = {"concept": "", "name": "", "category": category, "group": groups[category], "family": ""}
            lines += [about | {"kind": "class", "string": readable(category)}]
            lines += [about | {"kind": "prompt", "string": prompt} for prompt in class_prompts(category)]
    for concept in records(table):
        tags = other_words(concept.pop("tags"), concept["name"])
        if level == "category":
            tags = [t for t in tags if texts_without_category([t], concept["category"], concept["group"]) == [t]]
        else:
            lines += [concept | {"kind": "prompt", "string": prompt} for prompt in class_prompts(concept["name"])]
        lines += [concept | {"kind": "name", "string": concept["name"]}]
        lines += [concept | {"kind": "tag", "string": t, "held_out": i % 2 == 1} for i, t in enumerate(tags)]
    info = pd.DataFrame(lines)
    info["held_out"] = info["held_out"].eq(True)
    info["category_word"] = [
        texts_without_category([text], category, group) != [text]
        for text, category, group in zip(info["string"], info["category"], info["group"], strict=True)
    ]
    strings = info["string"].tolist()
    return info, strings.__getitem__, ""


def _spoken(
    table: pd.DataFrame, voices: Sequence[str], seed: int, snr: float | None
) -> tuple[pd.DataFrame, Callable[[int], Tensor], str]:
    for voice in voices:
        speech.check_voice(voice)
    info = table.drop(columns="tags").merge(pd.DataFrame({"voice": list(voices)}), how="cross")
    info["held_out"] = ~info["voice"].isin(speech.TRAIN_VOICES)
    seeds = [zlib.crc32(f"{seed} {c} {v}".encode()) for c, v in zip(info["concept"], info["voice"], strict=True)]
    info[["rate", "pitch"]] = [_variation(s) for s in seeds]
    info["seed"] = seeds

    def open_speech(row: int) -> Tensor:
        line = info.iloc[row]
        wave = speech.speak(line["name"], line["voice"], int(line["rate"]), int(line["pitch"]))
        if snr is None:
            return wave
        return speech.add_noise(wave, snr, torch.Generator().manual_seed(int(line["seed"])))

    return info, open_speech, f"espeakng-loader {version('espeakng-loader')} snr {snr} rules {speech.RULES}"


def _tables(info: Mapping[str, pd.DataFrame], classes: tuple[str, ...], level: str) -> Tables:
    number, start, rows = {name: i for i, name in enumerate(classes)}, 0, {}
    for modality, frame in info.items():
        y = frame["category" if level == "category" else "name"].map(number)
        x = torch.tensor(np.flatnonzero(y.notna()))  # a drawing of another category is a row of no class
        rows[modality] = Table(x, torch.tensor(y.dropna().to_numpy(np.int64)), start + x)
        start += len(frame)
    return Tables(rows, classes)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
