"""Sound features by a net with batch normalisation, one clip at a time or as AudioCLIP's were made; and their file.

>>> z = in_batches(net, x, mode="eval")                    # the row of a clip is a function of the clip
>>> z = in_batches(net, x, mode="batch")                   # and of the nine clips that came with it
>>> net = audioclip_net("AudioCLIP-Partial-Training.pt", gain=1.0)         # `esresnext`; with mode "batch" as released
>>> write("features.pt", source, of_folds(source, "esc-50", net, mode="batch"))
>>> audio = read("features.pt", source)                    # a Table of the source's clips

Lin et al. (CVPR 2023) took the ESC-50 features of ImageNet-ESC from AudioCLIP with the model left in training mode, ten
clips at a time in the order of ESC-50's table: each layer of batch normalisation standardised by those ten.
The net is AudioCLIP's own (`esresnext.audioclip_net`), or any other nn.Module from sounds (b, 220500) to rows (b, d).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import soundfile
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad
from torch.nn.modules.batchnorm import _BatchNorm

from xmodal_lib.home import replacing
from xmodal_lib.sources.esc50 import FOLDS, clips
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table

RATE, SAMPLES = 44_100, 220_500  # five seconds
BATCH = 10  # clips that the release took at a time
Mode = Literal["eval", "batch"]


@torch.no_grad()
def rows_of(net: nn.Module, batches: Iterable[Tensor], mode: Mode) -> Iterator[Tensor]:
    """Batches (b, *shape) -> their rows (b, d); the net stays as it was.

    "eval": batch normalisation by the statistics of training. "batch": by those of the batch, so that a row depends on
    the rows that come with it.
    Differs: the release has the whole model in training mode; here only batch normalisation, so that dropout draws
    nothing, and running statistics are not moved.

    Raises:
        ValueError: there is no such mode, or the net has no batch normalisation to switch.
    """
    if mode not in ("eval", "batch"):
        raise ValueError(f"mode={mode!r}; there are 'eval' and 'batch'")
    net = copy.deepcopy(net).eval()
    if mode == "batch":
        layers = [layer for layer in net.modules() if isinstance(layer, _BatchNorm)]
        if not layers:
            raise ValueError(f"a {type(net).__name__} has no batch normalisation, so mode 'batch' would change nothing")
        for layer in layers:
            layer.train()
    for batch in batches:
        yield net(batch)


def in_batches(net: nn.Module, x: Tensor, *, mode: Mode = "eval", batch: int = BATCH) -> Tensor:
    """Rows (n, *shape) -> (n, d) of a net, `batch` neighbours at a time: see `rows_of`.

    Raises:
        ValueError: as there, or the batch is empty.
    """
    return torch.cat(list(rows_of(net, x.split(_checked(batch)), mode)))


def of_folds(source: Source, root: Path | str, net: nn.Module, *, mode: Mode = "eval", batch: int = BATCH) -> Table:
    """Unit features of every clip of ESC-50 (`sources.esc50`, in the folder `root`), fold by fold in the order of its
    table: (n, d).

    Rows are in that order. They are not cached: in mode "batch" a row is no function of its clip alone.

    Raises:
        FileNotFoundError, ValueError: as `esc50.clips` and `in_batches`.
    """
    frame = source.frame("audio").reset_index(drop=True)
    files = {clip.id: clip.media["audio"].files[0] for clip in clips(Path(root))}
    places = [torch.tensor(frame[frame["fold"] == fold].sort_values("order").index) for fold in FOLDS]
    parts: list[Tensor] = []
    for fold in places:
        groups = (torch.stack([five_seconds(files[item]) for item in frame["item"][part.numpy()]])
                  for part in fold.split(_checked(batch)))  # fmt: skip
        parts += list(rows_of(net, groups, mode))
    rows = source.tables["audio"][torch.cat(places)]
    return Table(normalize(torch.cat(parts), dim=1), rows.y, rows.pair)


def five_seconds(path: Path) -> Tensor:
    """The sound of a file, its channels averaged: (220500,) in -1..1 at 44.1 kHz, cut, or followed by silence."""
    from torchaudio.functional import resample

    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)  # (T, channels)
    mono = resample(torch.from_numpy(wave.mean(1)), rate, RATE)[:SAMPLES]
    return pad(mono, (0, SAMPLES - len(mono)))


def write(path: Path | str, source: Source, table: Table) -> None:
    """Features of a source's clips in the form of the release: {fold 0..4: {features, labels, labelnames, paths}}."""
    row = dict(zip(source.tables["audio"].pair.tolist(), source.frame("audio").itertuples(), strict=True))
    lines = [row[item] for item in table.pair.tolist()]
    content = {}
    for fold in FOLDS:
        own = torch.tensor([k for k, line in enumerate(lines) if line.fold == fold], dtype=torch.int64)
        content[int(fold) - 1] = {
            "features": table.x[own],
            "labels": table.y[own],
            "labelnames": [lines[k].label for k in own.tolist()],
            "paths": [f"{lines[k].item}.wav" for k in own.tolist()],
        }
    with replacing(Path(path)) as partial:
        torch.save(content, partial)


def read(path: Path | str, source: Source) -> Table:
    """The features of a source's clips from a file that `write`, or the release, wrote; found by file name.

    The labels are the source's: those of the file may count other classes. No code in the file is run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is of another form or damaged, or lacks a clip.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such file of sound features")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        parts = [(part["paths"], torch.as_tensor(part["features"]).float()) for part in content.values()]
        found = {Path(name).stem: row for paths, rows in parts for name, row in zip(paths, rows, strict=True)}
    except Exception as error:  # the reader raises nearly anything on a damaged file
        raise ValueError(f"{path} has not the form {{fold: {{features, paths, ...}}}} of tensors and names: "
                         f"{' '.join(str(error).split())[:120]}") from error  # fmt: skip
    own, items = source.tables["audio"], source.column("audio", "item")
    if lost := [item for item in items if item not in found]:
        raise ValueError(f"{path} has no features of {len(lost)} of {len(items)} clips (first: {lost[0]})")
    return Table(torch.stack([found[item] for item in items]), own.y, own.pair)


def _checked(batch: int) -> int:
    if batch < 1:
        raise ValueError(f"batch={batch}; at least 1 clip at a time is needed")
    return batch
