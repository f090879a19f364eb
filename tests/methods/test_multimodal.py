"""What all methods share that train one encoder a modality: the loop, the epoch kept, seeds, frozen parts, refusals."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.methods.test_balancing import THREE
from tests.methods.test_joint import CLASSES, PLAIN, WIDTHS, data, gaps, nets, weights
from xmodal_lib.episodes import Episode
from xmodal_lib.evaluate import evaluate
from xmodal_lib.methods import METHODS, MLA, OGM, QMF, Independent, Joint, Method, MMPareto, ReconBoost, SummedUnimodal
from xmodal_lib.methods.multimodal import Multimodal
from xmodal_lib.methods.searched import Searched
from xmodal_lib.tables import Table, Tables
from xmodal_lib.training import accuracy, search

ALL = {name: cls for name, cls in METHODS.items() if issubclass(cls, Multimodal)}
EXACT = {"rtol": 1e-9, "atol": 1e-11}


def linear(widths: Mapping[str, int] = THREE, seed: int = 0) -> dict[str, nn.Module]:
    return {m: net[0] for m, net in nets(dict(widths), seed=seed).items()}


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


def learnt(method: Multimodal) -> dict[str, Tensor]:
    """Weights and statistics of encoders and head."""
    return copy.deepcopy(nn.ModuleList([method.encoders_, method.head_]).state_dict())


# -- which epoch is kept ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [Joint, MLA])
def test_the_first_of_the_best_epochs_is_kept(cls: type[Multimodal]) -> None:
    """Against the loop of the module's docstring; the best accuracy comes twice, and not at the end."""
    support, val = data(24, signal=1.0), data(15, seed=9, signal=1.0)
    method = cls(nets(), epochs=12, batch=5, lr=0.2, seed=3)
    hand, scores, states = method.begin(support), [], []
    for _ in hand.passes():
        for batch in hand.batches():
            hand.step(batch)
        scores.append(accuracy(hand, val))
        states.append(learnt(hand))
    first = scores.index(max(scores))
    assert scores.count(max(scores)) > 1 and scores[-1] < max(scores)
    assert not any(same(states[first], state) for k, state in enumerate(states) if k != first)
    fitted = method.fit(support, val)
    assert same(learnt(fitted), states[first]) and accuracy(fitted, val) == max(scores)
    assert fitted.history_["val_accuracy"].tolist() == scores
    assert same(learnt(method.fit(support)), states[-1])


@pytest.mark.parametrize("emptied", [False, True])
def test_independent_keeps_the_last_epoch_of_a_modality_that_val_lacks(emptied: bool) -> None:
    support, val = data(24, signal=1.0), data(15, seed=9, signal=1.0)
    method = Independent(nets(), epochs=8, batch=6, lr=0.2, seed=4)
    hand, scores, states = SummedUnimodal(**vars(method)).begin(support), [], []
    for _ in hand.passes():
        for batch in hand.batches():
            hand.step(batch)
        scores.append(accuracy(hand, val.only("audio")))
        states.append(learnt(hand))
    best = scores.index(max(scores))
    assert scores.count(scores[best]) > 1 and scores[-1] < scores[best]
    lacking = Tables({"audio": val["audio"], "visual": val["visual"][:0]}, CLASSES) if emptied else val.only("audio")
    for name, value in learnt(method.fit(support, lacking)).items():
        assert torch.equal(value, states[best if "audio" in name else -1][name])


# -- batches of items with gaps, against loops -----------------------------------------------------------------


def renumbered(tables: Tables) -> Tables:
    """Ids that are not places."""
    return replace(tables, rows={m: replace(t, pair=100 + 7 * t.pair) for m, t in tables.rows.items()})


def by_item(support: Tables, size: int, rng: torch.Generator) -> Iterator[dict[str, tuple[Tensor, Tensor, list[int]]]]:
    """One pass: rows, labels and ids {modality: (x (b_m, d), y (b_m,), ids)}, looked up one item after the other."""
    ids = support.items()
    for places in torch.randperm(len(ids), generator=rng).split(size):
        found = {}
        for m, t in support.rows.items():
            where = [(t.pair == item).nonzero().item() for item in ids[places] if (t.pair == item).any()]
            if where:
                found[m] = t.x[where], t.y[where], t.pair[where].tolist()
        yield found


