"""Laws that every method obeys, tested once for each entry of METHODS."""

from __future__ import annotations

import copy
from dataclasses import fields, is_dataclass, replace

import pytest
import torch
from torch import nn

from tests.conftest import gappy, text_tower, world
from xmodal_lib.methods import METHODS, MLA, LinearProbe, Method, NotFitted, Prompting
from xmodal_lib.methods.croma_baselines import Reading
from xmodal_lib.methods.meta_transfer import MetaTransfer
from xmodal_lib.methods.multimodal import Multimodal
from xmodal_lib.tables import Tables

SMALL = {
    "linear probe": {
        "iterations": 60,
        "batch": 4,
        "grid": {"lr": (1e-2, 1e-3), "weight_decay": (0.0,), "batch": (4, 8)},
    },
    "adapter": {"iterations": 60, "batch": 4, "grid": {"lr": (1e-3,), "weight_decay": (0.0, 0.1), "batch": (4,)}},
    "partial finetuning": {
        "iterations": 60,
        "batch": 4,
        "grid": {"lr": (1e-3,), "weight_decay": (0.0,), "batch": (4,)},
    },
    "WiSE-FT": {
        "probe": LinearProbe(iterations=60, batch=4, grid={"lr": (1e-2,), "weight_decay": (0.0,), "batch": (4,)})
    },
    "GTL": {"modalities": ("image", "text"), "concept": 8, "disturbance": 4, "domains": 6, "hidden": 32, "lr": 0.01},
    **{name: {"modalities": ("image", "text")} for name in ("class means", "logistic regression", "cache")},
    **{name: {"tokens": 3, "per_class": True, "epochs": 25, "lr": 0.1} for name in ("prompting", "ProGrad")},
    **{name: {"epochs": 40} for name in ("ZS-LP", "CLAP")},
    "LP++": {"steps": 60},
    "L-BFGS path": {"path": (100.0, 1.0), "halvings": 2, "c": 100.0},
    "Tip-Adapter": {"grid": {"alpha": (0.5, 1.0), "beta": (1.0, 5.5)}},
    "Tip-Adapter-F": {"grid": {"alpha": (0.5, 1.0), "beta": (1.0, 5.5)}, "epochs": 3, "batch": 8},
}


def make(name: str) -> Method:
    """A small instance; the encoders have a BatchNorm whose statistics must stay."""
    given = SMALL.get(name, {})
    if issubclass(METHODS[name], Multimodal):
        nets = {m: nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16)) for m in ("image", "text")}
        given = {"encoders": nets, "modalities": ("image", "text"), "epochs": 12, "batch": 8, "lr": 0.1} | given
    if name == "partial finetuning":
        tail = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16)).eval()
        nn.init.eye_(tail[0].weight)
        given = given | {"encoders": {"image": tail}}
    if issubclass(METHODS[name], Prompting):
        given = {"encoders": {"prompt": text_tower()}} | given
    if issubclass(METHODS[name], MetaTransfer):
        nets = {m: nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16)) for m in ("image", "text", "trunk")}
        given = {"encoders": nets, "steps": 40, "lr": 0.01} | given
    if issubclass(METHODS[name], Reading):
        given = {"method": make("CroMA")} | given
    return METHODS[name](**given)


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Method:
    return make(request.param)


def state(method: Method) -> dict:
    encoders = getattr(method, "encoders", {})
    return {m: copy.deepcopy(e.state_dict()) for m, e in encoders.items()}


def test_is_a_dataclass_with_a_seed(method: Method) -> None:
    assert is_dataclass(method)
    assert "seed" in {f.name for f in fields(method)}


def test_a_second_fit_gives_the_same_and_forgets_the_first(method: Method, episode) -> None:
    other = world(seed=7)
    first = method.fit(episode.support, episode.val).proba(episode.query)
    again = method.fit(episode.support, episode.val).proba(episode.query)
    after_another = method.fit(other.support, other.val).fit(episode.support, episode.val).proba(episode.query)
    assert torch.equal(first, again)
    assert torch.equal(first, after_another)


