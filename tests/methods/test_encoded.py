"""How encoders start, stand still, learn and answer, in both families that train them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.methods.test_croma import FAST, SIZES, net, novel, pairs_of
from xmodal_lib.methods.croma import CroMA
from xmodal_lib.methods.croma_baselines import FromScratch, Oracle, SharedAlign
from xmodal_lib.methods.encoded import InTraining, embed, learnt_state, restore_state
from xmodal_lib.methods.joint import Joint
from xmodal_lib.methods.mla import MLA
from xmodal_lib.methods.multimodal import Multimodal


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


def trunk(d_in: int, dropout: float = 0.0) -> nn.Sequential:
    """Frozen, with statistics that are not those of the rows."""
    made = nn.Sequential(nn.Linear(d_in, 8), nn.BatchNorm1d(8), nn.Dropout(dropout), nn.Linear(8, 6))
    nn.init.constant_(made[1].running_mean, 0.3)
    return made.requires_grad_(False)


# -- frozen parts under meta-training ----------------------------------------------------------------------------


@pytest.mark.parametrize("classify", ["head", "head and encoder"])
@pytest.mark.parametrize("outer", ["sgd", "adam"])
def test_a_frozen_trunk_keeps_weights_and_statistics_and_its_dropout_is_off(outer: str, classify: str) -> None:
    """Under a tail that learns, in meta-training and in few-shot learning, with encoders that start anew."""
    episode, answers = novel(), []
    for dropout in (0.9, 0.0):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            given = {m: nn.Sequential(trunk(n, dropout), nn.Linear(6, 6)) for m, n in SIZES.items()}
        trained = CroMA(encoders=given, outer=outer, classify=classify, **FAST).pretrain(pairs_of())
        fitted = trained.fit(episode.support)
        for method in (trained, fitted):
            for m, whole in given.items():
                assert same(method.encoders_[m][0].state_dict(), whole[0].state_dict())
                assert not torch.equal(method.encoders_[m][1].weight, whole[1].weight)
        assert not torch.equal(fitted.encoders_["image"][1].weight, trained.encoders_["image"][1].weight)
        answers.append(fitted.proba(episode.query))
    assert torch.equal(*answers)


def test_a_source_encoder_that_is_frozen_whole_stays_and_the_target_is_aligned_to_it() -> None:
    given = {"text": trunk(SIZES["text"]), "image": net(SIZES["image"])}
    trained = CroMA(encoders=given, **FAST).pretrain(pairs_of())
    assert same(trained.encoders_["text"].state_dict(), given["text"].state_dict())
    assert (trained.history_.query("part == 'align'").moved > 0).all()


def test_what_says_pretrained_keeps_its_weights_at_the_start_and_then_learns() -> None:
    given = {m: net(n) for m, n in SIZES.items()}
    given["image"].pretrained = True
    still, moved = (CroMA(encoders=given, **(FAST | {"iterations": n})).pretrain(pairs_of()) for n in (0, 3))
    assert same(still.encoders_["image"].state_dict(), given["image"].state_dict())
    assert not torch.equal(still.encoders_["text"][0].weight, given["text"][0].weight)
    assert not torch.equal(moved.encoders_["image"][0].weight, given["image"][0].weight)


# -- the start ---------------------------------------------------------------------------------------------------


def test_an_encoder_starts_alike_in_every_method_of_a_seed() -> None:
    base, given = pairs_of(), {m: net(n) for m, n in SIZES.items()}
    none = FAST | {"iterations": 0, "steps": 0, "seed": 4}
    starts = [
        CroMA(encoders=given, **none).pretrain(base),
        Oracle(encoders=given, **none).pretrain(base),  # uses the target alone
        FromScratch(encoders=given, **none).fit(novel().support),
        CroMA(encoders=given, source="image", target="text", **none).pretrain(base),
        Joint(given, seed=4).begin(base),
    ]
    first = starts[0].encoders_["image"].state_dict()
    assert all(same(method.encoders_["image"].state_dict(), first) for method in starts[1:])
    other = CroMA(encoders=given, **(none | {"seed": 5})).pretrain(base)
    assert not torch.equal(other.encoders_["image"][0].weight, first["0.weight"])


def test_two_like_encoders_and_a_trunk_start_from_weights_of_their_own() -> None:
    base = pairs_of()
    square = replace(base, rows={m: replace(t, x=t.x[:, :6]) for m, t in base.rows.items()})
    given = {name: nn.Linear(6, 6) for name in ("text", "image", "trunk")}
    method = SharedAlign(encoders=given, **(FAST | {"iterations": 0})).pretrain(square)
    text, image = (method.encoders_[m] for m in SIZES)
    assert text[1] is image[1]
    weights = [text[0].weight, image[0].weight, text[1].weight]
    assert not any(torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])


# -- what an encoder must give -----------------------------------------------------------------------------------


class Flat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(1)


WRONG = {
    "one number a row": (Flat(), r"encoder of 'image' must give rows \(b, D\) of numbers; it gives torch.float32 of "
                                 r"shape \(2,\)"),
    "a map a row": (nn.Unflatten(1, (4, 5)), r"must give rows \(b, D\) of numbers; .* of shape \(2, 4, 5\)"),
    "another width": (nn.Linear(7, 6), r"'image' cannot take rows of torch.float32 and shape \(20,\): mat1 and mat2"),
    "another dtype": (nn.Linear(20, 6).double(), "'image' cannot take rows of torch.float32"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_an_encoder_that_will_not_do_is_named_before_training(case: str) -> None:
    encoder, message = WRONG[case]
    given = {"text": net(SIZES["text"]), "image": nn.Sequential(encoder)}
    for name, begin in {
        "CroMA": lambda: CroMA(encoders=given, **FAST).pretrain(pairs_of()),
        "FromScratch": lambda: FromScratch(encoders=given, **FAST).fit(novel().support),
        "MLA": lambda: MLA(given).begin(pairs_of()),
    }.items():
        with pytest.raises(ValueError, match=message) as error:
            begin()
        assert str(error.value).startswith(f"{name}: the encoder of 'image'") and "\n" not in str(error.value)


# -- modes -------------------------------------------------------------------------------------------------------


class Stubborn(nn.BatchNorm1d):
    """Never in training mode, as detectors have it."""

    def train(self, mode: bool = True) -> Stubborn:
        return super().train(False)


@pytest.mark.parametrize("between", ["nothing", "eval of all", "eval of a shared part", "train of all"])
def test_a_mode_is_right_whatever_happened_in_between(between: str) -> None:
    frozen, shared = trunk(4), nn.BatchNorm1d(6)
    encoder = nn.Sequential(frozen, shared, Stubborn(6))
    learner, x = InTraining(encoder), torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    learner(x)
    if between == "eval of all":
        embed(encoder, x)
    elif between == "eval of a shared part":
        shared.eval()
    elif between == "train of all":
        encoder.train()
    learner(x)
    assert encoder.training and shared.training and not encoder[2].training
    assert not any(part.training for part in frozen.modules())
    assert shared.num_batches_tracked == 2 and encoder[2].num_batches_tracked == 0
    learner(x[:1])
    assert not shared.training and shared.num_batches_tracked == 2


def test_a_copy_of_a_learner_learns_with_its_own_encoder() -> None:
    encoder = nn.Sequential(nn.BatchNorm1d(4))
    held = nn.Module()
    held.encoder, held.learner = encoder, InTraining(encoder)
    other = copy.deepcopy(held)
    other.learner(torch.randn(5, 4))
    assert other.encoder[0].num_batches_tracked == 1 and encoder[0].num_batches_tracked == 0


# -- what is kept of the best epoch ------------------------------------------------------------------------------


def test_a_kept_state_leaves_out_what_is_frozen_and_brings_back_the_rest() -> None:
    modules = [nn.Sequential(trunk(4), nn.Linear(6, 6), nn.BatchNorm1d(6)), nn.Linear(6, 2), trunk(4)]
    before, kept = copy.deepcopy(modules), learnt_state(modules)
    assert [sorted(state) for state in kept] == [
        ["1.bias", "1.weight", "2.bias", "2.num_batches_tracked", "2.running_mean", "2.running_var", "2.weight"],
        ["bias", "weight"],
        [],
    ]
    with torch.no_grad():
        for module in modules[:2]:
            for p in module.parameters():
                if p.requires_grad:
                    p += 1
        modules[0][2].running_mean += 1
    restore_state(modules, kept)
    assert all(same(a.state_dict(), b.state_dict()) for a, b in zip(modules, before, strict=True))


def test_a_fitted_method_holds_its_weights_apart_from_the_one_it_came_from() -> None:
    """Copies share what is only read: the encoders given; never what learns."""
    episode = novel()
    trained = CroMA(encoders={m: net(n) for m, n in SIZES.items()}, **FAST).pretrain(pairs_of())
    fitted = trained.fit(episode.support)
    joint = Joint({m: net(n) for m, n in SIZES.items()}, epochs=1, batch=8).fit(pairs_of())
    for first, second in ((trained, fitted), (joint, joint.fit(pairs_of(seed=3)))):
        assert isinstance(first, CroMA | Multimodal)
        own = {p.data_ptr() for part in (first.encoders_, first.head_) for p in part.parameters()}
        assert not own & {p.data_ptr() for part in (second.encoders_, second.head_) for p in part.parameters()}
        assert not own & {p.data_ptr() for encoder in first.encoders.values() for p in encoder.parameters()}
