"""The doors of sounds, videos and stored arrays: `media.waveform`, `media.decode`, `media.array`, `media.tokens`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.law import damaged, door, lawful
from tests.sources.layouts import write_video
from xmodal_lib.sources import manifest, media

KINDS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "PCM_U8"), ("WAV", "ULAW"), ("FLAC", "PCM_16"),
         ("AIFF", "PCM_24"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")]  # fmt: skip
RATES = (8_000, 11_025, 16_000, 22_050, 44_100, 48_000)
STRANGE = (float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 32_768.0, 1.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


@given(wave=st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=50), channels=st.integers(1, 3))
@door
def test_what_was_put_in_comes_out(folder: Path, wave: list[int], channels: int) -> None:
    pcm = np.array(wave, np.int16)
    soundfile.write(folder / "a.wav", np.stack([pcm] * channels, 1), 16_000)
    assert np.allclose(media.waveform(folder / "a.wav").numpy(), pcm / 2**15, atol=1e-6)


@given(st.data())
@door
def test_any_sound_is_read_or_refused_in_a_line(folder: Path, data: st.DataObject) -> None:
    kind, subtype = data.draw(st.sampled_from(KINDS))
    n, channels = data.draw(st.integers(0, 400)), data.draw(st.integers(1, 2))
    wave = np.random.default_rng(0).uniform(-1, 1, (n, channels)).astype(np.float32)
    if subtype == "FLOAT" and n and data.draw(st.booleans()):
        wave[data.draw(st.integers(0, n - 1))] = data.draw(st.sampled_from(STRANGE))
    file, path = io.BytesIO(), folder / "b.wav"
    soundfile.write(file, wave, data.draw(st.sampled_from(RATES)), subtype, format=kind)
    raw = file.getvalue()
    path.write_bytes(data.draw(damaged(raw)) if data.draw(st.integers(0, 3)) else raw)
    try:
        manifest._check_audio(path)
        passed = True
    except Exception:
        passed = False
    with lawful():
        try:
            read = media.waveform(path)
        except ValueError:
            assert not passed
            raise
        assert read.dtype == torch.float32 and read.ndim == 1 and len(read) and read.isfinite().all()
        assert read.abs().max() <= 1


@pytest.mark.parametrize("rate", [1, 44_101, 2**31 - 1])
def test_rates_of_no_sound(folder: Path, rate: int) -> None:
    """Which would fill the memory."""
    soundfile.write(folder / "c.wav", np.zeros(10), rate)
    with pytest.raises(ValueError, match=f"a rate of {rate} Hz"):
        media.waveform(folder / "c.wav")


@pytest.fixture(scope="module", params=["a.mp4", "a.flv", "a.avi"])
def video(request: pytest.FixtureRequest, folder: Path) -> tuple[Path, bytes]:
    frames = [Image.new("RGB", (32, 32), (40 * n, 0, 0)) for n in range(6)]
    write_video(folder / request.param, frames, wave=np.zeros(9_600, np.float32))
    return folder / request.param, (folder / request.param).read_bytes()


@given(data=st.data(), start=st.sampled_from([0.0, 0.3, 2.0]))
@door
def test_a_damaged_video_is_read_or_refused_in_a_line(video: tuple[Path, bytes], data: st.DataObject, start) -> None:
    path, raw = video
    path.write_bytes(data.draw(damaged(raw)))
    with lawful():
        frames = media.decode(path, 10.0, start)
        assert frames and all(frame.mode == "RGB" for frame in frames)
    with lawful():
        wave = media.waveform(path)
        assert wave.ndim == 1 and len(wave) and wave.isfinite().all() and wave.abs().max() <= 1


ARRAYS = st.sampled_from([np.zeros((3, 2), np.float32), np.arange(4), np.array([True]), np.array(["1.5"]), np.array(1j),
                          np.array([np.nan, 1.7]), np.array([-1.0]), np.zeros((0, 128)), np.float64(3),
                          np.array([("a", 1)], "U1,i4"), np.array(["2001-01-01"], "M8[D]")])  # fmt: skip


@given(given_=ARRAYS, other=ARRAYS, data=st.data())
@door
def test_an_array_is_read_or_refused_in_a_line(folder: Path, given_: np.ndarray, other, data: st.DataObject) -> None:
    for name, some in (("a.npy", given_), ("b.npy", other)):
        file = io.BytesIO()
        np.savez(file, some) if data.draw(st.integers(0, 9)) == 0 else np.save(file, some)
        raw = file.getvalue()
        (folder / name).write_bytes(data.draw(damaged(raw)) if data.draw(st.booleans()) else raw)
    with lawful():
        assert media.array(folder / "a.npy").dtype == torch.float32
    with lawful():
        ids, padding = media.tokens(folder / "a.npy", folder / "b.npy")
        assert (ids >= 0).all() and len(ids) == len(padding)
