"""Raw items -> tensors for trainable encoders: sound, video frames, pictures, words. Nothing here is learnt.

>>> audio = Lookup(lambda row: fbank(source.open["audio"](row)))                      # (b, 1024, 128)
>>> visual = Lookup(lambda row: clip(frames(row)), lambda row, rng: clip(frames(row), train=True, rng=rng))

With `train` the augmentation of the released loaders is drawn from `rng`; the global random state is left as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal

import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import pad

from xmodal_lib.encoders import frozen
from xmodal_lib.training import seeded

if TYPE_CHECKING:
    from torchaudio.transforms import MelSpectrogram

# torchvision and torchaudio are imported where they are used: each takes seconds

BANDS = 128  # mel bands of `fbank`
FBANK_MEAN, FBANK_STD = -5.081, 4.4849  # of AudioSet, from the CAV-MAE loader
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VOCABULARY = 30_522  # of bert-base-uncased


def fbank(wave: Tensor, rate: int = 16_000, frames: int = 1024, *, normalise: bool = False, train: bool = False,
          rng: torch.Generator | None = None) -> Tensor:  # fmt: skip
    """A sound (T,) in -1..1 -> its log mel filter bank (frames, 128), a frame every 10 ms; zeros follow a short sound.

    A stored filter bank (n, 128) is taken as it is. `normalise` is (x + 5.081) / 4.4849; `train` masks parts of it
    before that, and adds noise and rolls it after, as the CAV-MAE loader does.
    Source: released extraction script of Zhang et al., CVPR 2024 (Kaldi, Hanning window of 25 ms, no dither).
    Differs: a sound shorter than a window, even an empty one, is silence; there it became 512 frames of 0.01.

    Raises:
        ValueError: the item is neither a sound nor a filter bank, or `train` has no `rng`.
    """
    from torchaudio.compliance import kaldi

    if wave.ndim == 2 and wave.shape[1] == BANDS:
        x = wave.float()
    else:
        wave = _sound(wave)
        wave = wave - wave.mean() if len(wave) else wave
        wave = pad(wave, (0, max(0, rate // 40 - len(wave))))  # a window at least
        x = kaldi.fbank(wave[None], sample_frequency=rate, num_mel_bins=BANDS, window_type="hanning", htk_compat=True,
                        use_energy=False, dither=0.0, frame_shift=10.0)  # fmt: skip
    x = pad(x[:frames], (0, 0, 0, max(0, frames - len(x))))
    if train:
        x = mask_spectrogram(x, _given(rng))
    if normalise:
        x = (x - FBANK_MEAN) / FBANK_STD
    return disturb_spectrogram(x, _given(rng)) if train else x


def mask_spectrogram(x: Tensor, rng: torch.Generator, freq: int = 48, time: int = 192) -> Tensor:
    """(frames, bands) with a band of up to `freq` bands and one of up to `time` frames set to 0 (SpecAugment)."""
    x = x.clone()
    for dim, most in ((1, freq), (0, time)):
        width, place = torch.rand(2, generator=rng).tolist()
        size = min(int(width * most), x.shape[dim])
        x.narrow(dim, int(place * (x.shape[dim] - size + 1)), size).zero_()
    return x


def disturb_spectrogram(x: Tensor, rng: torch.Generator, noise: float = 0.1, shift: int = 1024) -> Tensor:
    """(frames, bands) plus uniform noise of a random strength up to `noise`, rolled in time by up to `shift` frames."""
    strength = noise * torch.rand((), generator=rng)
    x = x + strength * torch.rand(x.shape, generator=rng)
    return x.roll(int(torch.randint(-shift, shift, (), generator=rng)), 0) if shift else x


def spectrogram(wave: Tensor, kind: Literal["mla", "ogm"] = "mla", rate: int = 16_000, *, train: bool = False,
                rng: torch.Generator | None = None) -> Tensor:  # fmt: skip
    """A sound (T,) -> ln(|STFT| + 1e-7) of a repeated piece of it: "mla" (129, 626) or "ogm" (257, 188).

    "mla": 16 kHz, repeated to 10 s or more, 5 s of it (the first; at random with `train`), n_fft 256, hop 128.
    "ogm": 22.05 kHz, repeated, the first 3 s, n_fft 512, hop 353.
    Source: extraction script of Zhang et al., CVPR 2024; CREMA-D loader of Peng et al., CVPR 2022.
    Differs: "ogm" repeats a sound of less than a second more than three times, so that the size is always the same.

    Raises:
        ValueError: the item is not a sound, it is empty, the kind is unknown, or `train` has no `rng`.
    """
    from torchaudio.functional import resample

    if kind not in ("mla", "ogm"):
        raise ValueError(f"a spectrogram is of kind 'mla' or 'ogm', not {kind!r}")
    wave = _sound(wave)
    if not len(wave):
        raise ValueError("an empty sound has no spectrogram")
    own, least, length, n_fft, hop = (16_000, 160_000, 80_000, 256, 128) if kind == "mla" else (
        22_050, 66_150, 66_150, 512, 353)  # fmt: skip
    wave = wave if rate == own else resample(wave, rate, own)
    wave = wave.repeat(-(-least // len(wave)))
    start = int(torch.randint(5 * own + 1, (), generator=_given(rng))) if train and kind == "mla" else 0
    piece = wave[start : start + length].clamp(-1, 1)
    window = torch.hann_window(n_fft)
    bins = torch.stft(piece, n_fft, hop, window=window, pad_mode="constant", return_complex=True)
    return (bins.abs() + 1e-7).log()  # (n_fft / 2 + 1, 1 + length / hop)


def log_mel(wave: Tensor, bands: int = 40, frames: int = 128, rate: int = 16_000) -> Tensor:
    """A short sound (T,) -> ln(mel power + 1e-6), (bands, frames), a frame every 10 ms; silence follows a short sound.

    Raises:
        ValueError: the item is not a sound.
    """
    hop = rate // 100
    wave = _sound(wave)[: (frames - 1) * hop]
    wave = pad(wave, (0, (frames - 1) * hop - len(wave)))
    return (_mel(bands, rate)(wave) + 1e-6).log()


@cache
def _mel(bands: int, rate: int) -> MelSpectrogram:
    from torchaudio.transforms import MelSpectrogram

    return MelSpectrogram(rate, n_fft=2 ** (rate // 40).bit_length(), win_length=rate // 40, hop_length=rate // 100,
                          n_mels=bands, f_min=20.0, pad_mode="constant")  # fmt: skip


def _sound(wave: Tensor) -> Tensor:
    if wave.ndim != 1:
        raise ValueError(f"a sound is a tensor (T,); this one is {tuple(wave.shape)}" + (
            ": a stored filter bank has no waveform" if wave.ndim == 2 and wave.shape[1] == BANDS else ""))  # fmt: skip
    return wave.float()


def pick(n: int, k: int = 3) -> list[int]:
    """Which k of n frames to take: floor(n / k) * (0 … k - 1).

    Source: released loader of Zhang et al., CVPR 2024. With fewer than k frames it takes the first k times.

    Raises:
        ValueError: there are no frames.
    """
    if n < 1 or k < 1:
        raise ValueError(f"{k} of {n} frames cannot be picked; at least one of one is needed")
    return [n // k * i for i in range(k)]


def clip(frames: Sequence[Image.Image], size: int = 224, *, train: bool = False, rng: torch.Generator | None = None,
         together: bool = False) -> Tensor:  # fmt: skip
    """T pictures -> (3, T, size, size), standardised with ImageNet's mean and deviation.

    They are resized without keeping their proportions; with `train` a random part of each is resized, and half of them
    are flipped: drawn for each frame, as the release does, or once for all of them with `together`.

    Raises:
        ValueError: there are no frames, or `train` has no `rng`.
    """
    import torchvision.transforms as T
    import torchvision.transforms.functional as TF

    if not frames:
        raise ValueError("a clip without frames; at least one is needed")
    frames = [frame.convert("RGB") for frame in frames]
    if not train:
        return torch.stack([_standard(TF.resize(frame, [size, size])) for frame in frames], 1)
    look = T.Compose([T.RandomResizedCrop(size), T.RandomHorizontalFlip()])
    seeds = [_seed(_given(rng)) for _ in frames]
    shown = []
    for seed, frame in zip([seeds[0]] * len(seeds) if together else seeds, frames, strict=True):
        with seeded(seed):
            shown.append(_standard(look(frame)))
    return torch.stack(shown, 1)


def picture(image: Image.Image, size: int = 256, *, train: bool = False, rng: torch.Generator | None = None,
            jitter: float = 1.0) -> Tensor:  # fmt: skip
    """A picture -> (3, size, size) for M3AE: its shorter side resized (bicubic) and the middle cut out.

    With `train` a random part, flipped in half of the cases, its brightness, contrast and saturation multiplied by
    1 - `jitter` to 1 + `jitter`. Source: released loader of Zhang et al., CVPR 2024 (its `color_jitter=True` is 1.0).

    Raises:
        ValueError: `train` has no `rng`.
    """
    import torchvision.transforms as T
    import torchvision.transforms.functional as TF
    from torchvision.transforms import InterpolationMode

    image = image.convert("RGB")
    if not train:
        return _standard(TF.center_crop(TF.resize(image, [size], InterpolationMode.BICUBIC), [size, size]))
    look = T.Compose([
        T.RandomResizedCrop(size, interpolation=InterpolationMode.BICUBIC),
        T.RandomHorizontalFlip(),
        T.ColorJitter(jitter, jitter, jitter),
    ])  # fmt: skip
    with seeded(_seed(_given(rng))):
        return _standard(look(image))


def _standard(image: Image.Image) -> Tensor:
    import torchvision.transforms.functional as TF

    return TF.normalize(TF.to_tensor(image), IMAGENET_MEAN, IMAGENET_STD)


def tokens(texts: Sequence[str | tuple[Tensor, Tensor]], length: int = 256) -> tuple[Tensor, Tensor]:
    """Texts -> BERT's uncased word pieces without special tokens: ids (n, length) int64, pad (n, length), 1 = padding.

    A stored pair (ids, pad) is cut or padded to the length. Word pieces come from the packaged MiniLM, whose vocabulary
    is that of bert-base-uncased.

    Raises:
        ValueError: ids and pad of a stored pair differ in length.
        Unusable: the package is missing or damaged.
    """
    ids, pads = torch.zeros(len(texts), length, dtype=torch.int64), torch.ones(len(texts), length)
    for i, text in enumerate(texts):
        if isinstance(text, str):
            found = torch.tensor(_pieces().encode(text, add_special_tokens=False).ids[:length], dtype=torch.int64)
            padding = torch.zeros(len(found))
        else:
            found, padding = (part.reshape(-1)[:length] for part in text)
            if len(found) != len(padding):
                raise ValueError(f"a stored text has {len(found)} ids and a padding mask of {len(padding)}")
        ids[i, : len(found)], pads[i, : len(found)] = found.long(), padding.float()
    return ids, pads


@cache
def _pieces() -> Tokenizer:
    package, module, files = frozen.MINILM
    name = "model/tokenizer.json"
    (path,) = frozen._verified(package, module, {name: files[name]})
    pieces = Tokenizer.from_file(str(path))
    pieces.no_padding()
    pieces.no_truncation()
    return pieces


def _given(rng: torch.Generator | None) -> torch.Generator:
    if rng is None:
        raise ValueError("train=True draws at random: give it rng=, a torch.Generator")
    return rng


def _seed(rng: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=rng))
