"""A fitted method on disk: PATH.safetensors holds every tensor, PATH.json all the rest. Nothing is pickled.

    save(fitted, "runs/mla")
    again = load("runs/mla", encoders={"image": mlp(1280, 128), "speech": SpeechNet(128)})

The code of an encoder cannot be written down as JSON, so `load` is given modules of the same architecture, with
whatever weights; the stored weights go into copies of them. Those of frozen encoders are stored too, for without them
the answers would not come back; they are written once, however often a method holds them. In the JSON a plain value
stands for itself, and

    {"$": "tensor", "key": K}                      is tensor K of the other file (equal tensors are stored once)
    {"$": "module", "parts": [...], "state": {..}} is a module: classes of its parts, {name: K} of its state
    {"$": "frame" | "tuple" | "dict" | "float" | "method", ...}    what JSON has no word for
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from xmodal_lib.home import Unusable, replacing
from xmodal_lib.methods import GTL, METHODS, Method
from xmodal_lib.methods.meta_transfer import MetaTransfer
from xmodal_lib.methods.multimodal import Multimodal
from xmodal_lib.methods.searched import Searched

FORMAT = "xmodal method, 1"
CLASSES = {cls.__name__: cls for cls in (*METHODS.values(), Searched)}


def save(method: Method, path: str | Path, inputs: Mapping[str, Any] | None = None) -> None:
    """Write a fitted method as PATH.safetensors and PATH.json; `inputs` (plain values and tensors) go along.

    Raises:
        NotFitted: it has not been fitted.
        ValueError: it is none of METHODS, or an attribute is of a kind that cannot be written.
    """
    method._check_fitted()
    writer = _Writer()
    node = writer.method(method) | ({"inputs": writer.value(inputs, "inputs")} if inputs else {})
    weights, about = _files(path)
    raw = safetensors.torch.save(writer.tensors)
    head = {"format": FORMAT, "version": version("xmodal"), "sha256": hashlib.sha256(raw).hexdigest()}
    text = json.dumps(head | node, indent=1, allow_nan=False)
    with replacing(weights) as partial:
        partial.write_bytes(raw)
    with replacing(about) as partial:
        partial.write_text(text, encoding="utf-8")


def load(path: str | Path, encoders: Mapping[str, nn.Module] | None = None) -> Method:
    """Read a method that `save` wrote, on the CPU. `encoders` are left as they are.

    Raises:
        FileNotFoundError: one of the two files is missing.
        Unusable: a file is damaged, the two do not belong together, or they are not of this library and version.
        ValueError: an encoder is missing, is not of the stored architecture, or belongs to no modality of the method.
    """
    node, tensors, about = _read(path)
    given = dict(encoders or {})
    try:
        reader = _Reader(tensors, given, node.get("version", "unknown"))
        method = reader.method(node)
    except (KeyError, TypeError, AttributeError) as error:
        raise Unusable(f"{about} cannot be read ({type(error).__name__}: {error}); save the method again") from error
    if strange := set(given) - reader.known:
        saved = f"for {', '.join(sorted(reader.known))}" if reader.known else "for no modality"
        raise ValueError(f"an encoder for {min(strange)!r} is given, but {type(method).__name__} was saved with "
                         f"encoders {saved}")  # fmt: skip
    return method


def inputs(path: str | Path) -> dict[str, Any]:
    """The `inputs` that a method was saved with; {} if none. Raises as `load` does."""
    node, tensors, about = _read(path)
    try:
        return _Reader(tensors, {}, "").value(node.get("inputs", {}), "inputs", None)
    except (KeyError, TypeError, AttributeError) as error:
        raise Unusable(f"{about} cannot be read ({type(error).__name__}: {error}); save the method again") from error


def _read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor], Path]:
    """What the JSON says and the tensors of the other file, both whole; and the path of the JSON."""
    weights, about = _files(path)
    for file, other in ((about, weights), (weights, about)):
        if not file.is_file():
            half = f"; {other.name} alone is half of a method" if other.is_file() else ""
            raise FileNotFoundError(f"there is no {file}{half}")
    raw = weights.read_bytes()
    try:
        node = json.loads(about.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Unusable(f"{about} is damaged ({error}); save the method again") from None
    if not isinstance(node, dict) or node.get("format") != FORMAT:
        raise Unusable(f"{about} is not a method saved as {FORMAT!r}; give the path that save() was given")
    if node.get("sha256") != hashlib.sha256(raw).hexdigest():
        raise Unusable(f"{weights} is damaged or not the other half of {about.name}; save the method again")
    try:
        return node, safetensors.torch.load(raw), about
    except SafetensorError as error:
        raise Unusable(f"{about} cannot be read ({type(error).__name__}: {error}); save the method again") from error


class _Writer:
    """Python -> JSON, with the tensors put aside."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.keys: dict[tuple[str, str, tuple[int, ...]], str] = {}  # by what a tensor holds

    def method(self, method: Method, at: str = "") -> dict[str, Any]:
        name = type(method).__name__
        if CLASSES.get(name) is not type(method):
            raise ValueError(f"{name} is none of METHODS, so it could not be loaded again; add it there")
        return {"class": name, "attributes": {k: self.value(v, at + k) for k, v in vars(method).items()}}

    def value(self, value: Any, name: str) -> Any:
        match value:
            case None | bool() | int() | str():
                return value
            case float():
                return value if math.isfinite(value) else {"$": "float", "value": str(value)}
            case np.generic():
                return self.value(value.item(), name)
            case Tensor():
                return {"$": "tensor", "key": self.tensor(value, name)}
            case nn.Module():
                return self.module(value, name)
            case Method():
                return {"$": "method", **self.method(value, f"{name}.")}
            case list():
                return [self.value(v, f"{name}.{i}") for i, v in enumerate(value)]
            case tuple():
                return {"$": "tuple", "items": self.value(list(value), name)}
            case Mapping() if all(isinstance(k, str) and k != "$" for k in value):
                return {k: self.value(v, f"{name}.{k}") for k, v in value.items()}
            case Mapping():
                return {"$": "dict", "items": [[self.value(k, name), self.value(v, name)] for k, v in value.items()]}
            case pd.DataFrame():
                dtypes = {str(c): str(dtype) for c, dtype in value.dtypes.items()}
                return {"$": "frame", "dtypes": dtypes, "rows": self.value(value.to_dict("records"), name)}
        raise ValueError(f"{name} is a {type(value).__name__}, which cannot be saved; keep plain values, tensors, "
                         "modules or a DataFrame")  # fmt: skip

    def module(self, module: nn.Module, name: str) -> dict[str, Any]:
        state = {k: self.tensor(v, f"{name}.{k}") for k, v in module.state_dict().items()}
        return {"$": "module", "parts": _parts(module), "training": module.training, "state": state}

    def tensor(self, tensor: Tensor, name: str) -> str:
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name} is a {type(tensor).__name__} in the state of a module; only tensors can be saved")
        held = tensor.detach().cpu().contiguous()
        content = hashlib.sha256(held.reshape(-1).view(torch.uint8).numpy().data).hexdigest()
        known = content, str(held.dtype), tuple(held.shape)
        if known not in self.keys:
            while name in self.tensors:
                name += "'"
            self.keys[known], self.tensors[name] = name, held.clone()
        return self.keys[known]


