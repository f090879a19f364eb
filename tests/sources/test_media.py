"""Sound and frames out of really encoded files: a tone keeps its pitch, and second k shows what was put there."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.sources.layouts import write_video
from xmodal_lib.sources import media

CODES = [(40 * r, 40 * g, 200) for r in range(6) for g in range(6)]  # colours that encoding cannot confuse


@pytest.fixture(autouse=True)
def _home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path_factory.mktemp("home")))


def plain(code: int) -> Image.Image:
    return Image.new("RGB", (32, 32), CODES[code])


def read_code(frame: Image.Image) -> int:
    """Which colour a frame has."""
    seen = np.asarray(frame, float).mean((0, 1))
    far = np.abs(np.array(CODES) - seen).max(1)
    assert far.min() < 15, seen
    return int(far.argmin())


def frequency(wave: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(wave * np.hanning(len(wave)))).argmax() * 16_000 / len(wave))


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg"])
def test_sound_of_a_file(tmp_path: Path, name: str) -> None:
    t = np.arange(44_100) / 44_100
    left, right = 0.5 * np.sin(2 * np.pi * 1000 * t), 0.3 * np.sin(2 * np.pi * 1000 * t)
    soundfile.write(tmp_path / name, np.stack([left, right], 1), 44_100)
    wave = media.waveform(tmp_path / name).numpy()
    assert wave.dtype == np.float32 and abs(len(wave) - 16_000) <= 1
    assert frequency(wave) == pytest.approx(1000, abs=2)
    assert np.abs(wave[4000:-4000]).max() == pytest.approx(0.4, abs=0.02)  # the mean of both channels


@pytest.mark.parametrize("name", ["a.mp4", "a.flv", "a.avi"])
def test_sound_of_a_video(tmp_path: Path, name: str) -> None:
    tone = (0.5 * np.sin(2 * np.pi * 700 * np.arange(48_000) / 16_000)).astype(np.float32)
    write_video(tmp_path / name, [plain(0)] * 30, wave=tone)
    wave = media.waveform(tmp_path / name).numpy()
    assert frequency(wave) == pytest.approx(700, abs=3) and len(wave) == pytest.approx(48_000, abs=4000)
    assert np.sqrt((wave[8000:40_000] ** 2).mean()) == pytest.approx(0.5 / 2**0.5, rel=0.1)


@pytest.mark.parametrize("name", ["a.mp4", "a.flv", "a.avi"])
def test_frames_by_the_second(tmp_path: Path, name: str) -> None:
    write_video(tmp_path / name, [plain(i // 10) for i in range(155)])
    path = tmp_path / name
    assert [read_code(f) for f in media.frames(path)] == list(range(16))
    assert [read_code(f) for f in media.frames(path, 2.0, 12.25, 14.0)] == [12, 12, 13, 13]  # 12.25, 12.75, ...
    assert [read_code(f) for f in media.frames(path, 1.0, 3.0, 3.4)] == [3]
    assert all(f.mode == "RGB" and f.size == (32, 32) for f in media.frames(path))


@pytest.fixture(scope="module")
def uneven(tmp_path_factory) -> tuple[Path, list[float]]:
    """A video whose rate varies, and the second of each frame; frame i has colour i."""
    times = [0, 0.04, 0.5, 0.9, 1.7, 1.72, 1.9, 3.3, 5.1, 5.15, 6.0, 7.8, 8.8]
    path = tmp_path_factory.mktemp("uneven") / "a.mp4"
    write_video(path, [plain(i) for i in range(len(times))], times=times)
    return path, times


@given(fps=st.sampled_from([0.5, 1.0, 2.0, 3.0, 7.0]), start=st.integers(0, 85), length=st.integers(1, 60))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_times_rule_not_frame_numbers(uneven, fps: float, start: int, length: int) -> None:
    path, times = uneven
    first, end = start / 10, (start + length) / 10
    want, k = [], 0
    while first + k / fps < end - 1e-3 and first + k / fps <= times[-1] + 1e-3:
        want.append(max(i for i, t in enumerate(times) if t <= first + k / fps + 2e-3))
        k += 1
    assert [read_code(f) for f in media.decode(path, fps, first, end)] == want


def test_a_video_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    real = media.decode
    monkeypatch.setattr(media, "decode", lambda *args: decoded.append(args) or real(*args))
    write_video(tmp_path / "a.flv", [plain(1)] * 12)
    first = media.frames(tmp_path / "a.flv")
    again = media.frames(tmp_path / "a.flv")
    assert len(decoded) == 1
    assert [f.tobytes() for f in first] == [f.tobytes() for f in again]
    media.frames(tmp_path / "a.flv", 2.0)
    assert len(decoded) == 2
    write_video(tmp_path / "a.flv", [plain(2)] * 25)  # another file of the same name
    assert [read_code(f) for f in media.frames(tmp_path / "a.flv")] == [2, 2, 2]


def test_pictures_of_a_folder_by_number(tmp_path: Path) -> None:
    for k in (10, 9, 2, 1):
        plain(k).save(tmp_path / f"frame_{k}.jpg", quality=95)
    (tmp_path / "._frame_1.jpg").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture")
    assert [read_code(f) for f in media.pictures(tmp_path)] == [1, 2, 9, 10]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.flv").write_bytes(b"this is no video at all")
    (tmp_path / "a.wav").write_bytes(b"this is no sound at all")
    for read in (media.frames, media.waveform):
        with pytest.raises(ValueError, match=r"a\.flv: no .* can be decoded"):
            read(tmp_path / "a.flv")
    with pytest.raises(ValueError, match=r"a\.wav: no sound can be read"):
        media.waveform(tmp_path / "a.wav")
    soundfile.write(tmp_path / "b.wav", np.zeros(0), 16_000)
    with pytest.raises(ValueError, match=r"b\.wav holds no sound"):
        media.waveform(tmp_path / "b.wav")
    write_video(tmp_path / "c.mp4", [plain(0)] * 5)
    with pytest.raises(ValueError, match=r"c\.mp4: no audio can be decoded \(it has no audio stream"):
        media.waveform(tmp_path / "c.mp4")
    with pytest.raises(ValueError, match=r"c\.mp4 shows nothing at 9 s"):
        media.frames(tmp_path / "c.mp4", start=9)
    with pytest.raises(ValueError, match="are none"):
        media.frames(tmp_path / "c.mp4", start=3, end=2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no picture"):
        media.pictures(tmp_path / "empty")


def test_a_truncated_video_is_refused_and_not_kept(tmp_path: Path) -> None:
    write_video(tmp_path / "a.flv", [plain(i // 10) for i in range(60)])
    raw = (tmp_path / "a.flv").read_bytes()
    (tmp_path / "a.flv").write_bytes(raw[: len(raw) // 2])
    for _ in range(2):
        with pytest.raises(ValueError, match=r"a\.flv: no video can be decoded \(Invalid data.*replace or remove"):
            media.frames(tmp_path / "a.flv")


def test_arrays_of_objects_are_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a\.npy is no NumPy file of numbers"):
        media.array(tmp_path / "a.npy")


def test_tokens(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.array([[30_521, 7, 0]]))
    np.save(tmp_path / "p.npy", np.array([[0.0, 0.0, 1.0]], np.float32))
    ids, padding = media.tokens(tmp_path / "t.npy", tmp_path / "p.npy")
    assert ids.tolist() == [30_521, 7, 0] and padding.tolist() == [0, 0, 1] and str(ids.dtype) == "torch.int64"
    np.save(tmp_path / "p.npy", np.zeros((1, 2), np.float32))
    with pytest.raises(ValueError, match=r"3 tokens and p\.npy 2 marks"):
        media.tokens(tmp_path / "t.npy", tmp_path / "p.npy")


def test_what_these_tests_write_is_what_it_says(tmp_path: Path) -> None:
    for name, codec in (("a.flv", "flv"), ("a.avi", "mpeg4"), ("a.mp4", "mpeg4")):
        write_video(tmp_path / name, [plain(0)] * 3)
        with av.open(str(tmp_path / name)) as container:
            assert container.streams.video[0].codec_context.name == codec
