"""What is changed is changed to the exact share, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from xmodal_lib.methods import CroMA, Oracle
from xmodal_lib.pairings import fewer, identity, noisy_labels, wrong
from xmodal_lib.tables import Table, Tables

MODALITIES = ("text", "speech")
shares = st.floats(0, 1)
seeds = st.integers(0, 2**31)
some = settings(max_examples=30, deadline=None)


def world(classes: int = 4, each: int = 3, *, alone: int = 5, sets: int = 0, seed: int = 0) -> Tables:
    """`each` pairs a class (in `sets` weak sets, if asked), `alone` source rows more; rows in random order."""
    rng = torch.Generator().manual_seed(seed)
    n = classes * each
    y = torch.arange(n) % classes
    pair = 7 + 3 * torch.arange(n) if not sets else y % sets
    target = Table(torch.rand(n, 3, generator=rng), y, pair)
    source = Table(torch.rand(n, 4, generator=rng), y, pair)
    more = Table(torch.rand(alone, 4, generator=rng), torch.arange(alone) % classes, 10_000 + torch.arange(alone))
    both = Table(*(torch.cat([getattr(t, k) for t in (source, more)]) for k in ("x", "y", "pair")))
    shuffled = {m: t[torch.randperm(len(t), generator=rng)] for m, t in zip(MODALITIES, (both, target), strict=True)}
    return Tables(shuffled, tuple(f"c{c}" for c in range(classes)))


worlds = st.builds(
    world, st.integers(2, 6), st.integers(1, 5), alone=st.integers(0, 6), sets=st.sampled_from([0, 0, 2]), seed=seeds
)


def same(a: Tables, b: Tables, *, but: str = "", column: str = "") -> bool:
    """Equal tables, but for a column of one modality."""
    return a.modalities == b.modalities and a.classes == b.classes and all(
        torch.equal(getattr(a[m], k), getattr(b[m], k))
        for m in a.modalities for k in ("x", "y", "pair") if (m, k) != (but, column)
    )  # fmt: skip


def aligned(tables: Tables) -> torch.Tensor:
    return torch.isin(tables["speech"].pair, tables["text"].pair)


@some
@given(worlds, shares, seeds)
def test_fewer_keeps_an_exact_share_and_takes_ids_alone(base: Tables, share: float, seed: int) -> None:
    n = len(base["speech"])
    assume(round(share * n))
    changed = fewer(base, MODALITIES, share, seed)
    kept = aligned(changed)
    assert int(kept.sum()) == round(share * n) and same(base, changed, but="speech", column="pair")
    assert torch.equal(changed["speech"].pair[kept], base["speech"].pair[kept])
    own = changed["speech"].pair[~kept]
    assert len(own.unique()) == len(own) and not torch.isin(own, base.items()).any()
    assert same(changed, fewer(base, MODALITIES, share, seed))
    assert bool((kept <= aligned(fewer(base, MODALITIES, (1 + share) / 2, seed))).all()), "more pairs hold these"


@some
@given(worlds, seeds)
def test_all_pairs_kept_or_none_wrong_changes_nothing(base: Tables, seed: int) -> None:
    assert same(base, fewer(base, MODALITIES, 1.0, seed))
    assert same(base, wrong(base, MODALITIES, 0.0, seed))
    assert same(base, noisy_labels(base, "speech", 0.0, seed))


@some
@given(worlds, shares, seeds)
def test_wrong_partners_are_an_exact_share_and_all_wrong(base: Tables, share: float, seed: int) -> None:
    was, n = base["speech"].pair.clone(), len(base["speech"])
    try:
        changed = wrong(base, MODALITIES, share, seed)
    except ValueError as error:
        assert "cannot exchange partners" in str(error)
        assert round(share * n) < n or len(was.unique()) < n, "all strong pairs of balanced classes always can"
        return
    moved = changed["speech"].pair != was
    assert int(moved.sum()) == round(share * n) and same(base, changed, but="speech", column="pair")
    assert torch.equal(changed["speech"].pair.sort().values, was.sort().values), "every source row has a partner"
    classes_of = {int(p): set(base["text"].y[base["text"].pair == p].tolist()) for p in was.unique()}
    if len(was.unique()) == n:  # strong: the partner is of one class, and it is another
        for p, y in zip(changed["speech"].pair[moved].tolist(), base["speech"].y[moved].tolist(), strict=True):
            assert y not in classes_of[p]
    assert same(changed, wrong(base, MODALITIES, share, seed)) and torch.equal(base["speech"].pair, was)


@some
@given(st.integers(2, 6), st.integers(1, 5), seeds, seeds)
def test_all_wrong_is_possible_wherever_classes_are_balanced(classes: int, each: int, seed: int, draw: int) -> None:
    base = world(classes, each, seed=seed)
    assert bool((wrong(base, MODALITIES, 1.0, draw)["speech"].pair != base["speech"].pair).all())


def test_wrong_partners_are_drawn_uniformly() -> None:
    base = world(5, 1, seed=1)
    got = torch.stack([wrong(base, MODALITIES, 1.0, seed)["speech"].pair for seed in range(600)])
    for row, own in zip(got.T, base["speech"].pair, strict=True):
        count = row.unique(return_counts=True)[1]
        assert own not in row and len(count) == 4 and chisquare(count).pvalue > 1e-3  # fixed seeds: always or never


@some
@given(worlds)
def test_identity_pairs_are_copies(base: Tables) -> None:
    changed = identity(base, MODALITIES)
    a, b = (changed[m] for m in MODALITIES)
    assert all(torch.equal(getattr(a, k), getattr(b, k)) for k in ("x", "y", "pair"))
    assert torch.equal(b.x, base["speech"].x) and torch.equal(b.y, base["speech"].y)
    assert len(b.pair.unique()) == len(b) and changed.classes == base.classes
    changed.labels()


@some
@given(worlds, st.sampled_from(MODALITIES), shares, seeds, st.integers(0, 4))
def test_noise_is_exact_and_withheld_labels_stay(
    base: Tables, modality: str, share: float, seed: int, withheld: int
) -> None:
    y = base[modality].y.clone()
    y[:withheld] = -1
    base = replace(base, rows={**base.rows, modality: replace(base[modality], y=y)})
    noisy = noisy_labels(base, modality, share, seed)
    assert int((noisy[modality].y != y).sum()) == round(share * int((y >= 0).sum()))
    assert bool((noisy[modality].y[:withheld] == -1).all()) and bool((noisy[modality].y[withheld:] >= 0).all())
    assert same(base, noisy, but=modality, column="y") and same(noisy, noisy_labels(base, modality, share, seed))


def test_every_other_class_is_as_likely() -> None:
    base = world(5, 400)
    y, noisy = base["speech"].y, noisy_labels(base, "speech", 1.0, 3)["speech"].y
    assert chisquare(((noisy - y) % 5).bincount(minlength=5)[1:]).pvalue > 1e-3
    base = world(5, 1, alone=0)
    hit = sum((noisy_labels(base, "speech", 0.4, s)["speech"].y != base["speech"].y).double() for s in range(500))
    assert chisquare(hit).pvalue > 1e-3


@some
@given(st.integers(2, 6), st.integers(1, 5), shares, seeds)
def test_classes_of_a_support_are_kept(classes: int, shot: int, share: float, seed: int) -> None:
    support = world(classes, shot, alone=0).only("speech")
    number = round(share * classes * shot)
    assume(shot * number != 1)  # then it cannot be
    noisy = noisy_labels(support, "speech", share, seed, keep_classes=True)
    assert len(noisy["speech"].y.unique()) == classes
    assert int((noisy["speech"].y != support["speech"].y).sum()) == number


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda base: fewer(base, MODALITIES, 1.5, 0), "from 0 to 1"),
        (lambda base: fewer(base, MODALITIES, 0.0, 0), "leaves none"),
        (lambda base: fewer(base, ("text", "smell"), 0.5, 0), "no modality 'smell'"),
        (lambda base: fewer(base.unpaired(), MODALITIES, 0.5, 0), "there is no pair"),
        (lambda base: wrong(base, MODALITIES, -0.1, 0), "from 0 to 1"),
        (lambda base: wrong(base, MODALITIES, 1 / 12, 0), "1 pairs cannot exchange"),
        (lambda base: wrong(base, ("text", "text"), 0.5, 0), "both 'text'"),
        (lambda base: identity(base.only("text"), MODALITIES), "no modality 'speech'"),
        (lambda base: noisy_labels(base, "smell", 0.5, 0), "no modality 'smell'"),
        (lambda base: noisy_labels(base, "speech", float("nan"), 0), "from 0 to 1"),
        (lambda base: noisy_labels(base.of_classes(["c0"]), "speech", 0.5, 0), "with 1 class"),
        (lambda base: noisy_labels(world(4, 1), "speech", 0.25, 0, keep_classes=True), "leave a class without a row"),
    ],
)
def test_what_cannot_be_is_said(change: Callable[[Tables], Tables], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        change(world())


def test_the_methods_see_what_they_should() -> None:
    """Pairs matter to the alignment of CroMA and not to its classification nor to the oracle; target labels are the
    oracle's."""
    base = world(6, 4)
    encoders = {"text": torch.nn.Linear(4, 8), "speech": torch.nn.Linear(3, 8)}
    fields = {"source": "text", "target": "speech", "encoders": encoders, "way": 3, "shot": 2, "iterations": 3}
    croma, oracle = CroMA(**fields), Oracle(**fields)

    def learnt(method: CroMA | Oracle, tables: Tables) -> dict[str, torch.Tensor]:
        return method.pretrain(tables).meta_

    def differ(method: CroMA | Oracle, other: Tables) -> set[str]:
        a, b = learnt(method, base), learnt(method, other)
        return {k.split(".")[0] + ("." + k.split(".")[1] if k.startswith("encoders") else "")
                for k in a if not torch.equal(a[k], b[k])}  # fmt: skip

    for changed in (fewer(base, MODALITIES, 0.5, 1), wrong(base, MODALITIES, 1.0, 1)):
        assert "encoders.speech" in differ(croma, changed) and not differ(oracle, changed)
        assert not differ(replace(croma, align_inner=0), changed)
    noisy = noisy_labels(base, "speech", 0.5, 1)
    assert not differ(croma, noisy) and "encoders.speech" in differ(oracle, noisy)
    itself = identity(base, MODALITIES)
    replace(croma, encoders=dict.fromkeys(MODALITIES, encoders["speech"])).pretrain(itself)