class _Reader:
    """JSON -> Python, given the tensors and the modules that take them."""

    def __init__(self, tensors: Mapping[str, Tensor], encoders: Mapping[str, nn.Module], saved_by: str) -> None:
        self.tensors, self.encoders, self.saved_by = tensors, encoders, saved_by
        self.known: set[str] = set()  # modalities that have an encoder in the file

    def method(self, node: Mapping[str, Any], at: str = "") -> Method:
        name, held = node["class"], node["attributes"]
        if name not in CLASSES:
            raise Unusable(f"the file holds a method {name!r}, saved by version {self.saved_by}; this version has "
                           f"{', '.join(CLASSES)}")  # fmt: skip
        cls = CLASSES[name]
        own = {f.name for f in fields(cls) if f.init}
        if strange := [k for k in held if k not in own and not k.endswith("_")]:
            raise Unusable(f"{name} was saved by version {self.saved_by} with a field {strange[0]!r}, which it has not "
                           f"in version {version('xmodal')}")  # fmt: skip
        self.known |= set(held.get("encoders", {}))
        method = cls(**{k: self.value(v, at + k, self.encoders) for k, v in held.items() if k in own})
        learnt = {k: v for k, v in held.items() if k not in own}
        if isinstance(method, Multimodal | MetaTransfer | GTL) and "widths_" in learnt:
            method.classes_, widths = (self.value(learnt[k], k, None) for k in ("classes_", "widths_"))
            method._build(widths, {m: copy.deepcopy(method.encoders.get(m, nn.Identity())) for m in widths})
        for k, v in learnt.items():
            setattr(method, k, self.value(v, at + k, getattr(method, k, self.encoders)))
        return method

    def value(self, node: Any, name: str, like: Any) -> Any:
        """`like` is what stands at this place after `_build`, or the encoders given: a module is made from it."""
        if isinstance(node, list):
            places = like if isinstance(like, list | tuple) and len(like) == len(node) else [None] * len(node)
            return [self.value(v, f"{name}.{i}", place) for i, (v, place) in enumerate(zip(node, places, strict=True))]
        if not isinstance(node, dict):
            return node
        if "$" not in node:
            likes = like if isinstance(like, Mapping) else {}
            return {k: self.value(v, f"{name}.{k}", likes.get(k)) for k, v in node.items()}
        match node["$"]:
            case "float":
                return float(node["value"])
            case "tensor":
                return self.tensors[node["key"]].clone()
            case "module":
                return self.module(node, name, like)
            case "method":
                return self.method(node, f"{name}.")
            case "tuple":
                return tuple(self.value(node["items"], name, like))
            case "dict":
                return {self.value(k, name, None): self.value(v, name, None) for k, v in node["items"]}
            case "frame":
                rows = self.value(node["rows"], name, None)
                return pd.DataFrame(rows, columns=list(node["dtypes"])).astype(node["dtypes"])
        raise KeyError(f"{name} is of an unknown kind {node['$']!r}")

    def module(self, node: Mapping[str, Any], name: str, like: Any) -> nn.Module:
        """A copy of the module `like`, with the stored weights."""
        state = {k: self.tensors[key] for k, key in node["state"].items()}
        if node["parts"] == ["Identity"]:
            return nn.Identity()
        if not isinstance(like, nn.Module):
            shapes = ", ".join(f"{k} {tuple(v.shape)}" for k, v in list(state.items())[:3])
            modality = name.split(".")[-1]
            raise ValueError(f"{name} is a {node['parts'][0]} of {len(state)} tensors ({shapes}, ...); give such a "
                             f"module: load(path, encoders={{{modality!r}: ...}})")  # fmt: skip
        _check_same(name, node["parts"], state, like)
        module = copy.deepcopy(like).cpu()
        for k, value in module.state_dict(keep_vars=True).items():
            value.data = value.data.to(state[k].dtype)  # what is loaded takes the type of what it is loaded into
        module.load_state_dict(state)
        return module.train(node["training"])