@pytest.mark.parametrize("reset", ["never", "epoch"])
@pytest.mark.parametrize("source", ["previous", "current"])
def test_mla_with_gaps_against_a_loop(source: str, reset: str) -> None:
    """P in closed form: (I + sum h h' / lam)^-1 over the mean features that were folded in."""
    support = renumbered(gaps(data(12, widths=THREE)))
    method = MLA(linear(), epochs=2, batch=5, lr=0.2, momentum=0, weight_decay=0, fresh=False, source=source,
                 reset=reset, lam=0.3)  # fmt: skip
    begun, rng = method.begin(support), torch.Generator().manual_seed(0)
    encoders, head = begun.encoders_, begun.head_.linear
    seen: list[Tensor] = []
    before = None
    for _ in range(2):
        seen = [] if reset == "epoch" else seen
        for rows in by_item(support, 5, rng):
            for m, (x, y, _) in rows.items():
                params = [head.weight, head.bias, encoders[m].weight, encoders[m].bias]
                f = x @ params[2].T + params[3]
                grads = list(torch.autograd.grad(F.cross_entropy(f @ params[0].T + params[1], y), params))
                here = f.mean(0).detach()
                if before is not None:
                    seen.append(before if source == "previous" else here)
                    p = torch.eye(6).double() + sum(torch.outer(h, h) for h in seen) / 0.3
                    grads[0] = grads[0] @ torch.linalg.inv(p)
                before = here
                with torch.no_grad():
                    for param, grad in zip(params, grads, strict=True):
                        param -= 0.2 * grad
    for name, value in weights(method.fit(support)).items():
        torch.testing.assert_close(value, weights(begun)[name], **EXACT)


def test_mla_without_projection_is_alternating_sgd_on_a_shared_linear() -> None:
    """With momentum and weight decay: who is not in turn stays (zero_grad="none"), or drifts on ("fill")."""
    support, ends = renumbered(gaps(data(12, widths=THREE))), []
    for fill in (False, True):
        method = MLA(linear(), epochs=2, batch=5, lr=0.1, momentum=0.8, weight_decay=0.05, fresh=False,
                     projection="none", zero_grad="fill" if fill else "none")  # fmt: skip
        begun, rng, velocity = method.begin(support), torch.Generator().manual_seed(0), {}
        encoders, head = begun.encoders_, begun.head_.linear
        for _ in range(2):
            for rows in by_item(support, 5, rng):
                had: list[nn.Parameter] = []  # encoders whose turn it was in this batch
                for m, (x, y, _) in rows.items():
                    params = [*head.parameters(), *encoders[m].parameters()]
                    grads = [*torch.autograd.grad(F.cross_entropy(head(encoders[m](x)), y), params)]
                    drifting = had if fill else []
                    grads += [torch.zeros_like(p) for p in drifting]
                    with torch.no_grad():
                        for p, g in zip([*params, *drifting], grads, strict=True):
                            velocity[p] = 0.8 * velocity.get(p, 0.0) + g + 0.05 * p
                            p -= 0.1 * velocity[p]
                    had += encoders[m].parameters()
        ends.append(weights(begun))
        for name, value in weights(method.fit(support)).items():
            torch.testing.assert_close(value, ends[-1][name], **EXACT)
    assert not torch.allclose(ends[0]["audio.weight"], ends[1]["audio.weight"], rtol=1e-3)


def test_qmf_with_gaps_against_a_loop() -> None:
    support = renumbered(gaps(data(12, widths=THREE)))
    method = QMF(linear(), epochs=2, batch=5, lr=0.2, momentum=0, weight_decay=0, fresh=False, rank_weight=0.7)
    begun, rng = method.begin(support), torch.Generator().manual_seed(0)
    encoders, heads = begun.encoders_, begun.head_.linear
    history = {m: {int(item): 0.0 for item in support.items()} for m in THREE}
    for _ in range(2):
        for rows in by_item(support, 5, rng):
            loss, fused = torch.zeros(()).double(), {}
            for m, (x, y, ids) in rows.items():
                z = [heads[m](encoders[m](line)) for line in x]
                each = [z_i.exp().sum().log() - z_i[label] for z_i, label in zip(z, y, strict=True)]
                conf = [z_i.exp().sum().log() / 10 for z_i in z]
                for item, ce in zip(ids, each, strict=True):
                    history[m][item] += ce.item()
                low, high = min(history[m].values()), max(history[m].values())
                hard = [(history[m][item] - low) / (high - low) for item in ids]
                rank = 0.0
                for i in range(len(ids)):
                    j = (i + 1) % len(ids)
                    harder, easier = (i, j) if hard[i] > hard[j] else (j, i)  # asked to be less sure by the difference
                    if hard[i] != hard[j]:
                        rank = rank + F.relu(conf[harder] - conf[easier] + hard[harder] - hard[easier])
                loss = loss + sum(each) / len(each) + 0.7 * rank / len(ids)
                for item, label, z_i, c in zip(ids, y, z, conf, strict=True):
                    fused[item] = fused.get(item, (0.0,))[0] + c.detach() * z_i, label
            loss = loss + sum(z.exp().sum().log() - z[label] for z, label in fused.values()) / len(fused)
            params = [p for m in rows for part in (encoders[m], heads[m]) for p in part.parameters()]
            with torch.no_grad():
                for p, g in zip(params, torch.autograd.grad(loss, params), strict=True):
                    p -= 0.2 * g
    for name, value in weights(method.fit(support)).items():
        torch.testing.assert_close(value, weights(begun)[name], **EXACT)


