"""Numbers for disentanglement, where the answer is known."""

from __future__ import annotations

import pytest
import torch

from xmodal_lib.disentangling import _correlation, across_items, probes, within_items
from xmodal_lib.methods import GTL
from xmodal_lib.methods.gtl_choice import choose_domains
from xmodal_lib.synthetic import World, recovered, world

SMALL = GTL(concept=8, disturbance=4, domains=6, hidden=48, base_epochs=12, base_decay_at=(9,), epochs=12,
            decay_at=(9,), lr=3e-3, dropout=0.1, warmup=1)  # fmt: skip


@pytest.fixture(scope="module")
def made() -> World:
    return world(2, rows=(30, 20))


@pytest.fixture(scope="module")
def fitted(made: World) -> GTL:
    return SMALL.pretrain(made.base).fit(made.novel)


def test_the_class_is_read_from_the_concept_and_not_from_noise(made: World, fitted: GTL) -> None:
    table = probes(fitted, made.novel).set_index(["latent", "of"])
    assert set(table.index.get_level_values("latent")) == {"concept", "disturbance", "estimate"}
    assert table.loc[("concept", "class"), "accuracy"] > 3 * table.loc[("concept", "class"), "chance"]
    assert table.loc[("concept", "modality"), "chance"] == 0.5
    without = probes(SMALL.__class__(**{f: getattr(SMALL, f) for f in ("concept", "disturbance", "hidden")}, domains=0,
                                     base_epochs=1).pretrain(made.base), made.novel)  # fmt: skip
    silent = without.set_index(["latent", "of"]).loc[("estimate", "modality"), "accuracy"]
    assert silent == pytest.approx(0.5, abs=0.05)  # zeros say nothing


def test_one_modality_has_no_modality_to_probe(made: World, fitted: GTL) -> None:
    assert set(probes(fitted, made.novel.only("image"))["of"]) == {"class"}


def test_dependence_across_items_is_high_for_a_copy(made: World, fitted: GTL) -> None:
    z = fitted.posterior(made.novel)["image"].concept
    assert recovered(z, z @ torch.randn(8, 4, generator=torch.Generator().manual_seed(0))) > 0.99
    assert set(across_items(fitted, made.novel)["modality"]) == {"image", "sketch"}


def test_the_weighted_correlation_against_a_loop() -> None:
    rng = torch.Generator().manual_seed(0)
    w = torch.rand(50, 2, generator=rng).softmax(0)
    a, b = torch.randn(50, 2, 3, generator=rng), torch.randn(50, 2, 2, generator=rng)
    found = _correlation(w, a, b)
    for n in range(2):
        for p in range(3):
            for q in range(2):
                pair = torch.stack([a[:, n, p], b[:, n, q]]).double()
                by_hand = torch.cov(pair, aweights=w[:, n].double(), correction=0)
                expected = by_hand[0, 1] / (by_hand[0, 0] * by_hand[1, 1]).sqrt()
                assert float(found[n, p, q]) == pytest.approx(float(expected), abs=1e-5)


def test_within_items_is_a_number_between_0_and_1(made: World, fitted: GTL) -> None:
    found = within_items(fitted, made.novel, samples=64)
    for m, table in made.novel.rows.items():
        assert found[m].shape == (len(table),)
        assert (found[m] >= 0).all() and (found[m] <= 1.01).all()


def test_the_number_of_domains_with_the_highest_bound_is_chosen(made: World) -> None:
    method, table = choose_domains(SMALL, made.base, (0, 4))
    assert method.domains == table.sort_values("bound")["domains"].iloc[-1]
    assert table["used"].tolist()[0] == 0 and 1 <= table["used"].tolist()[1] <= 4
    assert (table["error"] > 0).all()