def _check_same(name: str, parts: list[str], state: Mapping[str, Tensor], given: nn.Module) -> None:
    """Raises ValueError with the first difference between the stored module and the one given."""
    theirs = {k: tuple(v.shape) for k, v in given.state_dict().items()}
    for k, v in state.items():
        if theirs.get(k) != tuple(v.shape):
            found = f"of shape {theirs[k]}" if k in theirs else "missing"
            raise ValueError(f"{name}: {k} is of shape {tuple(v.shape)} in the file and {found} in the module given")
    if more := [k for k in theirs if k not in state]:
        raise ValueError(f"{name}: the module given has {more[0]} of shape {theirs[more[0]]}, which the file has not")
    if parts != (own := _parts(given)):
        i = next((i for i, (a, b) in enumerate(zip(parts, own, strict=False)) if a != b), min(len(parts), len(own)))
        a, b = (names[i] if i < len(names) else "nothing" for names in (parts, own))
        raise ValueError(f"{name}: part {i} of the module is {a} in the file and {b} in the module given")


def _parts(module: nn.Module) -> list[str]:
    """Class of the module and of all below it: tells ReLU from GELU, which have no weights to tell them apart."""
    return [type(part).__name__ for part in module.modules()]


def _files(path: str | Path) -> tuple[Path, Path]:
    path = Path(path)
    stem = path.stem if path.suffix in (".safetensors", ".json") else path.name
    return path.with_name(f"{stem}.safetensors"), path.with_name(f"{stem}.json")
