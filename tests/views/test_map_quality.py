"""What is said of a map, against slow references and maps that are known to be right or wrong."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.manifold import trustworthiness

from xmodal_lib.evaluate import modality_gap
from xmodal_lib.sources import digits
from xmodal_lib.views.map_quality import (
    alike,
    disparity,
    kept_neighbours,
    measured,
    placed_quality,
    quality,
)
from xmodal_lib.views.map_words import brief, note, trust


@pytest.fixture(scope="module")
def rows():
    table = digits.tables()["image"][:300]
    return table.x, table.y


def nearest(x, i, k, candidates):
    return set(sorted(candidates, key=lambda j: np.sum((x[i] - x[j]) ** 2))[:k])


def test_quality_of_a_faithful_map_and_of_noise(rows):
    x, y = rows
    flat = x[:, :2] + torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    true = quality(flat, flat * 3 + 1, metric="euclidean", labels=y)
    assert true["trustworthiness"] == 1 and true["overlap"] == 1
    assert true["class silhouette"] == pytest.approx(true["class silhouette in space"], abs=1e-5)
    assert "neighbours may be read off it" in trust(true)
    noise = quality(x, np.random.default_rng(0).normal(size=(300, 2)), k=10)
    assert noise["overlap"] < 0.1 and noise["trustworthiness"] == pytest.approx(0.5, abs=0.1)
    assert "do not read neighbours off it" in trust(noise)
    assert "class silhouette" not in noise


@settings(max_examples=25, deadline=None)
@given(st.integers(8, 60), st.integers(1, 8), st.integers(1, 20), st.integers(0, 1000))
def test_trustworthiness_and_overlap_are_the_slow_ones(n, d, k, seed):
    rng = np.random.default_rng(seed)
    x, xy = rng.normal(size=(n, d)).astype("f4"), rng.normal(size=(n, 2)).astype("f4")
    found = quality(x, xy, k=k, metric="euclidean")
    k = int(found["k"])
    assert found["trustworthiness"] == pytest.approx(trustworthiness(x, xy, n_neighbors=k))
    shared = [len(nearest(x, i, k, others) & nearest(xy, i, k, others)) / k
              for i, others in ((i, [j for j in range(n) if j != i]) for i in range(n))]  # fmt: skip
    assert found["overlap"] == pytest.approx(np.mean(shared))


def test_more_rows_than_are_held_at_once(rows):
    x = rows[0].numpy()
    xy = np.random.default_rng(0).normal(size=(300, 2)).astype("f4")
    assert quality(x, xy, metric="cosine")["trustworthiness"] == pytest.approx(
        trustworthiness(x, xy, n_neighbors=10, metric="cosine")
    )
    assert quality(x, xy, most=100)["rows"] == 100


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(8, 40), st.integers(1, 6), st.integers(0, 1000))
def test_placed_points_are_judged_by_the_rows_of_the_map(m, n, k, seed):
    rng = np.random.default_rng(seed)
    m += 3
    x, new = rng.normal(size=(n, 3)).astype("f4"), rng.normal(size=(m, 3)).astype("f4")
    xy, placed = rng.normal(size=(n, 2)).astype("f4"), rng.normal(size=(m, 2)).astype("f4")
    found = placed_quality(new, placed, x, xy, k=k, metric="euclidean")
    k, both, flat = int(found["k"]), np.concatenate([new, x]), np.concatenate([placed, xy])
    shared, penalty, others = [], 0, range(m, m + n)
    for i in range(m):
        rank = {j: r for r, j in enumerate(sorted(others, key=lambda j: np.sum((both[i] - both[j]) ** 2)), 1)}
        near = nearest(flat, i, k, others)
        shared.append(len(near & nearest(both, i, k, others)) / k)
        penalty += sum(max(0, rank[j] - k) for j in near)
    assert found["overlap"] == pytest.approx(np.mean(shared))
    assert found["trustworthiness"] == pytest.approx(1 - 2 * penalty / (m * k * (2 * n - 3 * k + 1)))


def test_the_worst_map_of_placed_points_has_no_trust():
    """All rows on a line; the map shows each new row beside the ten that are farthest from it."""
    x = np.linspace(1, 2, 40)[:, None].astype("f4")
    new = np.zeros((4, 1), "f4")
    found = placed_quality(new, np.full((4, 2), 3, "f4"), x, np.repeat(x, 2, 1), metric="euclidean")
    assert found["trustworthiness"] == pytest.approx(0) and found["overlap"] == 0


def test_kept_neighbours_finds_the_rows_that_moved(rows):
    x = rows[0].numpy().copy()
    assert (kept_neighbours(x, 2 * x) == 1).all()
    moved = x.copy()
    moved[[3, 5]] = -moved[[3, 5]]
    assert set(np.argsort(kept_neighbours(x, moved), kind="stable")[:2]) == {3, 5}
    with pytest.raises(ValueError, match="300 rows and 299 points"):
        kept_neighbours(x, x[1:])


def test_disparity_sees_through_similarities_alone():
    rng = np.random.default_rng(0)
    a, turn = rng.normal(size=(50, 2)), np.array([[0, -3], [3, 0]])
    assert disparity(a, a @ turn + 7) == pytest.approx(0, abs=1e-6)
    assert disparity(a, a * [1, 5]) > 0.1
    assert disparity(a, rng.normal(size=(50, 2))) > 0.8


def test_alike_is_the_slow_loop_and_chance_is_chance(rows):
    x, y = rows[0][:60].numpy(), rows[1][:60].numpy()
    share, chance = alike(x, y, k=5, metric="euclidean")
    everyone = range(60)
    slow = [np.mean([y[j] == y[i] for j in nearest(x, i, 5, [j for j in everyone if j != i])]) for i in everyone]
    assert share == pytest.approx(np.mean(slow))
    assert chance == pytest.approx(np.mean([y[i] == y[j] for i in everyone for j in everyone if i != j]))
    assert alike(x, ["one"] * 60) == (1, 1)


def test_alike_across_looks_at_the_others_alone(rows):
    x, y = rows[0][:60].numpy(), rows[1][:60].numpy()
    side = np.arange(60) % 3
    share, chance = alike(x, y, k=4, metric="euclidean", across=side)
    others = [[j for j in range(60) if side[j] != side[i]] for i in range(60)]
    assert share == pytest.approx(np.mean([np.mean([y[j] == y[i] for j in nearest(x, i, 4, others[i])])
                                           for i in range(60)]))  # fmt: skip
    assert chance == pytest.approx(np.mean([np.mean([y[j] == y[i] for j in others[i]]) for i in range(60)]))
    with pytest.raises(ValueError, match="10 neighbours are asked for; a row has 0 to choose from"):
        alike(x, y, across=["one"] * 60)


def test_what_is_measured_of_a_space(rows):
    """The second modality is the first one moved along a direction of its own: classes agree, modalities are apart."""
    z = torch.nn.functional.normalize(rows[0][:100], dim=1)
    labels = rows[1][:100].tolist()
    flat = torch.zeros(100, 1)
    pair = {"a": torch.cat([z, flat + 1], 1), "b": torch.cat([z, flat - 1], 1)}
    found = measured(torch.cat(list(pair.values())), labels * 2, ["a"] * 100 + ["b"] * 100)
    assert found["gap"] == pytest.approx(modality_gap(pair)["gap"][0], abs=1e-5)
    assert found["same modality"] == 1 and found["class across"] == 1  # the nearest of the other is the row itself
    assert found["same class"] == pytest.approx(alike(z, labels, k=1)[0])
    assert found["same modality, chance"] == pytest.approx(99 / 199)
    alone = measured(z, labels, ["a"] * 100)
    assert np.isnan(alone["gap"]) and np.isnan(alone["class across"]) and alone["same modality"] == 1


@pytest.mark.parametrize(("overlap", "words"), [(0.7, "read neighbours"), (0.4, "read groups"), (0.1, "coarse")])
def test_long_and_brief_words_agree(overlap, words):
    found = {"overlap": overlap, "trustworthiness": 0.9, "k": 10.0}
    assert words in brief(found) and f"{overlap:.0%} of" in brief(found) and f"{overlap:.0%} of" in trust(found)
    assert {0.7: "may be read off", 0.4: "read groups off it", 0.1: "coarse"}[overlap] in trust(found)
    assert note({"quality": found}) == trust(found) and note({"quality": found, "note": "Well."}) == "Well."
    assert "was not measured" in note({"quality": {}})
