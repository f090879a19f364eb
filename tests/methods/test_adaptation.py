"""Cross-modal adaptation against slow, obvious references and the identities of the papers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.conftest import world
from xmodal_lib.methods import AdapterProbe, LinearProbe, NearestMean, PartialFinetuning, TipAdapter, WiseFT, ZeroShot
from xmodal_lib.methods.adaptation import _shares, representer
from xmodal_lib.tables import Tables, class_means
from xmodal_lib.training import CellAdamW, batches, generator, warmup_cosine

GRID = {"lr": (1e-2, 1e-3), "weight_decay": (0.0, 0.1), "batch": (4, 8)}


def unit(x: torch.Tensor) -> torch.Tensor:
    return F.normalize(x, dim=1)


def test_schedule_is_the_released_one() -> None:
    b, total = 1e-3, 12_800
    assert warmup_cosine(0, total, lr=1e-7) == 1e-5
    assert warmup_cosine(49, total, lr=b) == pytest.approx(b * 49 / 50)
    assert warmup_cosine(50, total, lr=b) == b
    assert warmup_cosine(50 + 6400, total, lr=b) == pytest.approx(b / 2)
    assert warmup_cosine(12_799, total, lr=b) == pytest.approx(3.9e-5 * b, rel=0.02)


@pytest.mark.parametrize(("batch", "parts", "sizes"), [(8, 2, [4, 4]), (7, 2, [4, 3]), (8, 3, [4, 2, 2]), (8, 1, [8])])
def test_batch_is_shared_as_released(batch: int, parts: int, sizes: list[int]) -> None:
    assert _shares(batch, parts) == sizes


def test_batches_are_shuffled_passes_without_their_last_part() -> None:
    stream = batches((torch.arange(10),), 4, torch.Generator().manual_seed(0))
    passes = [torch.cat([*next(stream), *next(stream)]) for _ in range(5)]
    assert all(len(p.unique()) == 8 for p in passes)
    assert not torch.equal(passes[0], passes[1])


def reference(episode, cell: dict, iterations: int, seed: int, scale: float = 100.0) -> torch.Tensor:
    """One cell, one nn.Linear, torch's own optimiser and autograd: the loop as the paper describes it."""
    text, image = episode.support["text"], episode.support["image"]
    head = nn.Linear(text.x.shape[1], len(episode.support.classes), bias=False)
    with torch.no_grad():
        head.weight.copy_(unit(class_means(text.x, text.y, len(episode.support.classes))))
    optimiser = torch.optim.AdamW(head.parameters(), lr=1.0, weight_decay=cell["weight_decay"])
    half = cell["batch"] // 2
    streams = [batches((t.x, t.y), half, generator(seed, half, i)) for i, t in enumerate((image, text))]
    for step in range(iterations):
        optimiser.param_groups[0]["lr"] = warmup_cosine(step, iterations, lr=cell["lr"])
        (x, y), (x_text, y_text) = next(streams[0]), next(streams[1])
        loss = F.cross_entropy(scale * head(unit(torch.cat([x, x_text]))), torch.cat([y, y_text]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return head.weight.detach()


@pytest.mark.parametrize(
    "cell", [{"lr": 1e-2, "weight_decay": 0.1, "batch": 4}, {"lr": 1e-3, "weight_decay": 0.0, "batch": 8}]
)
def test_a_cell_equals_the_plain_loop(episode, cell: dict) -> None:
    fitted = LinearProbe(iterations=120, seed=3, **cell).fit(episode.support)
    torch.testing.assert_close(fitted.head_, reference(episode, cell, 120, 3), atol=1e-4, rtol=1e-4)


def test_cells_trained_at_once_equal_cells_trained_alone(episode) -> None:
    together = LinearProbe(iterations=150, grid=GRID).fit(episode.support, episode.val).cells_
    for _, line in together.iterrows():
        cell = {"lr": (line["lr"],), "weight_decay": (line["weight_decay"],), "batch": (int(line["batch"]),)}
        alone = LinearProbe(iterations=150, grid=cell).fit(episode.support, episode.val).cells_
        assert alone.loc[0, "val_accuracy"] == pytest.approx(line["val_accuracy"], abs=1e-6)
        assert alone.loc[0, "iteration"] == line["iteration"]


@pytest.mark.parametrize("kind", [LinearProbe, AdapterProbe])
def test_without_val_is_the_fit_that_was_given_no_val(episode, kind) -> None:
    """And so whatever stands in the validation rows."""
    probe = kind(iterations=150, lr=1e-2, weight_decay=0.1, batch=4, grid=GRID)
    alone = probe.fit(episode.support)
    poisoned = replace(episode.val, rows={"image": replace(episode.val["image"], y=episode.val["image"].y.flip(0))})
    for val in (episode.val, poisoned):
        torch.testing.assert_close(
            probe.fit(episode.support, val).without_val().head_, alone.head_, atol=1e-4, rtol=1e-4
        )
    with pytest.raises(ValueError, match="was not trained"):
        kind(iterations=20, grid=GRID, lr=3.0).fit(episode.support, episode.val).without_val()


def test_selection_keeps_the_first_best_cell_and_iteration(episode) -> None:
    fitted = LinearProbe(iterations=300, grid=GRID).fit(episode.support, episode.val)
    table = fitted.cells_
    assert len(table) == 8
    first_best = table["val_accuracy"].idxmax()  # the first of the highest
    assert fitted.cell_ == {k: table.loc[first_best, k] for k in GRID}
    hits = (fitted.predict(episode.val) == episode.val.labels()).float().mean().item()
    assert hits == pytest.approx(table.loc[first_best, "val_accuracy"], abs=1e-6)
    curve = fitted.history_["val_accuracy"]
    assert fitted.history_["step"][curve.idxmax()] == table.loc[first_best, "iteration"]


def test_selection_never_sees_the_query(episode) -> None:
    """Permuting the query's labels changes no weight: there is no way from it to fit."""
    fitted = LinearProbe(iterations=100, grid=GRID).fit(episode.support, episode.val)
    assert not any(torch.is_tensor(v) and v.shape[:1] == (len(episode.query["image"]),) for v in vars(fitted).values())


@pytest.mark.parametrize("probe", [LinearProbe(), AdapterProbe(ratio=0.3)])
def test_hand_written_gradients_equal_autograds(episode, probe) -> None:
    x, y = {"image": unit(episode.support["image"].x)}, episode.support["image"].y
    params = [torch.randn(3, *p.shape) * 0.1 for p in probe._start(torch.randn(5, 16))]
    for ours, autograds in zip(
        probe._gradients(params, x, y), PartialFinetuning._gradients(probe, params, x, y), strict=True
    ):
        torch.testing.assert_close(ours, autograds)


def test_stacked_adamw_is_torchs_own_side_by_side() -> None:
    params = [torch.randn(3, 4, 2), torch.randn(3, 5)]
    alone = [[p[g].clone().requires_grad_() for p in params] for g in range(3)]
    decays = [0.0, 0.1, 0.5]
    theirs = [torch.optim.AdamW(p, lr=1.0, weight_decay=d) for p, d in zip(alone, decays, strict=True)]
    ours = CellAdamW(params, [0.1, 0.01, 0.01], decays)
    for step in range(20):
        grads, lrs = [torch.randn_like(p) for p in params], [0.1 / (step + 1), 0.01, 0.01]
        grads[0] = torch.randn(3, 2, 4).mT  # not contiguous, as a backward pass may give them
        ours.step(grads, lrs)
        for g, optimiser in enumerate(theirs):
            optimiser.param_groups[0]["lr"] = lrs[g]
            for p, grad in zip(alone[g], grads, strict=True):
                p.grad = grad[g].clone()
            optimiser.step()
    for g in range(3):
        for stacked, p in zip(params, alone[g], strict=True):
            torch.testing.assert_close(stacked[g], p.detach())


def test_wise_ft_at_0_is_zero_shot_and_at_1_the_probe(episode) -> None:
    probe = LinearProbe(iterations=200, batch=4).fit(episode.support)
    zero_shot = ZeroShot().fit(episode.support)
    assert torch.equal(probe.at(0.0).head_, zero_shot.head_)
    assert torch.equal(probe.at(1.0).head_, probe.head_)
    by_name = WiseFT(LinearProbe(iterations=200, batch=4), alpha=0.5).fit(episode.support)
    torch.testing.assert_close(by_name.probe_.head_, (probe.head_ + zero_shot.head_) / 2)


def test_wise_ft_of_a_random_start_needs_text(episode) -> None:
    probe = LinearProbe(modalities=("image",), init="", iterations=20, batch=4).fit(episode.support.only("image"))
    with pytest.raises(ValueError, match="needs text rows"):
        probe.at(0.5)


def test_zero_shot_by_hand(episode) -> None:
    text, query = episode.support["text"], episode.query["image"]
    weights = unit(torch.stack([text.x[text.y == c].mean(0) for c in range(5)]))
    by_hand = torch.softmax(100 * unit(query.x) @ weights.T, 1)
    torch.testing.assert_close(ZeroShot().fit(episode.support).proba(episode.query), by_hand)


def test_adapter_with_ratio_0_is_the_linear_probe(episode) -> None:
    cell = {"iterations": 100, "batch": 4, "lr": 1e-3, "weight_decay": 0.0}
    torch.testing.assert_close(
        AdapterProbe(ratio=0.0, **cell).fit(episode.support).head_, LinearProbe(**cell).fit(episode.support).head_,
        atol=1e-4, rtol=1e-4,
    )  # fmt: skip


def test_partial_finetuning_moves_the_tail_and_keeps_its_statistics(episode) -> None:
    tail = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16)).eval()
    fitted = PartialFinetuning(encoders={"image": tail}, iterations=50, batch=4, lr=1e-3).fit(episode.support)
    assert not torch.equal(fitted.tails_["image"][0].weight, tail[0].weight)
    assert torch.equal(fitted.tails_["image"][1].running_mean, tail[1].running_mean)


