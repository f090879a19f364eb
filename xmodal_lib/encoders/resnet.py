"""ResNet-18 without its classifier, for spectrograms, pictures and clips: the encoder of the audio-visual experiments.

>>> encoders = {"audio": ResNet18(channels=1), "visual": ResNet18()}   # (b, 1024, 128) and (b, 3, T, 224, 224) -> 512
"""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn

from xmodal_lib.encoders.small import not_pretrained

M = TypeVar("M", bound=nn.Module)


class ResNet18(nn.Module):
    """(b, H, W), (b, channels, H, W) or clips (b, channels, T, H, W) -> (b, 512), the mean over places and frames.

    Starts from random weights, never from ImageNet's. Source: released code of Peng et al., CVPR 2022, and Zhang et
    al., CVPR 2024.

    Raises:
        ValueError: an input has another number of channels, or of dimensions.
    """

    width = 512

    def __init__(self, channels: int = 3) -> None:
        from torchvision.models import resnet18

        super().__init__()
        self.channels = channels
        self.net = resnet18()
        self.net.fc = nn.Identity()
        if channels != 3:
            self.net.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        initialise(self)

    def reset_parameters(self) -> None:
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(1) if x.ndim == 3 else x  # (b, H, W): one channel
        if x.ndim not in (4, 5) or x.shape[1] != self.channels:
            raise ValueError(f"this ResNet18 takes (b, {self.channels}, H, W) or (b, {self.channels}, T, H, W); "
                             f"it was given {tuple(x.shape)}")  # fmt: skip
        if x.ndim == 4:
            return self.net(x)  # (b, 512, H / 32, W / 32) -> (b, 512)
        b, c, t, h, w = x.shape
        frames = x.transpose(1, 2).reshape(b * t, c, h, w)
        return self.net(frames).view(b, t, self.width).mean(1)  # frames are of one size: the mean over all places


def initialise(module: M) -> M:
    """Initial weights of the released code, in place, from the global random state; returns the module.

    Linear: Xavier-normal, bias 0. Convolution: Kaiming-normal over the fan-out, bias 0. Batch norm: 1 and 0, its
    statistics forgotten. Parts with `pretrained = True` stay.
    """
    for part in not_pretrained(module):
        if isinstance(part, nn.Linear):
            nn.init.xavier_normal_(part.weight)
        elif isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.reset_parameters()
        if isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) and part.bias is not None:
            nn.init.zeros_(part.bias)
    return module
