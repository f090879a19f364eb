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
        i, f, g, o = (gate.unbind() for gate in gates.split(width, 2))
        both = gates[:, :, : 2 * width].unbind()  # i and f
        hs, cs, w = h.unbind(), c.unbind(), w_h.T
        for t, (here, tanh_c) in enumerate(zip(gates.unbind(), squashed.unbind(), strict=True)):
            if t:  # before the first step h is 0
                here.addmm_(hs[t], w)
            both[t].sigmoid_()
            g[t].tanh_()
            o[t].sigmoid_()
            torch.mul(i[t], g[t], out=cs[t + 1]).addcmul_(f[t], cs[t])
            torch.mul(o[t], torch.tanh(cs[t + 1], out=tanh_c), out=hs[t + 1])
        ctx.save_for_backward(rows, w_x, w_h, gates, h, c, squashed)
        return h[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:
        rows, w_x, w_h, gates, h, c, squashed = ctx.saved_tensors
        steps, b, width = squashed.shape
        i, f, g, o = gates.split(width, 2)
        by_h = torch.addcmul(o, h[1:], squashed, value=-1)  # dc / dh of one step: o (1 - tanh(c)^2)
        d_gates = torch.addcmul(gates, gates, gates, value=-1)  # s (1 - s), right for all but g
        d_i, d_f, d_g, d_o = d_gates.split(width, 2)
        d_i.mul_(g)
        d_f.mul_(c[:-1])
        torch.addcmul(i, i * g, g, value=-1, out=d_g)
        d_o.mul_(squashed)
        parts, ds, fs, dhs = d_gates.view(steps, b, 4, width), d_gates.unbind(), f.unbind(), dh.unbind()
        of_c, of_o, of_h = parts[:, :, :3].unbind(), parts[:, :, 3].unbind(), by_h.unbind()
        d_c = torch.zeros_like(c[0])
        for t in reversed(range(steps)):  # what each gate does to c or h, times what these do to the loss
            d_h = dhs[t] if t + 1 == steps else torch.addmm(dhs[t], ds[t + 1], w_h)
            if t + 1 < steps:
                d_c.mul_(fs[t + 1])
            d_c.addcmul_(d_h, of_h[t])
            of_c[t].mul_(d_c.unsqueeze(1))
            of_o[t].mul_(d_h)
        flat = d_gates.view(steps * b, 4 * width)
        d_x = (flat @ w_x).view(steps, b, -1).transpose(0, 1) if ctx.needs_input_grad[0] else None
        return d_x, flat.T @ rows, flat.T @ h[:-1].reshape(steps * b, width), flat.sum(0)
