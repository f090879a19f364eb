"""Transformers with the interfaces of M3AE (pictures, text) and CAV-MAE (sound), for training from local checkpoints.

>>> M3AE("text", checkpoint="m3ae_base.pth")(pack(*tokens(["a bowl of soup"])))        # (1, 768)
>>> M3AE("image", width=32, depth=2, heads=4, random=True)                             # random only when asked for

Their names come from masked auto-encoding, by which the published weights were trained; only the encoders are here.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from xmodal_lib.encoders.inputs import BANDS, VOCABULARY

Rename = Callable[[str], str | None]
M = TypeVar("M", bound=nn.Module)


class M3AE(nn.Module):
    """Pictures (b, 3, size, size), or text (b, 2, L) as `pack` makes it, -> (b, width), the mean over all tokens.

    "image": patches in (channel, row, column) order, 2-D sin-cos positions. "text": word pieces, 1-D sin-cos positions;
    no token attends to padding. Both: a learnt type embedding, a CLS token, `depth` pre-norm blocks, a last norm.
    The mean includes CLS and, as released, padding; with `pads_in_mean=False` it leaves padding out.
    The defaults are M3AE-base. Source: Geng et al., arXiv 2205.14204; released code of Zhang et al., CVPR 2024.
    Differs: random type and CLS embeddings have deviation 0.02; the release drew them with mean 0.02, deviation 1.

    Raises:
        ValueError: neither a checkpoint nor `random=True`, or both, or the checkpoint does not fit; or an input of
            another size.
        FileNotFoundError: there is no such checkpoint.
    """

    def __init__(self, modality: Literal["image", "text"], *, checkpoint: str | os.PathLike | None = None,
                 random: bool = False, width: int = 768, depth: int = 12, heads: int = 12, size: int = 256,
                 patch: int = 16, vocabulary: int = VOCABULARY, length: int = 256,
                 pads_in_mean: bool = True) -> None:  # fmt: skip
        super().__init__()
        _check(f"M3AE({modality!r})", checkpoint, random)
        if modality not in ("image", "text"):
            raise ValueError(f"an M3AE is for 'image' or 'text', not {modality!r}")
        if width % 4 or width % heads:
            raise ValueError(f"a width of {width} must divide by 4 and by {heads} heads")
        if size % patch:
            raise ValueError(f"pictures of {size} pixels cannot be cut into patches of {patch}")
        self.modality, self.width, self.size, self.patch = modality, width, size, patch
        self.pads_in_mean = pads_in_mean
        if modality == "image":
            self.embedding: nn.Module = nn.Linear(3 * patch**2, width)
            position = positions_2d(size // patch, size // patch, width)
        else:
            self.embedding = nn.Embedding(vocabulary, width)
            position = positions(torch.arange(length), width)
        self.position: Tensor
        self.register_buffer("position", position, persistent=False)  # (tokens, width)
        self.type_embedding = nn.Parameter(torch.empty(1, 1, width))
        self.cls = nn.Parameter(torch.empty(1, 1, width))
        self.blocks = nn.ModuleList(_block(width, heads) for _ in range(depth))
        self.last_norm = nn.LayerNorm(width)
        self.reset_parameters()
        if checkpoint is not None:
            load_checkpoint(self, checkpoint, lambda name: _m3ae_name(name, modality))

    def reset_parameters(self) -> None:
        """As the published encoder started: Linear Xavier-uniform, bias 0; word embeddings N(0, 1)."""
        _xavier(self)
        if self.modality == "text":
            nn.init.normal_(self.embedding.weight)  # type: ignore[arg-type]
        nn.init.normal_(self.type_embedding, std=0.02)
        nn.init.normal_(self.cls, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        tokens, pad = self._text(x) if self.modality == "text" else (patches(self._picture(x), self.patch), None)
        h = self.embedding(tokens) + self.position[: tokens.shape[1]] + self.type_embedding  # (b, L, width)
        h = torch.cat([self.cls.expand(len(h), -1, -1), h], 1)  # (b, 1 + L, width)
        if pad is None:
            return self._through(h).mean(1)
        real = torch.cat([torch.ones_like(pad[:, :1]), 1 - pad], 1)  # (b, 1 + L), 1 = CLS or a word piece
        h = self._through(h, real.bool()[:, None, None, :])
        if self.pads_in_mean:
            return h.mean(1)
        return (h * real.unsqueeze(2)).sum(1) / real.sum(1, keepdim=True)

    def _through(self, h: Tensor, attend: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            h = block(h, attn_mask=attend)
        return self.last_norm(h)

    def _picture(self, x: Tensor) -> Tensor:
        if x.shape[1:] != (3, self.size, self.size):
            raise ValueError(f"this M3AE takes pictures (b, 3, {self.size}, {self.size}), not {tuple(x.shape)}")
        return x

    def _text(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.ndim != 3 or x.shape[1] != 2 or x.shape[2] > len(self.position):
            raise ValueError(f"this M3AE takes ids and padding packed as (b, 2, L) with L up to {len(self.position)}, "
                             f"not {tuple(x.shape)}")  # fmt: skip
        return unpack(x)


class CAVMAE(nn.Module):
    """Filter banks (b, frames, bands), as `fbank` makes them, -> (b, width), the mean over all tokens.

    512 patches of 16 x 16, lowest bands first and in the order of time within them; learnt positions that start as
    2-D sin-cos; a type embedding; `depth` blocks for sound, then `shared` ones; a last norm.
    Source: Gong et al., ICLR 2023 (CAV-MAE), its audio path; released code of Zhang et al., CVPR 2024.

    Raises:
        ValueError: neither a checkpoint nor `random=True`, or both, or the checkpoint does not fit; or an input of
            another size.
        FileNotFoundError: there is no such checkpoint.
    """

    def __init__(self, *, checkpoint: str | os.PathLike | None = None, random: bool = False, width: int = 768,
                 depth: int = 11, shared: int = 1, heads: int = 12, frames: int = 1024, bands: int = BANDS,
                 patch: int = 16) -> None:  # fmt: skip
        super().__init__()
        _check("CAVMAE", checkpoint, random)
        if width % 4 or width % heads:
            raise ValueError(f"a width of {width} must divide by 4 and by {heads} heads")
        if frames % patch or bands % patch:
            raise ValueError(f"{frames} frames of {bands} bands cannot be cut into patches of {patch}")
        self.width, self.shape = width, (frames, bands)
        self.embedding = nn.Conv2d(1, width, patch, stride=patch)
        self.position = nn.Parameter(torch.empty(1, (bands // patch) * (frames // patch), width))
        self.type_embedding = nn.Parameter(torch.empty(1, 1, width))
        self.blocks = nn.ModuleList(_block(width, heads) for _ in range(depth + shared))
        self.last_norm = nn.LayerNorm(width)
        self.reset_parameters()
        if checkpoint is not None:
            load_checkpoint(self, checkpoint, lambda name: _cavmae_name(name, depth))

    def reset_parameters(self) -> None:
        """As the published encoder started: Linear and patches Xavier-uniform, bias 0."""
        _xavier(self)
        nn.init.xavier_uniform_(self.embedding.weight.data.flatten(1))
        nn.init.normal_(self.type_embedding, std=0.02)
        rows, columns = self.shape[1] // self.embedding.stride[0], self.shape[0] // self.embedding.stride[0]
        self.position.data.copy_(positions_2d(rows, columns, self.width))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.shape:
            raise ValueError(f"this CAVMAE takes (b, {self.shape[0]}, {self.shape[1]}), not {tuple(x.shape)}")
        h = self.embedding(x.transpose(1, 2).unsqueeze(1))  # (b, width, bands / 16, frames / 16)
        h = h.flatten(2).transpose(1, 2) + self.position + self.type_embedding  # (b, tokens, width)
        for block in self.blocks:
            h = block(h)
        return self.last_norm(h).mean(1)


def pack(ids: Tensor, pad: Tensor) -> Tensor:
    """Ids (b, L) and padding (b, L), 1 = padding -> one int64 tensor (b, 2, L), a row's x in a table."""
    return torch.stack([ids.long(), pad.long()], 1)