def test_ogm_with_gaps_against_a_loop() -> None:
    """Modulated in the first epoch only; the share of a modality is over the rows of the batch that there are."""
    support, factors = renumbered(gaps(data(12, widths=THREE))), []
    method = OGM(linear(), epochs=2, batch=5, lr=0.3, momentum=0, weight_decay=0, fresh=False, alpha=0.7, last=0)
    begun, rng = method.begin(support), torch.Generator().manual_seed(0)
    encoders, head = begun.encoders_, begun.head_.linear
    for epoch in range(2):
        for rows in by_item(support, 5, rng):
            fused, share = {}, {}
            for k, m in enumerate(THREE):
                if m not in rows:
                    continue
                x, y, ids = rows[m]
                z = [head.weight[:, 6 * k : 6 * k + 6] @ encoders[m](line) + head.bias / 3 for line in x]
                share[m] = sum(z_i.softmax(0)[label].item() for z_i, label in zip(z, y, strict=True)) / len(z)
                for item, label, z_i in zip(ids, y, z, strict=True):
                    fused[item] = fused.get(item, (0.0,))[0] + z_i, label
            loss = sum(F.cross_entropy(z, label) for z, label in fused.values()) / len(fused)
            k = dict.fromkeys(rows, 1.0)
            for m in rows:
                others = [s for u, s in share.items() if u != m]
                rho = share[m] / (sum(others) / len(others)) if others else 1.0
                if rho > 1 and epoch == 0:
                    k[m] = 1 - math.tanh(0.7 * rho)
                    factors.append(k[m])
            params = [(p, k[m] if p.ndim == 2 else 1.0) for m in rows for p in encoders[m].parameters()]
            params += [(p, 1.0) for p in head.parameters()]
            with torch.no_grad():
                for (p, factor), g in zip(params, torch.autograd.grad(loss, [p for p, _ in params]), strict=True):
                    p -= 0.3 * factor * g
    assert len(factors) > 2
    for name, value in weights(method.fit(support)).items():
        torch.testing.assert_close(value, weights(begun)[name], **EXACT)


@pytest.mark.parametrize("epoch", [1, 3])
def test_items_that_no_learner_has_do_not_dilute_the_joint_phase_of_reconboost(epoch: int) -> None:
    """Stage 0: audio alone; stage 1: audio and visual. Items with rows of the others only are left out of the mean."""
    support = data(12, widths=THREE)
    keep = {"audio": slice(0, 4), "visual": slice(2, 6), "text": slice(0, 12)}
    support = replace(support, rows={m: t[keep[m]] for m, t in support.rows.items()})
    method = ReconBoost(linear(), stage_epochs=1, joint_epochs=1, lr=0.3, fresh=False, **PLAIN).begin(support)
    method.epoch_ = epoch
    hand, z = copy.deepcopy(method), {}
    for m in method.learners():
        for x, y, item in zip(support[m].x, support[m].y, support[m].pair.tolist(), strict=True):
            z[item] = z.get(item, (0.0,))[0] + hand.head_.linear[m](hand.encoders_[m](x)), y
    assert len(z) == {1: 4, 3: 6}[epoch]
    (sum(F.cross_entropy(z_i, label) for z_i, label in z.values()) / len(z)).backward()
    method.step(next(method.batches()))
    for p, q in zip(method._parameters(), hand._parameters(), strict=True):
        torch.testing.assert_close(p.detach(), (q if q.grad is None else q - 0.3 * q.grad).detach(), **EXACT)


