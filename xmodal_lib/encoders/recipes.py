"""A frozen encoder in words, so that a file can name it and another machine make it again.

`recipe_of(encoder)` is plain values, and the weights of a head where there is one; `made(recipe)` is the encoder, with
the digest it had, or an error that says what is missing. Weights of towers are never copied, only named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.home import Unusable

Recipe = Mapping[str, Any]


def recipe_of(encoder: Encoder) -> dict[str, Any]:
    """How to make an encoder of `open_clip_towers`, `bridge`, `frozen` or `split` again; others have no "kind"."""
    named = {"name": encoder.name, "digest": encoder.digest}
    if encoder.trunk is None:
        return named | encoder.about.get("recipe", {})
    if not isinstance(encoder.module, nn.Linear | nn.Identity):
        return named
    return named | {"kind": "head", "weights": dict(encoder.module.state_dict()), "trunk": recipe_of(encoder.trunk)}


def checked(encoder: Encoder) -> dict[str, Any]:
    """The recipe of an encoder that has one.

    Raises:
        ValueError: it was made by hand.
    """
    recipe = recipe_of(encoder)
    part = recipe
    while "kind" in part and (below := part.get("trunk", part.get("of"))):
        part = below
    if "kind" not in part:
        raise ValueError(f"the encoder {part['name']!r} was made by hand, so a file cannot name it; one of "
                         "open_clip_towers, of the bridge or of encoders.frozen can be")  # fmt: skip
    return recipe


def made(recipe: Recipe, checkpoint: str | None = None) -> tuple[Encoder, nn.Module | None]:
    """The encoder of a recipe, and the tail if it is the trunk of a `split`.

    `checkpoint` is where the weights of an open_clip model are on this machine, if not where they were.

    Raises:
        Unusable: weights are missing, or are not those of the recipe.
    """
    tail: nn.Module | None = None
    match recipe["kind"]:
        case "head":
            trunk, _ = made(recipe["trunk"], checkpoint)
            encoder = Encoder(recipe["name"], _head(recipe["weights"]), trunk=trunk)
        case "split":
            from xmodal_lib.encoders.towers import split

            encoder, tail = split(made(recipe["of"], checkpoint)[0], recipe["last_blocks"], recipe["float16"])
        case _:
            encoder = _by_name(recipe, checkpoint)
    if encoder.digest != recipe["digest"]:
        raise Unusable(f"the encoder {recipe['name']!r} found here has other weights or another preprocessing than the "
                       f"one that was saved (digest {encoder.digest[:12]}, not {recipe['digest'][:12]})")  # fmt: skip
    return encoder, tail


def _head(weights: Mapping[str, Any]) -> nn.Module:
    if not weights:
        return nn.Identity()
    width_out, width_in = weights["weight"].shape
    head = nn.Linear(width_in, width_out, bias="bias" in weights)
    head.load_state_dict(dict(weights))
    return head


def _by_name(recipe: Recipe, checkpoint: str | None) -> Encoder:
    from xmodal_lib.encoders import frozen

    match recipe["kind"]:
        case "efficientnet":
            return frozen.efficientnet(recipe["size"])
        case "minilm":
            return frozen.minilm()
        case "speech embedding":
            return frozen.speech_embedding()
        case "open_clip":
            from xmodal_lib.encoders import towers

            weights = checkpoint or recipe["pretrained"]
            try:
                return towers.open_clip_towers(recipe["model"], weights)[recipe["tower"]]
            except (ValueError, Unusable) as error:
                raise Unusable(f"the {recipe['tower']} tower of {recipe['model']!r} with the weights {weights!r} is "
                               f"needed: {error}") from None  # fmt: skip
    raise Unusable(f"an encoder of kind {recipe['kind']!r} is not known to this version")