def test_fit_leaves_its_method_and_encoders_alone(method: Method, episode) -> None:
    before, names = state(method), set(vars(method))
    method.fit(episode.support, episode.val)
    assert set(vars(method)) == names
    after = state(method)
    assert all(torch.equal(before[m][k], after[m][k]) for m in before for k in before[m])


def test_learnt_attributes_end_in_an_underscore(method: Method, episode) -> None:
    fitted = method.fit(episode.support, episode.val)
    assert all(name.endswith("_") for name in set(vars(fitted)) - set(vars(method)))


def test_proba_rows_sum_to_one(method: Method, episode) -> None:
    proba = method.fit(episode.support, episode.val).proba(episode.query)
    assert proba.shape == (len(episode.query.items()), len(episode.query.classes))
    torch.testing.assert_close(proba.sum(1), torch.ones(len(proba)))


def test_an_item_does_not_depend_on_its_batch_mates(method: Method, episode) -> None:
    fitted = method.fit(episode.support, episode.val)
    whole, items = fitted.proba(episode.query), episode.query.items()
    torch.testing.assert_close(fitted.proba(episode.query.take(items[3:5])), whole[3:5])


def test_rows_come_in_table_order(method: Method, episode) -> None:
    fitted = method.fit(episode.support, episode.val)
    order = torch.randperm(len(episode.query["image"]))
    shuffled = Tables({"image": episode.query["image"][order]}, episode.query.classes)
    for answer in (fitted.logits, fitted.embed):
        straight, mixed = answer(episode.query)["image"], answer(shuffled)["image"]
        assert len(straight) == len(episode.query["image"])
        torch.testing.assert_close(mixed, straight[order])


def test_labels_of_the_query_are_never_read(method: Method, episode) -> None:
    fitted = method.fit(episode.support, episode.val)
    assert torch.equal(fitted.proba(episode.query), fitted.proba(episode.query.withheld()))


def test_works_without_validation(method: Method, episode) -> None:
    accuracy = (method.fit(episode.support).predict(episode.query) == episode.query.labels()).float().mean()
    assert accuracy > 0.5  # chance is 0.2


def test_use_before_fit_says_so(method: Method, episode) -> None:
    with pytest.raises(NotFitted, match="call fit"):
        method.proba(episode.query)


def test_a_row_that_is_not_finite_is_refused(method: Method, episode) -> None:
    for modality in ("image", "text"):
        x = episode.support[modality].x.clone()
        x[3, 2] = float("nan")
        rows = {**episode.support.rows, modality: replace(episode.support[modality], x=x)}
        uses = modality in getattr(method, "modalities", ("text",)) or modality == getattr(method, "modality", "")
        if uses:
            with pytest.raises(FloatingPointError, match=f"{modality} row 3 is not finite"):
                method.fit(replace(episode.support, rows=rows))