def test_partial_finetuning_of_a_frozen_tail_is_the_linear_probe(episode) -> None:
    """An identity tail has no weights: what is left is the probe at partial finetuning's scale."""
    cell = {"iterations": 80, "batch": 4, "lr": 1e-3, "weight_decay": 0.01}
    partial = PartialFinetuning(encoders={"image": nn.Identity()}, **cell).fit(episode.support)
    probe = LinearProbe(scale=partial.scale, **cell).fit(episode.support)
    torch.testing.assert_close(partial.head_, probe.head_, atol=1e-4, rtol=1e-4)


def test_tip_adapter_by_hand_and_its_search(episode) -> None:
    tip = TipAdapter(alpha=0.7, beta=3.0).fit(episode.support)
    z, keys = unit(episode.query["image"].x), unit(episode.support["image"].x)
    logits = 100 * z @ tip.head_.T
    for i in range(len(z)):
        for k, label in enumerate(episode.support["image"].y):
            logits[i, label] += 0.7 * math.exp(-3.0 * (1 - z[i] @ keys[k]))
    torch.testing.assert_close(tip.logits(episode.query)["image"], logits, atol=1e-4, rtol=1e-4)
    grid = {"alpha": (0.1, 1.0, 3.0), "beta": (0.5, 5.0)}
    found = TipAdapter(grid=grid).fit(episode.support, episode.val)
    scores = {}
    for beta in grid["beta"]:
        for alpha in grid["alpha"]:
            one = TipAdapter(alpha=alpha, beta=beta).fit(episode.support)
            scores[alpha, beta] = (one.predict(episode.val) == episode.val.labels()).sum().item()
    assert scores[found.alpha_, found.beta_] == max(scores.values())