def with_norm() -> dict[str, nn.Module]:
    return {m: nn.Sequential(net, nn.BatchNorm1d(6).double()) for m, net in nets().items()}


@pytest.mark.parametrize("name", ALL)
def test_a_batch_of_one_row_leaves_the_statistics(name: str) -> None:
    support = data(9)
    method = ALL[name](with_norm(), epochs=9, batch=4, lr=0.05)
    begun = method.begin(support)
    *whole, last = begun.batches()
    begun.step(whole[0])
    before = learnt(begun)
    assert len(last.y) == 1 and begun.step(last)
    after = learnt(begun)
    assert any(not torch.equal(v, after[k]) for k, v in before.items())
    assert all(torch.equal(v, after[k]) for k, v in before.items() if "running" in k or "batches" in k)
    fitted = method.fit(support, gaps(data(9, seed=2)))
    assert all(v.isfinite().all() for v in learnt(fitted).values())


def test_one_row_of_one_modality_in_a_batch_leaves_its_statistics_only() -> None:
    support = data(6)
    support = replace(support, rows={"audio": support["audio"], "visual": support["visual"][2:3]})
    begun = Joint(with_norm()).begin(support)
    before = learnt(begun)
    begun.step(next(begun.batches()))
    changed = {k.split(".")[1] for k, v in learnt(begun).items() if "running" in k and not torch.equal(v, before[k])}
    assert changed == {"audio"}


# -- the optimiser and its schedule ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "rates"), [(1, [0.4, 0.2, 0.1, 0.05, 0.025]), (2, [0.4, 0.4, 0.2, 0.2, 0.1]), (9, [0.4] * 5)]
)
def test_the_learning_rate_falls_by_the_epoch(every: int, rates: list[float]) -> None:
    method = Joint(nets(), epochs=5, lr=0.4, decay_every=every, decay=0.5).begin(data())
    found = []
    for _ in method.passes():
        found.append(method.optimiser_.param_groups[0]["lr"])
        method.step(next(method.batches()))
    assert found == pytest.approx(rates)


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_fit_is_the_plain_loop_with_torchs_optimiser(optimiser: str) -> None:
    """One modality, no encoder: a Linear, every field of the optimiser set."""
    support = data(12).only("audio")
    method = Joint(epochs=5, batch=5, lr=0.1, momentum=0.7, weight_decay=0.2, decay_every=2, decay=0.3,
                   optimiser=optimiser)  # fmt: skip
    plain, rng = method.begin(support).head_.linear, torch.Generator().manual_seed(0)
    for epoch in range(5):
        if epoch == 0:
            make = torch.optim.AdamW if optimiser == "adamw" else torch.optim.SGD
            own = {} if optimiser == "adamw" else {"momentum": 0.7}
            taking = make(plain.parameters(), lr=0.1, weight_decay=0.2, **own)
        taking.param_groups[0]["lr"] = 0.1 * 0.3 ** (epoch // 2)
        for rows in by_item(support, 5, rng):
            x, y, _ = rows["audio"]
            taking.zero_grad()
            F.cross_entropy(plain(x), y).backward()
            taking.step()
    for p, q in zip(method.fit(support).head_.linear.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.detach(), q.detach(), **EXACT)


# -- seeds -----------------------------------------------------------------------------------------------------


def test_a_seed_gives_encoders_head_and_batch_order() -> None:
    def start(seed: int) -> tuple[dict[str, Tensor], list[int]]:
        begun = Joint(nets(), batch=5, seed=seed).begin(data())
        return weights(begun), torch.cat([batch.items for batch in begun.batches()]).tolist()

    (a, order), (b, other), (again, same_order) = start(0), start(1), start(0)
    assert same(a, again) and order == same_order and order != other
    assert not any(torch.equal(v, b[name]) for name, v in a.items() if v.ndim == 2)


def test_the_start_of_a_modality_does_not_depend_on_the_order_of_modalities() -> None:
    support, encoders = data(widths=THREE), nets(THREE)
    starts = [weights(Joint(encoders, modalities=order).begin(support))
              for order in (("audio", "visual", "text"), ("text", "audio", "visual"))]  # fmt: skip
    mine = [name for name in starts[0] if not name.startswith("head")]
    assert len(mine) == 6 and all(torch.equal(starts[0][name], starts[1][name]) for name in mine)
    square = {m: nn.Linear(4, 4).double() for m in ("a", "b")}
    begun = Joint(square).begin(data(widths=dict.fromkeys(square, 4)))
    assert not torch.equal(*(net.weight for net in begun.encoders_.values()))  # and each has its own


def test_the_seed_of_searched_reaches_its_method() -> None:
    support, val = data(12, signal=1.0), data(12, seed=9, signal=1.0)
    method = Joint(nets(), epochs=2, batch=5, lr=0.1)
    one, two = (Searched(method, {"epochs": (2,)}, seed=seed).fit(support, val).best_ for seed in (1, 2))
    assert same(weights(one), weights(replace(method, seed=1).fit(support, val)))
    assert not same(weights(one), weights(two)) and (one.seed, two.seed, method.seed) == (1, 2, 0)
    without = Searched(method, {"epochs": (2,)}, seed=1).fit(support).best_
    assert same(weights(without), weights(replace(method, seed=1).fit(support)))


@pytest.mark.parametrize("name", ALL)
def test_dropout_is_seeded_and_the_global_random_state_left(name: str) -> None:
    support = data(12, signal=1.0)
    encoders = {m: nn.Sequential(net, nn.Dropout(0.5)) for m, net in nets().items()}
    method = ALL[name](encoders, epochs=9, batch=5, lr=0.1)
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first = method.fit(support)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(12)
    assert same(learnt(method.fit(support)), learnt(first))
    assert not same(learnt(replace(method, encoders=nets()).fit(support)), learnt(first))


# -- frozen and pretrained parts -------------------------------------------------------------------------------


def trunk(frozen: bool, dropout: float = 0.0) -> nn.Sequential:
    """Has statistics that are not those of the rows."""
    made = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(dropout), nn.Linear(5, 6)).double()
    torch.nn.init.constant_(made[1].running_mean, 0.3)
    return made.requires_grad_(not frozen)


