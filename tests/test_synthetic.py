"""The synthetic world: what is known of it is so."""

from __future__ import annotations

import pytest
import torch

from xmodal_lib.disentangling import identified
from xmodal_lib.methods.gtl_nets import Posterior
from xmodal_lib.synthetic import recovered, world


def test_rows_are_made_from_what_is_said() -> None:
    """Without noise the rows of a modality that is not turned follow from both latents, and from neither alone."""
    made = world(4, noise=0.0, width=32, classes=(6, 4), rows=(200, 10))
    x, z_c, z_m = made.base["image"].x, made.concept["base"]["image"], made.disturbance["base"]["image"]
    assert recovered(torch.atanh((x @ torch.linalg.pinv(_last(4, 32))).clamp(-0.9999, 0.9999)), z_c) > 0.9
    assert recovered(z_m, z_c) < 0.1  # concept and disturbance are independent
    assert recovered(torch.cat([z_c, z_m], 1), x) > recovered(z_c, x) + 0.05


def _last(seed: int, width: int) -> torch.Tensor:
    """The second layer of the net, drawn as the world draws it."""
    from xmodal_lib.training import generator

    rng = generator(seed, 7)
    torch.randn(12, 24, generator=rng), torch.randn(8, 24, generator=rng)
    return torch.randn(24, width, generator=rng) / 24**0.5


def test_a_shift_changes_the_later_modalities_alone() -> None:
    still, turned = world(2, rows=(5, 5)), world(2, rows=(5, 5), shift=1.0)
    assert torch.equal(still.base["image"].x, turned.base["image"].x)
    assert torch.equal(still.novel["image"].x, turned.novel["image"].x)
    assert torch.equal(still.concept["novel"]["sketch"], turned.concept["novel"]["sketch"])
    assert (still.novel["sketch"].x - turned.novel["sketch"].x).abs().mean() > 0.1


def test_episodes_and_the_truth_of_their_rows() -> None:
    made = world(5, modalities=("image", "sketch", "depth"), rows=(5, 12))
    first, second = made.episodes(shot=2, seed=3, number=2)
    for m in made.novel.modalities:
        assert first.support[m].y.bincount().tolist() == [2] * 10
        assert first.query[m].y.bincount().tolist() == [6] * 10
        assert not torch.equal(first.support[m].pair, second.support[m].pair)
        z_c, z_m = made.truth(first.query)[m]
        own = torch.isin(made.novel[m].pair, first.query[m].pair)
        assert torch.equal(z_c, made.concept["novel"][m][own]) and torch.equal(z_m, made.disturbance["novel"][m][own])
    assert torch.equal(made.truth(made.base, "base")["image"][0], made.concept["base"]["image"])


def test_identified_says_1_for_a_turned_copy_and_0_for_what_is_elsewhere() -> None:
    made = world(6, rows=(40, 30))
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0))).Q

    class Knows:
        def posterior(self, rows):
            none = torch.zeros(0)
            return {m: Posterior(c @ turn, none, d * 3, none, none, none, none)
                    for m, (c, d) in made.truth(rows).items()}  # fmt: skip

    found = identified(Knows(), made.novel, made.truth(made.novel))  # type: ignore[arg-type]
    assert found["R2 concept"] == pytest.approx(1, abs=1e-4) and found["R2 disturbance"] == pytest.approx(1, abs=1e-4)
    assert abs(found["R2 concept from disturbance"]) < 0.1 and abs(found["R2 disturbance from concept"]) < 0.1


def test_impossible_worlds() -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        world(shift=1.5)
    with pytest.raises(ValueError, match="at least 1"):
        world(domains=0)
