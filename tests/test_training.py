"""Grid search: the first of the best cells on validation, and nothing else; the seed of the global random state."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from tests.conftest import world
from xmodal_lib.methods import LinearProbe, NearestMean, method
from xmodal_lib.training import accuracy, flushing, search, seeded


def test_search_returns_the_first_of_the_best_cells() -> None:
    episode, choices = world(noise=0.9, seed=3), (("text",), ("image",), ("image", "text"), ("text", "image"))
    method = NearestMean()
    scores = [accuracy(replace(method, modalities=m).fit(episode.support), episode.val) for m in choices]
    assert len(set(scores)) > 1  # else any cell would do
    found = search(method, {"modalities": choices}, episode.support, episode.val)
    assert found.modalities == choices[scores.index(max(scores))]
    assert (accuracy(found, episode.val), method.modalities) == (max(scores), ("image",))


@pytest.mark.parametrize("seed", [0, 7, 2**40])
def test_a_seeded_block_draws_as_after_manual_seed_and_leaves_no_trace(seed: int) -> None:
    before = torch.get_rng_state()
    with seeded(seed, {torch.device("cpu")}):
        drawn = torch.rand(5)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(KeyError), seeded(seed):
        assert torch.equal(torch.rand(5), drawn)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        assert torch.equal(torch.rand(5), drawn)


def test_flushing_ends_with_its_block_whatever_happens_in_it() -> None:
    def kept() -> bool:
        return torch.tensor(1e-40).item() != 0

    assert kept()
    with pytest.raises(KeyError), flushing():
        assert not kept()
        with flushing():
            pass
        assert not kept()  # the inner block leaves it as the outer one had it
        raise KeyError
    assert kept()


def test_numbers_that_are_flushed_change_no_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    episode = world(noise=0.1, seed=3)
    probe = LinearProbe(iterations=100, init="", scale=300.0)  # so that many probabilities are denormal
    flushed = probe.fit(episode.support, episode.val)
    monkeypatch.setattr(method, "flushing", nullcontext)
    kept = probe.fit(episode.support, episode.val)
    odds = (300 * kept.embed(episode.query)["image"] @ kept.head_.T).softmax(1)
    assert ((odds > 0) & (odds < 1e-38)).any()
    assert torch.equal(flushed.head_, kept.head_)
