"""AudioCLIP's net for sounds, ESResNeXt-fbsp: a ResNeXt-50 with attention, on a spectrogram by learnt wavelets.

>>> net = audioclip_net("AudioCLIP-Partial-Training.pt")        # sounds (b, T) at 44.1 kHz -> (b, 1024)

Frame by frame, the sound meets complex frequency B-spline wavelets, one for each of n = 1025 frequencies,

    w_k(t) = sqrt(b_k) sinc(b_k t / m_k)^(m_k) exp(-i c_k t) / sqrt(2048),   t in -pi..pi, sinc x = sin x / x

with the order m_k, the bandwidth b_k and the centre c_k learnt from 0, 1 and k: at first, nearly a short-time Fourier
transform. Its power in decibels, in three bands of 341 frequencies, is the three-channel picture that the ResNeXt sees.
Beside each of its stages stands an attention: what the stage was given, made as small as what it gives, by two
convolutions to a factor in 0..1 for each number.

Source: Guzhov et al., ICPR 2021 (arXiv 2104.11587) and AudioCLIP, ICASSP 2022 (arXiv 2106.13043); sizes, names of the
weights and the order of operations by their public code (MIT). No weights were at hand: each part is tested against its
formula, and that a file with names of that form is read.
"""

from __future__ import annotations

import math
import os

import torch
import torch.nn.functional as F
from scipy.signal import get_window
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from xmodal_lib.encoders.masked import load_checkpoint

FRAME, HOP, LENGTH = 1654, 561, 2048  # samples of a frame, from one to the next, and after zeros on both sides
INT16 = 32_768.0
SILENT = 1e-18  # power of what has none, so that there is a logarithm


def audioclip_net(path: str | os.PathLike, *, gain: float = INT16) -> ESResNeXt:
    """The net with the weights of a local file of AudioCLIP's release (no code in it is run), in evaluation mode.

    `gain` multiplies the sounds, which are in -1..1. AudioCLIP's own data sets give the net 16-bit numbers, as 32768
    does. Its demonstration, and the script of Lin et al. made from it, leave them in -1..1 (`gain=1`), 90 dB lower:
    that may be why they saw poor features in evaluation mode, but could not be checked without the weights.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it does not hold these weights.
    """
    return load_checkpoint(ESResNeXt(gain=gain), path, _own_name).eval()


def _own_name(name: str) -> str | None:
    """ "audio.conv1.weight" -> "conv1.weight"; the towers for pictures and text, and an empty bias, are left out."""
    own = name.removeprefix("audio.")
    return own if own != name and own != "fbsp.bias" else None


class ESResNeXt(ResNet):
    """Sounds (b, T) in -1..1 at 44.1 kHz -> (b, width)."""

    def __init__(self, width: int = 1024, gain: float = INT16) -> None:
        super().__init__(Bottleneck, [3, 4, 6, 3], num_classes=width, groups=32, width_per_group=4)
        self.gain = gain
        self.fbsp = Wavelets(LENGTH // 2 + 1)
        self.register_buffer("window", torch.from_numpy(get_window("blackmanharris", FRAME)).float())
        self.att1, self.att2 = Attention(64, 256, (3, 1)), Attention(256, 512, (1, 5))
        self.att3, self.att4 = Attention(512, 1024, (3, 1)), Attention(1024, 2048, (1, 5))
        self.att5 = Attention(2048, 2048, (3, 5))

    def forward(self, x: Tensor) -> Tensor:
        z = self.maxpool(self.relu(self.bn1(self.conv1(self.decibels(x)))))
        stages = (self.layer1, self.layer2, self.layer3, self.layer4, self.avgpool)
        for stage, attention in zip(stages, (self.att1, self.att2, self.att3, self.att4, self.att5), strict=True):
            made = stage(z)
            z = made * attention(z, made.shape[-2:])
        return self.fc(z.flatten(1))

    def decibels(self, x: Tensor) -> Tensor:
        """(b, T) -> (b, 3, 341, frames): the power of three bands of frequencies."""
        level = (self.gain * x + INT16) * 2 / (2 * INT16 - 1) - 1  # -32768..32767 -> -1..1
        power = self.fbsp(frames(level) * self.window).abs().square().transpose(1, 2)  # (b, n, frames)
        bands = power[:, : 3 * (power.shape[1] // 3)].unflatten(1, (3, -1))
        return 10 * torch.where(bands > 0, bands, SILENT).log10()


def frames(x: Tensor) -> Tensor:
    """(b, T) -> (b, number, FRAME), with zeros before and after so that the frames hold all of it."""
    number = 1 + max(0, math.ceil((x.shape[-1] - FRAME) / HOP))
    lacking = max(0, (number - 1) * HOP + FRAME - x.shape[-1])
    return F.pad(x, (lacking // 2, lacking - lacking // 2)).unfold(-1, FRAME, HOP)


class Wavelets(nn.Module):
    """Frames (b, number, FRAME) -> their products with n wavelets of LENGTH samples, complex (b, number, n)."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.m, self.fb = nn.Parameter(torch.zeros(n)), nn.Parameter(torch.ones(n))
        self.fc = nn.Parameter(torch.arange(n).float())

    def forward(self, x: Tensor) -> Tensor:
        aside = LENGTH - x.shape[-1]
        x = F.pad(x, (aside // 2, aside - aside // 2))
        w = self.wavelets()
        return torch.complex(x @ w.real.T, x @ w.imag.T)

    def wavelets(self) -> Tensor:
        """(n, LENGTH), complex. A negative number to the power m has m times the angle pi."""
        m, fb, fc = (p.unsqueeze(1) for p in (self.m, self.fb, self.fc))
        t = math.pi * torch.linspace(-1, 1, LENGTH, device=m.device) + 1e-8
        at = fb * t / (m + 1e-8)
        sinc = torch.where(at == 0, 1.0, at.sin() / at)
        window = torch.polar(sinc.abs() ** m, m * torch.where(sinc < 0, math.pi, 0.0))
        return fb.sqrt() * window * torch.polar(torch.ones_like(fc), -fc * t) / math.sqrt(LENGTH)


class Attention(nn.Module):
    """What a stage was given (b, c, h, w), made of a size -> factors (b, d, *size) in 0..1."""

    def __init__(self, given: int, made: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.conv_depth = nn.Conv2d(given, given, kernel, padding=(kernel[0] // 2, kernel[1] // 2), groups=given)
        self.conv_point = nn.Conv2d(given, made, 1)
        self.bn = nn.BatchNorm2d(made)

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        return self.bn(self.conv_point(self.conv_depth(F.adaptive_max_pool2d(x, size)))).sigmoid()