@pytest.mark.parametrize("name", ALL)
def test_a_frozen_trunk_keeps_weights_and_statistics_and_its_dropout_is_off(name: str) -> None:
    """Under a tail that learns, with encoders that start anew."""
    widths, found = {"audio": 4, "visual": 4}, []
    support = data(12, widths=widths, signal=1.0)
    for dropout in (0.9, 0.0):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            encoders = {m: nn.Sequential(trunk(True, dropout), nn.Linear(6, 6).double()) for m in widths}
        fitted = ALL[name](encoders, epochs=9, batch=5, lr=0.1).fit(support, data(6, 3, widths, 1.0))
        for m, net in encoders.items():
            assert same(fitted.encoders_[m][0].state_dict(), net[0].state_dict())
            assert not torch.equal(fitted.encoders_[m][1].weight, net[1].weight)
        found.append(fitted)
    assert torch.equal(found[0].proba(support), found[1].proba(support))


@pytest.mark.parametrize("cls", [Joint, MLA, QMF, SummedUnimodal, Independent, ReconBoost])
def test_an_encoder_that_is_frozen_whole_stays_and_the_head_learns(cls: type[Multimodal]) -> None:
    widths = {"audio": 4, "visual": 4}
    support, encoders = data(12, widths=widths, signal=1.0), {m: trunk(True, 0.9) for m in widths}
    method = cls(encoders, epochs=9, batch=5, lr=0.1)
    start, fitted = method.begin(support), method.fit(support)
    for m, net in encoders.items():
        assert same(fitted.encoders_[m].state_dict(), net.state_dict())
    assert not same(fitted.head_.state_dict(), start.head_.state_dict())


def test_what_says_pretrained_keeps_its_weights_at_the_start_and_then_learns() -> None:
    support = data(12, widths={"audio": 4, "visual": 4})
    with torch.random.fork_rng():
        encoders = {"audio": trunk(False), "visual": trunk(False)}
    encoders["audio"].pretrained = True
    method = Joint(encoders, epochs=2, lr=0.1)
    begun, fitted = method.begin(support), method.fit(support)
    assert same(begun.encoders_["audio"].state_dict(), encoders["audio"].state_dict())
    assert not same(begun.encoders_["visual"].state_dict(), encoders["visual"].state_dict())
    assert not torch.equal(fitted.encoders_["audio"][0].weight, encoders["audio"][0].weight)
    old = replace(method, fresh=False).begin(support).encoders_
    assert all(same(old[m].state_dict(), net.state_dict()) for m, net in encoders.items())


