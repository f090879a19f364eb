"""The token LSTM against torch's own, value by value and gradient by gradient."""

import pytest
import torch
from torch import nn

from xmodal_lib.encoders.recurrent import TokenLSTM
from xmodal_lib.encoders.small import reinitialise


@pytest.mark.parametrize(("b", "steps", "d_in", "width"), [(4, 12, 10, 6), (1, 1, 3, 2), (8, 2, 5, 7)])
def test_it_is_nn_lstm(b: int, steps: int, d_in: int, width: int) -> None:
    torch.manual_seed(0)
    net, x = TokenLSTM(d_in, 5, width).double(), torch.randn(b, steps, d_in, dtype=torch.float64, requires_grad=True)
    ours, theirs = net(x), net.out(net.lstm(x)[0].amax(1))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)
    weight = torch.randn_like(ours)
    to = [x, *net.parameters()]
    for a, b_ in zip(*(torch.autograd.grad((z * weight).sum(), to) for z in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b_, rtol=0, atol=1e-12)


def test_every_state_may_be_asked_for() -> None:
    """Not only those with the maximum: the gradient reaches all steps."""
    from xmodal_lib.encoders.recurrent import _LSTM

    torch.manual_seed(1)
    lstm, x = nn.LSTM(4, 3, batch_first=True).double(), torch.randn(2, 6, 4, dtype=torch.float64)
    weights = list(lstm.parameters())
    ours = _LSTM.apply(x, weights[0], weights[1], weights[2] + weights[3]).transpose(0, 1)
    theirs = lstm(x)[0]
    scale = torch.randn_like(theirs)
    for a, b in zip(*(torch.autograd.grad((z * scale).sum(), weights) for z in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_it_starts_anew_by_seed_and_has_the_published_width() -> None:
    net = reinitialise(TokenLSTM(), 3)
    assert net(torch.zeros(2, 12, 768)).shape == (2, 128)
    assert sum(p.numel() for p in net.parameters()) == 4 * 256 * (768 + 256 + 2) + 257 * 128
    again = reinitialise(TokenLSTM(), 3)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), again.parameters(), strict=True))
