"""GTL against its formulas, against slow references, and on rows whose concept is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from xmodal_lib.methods import GTL
from xmodal_lib.methods.domains import Domains
from xmodal_lib.methods.gtl_losses import hard_triplet, kl_to_standard, log_normal, to_centres
from xmodal_lib.methods.gtl_nets import Classifier, Encoder, Generator
from xmodal_lib.synthetic import World, recovered, world
from xmodal_lib.tables import Table, Tables

SMALL = GTL(concept=8, disturbance=4, domains=6, hidden=48, base_epochs=12, base_decay_at=(9,), epochs=12,
            decay_at=(9,), lr=3e-3, dropout=0.1, warmup=1)  # fmt: skip


def numbers(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def few(tables: Tables, first: int, last: int) -> Tables:
    """Rows first..last-1 of each class, of each modality."""
    rows = {}
    for m, table in tables.rows.items():
        own = [(table.y == c).nonzero().squeeze(1)[first:last] for c in range(len(tables.classes))]
        rows[m] = table[torch.cat(own)]
    return Tables(rows, tables.classes)


@pytest.fixture(scope="module")
def made() -> World:
    return world(1, rows=(30, 20))


@pytest.fixture(scope="module")
def pretrained(made: World) -> GTL:
    return SMALL.pretrain(made.base)


# -- sizes -----------------------------------------------------------------------------------------------------

UNUSED = 1280 * 1280 + 1280  # a layer that the inferred code has and never calls


@pytest.mark.parametrize(("trunks", "domains", "count"), [(2, 128, 13_606_720), (2, 0, 2_948_800), (1, 0, 2_620_352)])
def test_as_many_parameters_as_the_inferred_variants(trunks: int, domains: int, count: int) -> None:
    estimator = Domains(1280, domains) if domains else None
    encoder = Encoder(1280, 128, 64, size=256, dropout=0.5, trunks=trunks, domains=estimator)
    classifier = Classifier(128, 1280, 61)
    found = numbers(encoder) + numbers(Generator(128, 64, 1280, 256)) + numbers(classifier.project)
    assert found + numbers(classifier.neck) + UNUSED == count
    assert numbers(classifier.linear) == 78_080
    assert numbers(Domains(1280)) == 10_657_920


# -- formulas ----------------------------------------------------------------------------------------------------


def test_the_divergence_is_zero_at_the_prior_and_equals_a_monte_carlo_estimate() -> None:
    assert kl_to_standard(torch.zeros(3, 5), torch.zeros(3, 5)).tolist() == [0.0] * 3
    rng = torch.Generator().manual_seed(0)
    mean, log = torch.randn(2, 4, generator=rng).double(), torch.randn(2, 4, generator=rng).double()
    z = mean + (log / 2).exp() * torch.randn(200_000, 2, 4, generator=rng, dtype=torch.float64)
    draws = log_normal(z, mean, log) - log_normal(z, torch.zeros_like(z))
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - kl_to_standard(mean, log)).abs() < 5 * error).all()


def test_the_elbo_is_below_the_importance_weighted_bound(made: World, pretrained: GTL) -> None:
    rows = made.base.only("image")
    elbo = torch.stack([replace_seed(pretrained, s).log_likelihood(rows)["image"].mean() for s in range(8)])
    tighter = torch.stack([replace_seed(pretrained, s).log_likelihood(rows, 16)["image"].mean() for s in range(8)])
    assert tighter.mean() > elbo.mean() + 3 * elbo.std()


def replace_seed(method: GTL, seed: int) -> GTL:
    other = replace(method)
    vars(other).update(vars(method) | {"seed": seed})
    return other


def test_the_mean_elbo_is_the_loss_that_is_minimised(made: World, pretrained: GTL) -> None:
    """Reconstruction and both divergences, from the posterior, equal to the drawn bound on average."""
    rows = made.base.only("image")
    q = pretrained.posterior(rows)["image"]
    kl = kl_to_standard(q.concept, q.concept_log) + kl_to_standard(q.disturbance, q.disturbance_log)
    drawn = torch.stack([replace_seed(pretrained, s).log_likelihood(rows)["image"] for s in range(200)])
    s = pretrained._standard(rows["image"].x)
    rng = torch.Generator().manual_seed(3)
    errors = []
    for _ in range(200):
        z = [m + (v / 2).exp() * torch.randn(m.shape, generator=rng)
             for m, v in ((q.concept, q.concept_log), (q.disturbance, q.disturbance_log))]  # fmt: skip
        errors.append((pretrained.nets_["generator"](*z).detach() - s).square().sum(1) / 2)
    constant = s.shape[1] * math.log(2 * math.pi) / 2
    by_hand = -(torch.stack(errors).mean(0) + kl + constant).mean()
    assert abs(float(drawn.mean() - by_hand)) < 0.1  # nats, of about -80


def test_hard_triplet_and_centres_against_loops() -> None:
    rng = torch.Generator().manual_seed(2)
    z, y = torch.randn(12, 5, generator=rng), torch.arange(12) % 3
    found = []
    for i in range(12):
        d = [float(1 - F.cosine_similarity(z[i], z[j], dim=0)) for j in range(12)]
        far = max(d[j] for j in range(12) if y[j] == y[i])
        near = min(d[j] for j in range(12) if y[j] != y[i])
        found.append(max(0.0, far - near + 0.3))
    assert float(hard_triplet(z, y)) == pytest.approx(sum(found) / 12, abs=1e-6)
    assert float(hard_triplet(z, torch.zeros(12, dtype=torch.long))) == 0
    centres = torch.randn(3, 5, generator=rng)
    by_hand = sum(float((z[i] - centres[y[i]]).square().sum()) for i in range(12)) / 24
    assert float(to_centres(z, y, centres)) == pytest.approx(by_hand, rel=1e-6)


# -- the two stages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["joint", "staged"])
def test_the_generator_stays_to_the_last_bit(made: World, pretrained: GTL, schedule: str) -> None:
    fitted = replace_fields(pretrained, schedule=schedule).fit(few(made.novel, 0, 2))
    before, after = pretrained.nets_["generator"].state_dict(), fitted.nets_["generator"].state_dict()
    assert before.keys() == after.keys() and any("running_var" in k for k in before)
    assert all(torch.equal(before[k], after[k]) for k in before)
    moved = pretrained.nets_["encoder"].state_dict()
    assert any(not torch.equal(moved[k], v) for k, v in fitted.nets_["encoder"].state_dict().items())


def replace_fields(method: GTL, **values: object) -> GTL:
    other = replace(method)
    vars(other).update(vars(method) | values)
    return other


@pytest.mark.parametrize("how", ["fine-tuned", "fresh"])
def test_or_it_learns(made: World, pretrained: GTL, how: str) -> None:
    fitted = replace_fields(pretrained, generator=how).fit(few(made.novel, 0, 2))
    before, after = pretrained.nets_["generator"].state_dict(), fitted.nets_["generator"].state_dict()
    assert not torch.equal(before["net.0.weight"], after["net.0.weight"])
    assert not torch.equal(before["net.1.running_mean"], after["net.1.running_mean"])


def test_with_the_classifier_alone_the_encoders_stay(made: World, pretrained: GTL) -> None:
    fitted = replace_fields(pretrained, tuned="classifier").fit(few(made.novel, 0, 2))
    before, after = pretrained.nets_["encoder"].state_dict(), fitted.nets_["encoder"].state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_rows_are_standardised_by_the_base_alone(made: World, pretrained: GTL) -> None:
    fitted = pretrained.fit(few(made.novel, 0, 2))
    torch.testing.assert_close(fitted.scale_["mean"], made.base["image"].x.mean(0))
    torch.testing.assert_close(fitted.scale_["deviation"], made.base["image"].x.std(0, unbiased=False))


@pytest.mark.parametrize(
    "fields", [{"kl": "coded"}, {"capacity": 5.0, "capacity_steps": 20}, {"triplet": 1.0, "centre": 0.01},
               {"domains": 0}, {"sampled": False}, {"gate": "softmax"}, {"trunks": 1}, {"weight_decay": 0.0}]
)  # fmt: skip
def test_every_variant_learns_more_than_chance(made: World, fields: dict) -> None:
    query = few(made.novel, 5, 20)
    fitted = replace(SMALL, epochs=30, decay_at=(25,), **fields).pretrain(made.base).fit(few(made.novel, 0, 5))
    assert (fitted.predict(query) == query.labels()).double().mean() > 0.4  # chance is 0.1
    assert fitted.history_["loss"].iloc[-1] < fitted.history_["loss"].iloc[0]


def test_base_training_recovers_the_concept_up_to_a_linear_map(made: World, pretrained: GTL) -> None:
    true, q = made.concept["base"]["image"], pretrained.posterior(made.base)["image"]
    assert recovered(q.concept, true) > 0.5
    assert recovered(q.disturbance, true) < 0.3
    assert recovered(torch.randn(len(true), 8, generator=torch.Generator().manual_seed(0)), true) < 0.05


def test_validation_chooses_the_epoch(made: World, pretrained: GTL) -> None:
    fitted = pretrained.fit(few(made.novel, 0, 2), few(made.novel, 2, 5))
    looked = fitted.history_["val_accuracy"].dropna()
    val = few(made.novel, 2, 5)
    assert len(looked) == 3 and looked.max() == float((fitted.predict(val) == val.labels()).double().mean())


def test_looking_at_val_does_not_change_what_is_learnt(made: World, pretrained: GTL) -> None:
    """Training goes on as before: dropout, and BatchNorm by batches."""
    method, support = replace_fields(pretrained, dropout=0.5), few(made.novel, 0, 2)
    alone, watched = method.fit(support), method.fit(support, few(made.novel, 2, 5))
    assert alone.history_["loss"].tolist() == watched.history_["loss"].tolist()


def test_a_trunk_learns_from_pixels() -> None:
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(4).repeat_interleave(12)
    pictures = torch.randn(4, 1, 8, 8, generator=rng)[y] + 0.3 * torch.randn(48, 1, 8, 8, generator=rng)
    tables = Tables({"image": Table(pictures, y, torch.arange(48))}, tuple("abcd"))
    net = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 32))
    method = replace(SMALL, encoders={"trunk": net}, epochs=40, decay_at=())
    fitted = method.pretrain(tables).fit(tables)
    assert fitted.widths_ == {"trunk": 32, "x": 64}
    assert (fitted.predict(tables) == y).double().mean() > 0.9
    assert fitted.generated(*fitted.posterior(tables)["image"][:3:2]).shape == (48, 64)


@pytest.mark.parametrize("schedule", ["joint", "staged"])
def test_frozen_parts_of_a_trunk_stay_in_both_stages(made: World, schedule: str) -> None:
    """Weights that are given, statistics that are not those of the rows; and dropout is off."""
    still = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Dropout(0.9)).requires_grad_(False)
    nn.init.constant_(still[1].running_mean, 0.3)
    tail, bias_only = nn.Linear(32, 32), nn.Linear(32, 32)
    bias_only.weight.requires_grad_(False)
    trunk = nn.Sequential(still, tail, bias_only)
    method = replace(SMALL, encoders={"trunk": trunk}, schedule=schedule, dropout=0.0, base_epochs=2, epochs=2)
    base = method.pretrain(made.base)
    for trained in (base, base.fit(few(made.novel, 0, 2))):
        found, given = trained.nets_["trunk"].state_dict(), trunk.state_dict()
        assert all(torch.equal(found[k], v) for k, v in given.items() if k.startswith("0."))
        assert not trained.nets_["trunk"][0][0].weight.requires_grad
        assert not trained.nets_["trunk"][2].weight.requires_grad and trained.nets_["trunk"][2].bias.requires_grad
        before = base.nets_["trunk"].state_dict() if trained is not base else None
        if before is not None:
            assert not torch.equal(found["1.weight"], before["1.weight"])
            assert torch.equal(found["2.weight"], before["2.weight"])
            assert not torch.equal(found["2.bias"], before["2.bias"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"generator": "thawed"}, "there are 'frozen'"), ({"trunks": 3}, "1 or 2 trunks"), ({"hidden": 0}, "at least 1")],
)
def test_impossible_fields(made: World, fields: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(SMALL, **fields).pretrain(made.base)


def test_rows_of_two_shapes(made: World) -> None:
    other = Table(torch.zeros(10, 3), torch.arange(10), torch.arange(10))
    with pytest.raises(ValueError, match=r"rows of one shape, and not image \(64,\), sketch \(3,\)"):
        SMALL.fit(Tables({"image": made.novel["image"], "sketch": other}, made.novel.classes))
