"""Pictures and sounds of the same classes, no picture belonging to a sound: each is to help to classify the other.

    task = spoken_drawings(seed=1)                            # or imagenet_esc("data", "RN50:openai", "features.pt")
    task.episode("image", shot=2, own=3, other=5)             # two drawings a class, and one spoken name a class

The protocol is that of ImageNet-ESC (Lin et al., CVPR 2023): 1, 2 or 4 rows a class of what is asked, one row a class
of the other modality, class names beside them; 25 runs, from five draws of the one and five of the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import normalize

from xmodal_lib.encoders import audioclip
from xmodal_lib.encoders.bridge import Recipe, bridge
from xmodal_lib.episodes import Episode
from xmodal_lib.features import extract
from xmodal_lib.sources import catalogue, emoji
from xmodal_lib.sources import imagenet_esc as benchmark
from xmodal_lib.sources.emoji_drawings import STYLES
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables

VOICES = {"bridge": 4, "task": 8}  # of the training voices; the held-out ones are asked
MOST = 4  # drawings a class to learn from


@dataclass(frozen=True, eq=False)
class AudioVisualTask:
    """One data set (and, embedded, one draw of classes and encoder): unit features, and how a run is drawn."""

    source: Source
    tables: Tables  # unit features: "image", the sounds, "text" (a class name each)
    sound: str  # name of the modality of sounds
    draw: Callable[[str, int, int, int], Episode]

    def episode(self, asked: str, *, shot: int, own: int, other: int) -> Episode:
        """One of the 25 runs: `own` draws the `shot` rows a class of what is asked, `other` the one that helps (1..5).

        Support: rows of `asked`, one row a class of the other modality, class names. Validation and query: of `asked`.

        Raises:
            ValueError: `asked` is no modality of pictures or sounds, or there are too few rows.
        """
        if asked not in ("image", self.sound):
            raise ValueError(f"asked is {asked!r}; there are image and {self.sound}")
        return self.draw(asked, shot, own, other)

    def helper(self, asked: str) -> str:
        """The modality that is not asked."""
        return self.sound if asked == "image" else "image"

    def about(self, shots: tuple[int, ...] = (1, 4)) -> pd.DataFrame:
        """Rows of a run: one line a (modality asked, shots)."""
        lines = []
        for asked in ("image", self.sound):
            for shot in shots:
                run = self.episode(asked, shot=shot, own=1, other=1)
                parts = {"learnt": run.support[asked], "helping": run.support[self.helper(asked)],
                         "names": run.support["text"], "validation": (run.val or run.support)[asked],
                         "asked": run.query[asked]}  # fmt: skip
                lines.append({"asks": asked, "shot": shot, "classes": len(run.query.classes),
                              **{name: len(table) for name, table in parts.items()}})  # fmt: skip
        return pd.DataFrame(lines)


def imagenet_esc(root: str | Path, encoder: str, sounds: str | Path = "", classes: int = 27) -> AudioVisualTask:
    """ImageNet-ESC below `root` ("": its usual place): pictures and names by open_clip, sounds from a file of features.

    `encoder` is MODEL:WEIGHTS, hf-hub:NAME or local-dir:FOLDER; `sounds` a file that `audioclip.write` or the release
    wrote, "" for esc-50/features.pt, where the release has it.
    The published features are AudioCLIP's, whose picture and text towers are those of CLIP's RN50: "RN50:openai".

    Raises:
        FileNotFoundError: the data or the file of features are not there.
        ValueError: they are damaged, widths differ, or no weights are named.
    """
    from xmodal_lib.encoders.towers import named_towers

    source = catalogue.load("imagenet_esc", root, classes=classes)
    sounds = sounds or Path(root or catalogue.place("imagenet_esc"), "esc-50", "features.pt")
    heard = audioclip.read(sounds, source)
    tables = extract(source, named_towers(encoder))
    widths = {m: t.x.shape[1] for m, t in {**tables.rows, "audio": heard}.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(f"features of {encoder!r} and of {sounds} are of widths {widths}; one space is needed")
    tables = _unit(Tables({"image": tables["image"], "audio": heard, "text": tables["text"]}, tables.classes))

    def draw(asked: str, shot: int, own: int, other: int) -> Episode:
        return benchmark.episode(source, asked, shot=shot, split=own, seed=other, tables=tables)

    return AudioVisualTask(source, tables, "audio", draw)


def spoken_drawings(
    seed: int, *, classes: int = 27, met: bool = False, snr: float | None = 0.0, progress: bool = True
) -> AudioVisualTask:
    """Drawings and spoken names of `classes` concepts of different families, in the space of a bridge.

    The bridge has learnt on the base concepts. With `met` also on these ones, in a drawing and voices that no run uses,
    as CLIP and AudioCLIP have met dogs and barking; without, picture and sound of every class are new to it.
    Drawings: of the four drawing families with two members one (drawn by `seed`) is asked, one is for validation, two
    are learnt from. Voices: those held out are asked; eight others are learnt from and validated on. `snr`: noise of
    the sounds in dB (the bridge has heard none), without which one spoken name a class is nearly enough.

    Raises:
        ValueError: there are not so many concepts.
    """
    clean = emoji.load("concept")
    halves = emoji.base_novel(clean, seed)
    rng = np.random.default_rng([seed, 11])
    image = clean.info["image"]
    drawn = image[image["family"].isin(halves.novel)].groupby("concept")["style"].nunique()
    able = image[image["concept"].isin(drawn.index[drawn == len(STYLES)])].drop_duplicates("concept")
    able = able.sort_values("concept").iloc[rng.permutation(len(able))].drop_duplicates("family")
    if not 2 <= classes <= len(able):
        raise ValueError(f"classes={classes}; there are 2 to {len(able)} new concepts in all styles")
    chosen = able.iloc[:classes].sort_values("concept")
    voices = rng.permutation(sorted(set(clean.info["speech"].query("~held_out")["voice"])))
    families = [str(f) for f in rng.permutation(["noto", "openmoji", "fluent", "emojione"])]
    base = halves.items(clean, "base")
    if met:
        concepts = chosen["concept"].tolist()
        spoken = clean.where("speech", concept=concepts, voice=voices[: VOICES["bridge"]].tolist())
        base = torch.cat([base, clean.where("image", concept=concepts, style="twemoji"), spoken]).unique()
    space = bridge(clean, base, seed=seed, recipe=Recipe(), progress=progress)
    source = clean if snr is None else emoji.load("concept", snr=snr)
    own = source.tables.of_classes(chosen["name"].tolist())
    kept = [source.where("image", drawing_family=families), source.where("text", kind="name"),
            source.where("speech", voice=[*voices[VOICES["bridge"] :].tolist(), *_held_out(source)])]  # fmt: skip
    rows = own.take(torch.cat(kept))
    tables = _unit(extract(source, space, tables=rows, progress=progress))
    frames = {m: source.info[m].iloc[rows[m].x.tolist()].assign(pair=rows[m].pair.numpy()) for m in ("image", "speech")}
    pools = {
        "image": [frames["image"][frames["image"]["drawing_family"].isin(part)]
                  for part in (families[2:], families[1:2], families[:1])],
        "speech": [frames["speech"][~frames["speech"]["held_out"]]] * 2
        + [frames["speech"][frames["speech"]["held_out"]]],
    }  # fmt: skip

    def draw(asked: str, shot: int, own: int, other: int) -> Episode:
        return _drawn(tables, pools, asked, shot, own, other)

    return AudioVisualTask(source, tables, "speech", draw)


def _drawn(
    tables: Tables, pools: dict[str, list[pd.DataFrame]], asked: str, shot: int, own: int, other: int
) -> Episode:
    """Rows of the pools to learn from, to validate on and to be asked; of speech the first two are one pool."""
    if not 1 <= shot <= MOST:
        raise ValueError(f"shot={shot}; 1 to {MOST} are possible")
    learn, check, ask = pools[asked]
    helper = "speech" if asked == "image" else "image"
    first = _ordered(learn, own)
    support = first[first["turn"] < shot]
    rest = _ordered(check, own) if check is not learn else first.assign(turn=first["turn"] - shot)
    val = rest[(rest["turn"] >= 0) & (rest["turn"] < shot)]
    help = _ordered(pools[helper][0], other)
    help = help[help["turn"] == 0]
    given = tables.only(asked)
    shown, names = tables.only(helper).take(_items(help)), tables.only("text")
    return Episode(given.take(_items(support)) | shown | names, given.take(_items(val)), given.take(_items(ask)), own)


def _ordered(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """With a column `turn`: the place of a row among those of its class, in an order drawn by `seed`."""
    frame = frame.sample(frac=1, random_state=seed)
    return frame.assign(turn=frame.groupby("concept").cumcount())


def _items(frame: pd.DataFrame) -> torch.Tensor:
    return torch.tensor(frame["pair"].to_numpy())


def _held_out(source: Source) -> list[str]:
    return sorted(set(source.info["speech"].query("held_out")["voice"]))


def _unit(tables: Tables) -> Tables:
    return Tables({m: Table(normalize(t.x, dim=1), t.y, t.pair) for m, t in tables.rows.items()}, tables.classes)
