"""Tasks of cross-modal generalisation: a source modality with labels, a target modality without, and few shots.

`words`: text, typed with errors -> speech in noise. `pixels`: text -> small drawings. `languages`: text -> speech, and
the class is the language. In each the target's encoder starts from raw signals. All give an `AlignmentTask`: what the
methods of Liang et al., "Cross-Modal Generalization" (ACM MM 2021, arXiv 2012.02813) learn from, and few-shot tasks of
the target modality over concepts that were in none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from xmodal_lib.encoders import frozen, inputs
from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.encoders.letters import ByteNet, byte_rows
from xmodal_lib.encoders.small import PixelNet, SpeechNet, mlp, word_net
from xmodal_lib.episodes import Episode, draw
from xmodal_lib.features import extract
from xmodal_lib.sources import emoji, noisy_words
from xmodal_lib.sources import languages as spoken
from xmodal_lib.sources.emoji_drawings import STYLES
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables

ROLES = ("base", "val", "test")
PAIRS = ("strong", "weak")
SHARES = {"base": 0.6, "val": 0.15, "test": 0.25}  # of concepts
LANGUAGE_SHARES = {"base": 0.7, "val": 0.1, "test": 0.2}
WIDTH = 128  # of the shared space
TYPED_BYTES, NAME_BYTES = 16, 64  # a text is cut there
WORD_FRAMES, NAME_FRAMES = 128, 160  # of 10 ms; speech is cut there
PER_VOICE = 3  # query clips of a word in each held-out voice

Rows = dict[str, Tensor]  # modality -> x as a net takes it, from row numbers


@dataclass(frozen=True, eq=False)
class AlignmentTask:
    """One draw: what to meta-train on, to choose on, and to be asked.

    `base` has three kinds of rows: source and target rows that share a pair id are for alignment (weak pairs: an id has
    many rows of each); source rows alone with their id are for classification. No text and no clip is of two kinds.
    Target rows of `base` bear labels, for the oracle alone. The concepts of base, val and test are of different
    families (or languages).
    """

    source: Source
    modalities: tuple[str, str]  # source, target
    base: Tables  # x as the nets take it
    val_episodes: Mapping[int, list[Episode]]  # shots -> tasks in the target modality, to choose on
    episodes: Mapping[int, list[Episode]]  # shots -> tasks in the target modality, to be asked; queries are the same
    pools: Mapping[str, Tables]  # "val", "test": strong pairs of these concepts, to retrieve among
    encoders: dict[str, nn.Module]  # (b, ...) -> (b, D), one D for both
    rows: Mapping[str, Tables]  # of ROLES: the rows of base and pools, x the row numbers of the source

    def about(self) -> pd.DataFrame:
        """One line a role: classes, rows of each modality, pairs (or sets), source rows for classification."""
        lines = {}
        for role, tables in self.rows.items():
            s, t = (tables[m] for m in self.modalities)
            lines[role] = {
                "classes": len(tables.classes),
                **{m: len(tables[m]) for m in self.modalities},
                "pairs": len(t.pair.unique()),
                "to classify": int((~torch.isin(s.pair, t.pair)).sum()),
            }
        return pd.DataFrame(lines).T.rename_axis("role")

    def opened(self, modality: str, numbers: Sequence[int], role: str = "test") -> list[Any]:
        """What the source opens for these rows (their places in the table) of a role: texts, pictures, waveforms."""
        x = self.rows[role][modality].x
        return [self.source.open[modality](int(x[n])) for n in numbers]


def words(
    seed: int, *, way: int = 5, shots: Sequence[int] = (1, 5, 10), tasks: int = 40, val_tasks: int = 20,
    concepts: int = noisy_words.WORDS, snr: tuple[float, float] | None = noisy_words.SNR, pairs: str = "strong",
) -> AlignmentTask:  # fmt: skip
    """Which word is said in the noise? Words are concepts; text is a word typed with errors, as bytes.

    Of the 24 spellings of a base word 12 are aligned with a clip each, in the 12 voices of training, and 12 classified.
    New words are heard in the voices of training (support), then asked in three held-out voices, of which those of val
    and test differ; 9 clips a class. Weak pairs: all rows of a category are one set.

    Raises:
        ValueError: too many concepts, shots or ways.
    """
    _check(pairs)
    source = noisy_words.load(concepts, snr=snr)
    rng = np.random.default_rng([seed, 1])
    text, clips = source.info["text"], source.info["speech"]
    parts = _deal(sorted(clips["concept"].unique()), SHARES, rng)
    half = noisy_words.TYPED // 2
    turn = text.groupby("concept").cumcount().to_numpy()
    order = {c: rng.permutation(noisy_words.TYPED) for c in text["concept"].unique()}
    place = np.array([order[c][t] for c, t in zip(text["concept"], turn, strict=True)])
    text = text.assign(place=place)
    unheard = rng.permutation(sorted(clips.loc[clips["held_out"], "voice"].unique()))
    asked = {"val": unheard[: len(unheard) // 2], "test": unheard[len(unheard) // 2 :]}
    heard = clips[~clips["held_out"] & (clips["take"] == 0)]
    heard = heard.assign(place=heard.groupby("concept").cumcount())
    rows, few = {}, {}
    for role, chosen in parts.items():
        mine, said = text[text["concept"].isin(chosen)], heard[heard["concept"].isin(chosen)]
        both = said.reset_index(names="speech").merge(
            mine[mine["place"] < half].reset_index(names="text")[["concept", "place", "text"]], on=["concept", "place"]
        )
        more = mine[mine["place"] >= half].reset_index(names="text") if role == "base" else None
        rows[role] = pairs_of(both, more, ("text", "speech"), "name", "category" if pairs == "weak" else None, role)
        if role != "base":
            mask = clips["concept"].isin(chosen) & clips["voice"].isin(asked[role])
            few[role] = rows_of(said, "speech", "name"), rows_of(clips[mask], "speech", "name")
    typed = byte_rows(source.info["text"]["string"].tolist(), TYPED_BYTES)
    encoders: dict[str, nn.Module] = {"text": ByteNet(WIDTH), "speech": word_net(40, WIDTH)}
    ready = preparing(source, {"text": typed}, {"speech": speech_rows(WORD_FRAMES)})
    queries = PER_VOICE * len(unheard) // 2
    return assembled(source, rows, few, ready, encoders, way, shots, tasks, val_tasks, queries, seed)


def pixels(
    seed: int, *, way: int = 5, shots: Sequence[int] = (1, 3, 5), tasks: int = 40, val_tasks: int = 20,
    size: int = 32, pairs: str = "strong",
) -> AlignmentTask:  # fmt: skip
    """What is drawn here? Text is a concept's name or a tag, as frozen features of MiniLM; drawings have `size` pixels.

    Each drawing of a base concept is aligned with the concept's name; its tags, which hold no word of the name, are
    classified. New concepts, one a family, are learnt from the drawings of three families of hands and asked in those
    of the two others; 3 drawings a class. Weak pairs: all rows of a category are one set.

    Raises:
        ValueError: too many shots or ways, or a size too small.
    """
    _check(pairs)
    source = emoji.load("concept", modalities=("image", "text"), size=size)
    rng = np.random.default_rng([seed, 2])
    image, text = source.info["image"], source.info["text"]
    names, tags = (text[text["kind"] == kind].reset_index(names="text") for kind in ("name", "tag"))
    tags = tags.drop_duplicates(["concept", "string"])
    parts = _deal(sorted(image["family"].unique()), SHARES, rng)
    asked = rng.permutation(sorted(image["drawing_family"].unique()))[:2]
    rows, few = {}, {}
    for role, families in parts.items():
        drawn = image[image["family"].isin(families) & image["concept"].isin(tags["concept"])]
        if role != "base":
            whole = drawn.groupby("concept")["style"].transform("nunique") == len(STYLES)
            first = drawn[whole].drop_duplicates("family")["concept"]
            drawn = drawn[drawn["concept"].isin(first)]
            query = drawn["drawing_family"].isin(asked)
            few[role] = rows_of(drawn[~query], "image", "name"), rows_of(drawn[query], "image", "name")
        both = drawn.reset_index(names="image").merge(names[["concept", "text"]], on="concept")
        more = tags[tags["concept"].isin(drawn["concept"])] if role == "base" else None
        rows[role] = pairs_of(both, more, ("text", "image"), "name", "category" if pairs == "weak" else None, role)
    net = nn.Sequential(PixelNet(WIDTH).net, nn.Flatten(), nn.Linear(64 * (size // 8) ** 2, WIDTH))  # keeps places
    encoders: dict[str, nn.Module] = {"text": mlp(384, WIDTH), "image": net}
    ready = preparing(source, {}, {"text": frozen.minilm(), "image": pixel_rows(size)})
    return assembled(source, rows, few, ready, encoders, way, shots, tasks, val_tasks, 3, seed)


def languages(
    seed: int, *, way: int = 5, shots: Sequence[int] = (1, 5, 10), tasks: int = 40, val_tasks: int = 20,
    codes: Sequence[str] = spoken.CODES, pairs: str = "strong",
) -> AlignmentTask:  # fmt: skip
    """Which language is it? Text is the name of a thing, as bytes; speech is such a name, spoken in that language.

    Of 96 words, the same in every language, a third is classified, a third aligned, and a third is for new languages:
    half of it to learn from, in voices heard in training, half of it to be asked, in other voices. 15 clips a class.
    Weak pairs: all rows of a language are one set. `source.report` says which languages cannot be spoken.

    Raises:
        ValueError: too many shots or ways, or languages that are not there.
    """
    _check(pairs)
    source = spoken.load(codes)
    rng = np.random.default_rng([seed, 3])
    text, clips = source.info["text"], source.info["speech"]
    parts = _deal(sorted(text["code"].unique()), LANGUAGE_SHARES, rng)
    kind = _deal(sorted(text["concept"].unique()), {"classify": 1 / 3, "align": 1 / 3, "ask": 1 / 3}, rng)
    learn, ask = np.array_split(np.array(kind["ask"]), 2)
    rows, few = {}, {}
    for role, own in parts.items():
        mine, said = text[text["code"].isin(own)], clips[clips["code"].isin(own)]
        heard = said[said["take"] == "heard"].reset_index(names="speech")
        both = heard.merge(mine.reset_index(names="text")[["code", "concept", "text"]], on=["code", "concept"])
        both = both[both["concept"].isin(kind["align"] if role == "base" else kind["ask"])]
        more = mine[mine["concept"].isin(kind["classify"])].reset_index(names="text") if role == "base" else None
        rows[role] = pairs_of(both, more, ("text", "speech"), "language", "code" if pairs == "weak" else None, role)
        if role != "base":
            support = said[(said["take"] == "heard") & said["concept"].isin(learn)]
            query = said[(said["take"] == role) & said["concept"].isin(ask)]
            few[role] = rows_of(support, "speech", "language"), rows_of(query, "speech", "language")
    written = byte_rows(source.info["text"]["string"].tolist(), NAME_BYTES)
    encoders: dict[str, nn.Module] = {"text": ByteNet(WIDTH), "speech": SpeechNet(WIDTH)}
    ready = preparing(source, {"text": written}, {"speech": speech_rows(NAME_FRAMES)})
    return assembled(source, rows, few, ready, encoders, way, shots, tasks, val_tasks, 15, seed)


SETTINGS: dict[str, Callable[..., AlignmentTask]] = {"words": words, "pixels": pixels, "languages": languages}


def few_shot(
    support: Tables, query: Tables, *, way: int, shots: Sequence[int], tasks: int, queries: int, seed: int
) -> dict[int, list[Episode]]:
    """Tasks drawn by `seed`: {shots: tasks of `way` classes}. A task has the same classes and queries at every number.

    The rows of fewer shots are among those of more.

    Raises:
        ValueError: there are too few classes, or rows of a class.
    """
    if way > len(support.classes):
        raise ValueError(f"{way} classes a task are asked for; there are {len(support.classes)} new ones")
    found: dict[int, list[Episode]] = {shot: [] for shot in shots}
    for own in np.random.default_rng(seed).integers(2**31, size=tasks).tolist():
        drawn = [draw(support, query, shot=k, query_shot=queries, way=way, seed=own) for k in shots]
        for k, episode in zip(shots, drawn, strict=True):
            found[k].append(replace(episode, query=drawn[0].query))  # one tensor for all
    return found


def _check(pairs: str) -> None:
    if pairs not in PAIRS:
        raise ValueError(f"pairs={pairs!r}; there are {', '.join(PAIRS)}")


def _deal(names: Sequence[str], shares: Mapping[str, float], rng: np.random.Generator) -> dict[str, list[str]]:
    """Names shuffled into parts of these shares."""
    order = rng.permutation(np.array(names, dtype=object)).tolist()
    edges = [round(len(order) * sum(list(shares.values())[: i + 1])) for i in range(len(shares))]
    return {part: sorted(order[a:b]) for part, a, b in zip(shares, [0, *edges], edges, strict=False)}


def pairs_of(
    both: pd.DataFrame, more: pd.DataFrame | None, modalities: tuple[str, str], label: str, sets: str | None, role: str
) -> Tables:
    """Pairs (columns named like the modalities: row numbers), and source rows that are in no pair.

    With `sets`, at the base, the pairs of one value of that column share an id.
    """
    source, target = modalities
    classes = sorted(both[label].unique())
    number = {c: i for i, c in enumerate(classes)}
    pair = np.arange(len(both)) if sets is None or role != "base" else pd.factorize(both[sets])[0]
    y, ids = both[label].map(number).to_numpy(), torch.tensor(pair)
    rows = {m: Table(torch.tensor(both[m].to_numpy()), torch.tensor(y), ids) for m in modalities}
    tables = Tables({source: rows[source], target: rows[target]}, tuple(classes))
    if more is None:
        return tables
    alone = torch.arange(len(both), len(both) + len(more))
    more_y = torch.tensor(more[label].map(number).to_numpy())
    return tables | Tables({source: Table(torch.tensor(more[source].to_numpy()), more_y, alone)}, tuple(classes))


def rows_of(frame: pd.DataFrame, modality: str, label: str) -> Tables:
    """Rows of one modality, labelled by a column; a row's id is its number."""
    frame = frame.set_index(modality) if modality in frame.columns else frame
    classes = sorted(frame[label].unique())
    y = frame[label].map({c: i for i, c in enumerate(classes)}).to_numpy()
    x = torch.tensor(frame.index.to_numpy())
    return Tables({modality: Table(x, torch.tensor(y), x)}, tuple(classes))


