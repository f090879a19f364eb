"""An LSTM over the tokens of a text, as in the recipe experiment of CroMA, quick on one CPU thread in small batches.

>>> text = TokenLSTM(768, 128)                                                # (b, T, 768) -> (b, 128)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class TokenLSTM(nn.Module):
    """Tokens (b, T, d_in) -> (b, d): LSTM, the maximum over time, a linear layer.

    Source: Liang et al., ACM MM 2021 (arXiv 2012.02813), release: width 256, on the 768 numbers that BERT has for a
    token; the zeros behind the end of a text are read like tokens.
    """

    def __init__(self, d_in: int = 768, d: int = 128, width: int = 256) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(d_in, width, batch_first=True), nn.Linear(width, d)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return self.out(self.lstm(x)[0].amax(1))
        w_x, w_h, b_x, b_h = self.lstm.parameters()
        return self.out(_LSTM.apply(x, w_x, w_h, b_x + b_h).amax(0))


class _LSTM(torch.autograd.Function):
    """States of nn.LSTM, time first, with the same gradients: x (b, T, d), weights -> (T, b, H).

    A batch of eight texts is too small for the kernel behind nn.LSTM: it also computes the gradient of x, which here
    nobody asks for, and takes about 1.8 times as long. Weight gradients are one product over all steps.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_x: Tensor, w_h: Tensor, bias: Tensor) -> Tensor:
        b, steps, _ = x.shape
        width = w_h.shape[1]
        rows = x.transpose(0, 1).reshape(steps * b, -1)
        gates = torch.addmm(bias, rows, w_x.T).view(steps, b, 4 * width)  # input, forget, cell, output
        h, c = (x.new_zeros(steps + 1, b, width) for _ in range(2))  # [t] is the state before step t
        squashed = x.new_empty(steps, b, width)  # tanh c
        hs, cs = h.unbind(), c.unbind()
        for t, (here, tanh_c) in enumerate(zip(gates.unbind(), squashed.unbind(), strict=True)):
            here.addmm_(hs[t], w_h.T)
            here[:, : 2 * width].sigmoid_()
            here[:, 2 * width : 3 * width].tanh_()
            here[:, 3 * width :].sigmoid_()
            i, f, g, o = here.split(width, 1)
            torch.mul(i, g, out=cs[t + 1]).addcmul_(f, cs[t])
            torch.mul(o, torch.tanh(cs[t + 1], out=tanh_c), out=hs[t + 1])
        ctx.save_for_backward(rows, w_x, w_h, gates, h, c, squashed)
        return h[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:
        rows, w_x, w_h, gates, h, c, squashed = ctx.saved_tensors
        steps, b, width = squashed.shape
        i, f, g, o = gates.split(width, 2)
        by_h = o * (1 - squashed * squashed)  # dc / dh of one step
        by_c = torch.stack([g * i * (1 - i), c[:-1] * f * (1 - f), i * (1 - g * g)], 2)  # (T, b, 3, H), of gates
        by_o = squashed * o * (1 - o)
        d_gates = torch.empty_like(gates)
        parts, ds, fs, dhs = d_gates.view(steps, b, 4, width), d_gates.unbind(), f.unbind(), dh.unbind()
        into_c, into_o = parts[:, :, :3].unbind(), parts[:, :, 3].unbind()
        d_c = torch.zeros_like(c[0])
        for t, (of_h, of_c, of_o) in reversed(
            [*enumerate(zip(by_h.unbind(), by_c.unbind(), by_o.unbind(), strict=True))]
        ):
            d_h = torch.addmm(dhs[t], ds[t + 1], w_h) if t + 1 < steps else dhs[t]
            d_c = (d_c * fs[t + 1] if t + 1 < steps else d_c).addcmul(d_h, of_h)
            torch.mul(d_c.unsqueeze(1), of_c, out=into_c[t])
            torch.mul(d_h, of_o, out=into_o[t])
        flat = d_gates.view(steps * b, 4 * width)
        d_x = (flat @ w_x).view(steps, b, -1).transpose(0, 1) if ctx.needs_input_grad[0] else None
        return d_x, flat.T @ rows, flat.T @ h[:-1].reshape(steps * b, width), flat.sum(0)
