"""open_clip towers as frozen encoders, and their split into a frozen trunk and a tail to train.

>>> towers = open_clip_towers("RN50", "openai")                        # or a path to a local checkpoint
>>> trunk, tail = split(towers["image"], last_blocks=1)                # tail(trunk(x)) equals the tower
>>> features = extract(source, {"image": trunk, "text": towers["text"]})
"""

from __future__ import annotations

import copy
import difflib
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import open_clip
import timm.models
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import TextTransformer, VisionTransformer, text_global_pool
from PIL import Image
from torch import Tensor, nn

from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.encoders.recipes import recipe_of
from xmodal_lib.home import Unusable


def open_clip_towers(model: str, pretrained: str | os.PathLike | None = None) -> dict[str, Encoder]:
    """The image and the text tower of an open_clip model, frozen: {"image": Encoder, "text": Encoder}.

    `model` is a name of open_clip.list_models(), "hf-hub:owner/name" or "local-dir:folder"; `pretrained` is a tag or a
    checkpoint file (not with the last two, which bring their own). Outputs are not normalised.
    A checkpoint file does not say which GELU it was trained with: for OpenAI's own weights take "ViT-B-32-quickgelu".

    Raises:
        ValueError: the model or the tag is unknown, no weights are named, or the file does not fit the model.
        Unusable: the weights cannot be downloaded.
    """
    pretrained = os.fspath(pretrained) if pretrained is not None else None
    _check_names(model, pretrained)
    tag = open_clip.get_pretrained_cfg(model, pretrained) if pretrained else {}
    try:
        clip = open_clip.create_model(model, pretrained=pretrained, require_pretrained=True, force_custom_text=True,
                                      force_quick_gelu=bool(tag.get("quick_gelu")))  # fmt: skip
        tokenize = open_clip.get_tokenizer(model)
    except Exception as error:
        first = " ".join(str(error).split())[:200] or type(error).__name__
        if pretrained and Path(pretrained).is_file():
            raise ValueError(f"{pretrained} is not a checkpoint of open_clip's {model!r}: {first}") from error
        source = pretrained or "its own folder"
        raise Unusable(f"the weights of {model!r} could not be loaded from {source}: {first}; "
                       "without a connection, give pretrained= a file downloaded elsewhere") from error  # fmt: skip
    clip.eval()
    for tower in (clip.visual, clip.text):
        tower.output_tokens = False
    mode = json.dumps([open_clip.get_model_config(model), clip.visual.preprocess_cfg], sort_keys=True, default=str)
    name = "-".join(Path(model).name.split(":")[-1].split("/"))
    look = image_transform_v2(PreprocessCfg(**clip.visual.preprocess_cfg), is_train=False)

    def pictures(items: Sequence[Image.Image]) -> Tensor:
        return torch.stack([look(item) for item in items])

    def tokens(items: Sequence[str]) -> Tensor:
        return tokenize(list(items))

    size = clip.visual.image_size
    blank = Image.new("RGB", (size, size) if isinstance(size, int) else (size[1], size[0]))
    towers = {
        "image": Encoder(f"{name}-image", clip.visual, pictures, sample=blank, mode=mode),
        "text": Encoder(f"{name}-text", clip.text, tokens, sample="a", mode=mode),
    }
    for m, tower in towers.items():
        tower.about["recipe"] = {"kind": "open_clip", "model": model, "pretrained": pretrained, "tower": m}
    return towers


def named_towers(name: str) -> dict[str, Encoder]:
    """`open_clip_towers` by one string: "RN50:openai", "RN50:/a/checkpoint", "hf-hub:owner/name", "local-dir:folder".

    Raises:
        ValueError, Unusable: as there.
    """
    if name.startswith(("hf-hub:", "local-dir:")):
        return open_clip_towers(name)
    model, _, weights = name.partition(":")
    return open_clip_towers(model, weights or None)


