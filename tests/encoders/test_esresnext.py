"""AudioCLIP's net for sounds: each part against its formula, and weights by the names of the release."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_faults import Hostile
from xmodal_lib.encoders.audioclip import in_batches
from xmodal_lib.encoders.esresnext import FRAME, HOP, LENGTH, ESResNeXt, Wavelets, audioclip_net, frames
from xmodal_lib.training import seeded


@pytest.fixture(scope="module")
def net() -> ESResNeXt:
    with seeded(0):
        return ESResNeXt(width=8).eval()


def test_wavelets_are_those_of_the_formula() -> None:
    made = Wavelets(6)
    m, b, c = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.7]), np.array([1, 1.2, 0.7, 2, 3, 1]), np.arange(6) + 0.3
    made.load_state_dict({k: torch.tensor(v).float() for k, v in {"m": m, "fb": b, "fc": c}.items()})
    t = np.pi * np.linspace(-1, 1, LENGTH) + 1e-8
    slow = np.empty((6, LENGTH), complex)
    for k in range(6):
        at = b[k] * t / (m[k] + 1e-8)
        slow[k] = np.sqrt(b[k]) * (np.sin(at) / at + 0j) ** m[k] * np.exp(-1j * c[k] * t) / np.sqrt(LENGTH)
    assert np.allclose(made.wavelets().detach().numpy(), slow, atol=2e-4)
    x = torch.randn(2, 3, FRAME)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (197, 197)))
    assert np.allclose(made(x).detach().numpy(), padded @ slow.T, atol=5e-2)


@given(st.integers(1, 3 * FRAME))
@settings(max_examples=40, deadline=None)
def test_frames_hold_every_sample(samples: int) -> None:
    x = 1 + torch.arange(samples, dtype=torch.float32)
    cut = frames(x.unsqueeze(0))[0]
    assert set(x.tolist()) <= set(cut.flatten().tolist())
    assert cut.shape[1] == FRAME and all(torch.equal(a[HOP:], b[:-HOP]) for a, b in itertools.pairwise(cut))
    assert len(cut) == 1 or (len(cut) - 2) * HOP + FRAME < samples  # one frame fewer would not do


def test_sounds_as_the_script_gave_them_are_90_decibels_too_low(net: ESResNeXt) -> None:
    x = 0.1 * torch.randn(1, 22_050, generator=torch.Generator().manual_seed(0))
    low = ESResNeXt(width=8, gain=1.0)
    low.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert net.decibels(x).shape == (1, 3, 341, 1 + -(-(22_050 - FRAME) // HOP))
        apart = net.decibels(x) - low.decibels(x)
    assert apart.median().item() == pytest.approx(20 * np.log10(32_768), abs=0.5)
    assert torch.isfinite(net.decibels(torch.zeros(1, 2_000))).all()


def test_attention_weighs_what_a_stage_gives(net: ESResNeXt) -> None:
    x = torch.randn(2, 64, 12, 10)
    with torch.no_grad():
        factor = net.att1(x, (6, 5))
        slow = torch.nn.functional.max_pool2d(x, 2)  # the sizes divide
        slow = net.att1.bn(net.att1.conv_point(net.att1.conv_depth(slow))).sigmoid()
    assert factor.shape == (2, 256, 6, 5) and torch.allclose(factor, slow, atol=1e-6)


def test_weights_of_the_release_by_their_names(tmp_path: Path) -> None:
    with seeded(1):
        source = ESResNeXt()
    names = {f"audio.{name}": value for name, value in source.state_dict().items()}
    content = names | {"visual.conv1.weight": torch.zeros(2), "logit_scale_ai": torch.ones([])}
    torch.save(content | {"audio.fbsp.bias": torch.zeros(0)}, tmp_path / "AudioCLIP.pt")
    net = audioclip_net(tmp_path / "AudioCLIP.pt")
    x = 0.1 * torch.randn(3, 6_000)
    assert torch.equal(in_batches(net, x), in_batches(source, x)) and not net.training
    two = [in_batches(net, part, mode="batch")[0] for part in (x[:2], x[[0, 2]])]
    assert not torch.allclose(*two)  # by batches a clip's row depends on the other clip
    del content["audio.fc.bias"]
    torch.save(content, tmp_path / "AudioCLIP.pt")
    with pytest.raises(ValueError, match=r"does not fit this ESResNeXt: 1 missing: fc\.bias"):
        audioclip_net(tmp_path / "AudioCLIP.pt")
    torch.save({"audio.fc.bias": Hostile(tmp_path / "was run")}, tmp_path / "AudioCLIP.pt")
    with pytest.raises(ValueError):
        audioclip_net(tmp_path / "AudioCLIP.pt")
    assert not (tmp_path / "was run").exists()
