"""The multimodal data sets of the papers as tasks: rows in the shape the nets take them, and the nets.

| nets | sound | frames, picture | text |
|---|---|---|---|
| "published" | ResNet-18; with text beside it CAV-MAE | ResNet-18; with text beside it M3AE | M3AE |
| "small" | convolutions over time | convolutions on 32 pixels | two transformer blocks on word pieces |
| a CLIP of open_clip, "MODEL:WEIGHTS" | none | its features, frozen | its features, frozen |

Sound is seen as one of SOUNDS. The release of MLA reads the fbank for every data set with sound, so it is the default;
its script for a spectrogram is there and unused. The other spectrogram is that of OGM's loader of CREMA-D.

ResNets start anew, as released. Transformers need a checkpoint: from random weights they learn little at these sizes.
With a CLIP nothing but heads is learnt (the release announced this mode and kept features of one data set).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xmodal_lib.encoders import inputs
from xmodal_lib.encoders.encoder import Encoder, Lookup
from xmodal_lib.encoders.masked import CAVMAE, M3AE, pack
from xmodal_lib.encoders.resnet import ResNet18
from xmodal_lib.encoders.small import OverFrames, PixelNet, SpeechNet, Transposed
from xmodal_lib.episodes import Episode
from xmodal_lib.features import extract
from xmodal_lib.multimodal_tasks import ROLES, WIDTH, MultimodalTask
from xmodal_lib.sources import catalogue
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables

SMALL_SIDE, SMALL_TOKENS = 32, 64  # pixels, word pieces
SOUNDS = {  # what a net sees of a sound: lines (mel bands, or frequencies)
    "fbank": 128,  # log mel, (frames, 128)
    "mla spectrogram": 129,  # (129, 626), the first 5 s of the sound, which is repeated to fill them
    "ogm spectrogram": 257,  # (257, 188), 3 s
}


@dataclass(frozen=True)
class Inputs:
    """How rows are prepared."""

    size: int = 224  # side of a frame in pixels; pictures for M3AE have 256
    frames: int = 3  # of a clip
    sound: int = 1024  # frames of 10 ms of the fbank
    sound_as: str = "fbank"  # one of SOUNDS

    def __post_init__(self) -> None:
        if self.sound_as not in SOUNDS:
            raise ValueError(f"sound_as={self.sound_as!r}; there are {', '.join(SOUNDS)}")


def load(
    name: str, root: str = "", *, seed: int = 1, nets: str = "published", checkpoint: str = "",
    given: Inputs | None = None, options: Mapping[str, Any] | None = None,
) -> MultimodalTask:  # fmt: skip
    """A data set of `sources.catalogue` in its own layout, its split as train, val and test.

    `checkpoint` is a folder with audio, image (or visual) and text .safetensors or .pth files, for transformers.
    `options` go to the source, such as {"split": "published"}. With published nets training frames and pictures are
    cropped and turned at random, each time they are seen.

    Raises:
        ValueError, FileNotFoundError, Unusable: data, nets or checkpoint are not what is needed; says what to do.
    """
    source = catalogue.load(name, root, **(options or {}))
    rows = {role: _of_split(source, role) for role in ROLES}
    if nets in ("published", "small"):
        build = Published(source, Path(checkpoint) if checkpoint else None) if nets == "published" else Small(source)
        made = {m: build.net(m, given or Inputs()) for m in source.tables.modalities}
        ready = {role: Tables({m: made[m][0](t[m]) for m in t.modalities}, t.classes) for role, t in rows.items()}
        encoders = {m: net for m, (_, net) in made.items()}
    else:
        towers, encoders = _clip(source, nets), {}
        ready = {role: extract(source, towers, tables=t) for role, t in rows.items()}
    return MultimodalTask(source, Episode(ready["train"], ready["val"], ready["test"], seed), encoders, rows)


Prepare = Callable[[Table], Table]  # row numbers of the source -> rows as a net takes them


@dataclass(frozen=True, eq=False)
class Small:
    """Nets that learn in minutes on one core, whatever the layout; see the table of the module."""

    source: Source

    def net(self, modality: str, given: Inputs) -> tuple[Prepare, nn.Module]:
        opened = self.source.open[modality]
        net: nn.Module
        if modality == "audio":
            turn = Transposed() if given.sound_as == "fbank" else nn.Identity()
            return _sounds(self.source, given), nn.Sequential(turn, SpeechNet(WIDTH, bands=SOUNDS[given.sound_as]))
        if modality == "text":
            return _tokens(opened, SMALL_TOKENS), M3AE("text", random=True, width=WIDTH, depth=2, heads=4)
        if modality == "visual":
            look, some = f"{given.frames} frames of {SMALL_SIDE}", partial(_some, given.frames)
            net = OverFrames(PixelNet(WIDTH))
            return _rows(self.source, modality, look, lambda x: inputs.clip(some(x), SMALL_SIDE)), net
        return _rows(self.source, modality, f"{SMALL_SIDE}", lambda x: inputs.picture(x, SMALL_SIDE)), PixelNet(WIDTH)


@dataclass(frozen=True, eq=False)
class Published:
    """The nets of the release, by what a data set has; see the table of the module."""

    source: Source
    checkpoint: Path | None

    def net(self, modality: str, given: Inputs) -> tuple[Prepare, nn.Module]:
        opened, transformers = self.source.open[modality], "text" in self.source.tables.modalities
        if modality == "text":
            return _tokens(opened, 256), M3AE("text", checkpoint=self._weights(modality))
        if modality == "audio":
            if transformers and given.sound_as != "fbank":
                raise ValueError(f"sound_as={given.sound_as!r}: the published net for sound beside text is CAV-MAE, "
                                 "which takes 'fbank'; nets='small' take each")  # fmt: skip
            net = CAVMAE(checkpoint=self._weights(modality), frames=given.sound) if transformers else ResNet18(1)
            return _sounds(self.source, given), net
        if not transformers:
            return _as_they_are, nn.Sequential(_clips(opened, given), ResNet18(3))
        return _as_they_are, nn.Sequential(_pictures(opened), M3AE("image", checkpoint=self._weights(modality)))

    def _weights(self, modality: str) -> Path:
        """The file of one modality in the checkpoint's folder.

        Raises:
            ValueError: no folder is named. FileNotFoundError: it has no such file.
        """
        if self.checkpoint is None:
            raise ValueError(
                f"the published net for {modality!r} is a transformer, which needs weights: give `checkpoint`, a "
                f"folder with {modality}.safetensors or {modality}.pth, or nets='small'"
            )
        for suffix in (".safetensors", ".pth"):
            if (path := self.checkpoint / f"{modality}{suffix}").is_file():
                return path
        raise FileNotFoundError(f"{self.checkpoint} has no {modality}.safetensors and no {modality}.pth")


def _of_split(source: Source, role: str) -> Tables:
    """The rows of the source whose split is this role."""
    held = {}
    for m, table in source.tables.rows.items():
        keep = torch.tensor((source.frame(m)["split"] == role).to_numpy())
        held[m] = table[keep]
    if not any(len(t) for t in held.values()):
        raise ValueError(f"{source.name} has no item for {role}; `xmodal data check {source.name}` says what is here")
    return Tables(held, source.tables.classes)


def _as_they_are(table: Table) -> Table:
    """Row numbers: the net begins with a Lookup."""
    return table


def _rows(source: Source, modality: str, look: str, one: Callable[[Any], Tensor]) -> Prepare:
    """Rows prepared once and kept in the cache, nothing learnt; `look` says how."""
    table = source.tables[modality]
    sample = source.open[modality](int(table.x[0]))
    encoder = Encoder(look.replace(" ", "-"), nn.Identity(), lambda items: torch.stack([one(item) for item in items]),
                      sample=sample, mode=look, float16=True)  # fmt: skip
    classes = source.tables.classes
    return lambda t: extract(source, {modality: encoder}, tables=Tables({modality: t}, classes))[modality]


def _sounds(source: Source, given: Inputs) -> Prepare:
    """Sound as the nets are to see it.

    Raises:
        ValueError: a spectrogram is asked for, and the data set has stored filter banks.
    """
    if given.sound_as == "fbank":
        return _rows(source, "audio", f"fbank {given.sound}", partial(inputs.fbank, frames=given.sound))
    if source.open["audio"](int(source.tables["audio"].x[0])).ndim != 1:
        raise ValueError(f"sound_as={given.sound_as!r} needs waveforms, and this {source.name} has stored filter banks "
                         "(the released layout); take its raw layout, or 'fbank'")  # fmt: skip
    kind: Literal["mla", "ogm"] = "mla" if given.sound_as.startswith("mla") else "ogm"
    return _rows(source, "audio", given.sound_as, lambda wave: inputs.spectrogram(wave, kind))


def _some(frames: int, shown: Sequence[Any]) -> list[Any]:
    """So many of the frames of a clip."""
    return [shown[k] for k in inputs.pick(len(shown), frames)]


def _tokens(opened: Callable[[int], Any], length: int) -> Prepare:
    """Text as word pieces and padding, (2, length) int64."""
    return lambda t: Table(pack(*inputs.tokens([opened(i) for i in t.x.tolist()], length)), t.y, t.pair)


def _clips(opened: Callable[[int], Any], given: Inputs) -> Lookup:
    """Row numbers -> (b, 3, T, size, size)."""

    def some(i: int) -> list[Any]:
        return _some(given.frames, opened(i))

    return Lookup(lambda i: inputs.clip(some(i), given.size),
                  lambda i, rng: inputs.clip(some(i), given.size, train=True, rng=rng))  # fmt: skip


def _pictures(opened: Callable[[int], Any]) -> Lookup:
    """Row numbers -> (b, 3, 256, 256); of a clip the middle frame, as released."""

    def one(i: int) -> Any:
        shown = opened(i)
        return shown[len(shown) // 2] if isinstance(shown, list) else shown

    return Lookup(lambda i: inputs.picture(one(i)), lambda i, rng: inputs.picture(one(i), train=True, rng=rng))


def _clip(source: Source, nets: str) -> dict[str, Encoder]:
    """Frozen towers of open_clip for the pictures and texts of a source."""
    from xmodal_lib.encoders.towers import named_towers

    strange = [m for m in source.tables.modalities if m not in ("image", "text")]
    if strange:
        raise ValueError(f"nets={nets!r}: a CLIP has no tower for {strange[0]!r} of {source.name}; "
                         "there are nets='published' and nets='small'")  # fmt: skip
    table = source.tables["text"]
    if not isinstance(source.open["text"](int(table.x[0])), str):
        raise ValueError(f"nets={nets!r}: a CLIP reads words, and the texts of this {source.name} are stored word "
                         "pieces (the released layout); take its raw layout, or nets='small'")  # fmt: skip
    return named_towers(nets)
