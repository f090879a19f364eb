"""Sound features clip by clip or by batches, and the file they are kept in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from xmodal_lib.encoders.audioclip import SAMPLES, five_seconds, in_batches, of_folds, read, write
from xmodal_lib.encoders.small import SpeechNet, reinitialise
from xmodal_lib.sources import catalogue
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Tables

NET = reinitialise(SpeechNet(8, bands=6, width=4), 1)
X = torch.randn(20, 6, 32, generator=torch.Generator().manual_seed(0))


class Loudness(nn.Module):
    """Sounds (b, T) -> (b, 4): their energy in four parts of the first half second, normalised by the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, waves: Tensor) -> Tensor:
        return self.norm(waves[:, :22_048].view(len(waves), 4, -1).square().mean(2))


@pytest.fixture(scope="module")
def sounds(written: dict[str, Path]) -> Source:
    return catalogue.load("esc50", written["esc50"])


def test_a_clip_sees_its_neighbours_in_batches_and_not_in_evaluation_mode() -> None:
    two = [torch.cat([X[:1], others]) for others in (X[1:10], X[10:19])]
    alone, together = ([in_batches(NET, x, mode=mode)[0] for x in two] for mode in ("eval", "batch"))
    assert torch.allclose(*alone, atol=1e-6)
    assert not torch.allclose(*together, atol=1e-2)
    assert torch.equal(in_batches(NET, X, mode="batch")[10:], in_batches(NET, X[10:], mode="batch"))  # tens


def test_the_net_stays_as_it_was() -> None:
    before = {name: value.clone() for name, value in NET.state_dict().items()}
    NET.train()
    in_batches(NET, X, mode="batch")
    assert NET.training and all(torch.equal(value, before[name]) for name, value in NET.state_dict().items())


def test_dropout_draws_nothing() -> None:
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Dropout(0.5))
    assert torch.equal(*(in_batches(net, X, mode="batch") for _ in range(2)))


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="no batch normalisation"):
        in_batches(nn.Flatten(), X, mode="batch")
    with pytest.raises(ValueError, match="mode='train'; there are 'eval' and 'batch'"):
        in_batches(NET, X, mode="train")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch=0; at least 1"):
        in_batches(NET, X, batch=0)


def test_folds_are_batched_in_the_order_of_the_table(sounds: Source, written: dict[str, Path]) -> None:
    found = of_folds(sounds, written["esc50"], Loudness(), mode="batch")
    frame = sounds.frame("audio").assign(pair=sounds.tables["audio"].pair.numpy())
    assert found.pair.tolist() == frame.sort_values("order")["pair"].tolist()  # the layout's table is sorted by fold
    assert torch.allclose(found.x.norm(dim=1), torch.ones(len(found.x)), atol=1e-5)
    names = frame.set_index("pair")["item"][found.pair[30:32].tolist()]
    waves = torch.stack([five_seconds(written["esc50"] / f"ESC-50-master/audio/{name}.wav") for name in names])
    two = nn.functional.normalize(in_batches(Loudness(), waves, mode="batch"), dim=1)
    own = of_folds(sounds, written["esc50"], Loudness(), mode="batch", batch=32).x  # 32 clips a fold: 30, 31 are last
    assert not torch.allclose(found.x, own, atol=1e-3) and torch.allclose(found.x[30:32], two, atol=1e-5)


def test_five_seconds_of_any_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([np.ones(8_000), np.zeros(8_000)], 1) * 0.5, 8_000)
    wave = five_seconds(tmp_path / "a.wav")
    assert wave.shape == (SAMPLES,) and wave[22_050] == pytest.approx(0.25, abs=0.01) and not wave[44_200:].any()
    soundfile.write(tmp_path / "b.wav", np.ones(300_000) * 0.5, 44_100)
    assert five_seconds(tmp_path / "b.wav").shape == (SAMPLES,)


def test_a_file_comes_back_by_file_names(sounds: Source, written: dict[str, Path], tmp_path: Path) -> None:
    made = of_folds(sounds, written["esc50"], Loudness())
    write(tmp_path / "f.pt", sounds, made)
    content = torch.load(tmp_path / "f.pt", weights_only=True)
    assert list(content) == [0, 1, 2, 3, 4] and set(content[0]) == {"features", "labels", "labelnames", "paths"}
    found, place = read(tmp_path / "f.pt", sounds), {p: k for k, p in enumerate(made.pair.tolist())}
    assert torch.equal(found.x, made.x[[place[p] for p in found.pair.tolist()]])
    assert torch.equal(found.y, sounds.tables["audio"].y)
    content[0]["paths"][0] = "data/esc-50/audio/other.wav"
    torch.save(content, tmp_path / "f.pt")
    with pytest.raises(ValueError, match="no features of 1 of 160 clips"):
        read(tmp_path / "f.pt", sounds)
    (tmp_path / "f.pt").write_bytes(b"x")
    with pytest.raises(ValueError, match="has not the form"):
        read(tmp_path / "f.pt", sounds)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "g.pt", Source("none", Tables({}, ()), {}, {}, "", ""))