# -- numbers ---------------------------------------------------------------------------------------------------


def test_p_stays_a_projection_for_long_float32_rows() -> None:
    """Non-negative features of length some 1000, 300 steps: h'h is 1e7 times lam, and a P in float32 ends in NaN."""
    rng, y = torch.Generator().manual_seed(1), torch.arange(40) % 4
    rows = {m: Table(108 * torch.rand(40, 256, generator=rng), y, torch.arange(40)) for m in ("audio", "visual")}
    method = MLA(epochs=30, batch=8, lr=1e-6).fit(Tables(rows, ("a", "b", "c", "d")))
    assert method.steps_ == 300 and method.head_.linear.weight.dtype == torch.float32
    assert method.head_.linear.weight.isfinite().all() and method.p_.isfinite().all()
    assert torch.equal(method.p_, method.p_.T)
    values = torch.linalg.eigvalsh(method.p_.double())
    assert values.min() > -1e-10 and values.max() < 1 + 1e-10


# -- modalities that were not learnt ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_a_modality_that_was_not_learnt_is_passed_over(name: str) -> None:
    """In val, in a query whose items have other rows, and in the lines of `evaluate`."""
    support, val, query = (gaps(data(12, k, THREE, 1.0)) for k in range(3))
    method = ALL[name](nets(THREE), modalities=("audio", "visual"), epochs=9, batch=5, lr=0.1)
    fitted = method.fit(support, val)
    known = query.only("audio", "visual")
    assert torch.equal(fitted.proba(query), fitted.proba(known)) and len(known.items()) == 12
    assert tuple(fitted.logits(query)) == tuple(fitted.embed(query)) == ("audio", "visual")
    assert torch.equal(fitted.proba(val), method.fit(support, val.only("audio", "visual")).proba(val))
    for items in (query.only("text"), replace(query, rows={**known.take(query["text"].pair[:3]).rows,
                                                           "text": query["text"]})):  # fmt: skip
        with pytest.raises(ValueError, match=r"fitted on audio, visual; the query has items .* of text only") as error:
            fitted.proba(items)
        assert "\n" not in str(error.value)


def test_evaluate_has_no_line_for_a_modality_that_a_method_does_not_answer() -> None:
    tables = [gaps(data(12, k, THREE, 1.0)) for k in range(3)]
    support, val, query = (replace(t, rows={m: replace(r, pair=r.pair + 100 * k) for m, r in t.rows.items()})
                           for k, t in enumerate(tables))  # fmt: skip
    two = Joint(nets(THREE), modalities=("audio", "visual"), epochs=2)
    methods: dict[str, Method] = {"two": two, "all": Joint(nets(THREE), epochs=2), "searched": Searched(two)}
    frame = evaluate(methods, [Episode(support, val, query, 0)], progress=False)
    for name, modalities in (("two", ["audio", "visual"]), ("all", list(THREE)), ("searched", ["audio", "visual"])):
        metrics = frame.loc[frame["method"] == name, "metric"]
        assert [m for m in metrics if m.startswith("accuracy ")] == [f"accuracy {m}" for m in modalities]
        fitted = methods[name].fit(support, val)
        own = frame.set_index(["method", "metric"])["value"][name]
        assert all(own[f"accuracy {m}"] == accuracy(fitted, query.only(m)) for m in modalities)


# -- refusals --------------------------------------------------------------------------------------------------


def nan_in(tables: Tables, modality: str, row: int) -> Tables:
    x = tables[modality].x.clone()
    x[row, 1] = math.nan
    return replace(tables, rows={**tables.rows, modality: replace(tables[modality], x=x)})


def without_label(tables: Tables, item: int) -> Tables:
    return replace(tables, rows={m: replace(t, y=t.y.where(t.pair != item, -1)) for m, t in tables.rows.items()})


class Flat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(1)


