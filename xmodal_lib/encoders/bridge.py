"""The bridge: the offline stand-in for CLIP, pictures and speech brought into the space of a frozen text encoder.

It is an open_clip model (`bridge_model`) whose towers are frozen: EfficientNet-Lite0 and MiniLM. Only a linear image
head, 1280 -> 384, is trained, with CLIP's contrastive loss, on drawings and captions of the base concepts of the
emoji; then a speech head is bound to the same texts. It is small and has seen few things: it is a bridge, not CLIP.

>>> towers = default_bridge()                                 # trained in seconds when absent, otherwise loaded
>>> features = extract(source, towers, tables=novel)          # runs the frozen towers once, whatever the seed
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import sys
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from tqdm import tqdm

from xmodal_lib.encoders import frozen
from xmodal_lib.encoders.encoder import Encoder, digest_of
from xmodal_lib.features import extract
from xmodal_lib.home import home, replacing
from xmodal_lib.sources import emoji
from xmodal_lib.sources.emoji_concepts import records
from xmodal_lib.sources.emoji_words import texts_without_category
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables

if TYPE_CHECKING:
    import open_clip  # seconds, so it is imported where it is used

WIDTH = 384  # of MiniLM: its outputs are taken as they are
CAPTIONS = 6  # a concept
CONTEXT = 32  # tokens
NORM = 20.0  # of the rows that heads are trained on


@dataclass(frozen=True)
class Recipe:
    """How heads are trained; chosen on held-out base families of a few splits, some of which are novel in others."""

    lr: float = 1e-3  # after a warm-up, down to 0 along a cosine
    weight_decay: float = 5.0  # large: a few hundred concepts are soon learnt by heart
    dropout: float = 0.3  # of the rows a head is trained on
    warmup: int = 20
    batch: int = 512  # rows, each of another concept
    steps: int = 200  # of the schedule; it ends where held-out families were recognised best
    every: int = 20  # steps between two looks at the held-out families
    held_out: float = 1 / 6  # of the base families, for that; then all are trained on
    voices: int = 4  # a concept


def default_bridge(
    split: int = 0, seed: int = 0, *, size: int = 128, category_words: bool = False, speech: bool = True,
    progress: bool = True,
) -> dict[str, Encoder]:  # fmt: skip
    """The bridge of the base concepts of `emoji.base_novel(…, split)`: {"image", "text", "speech"}, one space.

    `seed` varies its training; `size` is the pictures' side in pixels; `category_words` as in `bridge`. Use it on any
    emoji source, for the novel concepts of the same split.
    """
    source = emoji.load("concept", size=size, modalities=("image", "text", "speech") if speech else ("image", "text"))
    base = emoji.base_novel(source, split).items(source, "base")
    return bridge(source, base, seed=seed, size=size, category_words=category_words, progress=progress)


def bridge(source: Source, base: Tensor, *, seed: int = 0, size: int = 128, recipe: Recipe | None = None,
           category_words: bool = False, progress: bool = True) -> dict[str, Encoder]:  # fmt: skip
    """Encoders into one space of 384, learnt from the items `base` of an emoji source; kept, and loaded the next time.

    Returns {"image", "text"}, and "speech" if the source has it. Outputs are not normalised. Features of the frozen
    towers come from the cache, which all seeds share. With `category_words` the captions keep the words that tell a
    concept's category, which makes zero-shot by category easier than it should be. How the training went is in the
    image encoder's `about`.

    Raises:
        ValueError: the source lacks pictures or texts, or fewer than three families are in `base`.
    """
    recipe = recipe or Recipe()
    for modality in ("image", "text"):
        if modality not in source.tables.rows:
            raise ValueError(f"the bridge needs pictures and texts; {source.name!r} has no {modality!r}")
    towers = {"image": frozen.efficientnet(size), "text": frozen.minilm()}
    heads = {"image": _linear(towers["image"].width[0], bias=False)}
    if "speech" in source.tables.rows:
        towers["speech"] = frozen.speech_embedding()
        heads["speech"] = _linear(towers["speech"].width[0], bias=True)
    about = {
        "seed": seed,
        "base": hashlib.sha256(base.sort().values.numpy().tobytes()).hexdigest(),
        "source": source.digest,
        "towers": {m: tower.digest for m, tower in towers.items()},
        "recipe": asdict(recipe),
        "category_words": category_words,
        "version": 2,
    }
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    path = home() / "bridge" / f"bridge-seed{seed}-{key}.safetensors"
    if (kept := _load(path, heads)) is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if (kept := _load(path, heads, note=True)) is None:
                kept = about | _train(source, base, towers, heads, recipe, seed, category_words, progress)
                _save(path, heads, kept)
    spaces: dict[str, nn.Module] = {"image": heads["image"], "text": nn.Identity(), **heads}
    encoders = {m: Encoder(f"bridge-{m}", head.eval(), trunk=towers[m]) for m, head in spaces.items()}
    encoders["image"].about = kept
    return encoders


def bridge_model(bridge: Mapping[str, Encoder]) -> open_clip.CustomTextCLIP:
    """The same towers and head as an open_clip model with `encode_image` and `encode_text`; its tokenizer is
    `open_clip.tokenizer.HFTokenizer(bridge_model(b).text.config._name_or_path, CONTEXT)`.
    """
    import open_clip

    image, text = bridge["image"].trunk, bridge["text"].trunk
    assert image is not None and text is not None
    folder = text.module.config._name_or_path  # type: ignore[union-attr]
    config: dict[str, Any] = {
        "embed_dim": WIDTH,
        "vision_cfg": {"timm_model_name": "tf_efficientnet_lite0", "timm_model_pretrained": False, "timm_pool": "",
                       "timm_proj": "linear", "image_size": image.sample.size[0]},
        "text_cfg": {"hf_model_name": folder, "hf_tokenizer_name": folder, "hf_model_pretrained": False,
                     "hf_proj_type": None, "hf_pooler_type": "mean_pooler", "context_length": CONTEXT},
    }  # fmt: skip
    with torch.device("meta"):  # the random weights it would start from are never made
        model = open_clip.CustomTextCLIP(**config)
    model.visual.trunk = copy.deepcopy(image.module)
    model.visual.head.proj = copy.deepcopy(bridge["image"].module)
    model.text = copy.deepcopy(text.module)
    model.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
    return model.eval().requires_grad_(False)


def _train(source: Source, base: Tensor, towers: Mapping[str, Encoder], heads: Mapping[str, nn.Linear],
           recipe: Recipe, seed: int, category_words: bool, progress: bool) -> dict[str, Any]:  # fmt: skip
    """Trains the heads in place; returns how it went, to be kept with them."""
    tables = source.tables.take(base)
    captions, concepts = _captions(source, category_words)
    concepts = concepts[concepts["concept"].isin(_shown(source, tables))]
    asked = captions.tables.take(torch.tensor(concepts.index.tolist()))
    text = extract(captions, {"text": towers["text"]}, tables=asked, progress=progress)["text"].x
    text = text.view(-1, CAPTIONS, WIDTH)
    family = torch.from_numpy(pd.factorize(concepts["family"])[0])  # (concepts,)
    families = int(family.max()) + 1
    if families < 3:
        raise ValueError(f"the base has {families} concept families; at least three are needed")
    rows = {"image": tables["image"]}
    if "speech" in heads:
        rows["speech"] = _some_voices(source, tables["speech"], recipe.voices)
    found = extract(source, {m: towers[m] for m in rows}, tables=Tables(rows, tables.classes), progress=progress)
    number = {concept: i for i, concept in enumerate(concepts["concept"])}
    of_row = {m: torch.tensor([number[source.info[m]["concept"].iloc[i]] for i in t.x.tolist()])
              for m, t in rows.items()}  # fmt: skip

    def learn(m: str, use: Tensor, stop: int, title: str) -> tuple[nn.Linear, list[float], list[float]]:
        data = _Contrast(found[m].x[use], of_row[m][use], text)
        held = (found[m].x[~use], of_row[m][~use])
        return data.teach(heads[m].bias is not None, recipe, stop, seed, held, f"bridge: {title}" if progress else None)

    order = torch.randperm(families, generator=torch.Generator().manual_seed(seed))
    held = torch.isin(family, order[: max(1, round(recipe.held_out * families))])  # (concepts,)
    _, _, accuracy = learn("image", ~held[of_row["image"]], recipe.steps, "how long")
    stops = {"image": recipe.every * (1 + int(np.argmax(accuracy))), "speech": recipe.steps}
    learnt: dict[str, Any] = {"steps": stops["image"], "held_out_accuracy": accuracy}
    for m in rows:
        head, learnt[f"{m}_loss"], _ = learn(m, torch.ones(len(rows[m]), dtype=torch.bool), stops[m], f"{m} head")
        heads[m].load_state_dict(head.state_dict())
    return learnt


@dataclass
class _Contrast:
    """Rows to be brought to the texts of their concepts."""

    x: Tensor  # (n, d)
    concept: Tensor  # (n,) rows of `text`
    text: Tensor  # (concepts, CAPTIONS, WIDTH)

    def teach(self, bias: bool, recipe: Recipe, stop: int, seed: int, held: tuple[Tensor, Tensor],
              title: str | None) -> tuple[nn.Linear, list[float], list[float]]:  # fmt: skip
        """A linear head, the loss of every step, and the accuracy on `held` every few steps."""
        rng = torch.Generator().manual_seed(seed)
        d = self.x.shape[1]
        head = _linear(d, bias)
        for weight in head.parameters():
            nn.init.uniform_(weight, -(d**-0.5), d**-0.5, generator=rng)
        mean: Tensor = self.x.mean(0) if bias else torch.zeros(d)
        std: Tensor = self.x.std(0) if bias else self.x.norm(dim=1).mean() / NORM
        scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        optimiser = torch.optim.AdamW([*head.parameters(), scale], lr=recipe.lr, weight_decay=recipe.weight_decay)
        losses, accuracy = [], []
        for step in tqdm(range(stop), desc=title, leave=False, disable=title is None):
            for group in optimiser.param_groups:
                cosine = (1 + math.cos(math.pi * step / recipe.steps)) / 2
                group["lr"] = recipe.lr * min(1, (step + 1) / recipe.warmup) * cosine
            rows = self._batch(recipe.batch, rng)
            caption = torch.randint(CAPTIONS, (len(rows),), generator=rng)
            text = normalize(self.text[self.concept[rows], caption], dim=1)
            x = (self.x[rows] - mean) / std
            x = x * (torch.rand(x.shape, generator=rng) >= recipe.dropout) / (1 - recipe.dropout)
            loss = clip_loss(normalize(head(x), dim=1), text, scale.exp().clamp(max=100))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(round(loss.item(), 4))
            if len(held[0]) and (step + 1) % recipe.every == 0:
                accuracy.append(self._accuracy(head, (held[0] - mean) / std, held[1]))
        with torch.no_grad():  # the same head for rows as they come
            head.weight.div_(std)
            if bias:
                head.bias.sub_(head.weight @ mean)
        return head, losses, accuracy

    def _batch(self, size: int, rng: torch.Generator) -> Tensor:
        """Rows of different concepts, at random."""
        order = torch.randperm(len(self.x), generator=rng)
        _, first = np.unique(self.concept[order].numpy(), return_index=True)
        return order[first][torch.randperm(len(first), generator=rng)[:size]]

    @torch.no_grad()
    def _accuracy(self, head: nn.Module, x: Tensor, concept: Tensor) -> float:
        """How often a held-out row is nearest to its own of the held-out concepts' texts ("a drawing of …")."""
        known, target = concept.unique(return_inverse=True)
        text = normalize(self.text[known, 1], dim=1)
        return round((normalize(head(x), dim=1) @ text.T).argmax(1).eq(target).float().mean().item(), 4)


