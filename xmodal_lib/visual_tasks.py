"""Few-shot tasks over visual modalities: base classes in one of them, a few rows of novel classes in all.

The protocol of Yang et al. (arXiv 2410.10663) on the embedded drawings. Base classes have colour drawings only; a novel
class has `shot` drawings in colour and `shot` in one ink (on request edges, or words and speech), and is asked in all.
Held-out base classes, which no stage learns from, serve to choose hyper-parameters with episodes of the same kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn

from xmodal_lib.alignment_tasks import pixel_rows
from xmodal_lib.encoders import frozen
from xmodal_lib.encoders.bridge import default_bridge
from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.encoders.small import PixelNet
from xmodal_lib.episodes import Episode, draw_each
from xmodal_lib.features import extract
from xmodal_lib.sources import emoji
from xmodal_lib.sources.emoji_drawings import STYLES
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables

INK = {"image": ("colour",), "ink": ("line", "one-ink"), "edges": ("colour",)}  # modality -> inks of its drawings
TWO = ("image", "ink")
FOUR = ("image", "ink", "text", "speech")  # of `heard`
LEVELS = ("category", "concept")
SHARES = {"base": 0.5, "val": 0.15, "novel": 0.35}  # of classes
VOICES = 2  # of a spoken name
ASKED = 0.6  # share of a novel class's families (or hands) that are asked, the rest to learn from
ENOUGH = 5  # rows of each modality that a category of `heard` has to learn from
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
        own = np.random.default_rng(seed).integers(2**31, size=number).tolist()
        return [draw_each(*self.pools[role], shot=shot, seed=s, way=way, query_shot=queries) for s in own]

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
    seed: int, *, level: Literal["category", "concept"] = "category", pixels: int = 0, encoder: Encoder | None = None,
    modalities: Sequence[str] = TWO,
) -> VisualTask:  # fmt: skip
    """Colour drawings of base classes; of the others in colour and in one ink. Classes are categories or concepts.

    Level "category": the families of concepts that are asked are others than those learnt from. Level "concept": one
    concept a family, and the hands that are asked are others than those learnt from. Rows are frozen features of
    `encoder` (None: EfficientNet-Lite0, n x 1280), or with `pixels` pictures (n, 3, pixels, pixels) for a small net.
    With "edges" among the modalities, novel classes have these too: drawings in colour, each by its edges alone, of the
    same families or hands. A drawing and its edges are items of their own.

    Raises:
        ValueError: no such level or modality, or too few pixels.
    """
    unknown = [m for m in modalities if m not in INK]
    if level not in LEVELS or unknown:
        raise ValueError(f"no {'level' if level not in LEVELS else 'modality'} {(unknown or [level])[0]!r}; "
                         f"there are {', '.join(LEVELS)}; and {', '.join(INK)}")  # fmt: skip
    derived = [m for m in ("edges",) if m in modalities]
    source = _two_inks(emoji.load(level, modalities=("image", *derived), size=pixels or 128))
    rng = np.random.default_rng([seed, 8])
    image = _labelled(source, "image")
    label = "category" if level == "category" else "name"
    if level == "concept":
        whole = image.groupby("concept")["style"].transform("nunique") == len(STYLES)
        first = image[whole].drop_duplicates("family")["concept"]
        image = image[image["concept"].isin(first)]
    frames = {m: _labelled(source, m) if m in derived else image[image["ink"].isin(INK[m])] for m in modalities}
    rows: dict[str, Tables] = {}
    for part, names in _dealt(image[label].unique(), rng).items():
        own = {m: frame[frame[label].isin(names) & frame["concept"].isin(image["concept"])]
               for m, frame in frames.items()}  # fmt: skip
        if part == "base":
            rows["base"] = _tables({"image": own["image"]}, names, label)
            continue
        asked = _asked(image[image[label].isin(names)], label, level, rng)
        column = "family" if level == "category" else "drawing_family"
        for role, inside in (("support", False), ("query", True)):
            held = {m: frame[frame[column].isin(asked) == inside] for m, frame in own.items()}
            rows[f"{part} {role}"] = _tables(held, names, label)
    return assembled(source, rows, pixel_rows(pixels) if pixels else encoder or frozen.efficientnet(), pixels)


def heard(seed: int, *, modalities: Sequence[str] = FOUR, progress: bool = True) -> VisualTask:
    """The categories once more, shown, written and spoken: rows are the bridge's, one space of 384 for all.

    A novel category has drawings in colour and in one ink, written words (names and tags, none with a word of the
    category's name) and spoken names in two voices. The bridge has learnt which words go with which drawings, on
    families of concepts that are not among the novel rows here; of novel categories it has seen others. So unlike in
    `drawings`, the step from one modality to another is not left to the few rows alone. Of some draws a category is
    left out (computer, plants), which has too few rows of a modality where it is learnt.

    Raises:
        ValueError: no such modality, or no image.
    """
    source, rows = heard_rows(seed, modalities=modalities)
    towers = default_bridge(progress=progress)
    return assembled(source, rows, {m: towers["image" if m in TWO else m] for m in modalities})


def heard_rows(seed: int, *, modalities: Sequence[str] = FOUR) -> tuple[Source, dict[str, Tables]]:
    """The rows of `heard`, before an encoder sees them."""
    if "image" not in modalities or set(modalities) - set(FOUR):
        raise ValueError(f"modalities {', '.join(modalities)}; image is needed, and there are {', '.join(FOUR)}")
    source = _two_inks(emoji.load("category", voices=emoji.VOICES[:VOICES]))
    halves = emoji.base_novel(source, 0)
    rng = np.random.default_rng([seed, 8])
    image, text, speech = (_labelled(source, m) for m in emoji.MODALITIES)
    text = text[text["kind"].isin(("name", "tag")) & ~text["category_word"]]
    frames = {**{m: image[image["ink"].isin(INK[m])] for m in TWO}, "text": text, "speech": speech}
    rows: dict[str, Tables] = {}
    for part, names in _dealt(image["category"].unique(), rng).items():
        families = halves.base if part == "base" else halves.novel
        own = {m: frames[m][frames[m]["category"].isin(names) & frames[m]["family"].isin(families)] for m in modalities}
        if part == "base":
            rows["base"] = _tables({"image": own["image"]}, names, "category")
            continue
        asked = _asked(own["image"], "category", "category", rng)
        learnt = {m: frame.loc[~frame["family"].isin(asked), "category"].value_counts() for m, frame in own.items()}
        names = [c for c in names if all(n.get(c, 0) >= ENOUGH for n in learnt.values())]
        own = {m: frame[frame["category"].isin(names)] for m, frame in own.items()}
        for role, inside in (("support", False), ("query", True)):
            held = {m: frame[frame["family"].isin(asked) == inside] for m, frame in own.items()}
            rows[f"{part} {role}"] = _tables(held, names, "category")
    return source, rows


def assembled(
    source: Source, rows: Mapping[str, Tables], encoder: Encoder | Mapping[str, Encoder], pixels: int = 0
) -> VisualTask:
    """The task of these rows: an encoder (for all, or one a modality) makes of them what methods take.

    With `pixels`, a small net is the trunk.
    """

    def own(m: str) -> Encoder:
        return encoder[m] if isinstance(encoder, Mapping) else encoder

    ready = {part: extract(source, {m: own(m) for m in t.modalities}, tables=t) for part, t in rows.items()}
    pools = {part: (ready[f"{part} support"], ready[f"{part} query"]) for part in ("val", "novel")}
    trunk = {}
    if pixels:
        trunk["trunk"] = nn.Sequential(PixelNet(WIDTH).net, nn.Flatten(), nn.Linear(64 * (pixels // 8) ** 2, WIDTH))
    return VisualTask(source, ready["base"], pools, trunk, rows)


def _two_inks(source: Source) -> Source:
    """The same drawings under the names of two modalities."""
    return replace(
        source, info={**source.info, "ink": source.info["image"]}, open={**source.open, "ink": source.open["image"]},
        digests={**source.digests, "ink": source.digests["image"]},
    )  # fmt: skip


def _labelled(source: Source, modality: str) -> pd.DataFrame:
    """What is known of the rows that are of a class; the index is the row number."""
    return source.info[modality].loc[source.tables[modality].x.numpy()]


def _dealt(classes: Iterable[str], rng: np.random.Generator) -> dict[str, list[str]]:
    """The classes of each part of SHARES, sorted."""
    order = rng.permutation(np.array(sorted(classes), dtype=object)).tolist()
    edges = [round(len(order) * share) for share in np.cumsum(list(SHARES.values()))]
    return {part: sorted(order[a:b]) for part, a, b in zip(SHARES, [0, *edges], edges, strict=False)}


def _asked(image: pd.DataFrame, label: str, level: str, rng: np.random.Generator) -> set[str]:
    """Which families are asked, of each class; at level "concept", which hands."""
    if level == "concept":
        inked = sorted(image.loc[image["ink"] != "colour", "drawing_family"].unique())
        others = sorted(set(image["drawing_family"]) - set(inked))
        return {h for part in (inked, others) for h in rng.permutation(part)[: max(1, len(part) // 2)].tolist()}
    asked: set[str] = set()
    for _, own in image.groupby(label):
        families = rng.permutation(sorted(own["family"].unique()))
        asked.update(families[: round(ASKED * len(families))])
    return asked


def _tables(frames: Mapping[str, pd.DataFrame], classes: Sequence[str], label: str) -> Tables:
    """Each row an item of its own: ids of drawings are row numbers, those of other modalities begin after a million."""
    number, rows = {name: c for c, name in enumerate(classes)}, {}
    for k, (m, own) in enumerate(frames.items()):
        x = torch.tensor(own.index.to_numpy())
        y = torch.tensor(own[label].map(number).to_numpy())
        rows[m] = Table(x, y, x if m in TWO else x + k * 1_000_000)
    return Tables(rows, tuple(classes))
