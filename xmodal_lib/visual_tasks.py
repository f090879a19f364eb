"""Few-shot tasks over visual modalities: base classes in one of them, a few rows of novel classes in all.

The protocol of Yang et al. (arXiv 2410.10663) on the embedded drawings. Base classes have colour drawings only; a novel
class has `shot` drawings in colour and `shot` in one ink, and is asked in both. Held-out base classes, which no stage
learns from, serve to choose hyper-parameters with episodes of the same kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn

from xmodal_lib.alignment_tasks import pixel_rows
from xmodal_lib.encoders import frozen
from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.encoders.small import PixelNet
from xmodal_lib.episodes import Episode, draw
from xmodal_lib.features import extract
from xmodal_lib.sources import emoji
from xmodal_lib.sources.emoji_drawings import STYLES
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables

INK = {"image": ("colour",), "ink": ("line", "one-ink")}  # modality -> inks of its drawings
LEVELS = ("category", "concept")
SHARES = {"base": 0.5, "val": 0.15, "novel": 0.35}  # of classes
ASKED = 0.6  # share of a novel class's families (or hands) that are asked, the rest to learn from
WIDTH = 256  # of the small net's features


@dataclass(frozen=True, eq=False)
class VisualTask:
    """One draw: base rows, and few-shot episodes over held-out base classes ("val") and novel ones ("novel")."""

    source: Source
    base: Tables  # labelled rows of one modality
    pools: Mapping[str, tuple[Tables, Tables]]  # "val", "novel" -> rows to learn from, rows to be asked
    encoders: Mapping[str, nn.Module]  # "trunk" where rows are pixels, {} where they are features
    rows: Mapping[str, Tables]  # "base", and "ROLE support", "ROLE query": x the row numbers of the source

    def episodes(
        self, role: str, *, shot: int, seed: int, number: int = 1, way: int | None = None, queries: int | None = None
    ) -> list[Episode]:
        """Drawn by `seed`: `shot` rows a class *and modality*; all classes or `way`; all queries or so many each.

        Raises:
            ValueError: a class has too few rows of a modality.
        """
        support, query = self.pools[role]
        found = []
        for own in np.random.default_rng(seed).integers(2**31, size=number).tolist():
            parts = [draw(support.only(m), query.only(m), shot=shot, query_shot=queries if len(query[m]) else None,
                          way=way, seed=own) for m in support.modalities]  # fmt: skip
            learn, ask = parts[0].support, parts[0].query
            for part in parts[1:]:
                learn, ask = learn | part.support, ask | part.query
            found.append(Episode(learn, None, ask, own))
        return found

    def about(self) -> pd.DataFrame:
        """One line a part: classes, rows of each modality."""
        lines = {part: {"classes": len(t.classes), **{m: len(t[m]) for m in t.modalities}}
                 for part, t in self.rows.items()}  # fmt: skip
        return pd.DataFrame(lines).T.fillna(0).astype(int).rename_axis("part")

    def opened(self, part: str, modality: str, numbers: Sequence[int]) -> list[Any]:
        """Pictures of these rows (their places in the table) of a part of `rows`."""
        x = self.rows[part][modality].x
        return [self.source.open[modality](int(x[n])) for n in numbers]


def drawings(
    seed: int, *, level: Literal["category", "concept"] = "category", pixels: int = 0, encoder: Encoder | None = None
) -> VisualTask:
    """Colour drawings of base classes; colour and one-ink drawings of the others. Classes are categories or concepts.

    Level "category": the families of concepts that are asked are others than those learnt from. Level "concept": one
    concept a family, and the hands that are asked are others than those learnt from. Rows are frozen features of
    `encoder` (None: EfficientNet-Lite0, n x 1280), or with `pixels` pictures (n, 3, pixels, pixels) for a small net.

    Raises:
        ValueError: no such level, or too few pixels.
    """
    if level not in LEVELS:
        raise ValueError(f"no level {level!r}; there are {', '.join(LEVELS)}")
    source = _two_inks(emoji.load(level, modalities=("image",), size=pixels or 128))
    rng = np.random.default_rng([seed, 8])
    image = source.info["image"]
    held = torch.zeros(len(image), dtype=torch.bool)
    held[source.tables["image"].x] = True
    image = image[held.numpy()]
    label = "category" if level == "category" else "name"
    if level == "concept":
        whole = image.groupby("concept")["style"].transform("nunique") == len(STYLES)
        first = image[whole].drop_duplicates("family")["concept"]
        image = image[image["concept"].isin(first)]
    classes = rng.permutation(np.array(sorted(image[label].unique()), dtype=object)).tolist()
    edges = [round(len(classes) * share) for share in np.cumsum(list(SHARES.values()))]
    parts = {part: sorted(classes[a:b]) for part, a, b in zip(SHARES, [0, *edges], edges, strict=False)}
    rows: dict[str, Tables] = {}
    for part, names in parts.items():
        own = image[image[label].isin(names)]
        if part == "base":
            rows["base"] = _tables(own, names, label, ("image",))
            continue
        asked = _asked(own, label, level, rng)
        rows[f"{part} support"] = _tables(own[~asked], names, label, tuple(INK))
        rows[f"{part} query"] = _tables(own[asked], names, label, tuple(INK))
    return assembled(source, rows, pixel_rows(pixels) if pixels else encoder or frozen.efficientnet(), pixels)


def assembled(source: Source, rows: Mapping[str, Tables], encoder: Encoder, pixels: int = 0) -> VisualTask:
    """The task of these rows: `encoder` makes of them what methods take; with `pixels`, a small net is the trunk."""
    ready = {part: extract(source, dict.fromkeys(t.modalities, encoder), tables=t) for part, t in rows.items()}
    pools = {part: (ready[f"{part} support"], ready[f"{part} query"]) for part in ("val", "novel")}
    trunk = {}
    if pixels:
        trunk["trunk"] = nn.Sequential(PixelNet(WIDTH).net, nn.Flatten(), nn.Linear(64 * (pixels // 8) ** 2, WIDTH))
    return VisualTask(source, ready["base"], pools, trunk, rows)


def _two_inks(source: Source) -> Source:
    """The same drawings under the names of two modalities."""
    return replace(
        source, info=dict.fromkeys(INK, source.info["image"]), open=dict.fromkeys(INK, source.open["image"]),
        digests=dict.fromkeys(INK, source.digests["image"]),
    )  # fmt: skip


def _asked(image: pd.DataFrame, label: str, level: str, rng: np.random.Generator) -> np.ndarray:
    """Which drawings are asked (n,): those of some families of each class, or of some hands."""
    if level == "concept":
        inked = sorted(image.loc[image["ink"] != "colour", "drawing_family"].unique())
        others = sorted(set(image["drawing_family"]) - set(inked))
        hands = [rng.permutation(part)[: max(1, len(part) // 2)].tolist() for part in (inked, others)]
        return image["drawing_family"].isin([h for part in hands for h in part]).to_numpy()
    asked: set[str] = set()
    for _, own in image.groupby(label):
        families = rng.permutation(sorted(own["family"].unique()))
        asked.update(families[: round(ASKED * len(families))])
    return image["family"].isin(asked).to_numpy()


def _tables(image: pd.DataFrame, classes: Sequence[str], label: str, modalities: Sequence[str]) -> Tables:
    number, rows = {name: c for c, name in enumerate(classes)}, {}
    for m in modalities:
        own = image[image["ink"].isin(INK[m])]
        x = torch.tensor(own.index.to_numpy())
        rows[m] = Table(x, torch.tensor(own[label].map(number).to_numpy()), x)
    return Tables(rows, tuple(classes))