def split(encoder: Encoder, last_blocks: int = 1, float16: bool = False) -> tuple[Encoder, nn.Module]:
    """Cut a tower before its last blocks: a frozen trunk, whose rows are cached, and a trainable copy of the rest.

    `tail(trunk(x))` equals `encoder(x)`. The last block of a ModifiedResNet is its attention pool (2: and layer4), of
    a transformer its last residual block with the norm and projection after it, of a convolutional timm model its last
    stage with the head; 0 leaves what comes after the blocks, -1 trains the whole tower (rows are then what it is
    given, pictures or token ids). Hugging Face text towers are cut before their projection.
    Rows of a text trunk are (L, D + 1): the tokens, and the token ids as the last column, which the tail needs for its
    mask and its pooling. The tail's batch norms keep their statistics, in training mode too: batches of a few pictures
    would ruin them.

    Raises:
        ValueError: the tower has fewer blocks, cannot be split, or ids are to be kept as float16.
    """
    if encoder.trunk is not None:
        trunk, tail = split(encoder.trunk, last_blocks, float16)
        trunk.about["recipe"] |= {"of": recipe_of(encoder)}
        return trunk, Tail(tail, copy.deepcopy(encoder.module).requires_grad_(True))
    first, last = _cut(encoder.module, last_blocks) if last_blocks != -1 else (nn.Identity(), _whole(encoder.module))
    if float16 and isinstance(encoder.module, TextTransformer):
        raise ValueError("the rows of a text trunk hold token ids, which float16 cannot; use float16=False")
    name = f"{encoder.name}-trunk{last_blocks}" if last_blocks >= 0 else f"{encoder.name}-whole"
    trunk = Encoder(name, first, encoder.prepare, sample=encoder.sample,
                    mode=f"trunk {last_blocks} {encoder.mode}", float16=float16, batch=encoder.batch)  # fmt: skip
    recipe = {"kind": "split", "of": recipe_of(encoder), "last_blocks": last_blocks, "float16": float16}
    trunk.about["recipe"] = recipe
    return trunk, Tail(copy.deepcopy(last).requires_grad_(True))


def _whole(tower: nn.Module) -> nn.Module:
    """The tower; one that reads token ids takes them as they come out of a feature cache, float32."""
    if isinstance(tower, HFTextEncoder):
        raise ValueError("token ids of a Hugging Face text tower differ in length, so they cannot be kept as rows; "
                         "use last_blocks=0")  # fmt: skip
    return _Part(tower, lambda tower, ids: tower(ids.long())) if isinstance(tower, TextTransformer) else tower


class Tail(nn.Sequential):
    """The trainable end of a tower; its batch norms stay in evaluation mode."""

    pretrained = True  # where other weights are drawn anew, these stay

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train(False)
        return self


def _cut(tower: nn.Module, n: int) -> tuple[nn.Module, nn.Module]:
    if isinstance(tower, TimmModel):
        first, last = _cut(tower.trunk, n)
        return first, nn.Sequential(last, tower.head)
    if isinstance(tower, HFTextEncoder):
        return _with(tower, proj=nn.Identity()), tower.proj
    if isinstance(tower, ModifiedResNet):
        stem = [tower.conv1, tower.bn1, tower.act1, tower.conv2, tower.bn2, tower.act2, tower.conv3, tower.bn3,
                tower.act3, tower.avgpool]  # fmt: skip
        stages = [tower.layer1, tower.layer2, tower.layer3, tower.layer4, tower.attnpool]
        cut = _at(stages, n, least=1)
        return nn.Sequential(*stem, *stages[:cut]), nn.Sequential(*stages[cut:])
    if isinstance(tower, VisionTransformer | TextTransformer):
        blocks = tower.transformer.resblocks
        cut = _at(blocks, n)
        before, after = (_with(tower.transformer, resblocks=part) for part in (blocks[:cut], blocks[cut:]))
        first = _with(tower, transformer=before, **dict.fromkeys(AFTER))
        last = _with(tower, transformer=after, **dict.fromkeys(BEFORE))
        if isinstance(tower, TextTransformer):
            return _Part(first, _text_trunk), _Part(last, _text_tail)
        return _Part(first, _vision_trunk), _Part(last, _vision_tail)
    for kind, front, name, back in TIMM:
        if isinstance(tower, kind):
            blocks = getattr(tower, name)
            cut = _at(blocks, n)
            ends = {end: nn.Identity() for end in back}
            first = _with(tower, **{name: blocks[:cut]}, **ends, classifier=None, head=None)
            last = _with(tower, **{name: blocks[cut:]}, **dict.fromkeys(front))
            return _Part(first, lambda tower, x: tower.forward_features(x)), _Part(
                last, partial(_timm_tail, steps=(name, *back))
            )
    raise ValueError(f"a {type(tower).__name__} cannot be split; a ModifiedResNet, a transformer of open_clip or timm, "
                     "an EfficientNet and a ConvNeXt can")  # fmt: skip


