"""Meta-alignment against a plain loop, and the rows beside it against what each may read."""

from __future__ import annotations

import copy
import zlib
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from xmodal_lib.encoders.small import mlp
from xmodal_lib.episodes import Episode, draw
from xmodal_lib.methods.croma import README_RUN, RELEASED, CroMA, best_iteration, tuned
from xmodal_lib.methods.croma_baselines import (
    AlignClassify,
    AlignMetaClassify,
    ContrastiveOracle,
    FreshHead,
    FromScratch,
    NearestMeanReading,
    Oracle,
    Reconstruction,
    SharedAlign,
    SharedConfusion,
    SharedEncoder,
    SharedTargetLabels,
    SourceOnly,
    WeakLabels,
)
from xmodal_lib.methods.meta_rows import Groups, Pairs, cycle
from xmodal_lib.methods.meta_rows import draw as draw_rows
from xmodal_lib.methods.meta_tasks import Nets
from xmodal_lib.methods.meta_transfer import MetaTransfer
from xmodal_lib.methods.reptile import Loop, Outer
from xmodal_lib.tables import Table, Tables
from xmodal_lib.training import accuracy, generator

SIZES = {"text": 12, "image": 20}
ORACLES = (Oracle, ContrastiveOracle, SharedTargetLabels)
SHARED = (SharedEncoder, SharedAlign, SharedConfusion, SharedTargetLabels)
WITHOUT_TARGET_LABELS = (SourceOnly, AlignClassify, AlignMetaClassify, CroMA, Reconstruction, WeakLabels, SharedEncoder,
                         SharedAlign, SharedConfusion)  # fmt: skip
ROWS = (*WITHOUT_TARGET_LABELS, *ORACLES)
FAST = {"iterations": 3, "inner": 2, "way": 3, "shot": 2, "batch": 4, "steps": 3}


def pairs_of(classes: int = 8, per: int = 6, d: int = 6, seed: int = 0, nuisance: float = 1.0) -> Tables:
    """Two linear views of one latent (d,), the target's with strong directions that mean nothing; strong pairs."""
    rng = torch.Generator().manual_seed(seed)
    views = {m: torch.randn(d, n, generator=rng) / d**0.5 for m, n in SIZES.items()}
    distract = torch.randn(d, SIZES["image"], generator=rng)
    y = torch.arange(classes).repeat_interleave(per)
    u = torch.randn(classes, d, generator=rng)[y] + 0.3 * torch.randn(len(y), d, generator=rng)
    x = {m: u @ view for m, view in views.items()}
    x["image"] = x["image"] + nuisance * torch.randn(len(y), d, generator=rng) @ distract
    return Tables({m: Table(v, y, torch.arange(len(y))) for m, v in x.items()}, tuple(f"c{c}" for c in range(classes)))