def preparing(source: Source, made: Rows, encoders: Mapping[str, Encoder]) -> Callable[[Tables], Tables]:
    """Row numbers -> what nets take: rows of a tensor, or features that are kept on disk."""

    def ready(tables: Tables) -> Tables:
        here = {m: e for m, e in encoders.items() if m in tables.modalities}
        rows = dict(extract(source, here, tables=tables).rows)
        rows |= {m: replace(tables[m], x=x[tables[m].x]) for m, x in made.items() if m in tables.modalities}
        return Tables({m: rows[m] for m in tables.modalities}, tables.classes)

    return ready


def assembled(
    source: Source, rows: dict[str, Tables], few: dict[str, tuple[Tables, Tables]], ready: Callable[[Tables], Tables],
    encoders: dict[str, nn.Module], way: int, shots: Sequence[int], tasks: int, val_tasks: int, queries: int, seed: int,
) -> AlignmentTask:  # fmt: skip
    """Draw the tasks: `few` has the rows to learn from and those to be asked, of "val" and "test"."""
    drawn = {
        role: few_shot(*map(ready, few[role]), way=way, shots=shots, tasks=n, queries=queries, seed=2 * seed + i)
        for i, (role, n) in enumerate((("val", val_tasks), ("test", tasks)))
    }
    pools = {role: ready(rows[role]) for role in ("val", "test")}
    source_name, target_name = rows["base"].modalities
    return AlignmentTask(
        source, (source_name, target_name), ready(rows["base"]), drawn["val"], drawn["test"], pools, encoders, rows
    )


def speech_rows(frames: int) -> Encoder:
    """Speech as rows (40, frames): log-mel, nothing learnt."""

    def prepare(waves: Sequence[Any]) -> Tensor:
        return torch.stack([inputs.log_mel(torch.as_tensor(wave), frames=frames) for wave in waves])

    return Encoder(f"log-mel-{frames}", nn.Identity(), prepare, sample=torch.zeros(16_000),
                   mode=f"40 bands, {frames}", float16=True)  # fmt: skip


def pixel_rows(size: int) -> Encoder:
    """Drawings as rows (3, size, size) in -1..1, nothing learnt."""

    def prepare(pictures: Sequence[Any]) -> Tensor:
        stacked = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
        return torch.from_numpy(stacked).permute(0, 3, 1, 2) / 127.5 - 1

    return Encoder(f"pixels-{size}", nn.Identity(), prepare, sample=Image.new("RGB", (size, size)), mode=f"{size}",
                   float16=True)  # fmt: skip
