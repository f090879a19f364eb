"""Speech: the same words sound the same, voices differ, wrong names are refused."""

import os
import threading

import pytest
import torch

from xmodal_lib.sources import speech


def test_waveform():
    wave = speech.speak("polar bear", "en-us+f1")
    assert wave.dtype == torch.float32 and wave.ndim == 1
    assert 0.3 * speech.SAMPLE_RATE < len(wave) < 1.5 * speech.SAMPLE_RATE
    assert 0.1 < wave.abs().max() <= 1


@pytest.mark.parametrize("voice", ["en-us+f1", "en-gb-scotland+klatt2", "en-029+m2"])
def test_same_whatever_was_said_before(voice):
    first = speech.speak("violin", voice, 160, 40)
    speech.speak("a tiger crosses the river", "en-us+whisper", 300, 80)
    assert torch.equal(speech.speak("violin", voice, 160, 40), first)


def test_voice_rate_and_pitch_are_heard():
    plain = speech.speak("banana", "en-us+m3")
    assert len(speech.speak("banana", "en-us+m3", rate=300)) < 0.8 * len(plain)
    for other in (speech.speak("banana", "en-us+m3", pitch=80), speech.speak("banana", "en-us+f4")):
        assert other.shape != plain.shape or not torch.allclose(other, plain, atol=0.01)


@pytest.mark.parametrize("voice", ["en-gb", "xx", "en-us+nobody", "en-us+", "nowhere+f1"])
def test_unknown_voice_is_refused(voice):
    with pytest.raises(ValueError, match="no voice"):
        speech.speak("dog", voice)


@pytest.mark.parametrize(("rate", "pitch"), [(10, 50), (175, 101), (500, 0)])
def test_rate_and_pitch_out_of_range(rate, pitch):
    with pytest.raises(ValueError, match="needed"):
        speech.speak("dog", "en-us", rate, pitch)


def test_voices_are_split_whole():
    train, held_out = speech.TRAIN_VOICES, speech.HELD_OUT_VOICES
    assert {*train, *held_out} <= set(speech.voices())
    variants = [{voice.partition("+")[2] for voice in part} for part in (train, held_out)]
    assert not variants[0] & variants[1]


def test_every_listed_dialect_speaks():
    for voice in (v for v in speech.voices() if "+" not in v):
        assert len(speech.speak("dog", voice)) > 1000


def test_threads_take_turns():
    alone = [speech.speak("tree", voice) for voice in speech.TRAIN_VOICES]
    together: list = [None] * len(alone)

    def say(i: int) -> None:
        together[i] = speech.speak("tree", speech.TRAIN_VOICES[i])

    threads = [threading.Thread(target=say, args=(i,)) for i in range(len(alone))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # a forked process with threads: what is tested
def test_forked_child_speaks():
    expected = speech.speak("tree")
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(speech.speak("tree"), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("snr", [-10.0, 0.0, 20.0])
def test_noise_has_the_asked_power(snr):
    wave = speech.speak("hurricane")
    noisy = speech.add_noise(wave, snr, torch.Generator().manual_seed(0))
    found = 10 * torch.log10(wave.square().mean() / (noisy - wave).square().mean())
    assert found.item() == pytest.approx(snr, abs=0.3)
    assert torch.equal(noisy, speech.add_noise(wave, snr, torch.Generator().manual_seed(0)))


def test_variation_is_seeded():
    assert speech.variation(3) == speech.variation(3)
    assert len({speech.variation(seed) for seed in range(50)}) > 40
