import copy

import numpy as np
import pytest
import torch
from torch import nn

from xmodal_lib.encoders.encoder import Encoder, Lookup, digest_of


def lengths(items):
    return torch.tensor([[len(item), 1.0] for item in items])


def test_encoder_is_frozen_and_knows_its_width():
    encoder = Encoder("line", nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5)), lengths, sample="a", batch=2)
    assert encoder.width == (3,)
    assert not encoder.train().training and not any(p.requires_grad for p in encoder.parameters())
    assert torch.equal(encoder.encode(["ab", "c"]), encoder(encoder.prepare(["ab", "c"])))
    assert encoder.encode([]).shape == (0, 3)


@pytest.mark.parametrize("n", [1, 5, 6, 13])
def test_a_batch_is_always_full(n):
    seen = []

    class Counting(nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return x

    encoder = Encoder("counting", Counting(), lengths, sample="a", batch=6)
    seen.clear()
    items = np.array(["x" * i for i in range(n)], dtype=object)  # any sequence
    assert torch.equal(encoder.encode(items), lengths(items))
    assert set(seen) == {6}


def test_digest_follows_weights_mode_and_trunk():
    torch.manual_seed(0)
    first, second = nn.Linear(2, 3), nn.Linear(2, 3)
    encoder = Encoder("a", first, lengths, sample="a", mode="x")
    assert encoder.digest == Encoder("b", copy.deepcopy(first), lengths, sample="a", mode="x").digest
    others = [
        Encoder("a", second, lengths, sample="a", mode="x"),
        Encoder("a", first, lengths, sample="a", mode="y"),
        Encoder("a", first, lengths, sample="a", mode="x", float16=True),
        Encoder("a", first, lengths, sample="a", mode="x", batch=1),
        Encoder("a", nn.Identity(), trunk=encoder),
        Encoder("a", nn.Linear(3, 2), trunk=encoder),
    ]
    assert len({encoder.digest, *(other.digest for other in others)}) == 7


def test_head_on_a_trunk():
    trunk = Encoder("trunk", nn.Linear(2, 3), lengths, sample="a", batch=1)
    head = Encoder("head", nn.Linear(3, 5), trunk=trunk)
    assert head.width == (5,)
    assert torch.equal(head.encode(["abc"]), head.module(trunk.encode(["abc"])))
    with pytest.raises(ValueError, match="not both"):
        Encoder("head", nn.Identity())


def test_lookup_feeds_rows_by_number():
    data = torch.arange(12.0).view(4, 3)
    net = nn.Sequential(Lookup(data.__getitem__), nn.Linear(3, 2))
    assert torch.equal(net(torch.tensor([3, 0])), net[1](data[[3, 0]]))


def test_digest_of_half_precision_and_scalars():
    module = nn.BatchNorm1d(3)  # has a 0-d counter
    assert digest_of(module) != digest_of(module.to(torch.bfloat16))


def deferred(made=None):
    def make():
        if made is not None:
            made.append(1)
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5))

    return Encoder("late", make, lengths, sample="a", weights="seed 0", width=(3,))


def test_a_module_is_made_when_it_is_needed_and_once():
    made = []
    encoder = deferred(made)
    assert encoder.width == (3,) and not encoder.train().training and len(encoder.digest) == 64
    other = Encoder("late", nn.Identity, lengths, weights="other", width=(3,))
    assert encoder.digest == deferred().digest != other.digest
    head = Encoder("head", nn.Linear(3, 5), trunk=encoder)
    assert head.width == (5,) and not made
    state = torch.get_rng_state()
    x = encoder.encode(["ab"])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, encoder.encode(["ab"])) and made == [1]  # frozen: no dropout, no second module
    assert torch.equal(head.encode(["ab"]), head.module(x))


@pytest.mark.parametrize("use", [
    lambda e: [tuple(p.shape) for p in e.parameters()],
    lambda e: [name for name, _ in e.named_modules()],
    lambda e: list(e.state_dict()),
    lambda e: [p.dtype for p in e.to(torch.float64).parameters()],
    lambda e: list(copy.deepcopy(e).state_dict()),
    lambda e: next(iter(nn.Sequential(e).to(torch.float64).state_dict().values())).dtype,
])  # fmt: skip
def test_who_walks_over_modules_meets_one_that_was_not_made_yet(use):
    late = deferred()
    ready = Encoder("ready", copy.deepcopy(deferred().module), lengths, sample="a")
    assert use(late) == use(ready)
    assert not any(p.requires_grad for p in late.parameters())


def test_a_deferred_module_needs_its_digest_and_width():
    for told in ({}, {"weights": "w"}, {"width": (3,)}):
        with pytest.raises(ValueError, match="go together"):
            Encoder("late", lambda: nn.Identity(), lengths, sample="a", **told)
    with pytest.raises(ValueError, match="go together"):
        Encoder("ready", nn.Identity(), lengths, sample="a", weights="w", width=(2,))
