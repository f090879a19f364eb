"""The data sets of two visual modalities as a `VisualTask`: photos with sketches, infrared pictures or depth.

Base classes are seen in colour alone, as in Yang et al. (arXiv 2410.10663). Which classes are base and novel is the
source's to say (`split`); a share of the base classes is held out, in both modalities, to choose on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from xmodal_lib.alignment_tasks import pixel_rows
from xmodal_lib.encoders import frozen
from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.sources import catalogue
from xmodal_lib.tables import Table, Tables
from xmodal_lib.visual_tasks import ASKED, VisualTask, assembled

NAMES = ("sketchy", "tuberlin", "market_sketch", "sksf_a", "sysu_mm01", "nyud", "sunrgbd")
HELD = 0.2  # share of the base classes to choose on


def published(
    name: str, root: str | Path, seed: int, *, encoder: str = "efficientnet", pixels: int = 0, **options: Any
) -> VisualTask:
    """The task of one of NAMES, from its files below `root`; `options` are those of the source's `load`.

    Of a novel (or held-out) class some items are to learn from and the others are asked; colour and depth of one shot,
    and a photo and the sketches drawn from it, stay together. A modality of which a class has one item (the photo of a
    face) is learnt from only; a class that lacks a modality is left out. Rows are frozen features of "efficientnet", or
    of the image tower of MODEL:WEIGHTS of open_clip (the paper's is ViT-B-16), or with `pixels` pictures (n, 3, pixels,
    pixels) for a small net.

    Raises:
        FileNotFoundError: the data are not there.
        ValueError: no such data set or encoder, or too few classes.
    """
    if name not in NAMES:
        raise ValueError(f"no data set {name!r} of two visual modalities; there are {', '.join(NAMES)}")
    chosen = tower(encoder, pixels)
    source = catalogue.load(name, root, seed=seed, **options)
    rng = np.random.default_rng([seed, 9])
    other = next(m for m in source.tables.modalities if m != "image")
    info = {m: _with_units(source.info[m]) for m in (other, "image")}  # a photo goes where its sketches go
    asked = _asked(info, rng)
    info = {m: frame.assign(asked=frame["unit"].map(asked)) for m, frame in info.items()}
    able = _able(info)
    base = sorted(set(info["image"].loc[info["image"]["split"] == "base", "label"]))
    held = [c for c in rng.permutation(np.array(base, dtype=object)).tolist() if c in able]
    held = held[: min(max(2, round(HELD * len(base))), len(base) - 1)]
    parts = {"base": [c for c in base if c not in held], "val": sorted(held), "novel": sorted(able - set(base))}
    for part, least in (("base", 1), ("val", 2), ("novel", 2)):
        if len(parts[part]) < least:
            raise ValueError(f"{name}: the {part} part has {len(parts[part])} classes that can be learnt and asked; "
                             f"at least {least} are needed")  # fmt: skip
    ids = {item: k for k, item in enumerate(sorted(set(pd.concat(info.values())["item"])))}
    rows = {"base": _tables({"image": info["image"]}, parts["base"], ids)}
    for part in ("val", "novel"):
        for role, want in (("support", False), ("query", True)):
            own = {m: info[m][info[m]["asked"] == want] for m in ("image", other)}
            rows[f"{part} {role}"] = _tables(own, parts[part], ids)
    return assembled(source, rows, chosen, pixels)


def tower(encoder: str, pixels: int = 0) -> Encoder:
    """What makes rows of pictures: "efficientnet" or MODEL:WEIGHTS of open_clip; with `pixels` rows are the pictures.

    Raises:
        ValueError: there is no such encoder.
    """
    if pixels:
        like = pixel_rows(pixels)

        def prepare(pictures: Sequence[Any]) -> Tensor:
            return like.prepare([p.resize((pixels, pixels)) for p in pictures])  # type: ignore[return-value]

        return Encoder(f"resized-{pixels}", nn.Identity(), prepare, sample=like.sample, mode=f"{pixels}", float16=True)
    if encoder == "efficientnet":
        return frozen.efficientnet()
    if ":" not in encoder:
        raise ValueError(f"encoder={encoder!r}; there are 'efficientnet' and MODEL:WEIGHTS of open_clip")
    from xmodal_lib.encoders.towers import named_towers  # open_clip, which takes seconds to import

    return named_towers(encoder)["image"]


def _with_units(info: pd.DataFrame) -> pd.DataFrame:
    """With columns `row` and `unit`: what stays together, a group within a class, or the item."""
    own = info["item"]
    if "group" in info.columns:
        own = info["group"].where(info["group"] != "", own)
    return info.assign(row=np.arange(len(info)), unit=info["label"] + "\n" + own.astype(str))


def _asked(info: Mapping[str, pd.DataFrame], rng: np.random.Generator) -> dict[str, bool]:
    """Which units are asked: of each class and modality about a share ASKED, but never all."""
    found: dict[str, bool] = {}
    for frame in info.values():
        for _, own in frame.groupby("label"):
            units = rng.permutation(sorted(set(own["unit"]) - set(found)))
            count = min(max(1, round(ASKED * len(units))), len(units) - 1)
            found |= {unit: k < count for k, unit in enumerate(units)}
    return found


def _able(info: Mapping[str, pd.DataFrame]) -> set[str]:
    """Classes with rows to learn from in every modality, and rows to be asked in one at least."""
    learnt = [set(frame.loc[~frame["asked"], "label"]) for frame in info.values()]
    asked = [set(frame.loc[frame["asked"], "label"]) for frame in info.values()]
    return set.intersection(*learnt) & set.union(*asked)


def _tables(info: Mapping[str, pd.DataFrame], classes: Sequence[str], ids: Mapping[str, int]) -> Tables:
    number, rows = {name: c for c, name in enumerate(classes)}, {}
    for m, frame in info.items():
        own = frame[frame["label"].isin(classes)]
        x, y = (torch.tensor(part.to_numpy(np.int64)) for part in (own["row"], own["label"].map(number)))
        rows[m] = Table(x, y, torch.tensor([ids[item] for item in own["item"]], dtype=torch.int64))
    return Tables(rows, tuple(classes))