# open_clip transformers: what stands before the residual blocks, and what after them
BEFORE = ("conv1", "ln_pre", "class_embedding", "token_embedding", "positional_embedding")
AFTER = ("ln_post", "attn_pool", "attn_pool_contrastive", "proj", "ln_final", "text_projection")
# timm models: (class, what comes before the blocks, the blocks, what of forward_features comes after them)
TIMM: tuple[tuple[type[nn.Module], tuple[str, ...], str, tuple[str, ...]], ...] = (
    (timm.models.EfficientNet, ("conv_stem", "bn1"), "blocks", ("conv_head", "bn2")),
    (timm.models.ConvNeXt, ("stem",), "stages", ("norm_pre",)),
    (timm.models.VisionTransformer, ("patch_embed", "cls_token", "reg_token", "pos_embed"), "blocks", ("norm",)),
)


class _Part(nn.Module):
    """A part of a tower, and the function that runs it."""

    def __init__(self, tower: nn.Module, run: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.tower = tower
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.tower, x)


def _timm_tail(tower: Any, x: Tensor, steps: Sequence[str]) -> Tensor:
    for step in steps:
        x = getattr(tower, step)(x)
    return tower.forward_head(x)


def _vision_trunk(tower: VisionTransformer, x: Tensor) -> Tensor:
    return tower.transformer(tower._embeds(x))  # (b, L, D)


def _vision_tail(tower: VisionTransformer, x: Tensor) -> Tensor:
    pooled, _ = tower._pool(tower.transformer(x))
    return pooled if tower.proj is None else pooled @ tower.proj


def _text_trunk(tower: TextTransformer, ids: Tensor) -> Tensor:
    x, mask = tower._embeds(ids)
    x = tower.transformer(x, attn_mask=mask)  # (b, L, D); L is one more than the ids with a class token
    column = nn.functional.pad(ids, (0, x.shape[1] - ids.shape[1])).to(x.dtype)
    return torch.cat([x, column.unsqueeze(2)], 2)  # (b, L, D + 1)


def _text_tail(tower: TextTransformer, rows: Tensor) -> Tensor:
    x, ids = rows[..., :-1], rows[:, : tower.context_length, -1].long()
    with_class = x.shape[1] > ids.shape[1]
    mask = tower.attn_mask
    if tower.use_pad_mask or with_class:
        padding = tower._build_additive_mask(ids, x.shape[1], x.dtype)
        mask = padding if mask is None else mask[: x.shape[1], : x.shape[1]].unsqueeze(0) + padding
    x = tower.transformer(x, attn_mask=mask)
    if with_class:
        x = tower.ln_final(text_global_pool(x, pool_type="last"))
    else:
        x = text_global_pool(tower.ln_final(x), ids, tower.pool_type, eos_token_id=tower.eos_id)
    if tower.text_projection is None:
        return x
    return tower.text_projection(x) if isinstance(tower.text_projection, nn.Linear) else x @ tower.text_projection


def _at(blocks: Sequence[Any] | nn.Module, n: int, least: int = 0) -> int:
    total = len(blocks)  # type: ignore[arg-type]
    if not least <= n <= total:
        raise ValueError(f"last_blocks is {n}; this tower has {total} blocks, so {least} to {total} can be trained")
    return total - n


def _with(module: nn.Module, **parts: Any) -> Any:
    """A shallow copy of a module with these children and parameters replaced (None: left out), where it has them."""
    clone = copy.copy(module)
    for held in ("_modules", "_parameters"):
        old = getattr(module, held)
        setattr(clone, held, {**old, **{name: part for name, part in parts.items() if name in old}})
    return clone


def _check_names(model: str, pretrained: str | None) -> None:
    if model.startswith(("hf-hub:", "local-dir:")):
        if pretrained is not None:
            raise ValueError(f"{model!r} brings its own weights; leave `pretrained` out")
        return
    if model.replace("/", "-") not in open_clip.list_models():
        near = difflib.get_close_matches(model, open_clip.list_models(), 3, 0.3)
        raise ValueError(f"open_clip has no model {model!r}; near it: {', '.join(near)}; all: open_clip.list_models()")
    tags = open_clip.list_pretrained_tags_by_model(model)
    choices = f"give pretrained= a checkpoint file{' or one of the tags ' + ', '.join(tags) if tags else ''}"
    if pretrained is None:
        raise ValueError(f"no weights are named for {model!r}, and random ones are never used: {choices}")
    if pretrained not in tags and not Path(pretrained).is_file():
        raise ValueError(f"{pretrained!r} is no file and no tag of {model!r}: {choices}")