def clip_loss(x: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Cross-entropy of telling each row's own text among those of the batch, and each text's row; both (b, d), unit.

    Source: Radford et al., ICML 2021, figure 3; open_clip's ClipLoss, whose import takes seconds.
    """
    own = torch.arange(len(x), device=x.device)
    return (cross_entropy(scale * x @ text.T, own) + cross_entropy(scale * text @ x.T, own)) / 2


def _linear(d: int, bias: bool) -> nn.Linear:
    with torch.random.fork_rng(devices=()):  # its weights are replaced; nn.utils.skip_init would import sympy
        return nn.Linear(d, WIDTH, bias=bias)


def _captions(source: Source, category_words: bool) -> tuple[Source, pd.DataFrame]:
    """CAPTIONS texts of each concept that has a picture or a sound, and these concepts; row i of them is item i.

    Every base asks for rows of this one source, and of equal texts for one row: the cache then has them all.
    """
    text, concepts, lines = source.info["text"], [], []
    text = text[text["concept"].isin(_shown(source, source.tables))]
    strings = text.groupby(["concept", "kind"])["string"].agg(list).to_dict()
    for about in records(text.drop_duplicates("concept").sort_values("concept")):
        concept = about["concept"]
        words = [string for kind in ("name", "tag") for string in strings.get((concept, kind), ())]
        if not category_words:
            words = texts_without_category(words, about["category"], about["group"])
        first, *others = dict.fromkeys(words) or [about["name"]]
        rng = np.random.default_rng(zlib.crc32(concept.encode()))
        drawn = [rng.permutation(others)[: rng.integers(1, 4)].tolist() for _ in range(CAPTIONS - 2)]
        more = [", ".join([first, *d] if k % 2 else d or [first]) for k, d in enumerate(drawn)]
        concepts.append({"concept": concept, "family": about["family"]})
        lines += [first, f"a drawing of {first}", *more]
    said = list(dict.fromkeys(lines))
    row = {string: i for i, string in enumerate(said)}
    item = torch.arange(len(concepts)).repeat_interleave(CAPTIONS)
    tables = Tables({"text": Table(torch.tensor([row[line] for line in lines]), torch.full_like(item, -1), item)}, ())
    digest, info = hashlib.sha256("\n".join(said).encode()).hexdigest(), {"text": pd.DataFrame({"string": said})}
    captions = Source("captions", tables, info, {"text": said.__getitem__}, digest, source.licence)
    return captions, pd.DataFrame(concepts)


def _shown(source: Source, tables: Tables) -> set[str]:
    """Concepts that have a picture or a sound in `tables`."""
    return {c for m, t in tables.rows.items() if m != "text" for c in source.info[m]["concept"].iloc[t.x.tolist()]}


def _some_voices(source: Source, table: Table, voices: int) -> Table:
    """At most so many rows a concept, of the voices that are not held out; the same for every seed."""
    info = source.info["speech"].iloc[table.x.tolist()].assign(place=range(len(table)))
    drawn = info[~info["held_out"]].sample(frac=1, random_state=0).groupby("concept").head(voices)
    return table[torch.tensor(sorted(drawn["place"]))]


def _save(path: Path, heads: Mapping[str, nn.Module], about: Mapping[str, Any]) -> None:
    weights = {f"{m}.{name}": value for m, head in heads.items() for name, value in head.state_dict().items()}
    about = {**about, "weights": digest_of(nn.ModuleDict(heads))}
    with replacing(path) as partial:
        save_file(weights, partial, {"about": json.dumps(about)})


def _load(path: Path, heads: Mapping[str, nn.Module], note: bool = False) -> dict[str, Any] | None:
    """How the kept heads were made, if the file is there and whole; then `heads` have its weights."""
    if not path.exists():
        return None
    module = nn.ModuleDict(heads)
    try:
        with safe_open(path, "pt") as file:
            module.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            about = json.loads(file.metadata()["about"])
            if digest_of(module) == about["weights"]:
                return about
    except (SafetensorError, RuntimeError, LookupError, TypeError, ValueError, OSError):
        pass
    if note:
        tqdm.write(f"{path.name}: the cached bridge is damaged; training it again", file=sys.stderr)
    return None