def test_tip_adapter_with_the_prompts_as_keys_and_without_zero_shot(episode) -> None:
    tip = TipAdapter(alpha=0.7, beta=3.0, modalities=("image", "text"), init="").fit(episode.support)
    z, logits = unit(episode.query["image"].x), torch.zeros(len(episode.query["image"]), 5)
    for m in ("image", "text"):
        for key, label in zip(unit(episode.support[m].x), episode.support[m].y, strict=True):
            logits[:, label] += 0.7 * torch.exp(-3.0 * (1 - z @ key))
    torch.testing.assert_close(tip.logits(episode.query)["image"], logits, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match=r"modalities='image'; a tuple"):
        TipAdapter(modalities="image").fit(episode.support)


def test_three_modalities_share_one_head() -> None:
    episode = world()
    speech = replace(episode.support["image"], pair=episode.support["image"].pair + 9000)
    support = replace(episode.support, rows={**episode.support.rows, "speech": speech})
    probe = LinearProbe(modalities=("image", "text", "speech"), iterations=60, batch=8).fit(support)
    assert (probe.predict(episode.query) == episode.query.labels()).float().mean() > 0.5


def test_nearest_mean_is_scikit_learns_on_unit_rows(episode) -> None:
    from sklearn.neighbors import NearestCentroid

    x, y = unit(episode.support["image"].x), episode.support["image"].y
    ours = NearestMean().fit(episode.support)
    centroids = NearestCentroid().fit(x.numpy(), y.numpy()).centroids_
    torch.testing.assert_close(ours.head_, unit(torch.tensor(centroids)).float(), atol=1e-5, rtol=1e-5)