def weak(tables: Tables, size: int = 2) -> Tables:
    """Sets of `size` neighbouring pairs, all of one class."""
    return replace(tables, rows={m: replace(t, pair=t.pair // size) for m, t in tables.rows.items()})


def net(d_in: int, d: int = 6) -> nn.Sequential:
    """No bias in front of BatchNorm: its gradient is rounding, which Adam would blow up."""
    return nn.Sequential(nn.Linear(d_in, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, d))


def encoders(row: type = CroMA) -> dict[str, nn.Module]:
    if issubclass(row, SharedEncoder):
        return {m: nn.Linear(n, 16) for m, n in SIZES.items()} | {"trunk": net(16)}
    return {m: net(n) for m, n in SIZES.items()}


def make(row: type = CroMA, **fields) -> MetaTransfer:
    return row(encoders=encoders(row), **(FAST | fields))


def learnt(method: MetaTransfer) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in Nets(method.encoders_, method.head_).state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def novel(seed: int = 0, shot: int = 2, way: int = 3) -> Episode:
    tables = pairs_of(12, 10).of_classes([f"c{c}" for c in range(8, 12)]).only("image")
    items = tables.items()
    first = torch.arange(len(items)) % 10 < 5
    return draw(tables.take(items[first]), tables.take(items[~first]), shot=shot, seed=seed, way=way)


# -- Reptile -----------------------------------------------------------------------------------------------------


def reference(method: MetaTransfer, base: Tables) -> dict[str, Tensor]:
    """The same batches through a loop that is written out: fresh deep copies, an ordinary Adam, weight by weight."""
    started = copy.deepcopy(method)
    started._start({m: base[m] for m in SIZES}, method.way)
    meta = Nets(started.encoders_, started.head_)
    parts = method._parts(base)
    rngs = {part.name: generator(method.seed, zlib.crc32(part.name.encode())) for part in parts}
    states: dict[str, dict] = {}
    outer = torch.optim.Adam(meta.parameters(), lr=method.rate)
    for _ in range(method.iterations):
        for part in parts:
            work = copy.deepcopy(meta)
            weights = [p for module in part.learns(work) for p in module.parameters()]
            inner = torch.optim.Adam(weights, lr=part.lr, betas=method.betas)
            if part.name in states:
                inner.load_state_dict(states[part.name])
            for batch in part.batches(work, method.inner, rngs[part.name]):
                inner.zero_grad()
                part.loss(work, *batch).backward()
                inner.step()
            states[part.name] = copy.deepcopy(inner.state_dict())
            copied = dict(work.named_parameters())
            if method.outer == "adam":
                for name, p in meta.named_parameters():
                    p.grad = (p - copied[name]).detach()
                outer.step()
            with torch.no_grad():
                if method.outer == "sgd":
                    for name, p in meta.named_parameters():
                        p += method.rate * (copied[name] - p)
                statistics = dict(work.named_buffers())
                share = method.rate if method.outer == "sgd" else 1.0
                for name, b in meta.named_buffers():
                    moved = statistics[name] if b.dtype == torch.int64 else b + share * (statistics[name] - b)
                    b.copy_(moved)
    return meta.state_dict()


@pytest.mark.parametrize("outer", ["sgd", "adam"])
@pytest.mark.parametrize("classify", ["head", "head and encoder"])
@pytest.mark.parametrize("sets", ["pair", "class"])
def test_meta_training_is_that_of_a_plain_loop(outer: str, classify: str, sets: str) -> None:
    method = make(outer=outer, classify=classify, sets=sets, rate=0.3 if outer == "sgd" else 1e-3, lr_align=1e-2)
    for encoder in method.encoders.values():
        encoder.double()  # Adam makes a step of a gradient's rounding error
    base = pairs_of()
    base = replace(base, rows={m: replace(t, x=t.x.double()) for m, t in base.rows.items()})
    found, want = learnt(method.pretrain(base)), reference(method, base)
    assert found.keys() == want.keys()
    for k in want:
        torch.testing.assert_close(found[k], want[k], atol=1e-9, rtol=1e-7, msg=k)


def loop(rate: float, outer: str = "sgd", shared: bool = False) -> tuple[Loop, Nets]:
    base, method = pairs_of(), make()
    method._start({m: base[m] for m in SIZES}, method.way)
    meta = Nets(method.encoders_, method.head_)
    part = method._parts(base)[0]
    made = Loop(part, meta, Outer(meta, outer, rate), generator(0), steps=3, betas=(0.0, 0.999), carry=True,
                shared=shared)  # fmt: skip
    return made, meta


def test_outer_rate_one_gives_the_inner_result() -> None:
    made, meta = loop(1.0)
    made.run(1)
    assert equal(meta.state_dict(), made.work.state_dict())


@pytest.mark.parametrize("outer", ["sgd", "adam"])
def test_outer_rate_zero_changes_nothing(outer: str) -> None:
    made, meta = loop(0.0, outer)
    before = copy.deepcopy(meta.state_dict())
    line = made.run(1)
    assert equal(meta.state_dict(), before)  # weights, and statistics of BatchNorm with their counter
    assert line["moved"] > 0 and not equal(made.work.state_dict(), before)


def test_a_shared_clone_leaves_no_difference_for_the_outer_step() -> None:
    made, meta = loop(0.0, shared=True)
    before = copy.deepcopy(meta.encoders.state_dict())
    assert made.run(1)["moved"] == 0.0
    assert not equal(meta.encoders.state_dict(), before)  # the inner loop has changed the meta-learner itself
    history = make(clone="shared").pretrain(pairs_of()).history_
    assert (history.moved == 0).all()
    assert (make().pretrain(pairs_of()).history_.query("part == 'align'").moved > 0).all()


def test_with_the_whole_step_reptile_is_plain_training() -> None:
    """Carried Adam and outer rate 1: the copies make no difference."""
    base = pairs_of()
    deep = make(rate=1.0, classify="head and encoder").pretrain(base)
    method = make(rate=1.0, classify="head and encoder")
    method._parts = lambda b: [replace(p, direct=True) for p in CroMA._parts(method, b)]  # type: ignore[method-assign]
    for _ in method.meta_train(base):
        pass
    a, b = learnt(deep), learnt(method)
    assert all(torch.allclose(a[k], b[k], atol=1e-6) for k in a)


def test_without_a_carried_state_every_task_starts_alike() -> None:
    base = pairs_of()
    assert not equal(learnt(make().pretrain(base)), learnt(make(carry=False).pretrain(base)))
    one = {"iterations": 1}
    assert equal(learnt(make(**one).pretrain(base)), learnt(make(carry=False, **one).pretrain(base)))


# -- what learns -------------------------------------------------------------------------------------------------


def moved(method: MetaTransfer, base: Tables) -> set[str]:
    still = replace(method, iterations=0).pretrain(base)
    before, after = learnt(still), learnt(method.pretrain(base))
    return {".".join(k.split(".")[:2]) for k in before if not torch.equal(before[k], after[k])}


@pytest.mark.parametrize(
    ("method", "want"),
    [
        (make(), {"encoders.text", "encoders.image", "head.1"}),
        (make(align_inner=0), {"head.1"}),
        (make(align_inner=0, classify="head and encoder"), {"encoders.text", "head.1"}),
        (make(SourceOnly), {"head.1"}),
        (make(Oracle), {"encoders.image", "head.1"}),
        (make(WeakLabels), {"encoders.image", "head.1"}),
        (make(Reconstruction), {"encoders.image"}),
        (make(AlignClassify), {"encoders.text", "encoders.image", "head.1"}),
        (make(SharedEncoder), {"encoders.text", "encoders.image", "head.1"}),  # the trunk is in both
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, MetaTransfer) else "",
)
def test_what_a_row_trains(method: MetaTransfer, want: set[str]) -> None:
    assert moved(method, weak(pairs_of())) == want


def test_without_alignment_steps_croma_is_source_only() -> None:
    base, episode = pairs_of(), novel()
    a, b = make(align_inner=0).pretrain(base), make(SourceOnly).pretrain(base)
    assert equal(learnt(a), learnt(b))
    assert torch.equal(*(m.fit(episode.support).proba(episode.query) for m in (a, b)))


def test_a_trunk_stays_shared() -> None:
    method = make(SharedAlign).pretrain(pairs_of())
    a, b = (method.encoders_[m][1] for m in SIZES)
    assert a is b
    episode = novel()
    assert method.fit(episode.support).proba(episode.query).isfinite().all()


# -- labels ------------------------------------------------------------------------------------------------------


def poisoned(base: Tables, how: str) -> Tables:
    y = base["image"].y
    wrong = torch.full_like(y, -1) if how == "withheld" else (y + 3) % len(base.classes)
    if how == "wrong":
        wrong = wrong[torch.randperm(len(y), generator=generator(9))]
    return replace(base, rows={**base.rows, "image": replace(base["image"], y=wrong)})


@pytest.mark.parametrize("how", ["withheld", "wrong"])
@pytest.mark.parametrize("row", WITHOUT_TARGET_LABELS)
@pytest.mark.parametrize("fields", [{}, {"sets": "class", "reserved": 0.5}], ids=["published", "by class"])
def test_target_labels_are_not_read(row: type, how: str, fields: dict) -> None:
    base, method = weak(pairs_of()), make(row, **fields)
    assert equal(learnt(method.pretrain(base)), learnt(method.pretrain(poisoned(base, how))))


@pytest.mark.parametrize("row", ORACLES)
def test_an_oracle_reads_them(row: type) -> None:
    base, method = pairs_of(), make(row)
    assert not equal(learnt(method.pretrain(base)), learnt(method.pretrain(poisoned(base, "wrong"))))
    with pytest.raises(ValueError, match="labelled image rows of 0 classes only"):
        method.pretrain(poisoned(base, "withheld"))


def test_source_labels_may_be_withheld_from_rows_that_are_only_aligned() -> None:
    base = pairs_of()
    y = torch.where(torch.arange(len(base["text"])) % 2 == 0, -1, base["text"].y)
    half = replace(base, rows={**base.rows, "text": replace(base["text"], y=y)})
    assert not equal(learnt(make().pretrain(base)), learnt(make().pretrain(half)))


# -- pairs -------------------------------------------------------------------------------------------------------


def test_sets_of_one_row_are_strong_pairs() -> None:
    base = pairs_of()
    renamed = replace(base, rows={m: replace(t, pair=7 * t.pair + 100) for m, t in base.rows.items()})
    assert equal(learnt(make().pretrain(base)), learnt(make().pretrain(renamed)))
    assert not equal(learnt(make().pretrain(base)), learnt(make().pretrain(weak(base))))


@pytest.mark.parametrize("sets", ["pair", "class"])
def test_a_weak_batch_pairs_rows_of_one_set(sets: str) -> None:
    base = weak(pairs_of(), 3)
    marked = replace(base, rows={
        m: replace(t, x=torch.stack([t.pair, t.y, torch.arange(len(t))], 1).float()) for m, t in base.rows.items()
    })  # fmt: skip
    part = make(sets=sets, shot=4)._align(marked)
    seen = set()
    for _ in range(20):
        for s, t, told in part.batches(None, 5, torch.Generator().manual_seed(_)):  # type: ignore[arg-type]
            assert torch.equal(s[:, 0], t[:, 0])
            same = s[:, 0 if sets == "pair" else 1]
            assert torch.equal(told.unsqueeze(1) == told, same.unsqueeze(1) == same)
            seen |= {(int(a), int(b)) for a, b in zip(s[:, 2], t[:, 2], strict=True)}
    assert any(a != b for a, b in seen) and len(seen) > 48  # combinations, not only the pairs of old


def test_what_is_kept_for_alignment_is_not_classified() -> None:
    base = pairs_of()
    method = make(reserved=0.5)
    align, classify = method._parts(base)
    aligned, classified = set(align.rows[0].rows.tolist()), set(classify.classes.rows.tolist())
    assert not aligned & classified and len(aligned) == len(classified) == 24
    assert all((base["text"].y[sorted(part)].bincount() == 3).all() for part in (aligned, classified))
    oracle = make(Oracle, reserved=0.5)._parts(base)[0]
    assert set(oracle.classes.rows.tolist()) == classified


def test_pairs_and_groups() -> None:
    s = Table(torch.zeros(4, 1), torch.tensor([0, 0, 1, 2]), torch.tensor([5, 5, 9, 1]))
    t = Table(torch.zeros(3, 1), torch.tensor([0, 1, 1]), torch.tensor([9, 5, 7]))
    pairs = Pairs.of(s, t)
    assert pairs.ids.tolist() == [5, 9] and pairs.label.tolist() == [0, 1]
    assert pairs.rows(s).count.tolist() == [2, 1] and pairs.rows(t).rows.tolist() == [1, 0]
    groups = Groups.of(torch.tensor([2, -1, 0, 2, 2]), 3)
    assert groups.rows.tolist() == [2, 0, 3, 4] and groups.filled().tolist() == [0, 2]
    rng = generator(0)
    first, second = groups.two(torch.tensor([2] * 50 + [0]), rng)
    assert (first[:50] != second[:50]).all() and first[50] == second[50] == 2
    assert set(groups.one(torch.full((50,), 2), rng).tolist()) == {0, 3, 4}
    rows, place = groups.some(torch.tensor([2, 0]), 2, rng)
    assert place.tolist() == [0, 0, 1] and rows[2] == 2 and len(set(rows[:2].tolist())) == 2


def test_passes_are_shuffled_and_whole() -> None:
    batches = list(cycle(5, 2, 6, generator(0)))
    assert [len(b) for b in batches] == [2, 2, 1, 2, 2, 1]
    assert all(sorted(torch.cat(batches[k : k + 3]).tolist()) == list(range(5)) for k in (0, 3))
    assert draw_rows(3, 7, generator(0)).bincount().tolist() in ([3, 2, 2], [2, 3, 2], [2, 2, 3])


# -- few-shot learning -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [*ROWS, FromScratch])
def test_evaluation_leaves_no_trace(row: type) -> None:
    method = make(row, head="fresh" if row is AlignClassify else "transferred").pretrain(weak(pairs_of()))
    episode, other = novel(), novel(seed=5)
    before = learnt(method) if hasattr(method, "encoders_") else {}
    first = method.fit(episode.support).proba(episode.query)
    method.fit(other.support).proba(other.query)
    assert torch.equal(first, method.fit(episode.support).proba(episode.query))
    assert torch.equal(first, method.fit(other.support).fit(episode.support).proba(episode.query))
    assert not before or equal(before, learnt(method))


def test_fit_starts_from_what_was_meta_learnt() -> None:
    method = make(steps=0).pretrain(pairs_of())
    assert equal(learnt(method), learnt(method.fit(novel().support)))
    fresh = copy.copy(method)
    fresh.head = "fresh"
    a, b = learnt(method), learnt(fresh.fit(novel().support))
    assert all(torch.equal(a[k], b[k]) for k in a if k.startswith("encoders")) and not equal(a, b)


def test_head_alone_may_adapt() -> None:
    method = make(adapt="head").pretrain(pairs_of())
    a, b = learnt(method), learnt(method.fit(novel().support))
    assert all(torch.equal(a[k], b[k]) for k in a if k.startswith("encoders")) and not equal(a, b)


def test_fit_between_iterations_disturbs_nothing() -> None:
    base, episode = pairs_of(), novel()
    method = make()
    for _ in method.meta_train(base):
        method.fit(episode.support).proba(episode.query)
    assert equal(learnt(method), learnt(make().pretrain(base)))


def test_a_seed_decides_everything() -> None:
    base = pairs_of()
    dropping = {m: nn.Sequential(e, nn.Dropout(0.3)) for m, e in encoders().items()}
    method = CroMA(encoders=dropping, **FAST)
    torch.manual_seed(1)
    first = learnt(method.pretrain(base))
    torch.manual_seed(2)
    assert equal(first, learnt(method.pretrain(base)))
    assert not equal(first, learnt(replace(method, seed=1).pretrain(base)))


def test_nearest_mean_reading_is_that_of_a_loop() -> None:
    method, episode = make().pretrain(pairs_of()), novel(shot=3)
    fitted = NearestMeanReading(method).fit(episode.support)
    unit = torch.nn.functional.normalize
    support = unit(method.embed(episode.support)["image"], dim=1)
    means = [support[episode.support["image"].y == c].mean(0) for c in range(3)]
    query = method.embed(episode.query)["image"]
    want = [max(range(3), key=lambda c: float(torch.cosine_similarity(z, means[c], dim=0))) for z in query]
    assert fitted.predict(episode.query).tolist() == want


@pytest.mark.parametrize("reading", [NearestMeanReading, FreshHead])
def test_a_reading_takes_any_number_of_classes_and_keeps_the_encoder(reading: type) -> None:
    base = pairs_of()
    for method in (reading(make()).pretrain(base), reading(make().pretrain(base)), reading(make())):
        episode = novel(way=4)
        fitted = method.fit(episode.support)
        assert fitted.proba(episode.query).shape == (len(episode.query.items()), 4)
        assert torch.equal(fitted.proba(episode.query), fitted.fit(episode.support).proba(episode.query))
        if hasattr(method.method, "encoders_"):
            assert equal(method.method.encoders_.state_dict(), fitted.method.encoders_.state_dict())


def test_fresh_head_learns_the_support() -> None:
    method, episode = make().pretrain(pairs_of()), novel(shot=2)
    assert accuracy(FreshHead(method).fit(episode.support), episode.support) == 1.0


# -- the claim, where its assumptions hold ----------------------------------------------------------------------


def test_alignment_beats_learning_from_scratch_on_new_classes() -> None:
    tables = pairs_of(26, 12)
    base = tables.of_classes(tables.classes[:18])
    new = tables.of_classes(tables.classes[18:]).only("image")
    items = new.items()
    first = torch.arange(len(items)) % 12 < 5
    episodes = [draw(new.take(items[first]), new.take(items[~first]), shot=3, seed=s, way=5) for s in range(8)]
    fields = {"iterations": 150, "batch": 16, "rate": 0.5, "lr_align": 3e-3, "lr": 0.01, "loss": "info-nce"}
    nets = {m: net(n, 12) for m, n in SIZES.items()}
    trained = CroMA(encoders=nets, **fields).pretrain(base)
    random = replace(base["image"], pair=base["image"].pair[torch.randperm(len(base["image"]), generator=generator(3))])
    rows = {
        "scratch": FromScratch(encoders=nets, **fields),
        "random pairs": CroMA(encoders=nets, **fields).pretrain(replace(base, rows={**base.rows, "image": random})),
        "CroMA": trained,
        "nearest mean": NearestMeanReading(trained),
    }
    found = {n: sum(accuracy(m.fit(e.support), e.query) for e in episodes) / len(episodes) for n, m in rows.items()}
    assert found["CroMA"] > found["scratch"] + 0.05 and found["CroMA"] > found["random pairs"] + 0.05, found
    assert found["nearest mean"] > found["scratch"] + 0.2, found


def test_the_best_iteration_is_kept() -> None:
    method = make(iterations=6, lr_align=0.05)
    episodes = [novel(seed) for seed in range(3)]
    best, frame = best_iteration(method, pairs_of(), episodes, every=2)
    assert frame.iteration.tolist() == [2, 4, 6]
    top = frame.accuracy.idxmax()
    assert frame.accuracy[top] == sum(accuracy(best.fit(e.support), e.query) for e in episodes) / 3
    assert equal(learnt(best), learnt(replace(method, iterations=int(frame.iteration[top])).pretrain(pairs_of())))


def test_without_iterations_the_start_is_kept() -> None:
    method, episodes = make(iterations=0), [novel(0)]
    best, frame = best_iteration(method, pairs_of(), episodes)
    assert frame.iteration.tolist() == [0]
    assert frame.accuracy[0] == accuracy(best.fit(episodes[0].support), episodes[0].query)
    assert equal(learnt(best), learnt(method.pretrain(pairs_of())))


def test_few_shot_fields_are_tuned_on_meta_validation() -> None:
    method, episodes = make().pretrain(pairs_of()), [novel(seed) for seed in range(3)]
    before = dict(vars(method))
    best, frame = tuned(method, {"lr": (1e-4, 0.03), "adapt": ("all", "head"), "steps": (20,)}, episodes)
    assert len(frame) == 4 and vars(method) == before
    top = frame.iloc[frame.accuracy.idxmax()]
    assert (best.lr, best.adapt, best.steps) == (top.lr, top.adapt, 20)
    assert top.accuracy == pytest.approx(sum(accuracy(best.fit(e.support), e.query) for e in episodes) / 3)
    assert tuned(FreshHead(method), {"steps": (1, 100)}, episodes)[0].method is method
    with pytest.raises(ValueError, match="'rate' is no field of few-shot learning of CroMA; there are steps, lr"):
        tuned(method, {"rate": (0.1,)}, episodes)


# -- errors and options ------------------------------------------------------------------------------------------


def test_the_releases_settings_run() -> None:
    base, episode = pairs_of(), novel()
    for fields in (RELEASED | {"way": 3}, README_RUN):
        for clone in ("deep", "shared"):
            method = CroMA(encoders=encoders(), iterations=2, clone=clone, **fields).pretrain(base)
            assert method.fit(episode.support).proba(episode.query).isfinite().all()


WRONG = {
    "no pairs": (make(), lambda b: b.unpaired(), "no item of the base has rows of both 'text' and 'image'; CroMA"),
    "modality": (make(), lambda b: b.only("text"), "CroMA learns from 'image', but the base holds text"),
    "way": (make(way=9), lambda b: b, "way=9, but the base has labelled text rows of 8 classes only"),
    "strong": (make(WeakLabels), lambda b: b, "every image row is of a set of its own"),
    "row numbers": (make(Reconstruction), lambda b: replace(b, rows={
        **b.rows, "image": replace(b["image"], x=torch.arange(len(b["image"])))}), "image rows are torch.int64"),
    "widths": (CroMA(encoders={m: mlp(n, n) for m, n in SIZES.items()}, **FAST), lambda b: b,
               "one width, and not text 12, image 20"),
    "trunk": (SharedEncoder(encoders=encoders(), **FAST), lambda b: b, r"needs encoders\['trunk'\]"),
    "frozen": (CroMA(source="text", target="image", **FAST), lambda b: replace(b, rows={
        m: replace(t, x=t.x[:, :8]) for m, t in b.rows.items()}), "align: there is nothing to learn"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_base_that_will_not_do_is_refused(case: str) -> None:
    method, change, message = WRONG[case]
    with pytest.raises(ValueError, match=message) as error:
        method.pretrain(change(pairs_of()))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"outer": "rmsprop"}, "outer='rmsprop'; there are 'sgd', 'adam'"), ({"loss": "nce"}, "loss='nce'"),
     ({"way": 0}, "way=0; at least 1"), ({"reserved": 1.0}, "reserved=1.0"), ({"target": "text"}, "both 'text'")],
)  # fmt: skip
def test_an_impossible_field_is_named(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**fields).pretrain(pairs_of())


def test_a_support_that_will_not_do_is_refused() -> None:
    method, episode = make().pretrain(pairs_of()), novel()
    with pytest.raises(ValueError, match="CroMA learns from 'image', but the support holds text"):
        method.fit(pairs_of().only("text"))
    with pytest.raises(ValueError, match="4 classes, the transferred head 3; meta-train with way=4, or set head"):
        method.fit(novel(way=4).support)
    with pytest.raises(ValueError, match=r"support: image row 0 has no label \(-1\)"):
        method.fit(episode.support.withheld())
    with pytest.raises(ValueError, match="has no image row"):
        method.fit(episode.support.take(episode.support.items()[:2]))
    with pytest.raises(ValueError, match="knows text, image; the query has 'sound'"):
        method.embed(Tables({"sound": episode.query["image"]}, episode.query.classes))


def test_a_diverged_loss_is_refused() -> None:
    base = pairs_of()
    loud = replace(base, rows={**base.rows, "text": replace(base["text"], x=base["text"].x * 1e30)})
    with pytest.raises(FloatingPointError, match="meta-iteration, align: the loss is"):
        CroMA(encoders={m: nn.Linear(n, 4) for m, n in SIZES.items()}, loss="linear", lr_align=1e30, **FAST).pretrain(
            loud
        )
    episode = novel()
    with pytest.raises(FloatingPointError, match=r"FromScratch: the loss is (nan|inf) at step [1-9]\d*; lower"):
        make(FromScratch, lr=1e30, steps=50).fit(episode.support)
