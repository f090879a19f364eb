import numpy as np
import torch

from xmodal_lib.sources import digits
from xmodal_lib.tables import class_means


def test_a_row_of_each_modality_shows_its_class():
    source = digits.load()
    assert {m: len(t) for m, t in source.tables.rows.items()} == {"image": 1797, "text": 50, "speech": 200}
    for modality, table in source.tables.rows.items():
        assert source.column(modality, "digit") == table.y.tolist()
        assert torch.equal(table.x, torch.arange(len(table)))
    assert len(source.tables.items()) == 1797 + 50 + 200  # nothing is paired
    assert source.open["text"](5) == "one"
    assert digits.load().digest == source.digest


def test_the_picture_is_the_scan_in_dark_ink():
    picture, (scans, _) = digits.open_image(3, size=8), digits._scans()
    assert picture.mode == "RGB" and digits.load().open["image"](3).size == (64, 64)
    assert np.abs(1 - np.asarray(picture)[..., 0] / 255 - scans[3]).max() < 0.01


def test_printed_numerals_recognise_handwriting():
    tables = digits.tables()
    image, text = tables["image"], tables["text"]
    assert image.x.shape == (1797, 64) and text.x.shape == (100, 64) and 0 <= text.x.min() <= text.x.max() <= 1
    means = torch.nn.functional.normalize(class_means(text.x, text.y, 10), dim=1)
    accuracy = ((image.x @ means.T).argmax(1) == image.y).float().mean()
    assert accuracy > 0.4  # chance 0.1


def test_the_spoken_word_is_a_waveform():
    source = digits.load()
    wave = source.open["speech"](100)
    assert wave.dtype == torch.float32 and wave.ndim == 1 and 0.2 * 16_000 < len(wave) < 3 * 16_000
    assert 0.02 < wave.abs().max() <= 1


def test_every_voice_is_known_and_another_voice_sounds_different():
    source = digits.load()
    waves = [source.open["speech"](i) for i in range(0, 20, 2)]  # "zero" by each voice
    assert len({tuple(wave[:4000].tolist()) for wave in waves}) == len(digits.VOICES)
