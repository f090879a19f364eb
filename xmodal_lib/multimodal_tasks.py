"""Tasks for methods that train one encoder a modality: items of several modalities, and nets to learn them with.

`spoken_drawings` is the embedded one: a drawing, its spoken name, on wish a word about it; the class is the concept.
Those of `published_tasks` are the papers'. Both give a `MultimodalTask`, so that a notebook reads the same for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from xmodal_lib.encoders import frozen, inputs
from xmodal_lib.encoders.bridge import default_bridge
from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.encoders.small import mlp, word_net
from xmodal_lib.episodes import Episode
from xmodal_lib.features import extract
from xmodal_lib.sources import emoji
from xmodal_lib.sources.emoji_drawings import STYLES
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables

ROLES = ("train", "val", "test")
EMBEDDED = ("speech", "image", "text")  # the order in which MLA takes them
MEL_FRAMES = 128  # of 10 ms, of a spoken name
WIDTH = 128  # of the features of the small nets


@dataclass(frozen=True, eq=False)
class MultimodalTask:
    """One draw: labelled items to learn from, to choose on and to classify, and a net for each modality."""

    source: Source
    episode: Episode  # support, val, query; x as the nets take it
    encoders: dict[str, nn.Module]  # (b, ...) -> (b, D), one D for all; {}: x are features, nothing but heads is learnt
    rows: Mapping[str, Tables]  # of ROLES: the same items, x the row numbers of the source

    def to(self, device: torch.device | str) -> MultimodalTask:
        """The same task with its rows on a device; nets follow the rows they are given."""
        e = self.episode
        val = None if e.val is None else e.val.to(device)
        return replace(self, episode=Episode(e.support.to(device), val, e.query.to(device), e.seed))

    def about(self) -> pd.DataFrame:
        """One line a role: items, rows of each modality, classes."""
        lines = {
            role: {"items": len(t.items()), **{m: len(t[m]) for m in t.modalities}, "classes": len(t.labels().unique())}
            for role, t in self.rows.items()
        }
        return pd.DataFrame(lines).T.rename_axis("role")

    def pictures(self, items: Sequence[int], role: str = "train") -> list[Any]:
        """A picture of each item: its drawing or photograph, or the middle frame of its clip."""
        modality = "image" if "image" in self.rows[role].modalities else "visual"
        return [x[len(x) // 2] if isinstance(x, list) else x for x in self.opened(modality, items, role)]

    def captions(self, items: Sequence[int], role: str = "train") -> list[str]:
        """The class of each item, and its text where it has any that can be read."""
        tables = self.rows[role]
        y = dict(zip(tables.items().tolist(), tables.labels().tolist(), strict=True))
        texts = self.opened("text", items, role) if "text" in tables.modalities else [None] * len(items)
        return [
            tables.classes[y[i]] + (f": “{t}”" if isinstance(t, str) else "") for i, t in zip(items, texts, strict=True)
        ]

    def opened(self, modality: str, items: Sequence[int], role: str = "train") -> list[Any]:
        """What the source opens for these items of a role: pictures, strings, waveforms, frames."""
        return self.source.opened(modality, items, self.rows[role])


def spoken_drawings(
    seed: int, *, modalities: Sequence[str] = ("speech", "image"), concepts: int = 60, nets: str = "small",
    snr: float | None = None,
) -> MultimodalTask:  # fmt: skip
    """Name the concept of a drawing with its spoken name, and on wish a tag: `concepts` classes, one a family.

    Drawn by `seed`: the concepts, and which drawing families, voices and tags are learnt from. Of the five drawing
    families three are for training, one for validation, one for test; so are twelve, three and three voices, none of
    the latter six ever heard in training; of a concept's tags one each is for validation and test, and the rest for
    training. Every voice makes one item: 12, 3 and 3 a concept, whichever modalities are asked for.

    Small nets, of one hidden layer each, learn from frozen features of drawings (n, 1280) and tags (n, 384), and from
    the log-mel of speech (n, 40, 128) in 16 steps of time. With nets="bridge" all rows are features of the bridge's
    space, which was trained on other concepts: nothing but heads is learnt. `snr` in dB adds noise to the speech.

    Raises:
        ValueError: there are not so many concepts, no such modalities, or no such nets.
    """
    wrong = [m for m in modalities if m not in EMBEDDED]
    if wrong or len(modalities) < 2:
        raise ValueError(f"modalities are {', '.join(modalities)}; at least two of {', '.join(EMBEDDED)} are needed")
    if nets not in ("small", "bridge"):
        raise ValueError(f"nets={nets!r}; the embedded task has 'small' and 'bridge'")
    source = emoji.load("concept", snr=snr)
    rng = np.random.default_rng(seed)
    families = emoji.base_novel(source, seed).novel if nets == "bridge" else None  # the bridge has seen the others
    chosen = _concepts(source, concepts, families, rng)
    parts = {m: deal(source.info[m][source.info[m]["concept"].isin(chosen)], rng)
             for m, deal in (("speech", _voices), ("image", _drawings), ("text", _tags))}  # fmt: skip
    items = parts["speech"].reset_index(names="speech")
    for m in ("image", "text"):
        items[m] = _one_each(items, parts[m], rng)
    rows = _by_role(items, modalities, chosen, source.info["image"])
    towers = {"image": frozen.efficientnet(), "text": frozen.minilm(), "speech": log_mel_rows()}
    encoders: dict[str, nn.Module] = {"image": mlp(1280, WIDTH), "text": mlp(384, WIDTH), "speech": word_net(40, WIDTH)}
    if nets == "bridge":
        towers, encoders = dict(default_bridge(seed, seed, speech=True)), {}
    ready = {role: extract(source, {m: towers[m] for m in modalities}, tables=rows[role]) for role in ROLES}
    episode = Episode(ready["train"], ready["val"], ready["test"], seed)
    return MultimodalTask(source, episode, {m: encoders[m] for m in modalities if m in encoders}, rows)


def log_mel_rows() -> Encoder:
    """Speech as rows (40, 128): the log-mel of a spoken name, nothing learnt."""

    def prepare(waves: Sequence[Any]) -> torch.Tensor:
        return torch.stack([inputs.log_mel(torch.as_tensor(wave), frames=MEL_FRAMES) for wave in waves])

    return Encoder("log-mel", nn.Identity(), prepare, sample=torch.zeros(16_000), mode=f"40 bands, {MEL_FRAMES}")


def _concepts(source: Source, n: int, families: frozenset[str] | None, rng: np.random.Generator) -> list[str]:
    """n concepts of different families (of these, if any), drawn in all colour styles and with three tags or more."""
    image, text = source.info["image"], source.info["text"]
    colour = [name for name, style in STYLES.items() if style.ink == "colour"]
    drawn = image[image["style"].isin(colour)].groupby("concept")["style"].nunique()
    tags = text[text["kind"] == "tag"].groupby("concept").size()
    able = drawn.index[drawn == len(colour)].intersection(tags.index[tags >= 3])
    table = image[image["concept"].isin(able)].drop_duplicates("concept").sort_values("concept")
    table = table if families is None else table[table["family"].isin(families)]
    one = table.iloc[rng.permutation(len(table))].drop_duplicates("family")["concept"].tolist()
    if not 2 <= n <= len(one):
        raise ValueError(f"{n} concepts are asked for; there are 2 to {len(one)} in all styles and with three tags")
    return sorted(one[:n])


def _voices(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    unheard = rng.permutation(sorted(frame.loc[frame["held_out"], "voice"].unique()))
    role = {v: "val" if k < len(unheard) // 2 else "test" for k, v in enumerate(unheard)}
    return frame.assign(role=frame["voice"].map(role).fillna("train"))


def _drawings(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    colour = frame[frame["ink"] == "colour"]
    families = rng.permutation(sorted(colour["drawing_family"].unique()))
    role = dict.fromkeys(families, "train") | {families[0]: "val", families[1]: "test"}
    return colour.assign(role=colour["drawing_family"].map(role))


def _tags(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    tags = frame[frame["kind"] == "tag"].sample(frac=1, random_state=rng)
    return tags.assign(role=tags.groupby("concept").cumcount().map({0: "val", 1: "test"}).fillna("train"))


def _one_each(items: pd.DataFrame, frame: pd.DataFrame, rng: np.random.Generator) -> pd.Series:
    """For each item a row of its concept and role, all of them about equally often."""
    found = pd.Series(0, index=items.index)
    rows = {key: group.index.to_numpy() for key, group in frame.groupby(["concept", "role"])}
    for key, group in items.groupby(["concept", "role"]):
        found[group.index] = rng.permutation(np.resize(rng.permutation(rows[key]), len(group)))
    return found


def _by_role(
    items: pd.DataFrame, modalities: Sequence[str], chosen: Sequence[str], image: pd.DataFrame
) -> dict[str, Tables]:
    name = image.drop_duplicates("concept").set_index("concept")["name"]
    y = torch.tensor(items["concept"].map({c: i for i, c in enumerate(chosen)}).to_numpy())
    whole = {m: Table(torch.tensor(items[m].to_numpy()), y, torch.arange(len(items))) for m in modalities}
    tables = Tables(whole, tuple(name[c] for c in chosen))
    return {role: tables.take(torch.tensor(np.flatnonzero(items["role"] == role))) for role in ROLES}
