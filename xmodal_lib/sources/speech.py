"""Words spoken by eSpeak NG (GPL-3), in many synthetic voices: `speak(text, voice) -> waveform`.

The synthesiser is one per process, so one thread speaks at a time; a forked child may go on using it.
Many voices sound alike: call them voices, not speakers.
"""

from __future__ import annotations

import _ctypes
import ctypes
import math
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import espeakng_loader
import numpy as np
import torch
from torch import Tensor

from xmodal_lib.home import Unusable

RULES = 1  # raise it when the way a text is spoken changes
SAMPLE_RATE = 16_000  # Hz, of what `speak` returns

# Language, `+`, variant. A held-out voice shares its variant with no voice of training.
TRAIN_VOICES = (
    "en-us+f1", "en-us+m3", "en-us+Michael", "en-gb-x-rp+f2", "en-gb-x-rp+m1", "en-gb-x-rp+Alicia",
    "en-gb-scotland+f4", "en-gb-scotland+m7", "en-gb-scotland+klatt2", "en-029+f5", "en-029+m2", "en-029+Andrea",
)  # fmt: skip
HELD_OUT_VOICES = (
    "en-us+f3", "en-us+klatt4", "en-gb-x-rp+m4", "en-gb-x-rp+belinda", "en-gb-scotland+edward", "en-029+linda",
)  # fmt: skip

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples go to the callback, inside the call
_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT
_UTF8 = 1  # espeakCHARS_UTF8
_RATE, _PITCH = 1, 3  # espeak_PARAMETER
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class _Synthesiser:
    """The process's one eSpeak NG. Its library is loaded anew for every text.

    Each word it says changes what it says next (flutter, noise, timing), and neither its seed nor `espeak_Terminate`
    puts that back; unloading the library does, in half a millisecond.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._chunks: list[np.ndarray] = []
        self._callback = _CALLBACK(self._take)

    def _take(self, samples, count, _events) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    @contextmanager
    def library(self) -> Iterator[tuple[ctypes.CDLL, int]]:
        """The library, started, and the samples a second it makes; for one thread at a time."""
        with self.lock:
            library = ctypes.CDLL(espeakng_loader.get_library_path())
            try:
                data = str(Path(espeakng_loader.get_data_path()).parent).encode()
                rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DONT_EXIT)
                if rate <= 0:
                    raise Unusable("eSpeak NG does not start; `pip install --force-reinstall espeakng-loader` mends it")
                library.espeak_ng_SetRandSeed(ctypes.c_long(1))
                library.espeak_SetSynthCallback(self._callback)
                yield library, rate
            finally:
                library.espeak_Terminate()
                _unload(library._handle)

    def has(self, voice: str) -> bool:
        """Whether there is such a voice."""
        with self.library() as (library, _):
            return library.espeak_SetVoiceByName(voice.encode()) == 0

    def say(self, text: str, voice: str, rate: int, pitch: int) -> tuple[np.ndarray, int]:
        """Samples (T,) int16, and how many a second."""
        with self.library() as (library, sample_rate):
            if library.espeak_SetVoiceByName(voice.encode()) != 0:  # it would go on in the voice before
                raise ValueError(f"eSpeak NG does not take the voice {voice!r}")
            library.espeak_SetParameter(_RATE, rate, 0)
            library.espeak_SetParameter(_PITCH, pitch, 0)
            self._chunks = []
            content = text.encode() + b"\0"
            if library.espeak_Synth(content, len(content), 0, 1, 0, _UTF8, None, None) != 0:
                raise RuntimeError(f"eSpeak NG could not say {text!r}")
            library.espeak_Synchronize()
            return np.concatenate(self._chunks or [np.zeros(0, np.int16)]), sample_rate


def _unload(handle: int) -> None:
    if sys.platform == "win32":
        _ctypes.FreeLibrary(handle)
    else:
        _ctypes.dlclose(handle)


_synthesiser = _Synthesiser()
if hasattr(os, "register_at_fork"):  # nobody speaks during a fork, and the child's lock is free
    os.register_at_fork(
        before=_synthesiser.lock.acquire,
        after_in_parent=_synthesiser.lock.release,
        after_in_child=_synthesiser.lock.release,
    )


def speak(text: str, voice: str = "en-us", rate: int = 175, pitch: int = 50) -> Tensor:
    """A text spoken: float32 (T,) at 16 kHz, in -1..1. `rate` in words a minute (80-450), `pitch` 0-100.

    The same arguments give the same waveform, whatever was said before.

    Raises:
        ValueError: no such voice, or a rate or pitch out of range.
        Unusable: eSpeak NG does not start.
    """
    from scipy.signal import resample_poly

    if not 80 <= rate <= 450 or not 0 <= pitch <= 100:
        raise ValueError(f"rate {rate}, pitch {pitch}: a rate of 80 to 450 words a minute, a pitch of 0 to 100 needed")
    check_voice(voice)
    samples, sample_rate = _synthesiser.say(text, voice, int(rate), int(pitch))
    shared = math.gcd(sample_rate, SAMPLE_RATE)
    # scipy, not torchaudio: eight times faster at 22,050 -> 16,000, and works in a forked child
    wave = resample_poly(samples.astype(np.float32) / 32768, SAMPLE_RATE // shared, sample_rate // shared)
    return torch.from_numpy(wave.clip(-1, 1))


def voices(language: str = "en") -> list[str]:
    """Voice names that `speak` takes, of one language family: its dialects, and each with each variant."""
    data = Path(espeakng_loader.get_data_path())
    variants = sorted(path.name for path in (data / "voices" / "!v").iterdir())
    dialects = [code for code in sorted(_codes(language)) if _synthesiser.has(code)]
    return dialects + [f"{dialect}+{variant}" for dialect in dialects for variant in variants]


def variation(seed: Sequence[int] | int) -> tuple[int, int]:
    """A way of speaking, (rate, pitch), drawn from a seed: 130-210 words a minute, pitch 30-70."""
    rng = np.random.default_rng(seed)
    return int(rng.integers(130, 211)), int(rng.integers(30, 71))


def add_noise(wave: Tensor, snr: float, generator: torch.Generator) -> Tensor:
    """A waveform (T,) with white noise at a signal-to-noise ratio of `snr` dB, over its whole length."""
    noise = torch.randn(wave.shape, generator=generator)
    power = wave.square().mean() / 10 ** (snr / 10)
    return wave + noise * power.sqrt()


@cache
def _codes(language: str) -> frozenset[str]:
    """Language codes, as the data files declare them, of one family: en -> en-us, en-gb-x-rp, …"""
    data = Path(espeakng_loader.get_data_path()) / "lang"
    found = set()
    for path in data.rglob("*"):
        if path.is_file():
            found.update(re.findall(r"^language\s+(\S+)", path.read_text(errors="replace"), re.MULTILINE))
    return frozenset(code for code in found if code == language or code.startswith(f"{language}-"))


@cache
def check_voice(voice: str) -> None:
    """Raises ValueError if `speak` does not know a voice.

    The synthesiser leaves an unknown variant out and says nothing, so its file is looked for.
    """
    dialect, plus, variant = voice.partition("+")
    if plus and not (Path(espeakng_loader.get_data_path()) / "voices" / "!v" / variant).is_file():
        raise ValueError(f"no voice variant {variant!r} in {voice!r}; xmodal_lib.sources.speech.voices() lists them")
    if not _synthesiser.has(dialect):
        raise ValueError(f"no voice {voice!r}; xmodal_lib.sources.speech.voices() lists those there are")