def test_a_row_without_a_label_is_refused(method: Method, episode) -> None:
    """In the support, and in val, where it would pass for a wrong answer."""
    y = episode.val["image"].y.clone()
    y[4] = -1
    some = replace(episode.val, rows={**episode.val.rows, "image": replace(episode.val["image"], y=y)})
    for support, val, message in (
        (episode.support.withheld(), episode.val, r"(item|row) 0 has no label \(-1\)"),
        (episode.support, some, r"val: image row 4 has no label \(-1\)"),
        (episode.support, episode.val.withheld(), r"val: image row 0 has no label \(-1\)"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            method.fit(support, val)
        assert "\n" not in str(error.value)


def test_a_missing_modality_is_named(method: Method, episode) -> None:
    with pytest.raises(ValueError, match=r"learns from '(text|image)', but the support holds"):
        method.fit(Tables({"sketch": episode.support["image"]}, episode.support.classes))


# -- items of two rows: the answer goes through fusion ---------------------------------------------------------

FUSED = {name: {} for name, cls in METHODS.items() if issubclass(cls, Multimodal)} | {
    "joint, film": {"head": "film"},
    "joint, gated": {"head": "gated"},
    "MMPareto, own heads": {"joint": False},
}


def made(name: str, **fields) -> Multimodal:
    return replace(make(name.split(",")[0]), **FUSED[name], **fields)


@pytest.fixture(params=FUSED, scope="module")
def fitted(request: pytest.FixtureRequest) -> Multimodal:
    paired = gappy()
    return made(request.param).fit(paired.support, paired.val)


def by_hand(rule: str, rows: list[torch.Tensor]) -> torch.Tensor:
    """Probabilities (C,) of an item from the logits (C,) of its rows."""
    z = torch.stack(rows)
    e = torch.tensor([-sum(p * p.log() for p in line.softmax(0)) for line in z])
    weight = {
        "uniform": torch.full((len(z),), 1 / len(z)),
        "sum": torch.ones(len(z)),
        "energy": z.exp().sum(1).log() / 10,
        "entropy": (e.max() - e).exp() / (e.max() - e).exp().sum(),  # the paper of MLA
    }[rule]
    return (weight[:, None] * z).sum(0).softmax(0)


def test_an_item_of_two_rows_does_not_depend_on_its_batch_mates(fitted: Multimodal) -> None:
    query = gappy().query
    whole, items = fitted.proba(query), query.items()
    torch.testing.assert_close(whole.sum(1), torch.ones(60))
    for some in (slice(5, 6), slice(3, 8), slice(0, 60, 4)):
        torch.testing.assert_close(fitted.proba(query.take(items[some])), whole[some])


def test_the_released_fusion_breaks_that_law() -> None:
    paired = gappy()
    fitted = made("MLA", fusion="batch entropy").fit(paired.support, paired.val)
    whole, items = fitted.proba(paired.query), paired.query.items()
    assert (fitted.proba(paired.query.take(items[3:8])) - whole[3:8]).abs().max() > 0.01
    assert MLA().fusion == "entropy"


def test_rows_of_two_modalities_in_another_order_give_the_same_items(fitted: Multimodal) -> None:
    query = gappy().query
    order = {m: torch.randperm(len(t), generator=torch.Generator().manual_seed(1)) for m, t in query.rows.items()}
    mixed = Tables({m: query[m][order[m]] for m in query.modalities}, query.classes)
    torch.testing.assert_close(fitted.proba(mixed), fitted.proba(query))
    for answer in (fitted.logits, fitted.embed):
        for m, straight in answer(query).items():
            torch.testing.assert_close(answer(mixed)[m], straight[order[m]])


def test_a_second_fit_of_items_with_gaps_gives_the_same(fitted: Multimodal) -> None:
    paired = gappy()
    other, again = gappy(seed=7), fitted.fit(paired.support, paired.val)
    after_another = fitted.fit(other.support, other.val).fit(paired.support, paired.val)
    for method in (again, after_another):
        assert torch.equal(method.proba(paired.query), fitted.proba(paired.query))


def test_an_item_is_answered_by_fusion_over_the_rows_it_has(fitted: Multimodal) -> None:
    """Against a loop over items; film, gated and the joint head of MMPareto fuse features where there are two rows."""
    query, counts = gappy().query, set()
    proba, logits, items = fitted.proba(query), fitted.logits(query), query.items()
    additive = getattr(fitted, "head", "") not in ("film", "gated") and not getattr(fitted, "joint", False)
    for item, p in zip(items, proba, strict=True):
        rows = [logits[m][t.pair == item][0] for m, t in query.rows.items() if (t.pair == item).any()]
        counts.add(len(rows))
        if additive or len(rows) == 1:
            torch.testing.assert_close(p, by_hand(fitted.fusion, rows))
    assert counts == {1, 2}
    alone = query.only("text")  # an item that loses its image is answered as if it never had one
    kept = torch.isin(alone.items(), query["image"].pair)
    lost = Tables({"image": query["image"][~torch.isin(query["image"].pair, alone.items())], "text": query["text"]},
                  query.classes)  # fmt: skip
    found = fitted.proba(lost)[torch.isin(lost.items(), alone.items())]
    torch.testing.assert_close(found, fitted.proba(alone))
    assert kept.sum() == 20 and not torch.allclose(found[kept], proba[torch.isin(items, alone.items())][kept])