def test_representer_recovers_a_known_mix(episode) -> None:
    """Weights built from text rows only are explained by text only."""
    rows = {m: replace(t, x=unit(t.x)) for m, t in episode.support.rows.items()}
    few = {m: t[:3] for m, t in rows.items()}
    head = (torch.randn(5, 3) @ few["text"].x).double()
    shares = representer(head, None, few, ridge=1e-9)
    assert shares.sum(axis=1).to_numpy() == pytest.approx(1)
    assert (shares["text"] > 0.999).all()


def test_too_few_rows_for_every_batch_take_the_largest_that_fits(episode) -> None:
    few = Tables({"image": episode.support["image"][::4]}, episode.support.classes)  # 5 rows
    probe = LinearProbe(modalities=("image",), init="", iterations=20)
    assert probe.fit(few).cell_["batch"] == 4
    chosen = probe.fit(few, episode.val)
    assert set(chosen.cells_["batch"]) == {4} and not chosen.cells_.duplicated(["lr", "weight_decay"]).any()
    torch.testing.assert_close(chosen.without_val().head_, probe.fit(few).head_)
    one = Tables({"image": episode.support["image"][:1]}, episode.support.classes[:1])
    with pytest.raises(ValueError, match="no batch of up to 8 rows fits 1 image rows"):
        probe.fit(one)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"iterations": 0}, "iterations=0; at least 1"),
        ({"every": 0}, "every=0; at least 1"),
        ({"modalities": "image"}, "a tuple of names is needed"),
        ({"modalities": ()}, "a tuple of names is needed"),
        ({"grid": {"lr": (0.1,)}}, "a grid needs values of lr, weight_decay and batch"),
    ],
)
def test_impossible_fields_are_one_clear_line(episode, fields: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LinearProbe(**fields).fit(episode.support, episode.val)


def test_divergence_names_the_step(episode) -> None:
    with pytest.raises(FloatingPointError, match=r"LinearProbe: the loss is \S+ at step"):
        LinearProbe(iterations=400, batch=4, lr=1e38, init="").fit(episode.support)


# -- switches --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shares", "sizes"), [((0.75, 0.25), [6, 2]), ((0.1, 0.9), [1, 7]), ((1.0, 0.0), [8, 0])])
def test_shares_of_a_batch(shares: tuple[float, ...], sizes: list[int]) -> None:
    assert _shares(8, shares) == sizes


def test_a_text_share_of_0_is_the_probe_of_images(episode) -> None:
    cell = {"iterations": 80, "batch": 4, "lr": 1e-3}
    none = LinearProbe(shares=(1.0, 0.0), **cell).fit(episode.support)
    images = LinearProbe(modalities=("image",), **cell).fit(episode.support)
    assert torch.equal(none.head_, images.head_)
    equal = LinearProbe(shares=(0.5, 0.5), **cell).fit(episode.support)
    assert torch.equal(equal.head_, LinearProbe(**cell).fit(episode.support).head_)


@pytest.mark.parametrize("kind", [LinearProbe, AdapterProbe])
def test_a_learnt_scale_equals_the_plain_loop(episode, kind) -> None:
    """One cell, autograd and torch's own AdamW over all parameters, the logarithm of the scale among them."""
    fitted = kind(iterations=60, batch=4, lr=1e-2, weight_decay=0.1, scale=20.0, learn_scale=True).fit(episode.support)
    fixed = kind(iterations=60, batch=4, lr=1e-2, weight_decay=0.1, scale=20.0)
    start = fixed._start(unit(class_means(episode.support["text"].x, episode.support["text"].y, 5)))
    params = [p.clone().requires_grad_() for p in (*start, torch.tensor(20.0).log())]
    optimiser = torch.optim.AdamW(params, lr=1.0, weight_decay=0.1)
    streams = [batches((unit(episode.support[m].x), episode.support[m].y), 2, generator(0, 2, i))
               for i, m in enumerate(("image", "text"))]  # fmt: skip
    for step in range(60):
        optimiser.param_groups[0]["lr"] = warmup_cosine(step, 60, lr=1e-2)
        (x, y), (x_text, y_text) = (next(stream) for stream in streams)
        z = torch.cat([x, x_text])
        if kind is AdapterProbe:
            z = 0.2 * torch.relu(torch.relu(z @ params[1]) @ params[2]) + 0.8 * z
        loss = F.cross_entropy(params[-1].exp() * z @ params[0].T, torch.cat([y, y_text]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert fitted.scale_ == pytest.approx(params[-1].exp().item(), rel=1e-3) and fitted.scale_ != 20.0
    torch.testing.assert_close(fitted.head_, params[0].detach(), atol=1e-3, rtol=1e-3)
    z = fitted.embed(episode.query)["image"]
    torch.testing.assert_close(fitted.logits(episode.query)["image"], fitted.scale_ * z @ fitted.head_.T)


def test_wise_ft_chooses_alpha_on_val(episode) -> None:
    probe = LinearProbe(iterations=100, batch=4, lr=1e-2, grid={"lr": (1e-2,), "weight_decay": (0.0,), "batch": (4,)})
    alphas = (0.0, 0.25, 0.5, 0.75, 1.0)
    found = WiseFT(probe, alphas=alphas).fit(episode.support, episode.val)
    fitted = probe.fit(episode.support, episode.val)
    right = [int((fitted.at(a).predict(episode.val) == episode.val.labels()).sum()) for a in alphas]
    assert found.alpha_ == alphas[right.index(max(right))]
    assert torch.equal(found.probe_.head_, fitted.at(found.alpha_).head_)
    assert WiseFT(probe, alphas=alphas).fit(episode.support).alpha_ == 0.5  # nothing to choose on
    with pytest.raises(ValueError, match=r"alpha 1.5; a weight from 0"):
        WiseFT(probe, alpha=1.5).fit(episode.support)


def test_wise_ft_mixes_the_finetuned_layers_too(episode) -> None:
    tail = nn.Linear(16, 16)
    nn.init.eye_(tail.weight)
    partial = PartialFinetuning(encoders={"image": tail}, iterations=40, batch=4, lr=1e-2).fit(episode.support)
    half, trained = partial.at(0.5, layers=True), partial.tails_["image"].weight
    torch.testing.assert_close(half.tails_["image"].weight, (tail.weight + trained) / 2)
    assert torch.equal(partial.at(0.5).tails_["image"].weight, trained)
    zero_shot = ZeroShot(encoders={"image": tail}, scale=partial.scale).fit(episode.support)
    torch.testing.assert_close(partial.at(0.0, layers=True).proba(episode.query), zero_shot.proba(episode.query))
    torch.testing.assert_close(partial.at(1.0, layers=True).proba(episode.query), partial.proba(episode.query))
    method = WiseFT(PartialFinetuning(encoders={"image": tail}, iterations=40, batch=4, lr=1e-2), layers=True)
    assert torch.equal(method.fit(episode.support).proba(episode.query), half.proba(episode.query))
    with pytest.raises(ValueError, match="no zero-shot weights"):
        AdapterProbe(iterations=5, batch=4).fit(episode.support).at(0.5, layers=True)


def test_layers_of_both_towers_can_be_trained(episode) -> None:
    """The head starts from the text tail as it was given, and so does zero-shot; then both tails move."""
    tails = {m: nn.Linear(16, 16) for m in ("image", "text")}
    for tail in tails.values():
        nn.init.eye_(tail.weight)
    fitted = PartialFinetuning(tails, tuned=("image", "text"), iterations=40, batch=4, lr=1e-2).fit(episode.support)
    assert all(not torch.equal(fitted.tails_[m].weight, tails[m].weight) for m in tails)
    text = episode.support["text"]
    with torch.no_grad():
        torch.testing.assert_close(fitted.zeroshot_, unit(class_means(tails["text"](text.x), text.y, 5)))
    assert torch.equal(fitted.start_, fitted.zeroshot_)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"shares": (0.5,)}, r"shares=\(0.5,\); one for each"),
        ({"shares": (0.9, 0.3)}, "that sum to 1"),
        ({"shares": (1.5, -0.5)}, "none below 0"),
        ({"scale": 0.0}, "scale=0.0; a number above 0"),
    ],
)
def test_impossible_switches_are_one_clear_line(episode, fields: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LinearProbe(**fields).fit(episode.support)