SHARED = nn.Linear(4, 4).double()
BEFORE_TRAINING = {
    "encoder misspelt": (
        Joint({"audoi": linear(WIDTHS)["audio"], "visual": linear(WIDTHS)["visual"]}), data(),
        "Joint: an encoder is given for 'audoi' and none for 'audio'; the support holds audio, visual",
    ),
    "share misspelt": (
        SummedUnimodal(nets(), shares={"vsual": 0.5}), data(),
        "a share is given for 'vsual'; the modalities are audio, visual",
    ),
    "fusion lacks one": (MLA(nets(), fusion={"audio": 1.0}), data(), "fusion has no share for 'visual'; it has audio"),
    "one module for two": (
        MLA({"audio": SHARED, "visual": SHARED}), data(widths={"audio": 4, "visual": 4}),
        "MLA: two modalities share one encoder; give each its own module",
    ),
    "a label withheld": (Joint(nets()), without_label(data(), 7), r"item 7 has no label \(-1\); every item"),
    "labels withheld": (QMF(nets()), data().withheld(), r"item 0 has no label \(-1\); every item"),
    "one number a row": (
        MLA({"audio": nn.Linear(5, 6).double(), "visual": nn.Sequential(SHARED, Flat())}), data(),
        r"MLA: the encoder of 'visual' must give rows \(b, D\) of numbers; it gives torch.float64 of shape \(2,\)",
    ),
    "two kinds": (
        Joint(), replace(data(), rows={**data().rows, "audio": replace(data()["audio"], x=data()["audio"].x.float())}),
        "Joint: features of audio, visual are of 2 kinds, torch.float32, torch.float64; bring them to one",
    ),
    "wrong width": (
        Joint({"audio": nn.Linear(7, 6).double(), "visual": nn.Linear(4, 6).double()}), data(),
        r"Joint: the encoder of 'audio' cannot take rows of torch.float64 and shape \(5,\): mat1 and mat2",
    ),
    "wrong dtype": (
        Joint({m: nn.Linear(d, 6) for m, d in WIDTHS.items()}), data(),
        "Joint: the encoder of 'audio' cannot take rows of torch.float64",
    ),
    "film": (
        Joint(nets(), head="film", fusion="entropy"), data(),
        "fusion='entropy' has no effect with a film head, which fuses features and not logits",
    ),
    "gated": (Joint(nets(), head="gated", fusion={"audio": 0.5, "visual": 0.5}), data(), "no effect with a gated head"),
}  # fmt: skip


@pytest.mark.parametrize("case", BEFORE_TRAINING)
def test_what_cannot_be_learnt_says_so_before_training(case: str) -> None:
    method, support, message = BEFORE_TRAINING[case]
    with pytest.raises(ValueError, match=message) as error:
        method.begin(support)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("cls", [Joint, MLA, Independent, MMPareto, ReconBoost])
@pytest.mark.parametrize(
    ("val", "error", "message"),
    [
        (replace(data(), rows={m: t[:0] for m, t in data().rows.items()}), ValueError, "val has no row of audio, vis"),
        (Tables({"text": data()["audio"]}, CLASSES), ValueError, "val has no row of audio, visual; give some, or None"),
        (nan_in(data(), "visual", 4), FloatingPointError, "val: visual row 4 is not finite"),
    ],
)
def test_a_val_that_cannot_choose_says_so(
    cls: type[Multimodal], val: Tables, error: type[Exception], message: str
) -> None:
    method = cls(nets(), epochs=9)
    method.step = None  # type: ignore[assignment]  # and before any step
    with pytest.raises(error, match=message) as raised:
        method.fit(data(), val)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ALL)
def test_a_diverged_loss_names_the_step_and_the_value(name: str) -> None:
    method = ALL[name](linear(WIDTHS), epochs=9, batch=4, lr=1e200)
    said = rf"^{type(method).__name__}, (audio|visual|fused): the loss is (nan|inf) at step [1-9]\d*; lower"
    with pytest.raises(FloatingPointError, match=said) as error:
        method.fit(data())
    assert "\n" not in str(error.value)


def test_a_rule_of_fusion_that_a_fitted_film_cannot_use_is_refused() -> None:
    with pytest.raises(ValueError, match="no effect with a film head"):
        Joint(nets(), head="film", epochs=1).fit(data()).fused_by("uniform")


def test_a_field_that_search_does_not_know_is_named() -> None:
    tables, grid = data(), {"epochs": (1,), "learning_rate": (0.1, 0.2)}
    for fit in (lambda: search(Joint(), grid, tables, tables), lambda: Searched(Joint(), grid).fit(tables, tables)):
        with pytest.raises(ValueError, match="Joint has no field 'learning_rate' to search over") as error:
            fit()
        assert "\n" not in str(error.value)