def unpack(x: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of `pack`: ids (b, L) int64 and padding (b, L) float."""
    return x[:, 0].long(), x[:, 1].float()


def patches(x: Tensor, patch: int) -> Tensor:
    """(b, c, H, W) -> (b, H / patch * W / patch, c * patch * patch), row by row; in one: channel, row, column."""
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // patch, patch, w // patch, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * patch * patch)


def positions(at: Tensor, width: int) -> Tensor:
    """Places (n,) -> (n, width): sin(at / 10000^(2i / width)) for i < width / 2, then their cosines."""
    omega = 10_000.0 ** -(torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angle = at.double().unsqueeze(1) * omega  # (n, width / 2)
    return torch.cat([angle.sin(), angle.cos()], 1).float()


def positions_2d(rows: int, columns: int, width: int) -> Tensor:
    """(rows * columns, width), row by row: half of the width says which column, then half which row."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.cat([positions(column.flatten(), width // 2), positions(row.flatten(), width // 2)], 1)


def load_checkpoint(module: M, path: str | os.PathLike, rename: Rename | None = None) -> M:
    """Weights of a local safetensors or torch file into a module, all of them or none; returns it marked `pretrained`.

    A torch file holds tensors by name, or such a dict under "model" or "state_dict"; it is read without running any
    code in it. "module." before a name is dropped. `rename(name)` is the module's own name, or None to leave one out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it holds something else than tensors, or names or shapes do not fit the module; says which.
    """
    own = module.state_dict()
    found: dict[str, Tensor] = {}
    for name, value in _read(Path(path)).items():
        name = name.removeprefix("module.")
        to = rename(name) if rename else name
        if to is not None:
            if to in found:
                raise ValueError(f"{path}: two of its weights would be {to!r}")
            found[to] = value
    wrong = {
        "missing": sorted(own.keys() - found.keys()),
        "unexpected": sorted(found.keys() - own.keys()),
        "of another shape": [f"{name} {tuple(found[name].shape)} instead of {tuple(own[name].shape)}"
                             for name in own if name in found and found[name].shape != own[name].shape],
    }  # fmt: skip
    if any(wrong.values()):
        what = "; ".join(f"{len(names)} {kind}: {', '.join(names[:4])}{' …' * (len(names) > 4)}"
                         for kind, names in wrong.items() if names)  # fmt: skip
        raise ValueError(f"{path} does not fit this {type(module).__name__}: {what}; "
                         "check its sizes, or load it by load_checkpoint(module, path, rename)")  # fmt: skip
    module.load_state_dict(found)
    module.pretrained = True  # type: ignore[assignment]  # `reinitialise` leaves it as it is
    return module


def _read(path: Path) -> Mapping[str, Tensor]:
    _there(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle's protocol: it is read, or refused below
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise nearly anything on a damaged file
        raise ValueError(f"{path} is not loaded: it is damaged, or holds Python objects besides tensors, which could "
                         "run code; save a module's state_dict() alone, best as safetensors") from error  # fmt: skip
    for key in ("model", "state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{path} holds no tensors by name; save a module's state_dict()")
    return state


def _m3ae_name(name: str, modality: str) -> str | None:
    """Our name of a weight of the converted M3AE checkpoints; None for those of the other modality."""
    other = "image" if modality == "text" else "text"
    if name.startswith((f"{other}_embedding.", f"encoder_{other}_type_embedding")):
        return None
    names = {
        f"{modality}_embedding.": "embedding.",
        f"encoder_{modality}_type_embedding": "type_embedding",
        "cls_token": "cls",
        "encoder.blocks.": "blocks.",
        "encoder.layer_norm.": "last_norm.",
        ".layer_norm": ".norm",
        ".attention.qkv_linear.": ".attn.qkv.",
        ".attention.fc.": ".attn.proj.",
        ".transformer_mlp.": ".mlp.",
    }
    for theirs, ours in names.items():
        name = name.replace(theirs, ours)
    return name


def _cavmae_name(name: str, depth: int) -> str | None:
    """Our name of a weight of the CAV-MAE checkpoints; None for pictures, the decoder and norms sound does not use.

    The blocks of sound use their plain norms, the shared ones those named `_a`.
    """
    if re.match(r"(patch_embed_v|pos_embed_v|modality_v|blocks_v|norm_v|norm\.|decoder|mask_token|mlp_head)", name):
        return None
    block = re.fullmatch(r"blocks_([au])\.(\d+)\.(norm[12])?(_[av])?(.*)", name)
    if block:
        kind, number, norm, variant, rest = block.groups()
        if norm and (variant or "") != ("" if kind == "a" else "_a"):
            return None
        return f"blocks.{int(number) + (depth if kind == 'u' else 0)}.{norm or ''}{rest}"
    names = {
        "patch_embed_a.proj.": "embedding.",
        "pos_embed_a": "position",
        "modality_a": "type_embedding",
        "norm_a.": "last_norm.",
    }
    for theirs, ours in names.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _block(width: int, heads: int) -> nn.Module:
    from timm.models.vision_transformer import Block

    return Block(width, heads, qkv_bias=True, norm_layer=nn.LayerNorm)


def _xavier(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)


def _check(name: str, checkpoint: str | os.PathLike | None, random: bool) -> None:
    if (checkpoint is None) != random:
        have = "has no weights, and random ones are never used unasked" if not random else "has both"
        raise ValueError(f"{name} {have}: give either checkpoint= a local file or random=True to start from scratch")
    if checkpoint is not None:
        _there(Path(checkpoint))


def _there(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
