import json
import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score
from torch.nn.functional import normalize, one_hot

from xmodal_lib import evaluate as ev
from xmodal_lib.calibration import expected_calibration_error
from xmodal_lib.episodes import Episode
from xmodal_lib.methods.method import Method
from xmodal_lib.tables import Table, Tables, class_means


@dataclass
class NearestMean(Method):
    """Scores by distance to class means; looks at what it is given and keeps a record."""

    seed: int = 0
    flip: bool = False
    seen: list = field(default_factory=list)

    def pretrain(self, base):
        method = super().pretrain(base)
        method.base_ = len(base.items())
        return method

    def _fit(self, support, val):
        self.mean_ = {m: class_means(t.x, t.y, len(support.classes)) for m, t in support.rows.items()}
        self.val_ = val
        SEEN.append((self.seed, val is not None, getattr(self, "base_", None)))

    def logits(self, query):
        ASKED.extend(t.y.unique().tolist() for t in query.rows.values())
        sign = -1 if self.flip else 1
        return {m: -sign * torch.cdist(t.x, self.mean_[m]) for m, t in query.rows.items()}


class Peeks(NearestMean):
    def logits(self, query):
        return {m: one_hot(t.y, len(query.classes)).float() for m, t in query.rows.items()}


SEEN: list = []
ASKED: list = []


@pytest.fixture(autouse=True)
def forget():
    SEEN.clear()
    ASKED.clear()


def tables(items: list[int], seed: int = 0) -> Tables:
    """Two modalities that show the same items; class 0 lies at -1 and class 1 at +1, the second one noisier."""
    rng = torch.Generator().manual_seed(seed)
    ids = torch.tensor(items)
    y = ids % 2
    centre = (2 * y - 1).float()[:, None].expand(-1, 3)
    rows = {m: Table(centre + s * torch.randn(len(y), 3, generator=rng), y, ids) for m, s in (("a", 0.5), ("b", 3.0))}
    return Tables(rows, ("even", "odd"))


def episode(seed: int, val: bool = True) -> Episode:
    parts = (tables(list(range(s, s + n)), seed) for s, n in ((0, 8), (100, 4), (200, 31)))
    support, held, query = parts
    return Episode(support, held if val else None, query, seed)


def test_a_line_for_each_method_draw_and_metric():
    episodes = [({"shot": 4}, episode(s)) for s in (3, 5)]
    frame = ev.evaluate({"near": NearestMean(), "far": NearestMean(flip=True)}, episodes, progress=False)
    assert list(frame.columns) == ["method", "track", "seed", "shot", "metric", "value"]
    assert len(frame) == 2 * 2 * 7 and set(frame["track"]) == {"few-shot val"} and set(frame["shot"]) == {4}
    assert set(frame["metric"]) == {
        "accuracy", "macro accuracy", "macro F1", "ECE", "accuracy a", "accuracy b", "fit seconds",
    }  # fmt: skip
    value = frame.set_index(["method", "seed", "metric"])["value"]
    assert value["near", 3, "accuracy"] > 0.8 > value["near", 3, "accuracy b"] > 0.5
    assert value["near", 3, "accuracy"] + value["far", 3, "accuracy"] == pytest.approx(1)
    fitted, query = NearestMean().fit(episodes[0][1].support), episodes[0][1].query
    right = (fitted.predict(query) == query.labels()).double()
    assert value["near", 3, "accuracy"] == right.mean()
    y = query.labels()
    assert value["near", 3, "macro accuracy"] == pytest.approx((right[y == 0].mean() + right[y == 1].mean()) / 2)
    assert value["near", 3, "macro F1"] == pytest.approx(f1_score(y, fitted.predict(query), average="macro"))
    assert value["near", 3, "ECE"] == expected_calibration_error(fitted.proba(query), y) > 0
    alone = query.only("b")
    assert value["near", 3, "accuracy b"] == (fitted.predict(alone) == alone.labels()).double().mean()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30))
def test_macro_f1_is_that_of_scikit_learn(pairs):
    y, yhat = (np.array(column) for column in zip(*pairs, strict=True))
    assert ev.macro_f1(y, yhat) == pytest.approx(f1_score(y, yhat, average="macro", zero_division=0))


def test_a_method_gets_the_seed_of_the_episode_and_keeps_what_it_pretrained():
    ev.evaluate({"near": NearestMean()}, [episode(3), episode(5, val=False)], base=tables([1, 2]), progress=False)
    assert SEEN == [(3, True, 2), (5, False, 2)]


def test_labels_of_a_query_are_never_shown():
    ev.evaluate({"near": NearestMean()}, [episode(0)], progress=False)
    assert ASKED and all(y == [-1] for y in ASKED)


def test_a_method_that_peeks_fails_and_is_named():
    with pytest.raises(RuntimeError, match="non-negative") as caught:
        ev.evaluate({"spy": Peeks()}, [({"shot": 2}, episode(7))], progress=False)
    assert caught.value.__notes__ == ["method 'spy', seed 7, shot 2"]


def test_what_is_no_probability_is_refused():
    class Unnormalised(NearestMean):
        def proba(self, query):
            return torch.ones(len(query.items()), 2)

    class Short(NearestMean):
        def proba(self, query):
            return torch.ones(3, 2) / 2

    with pytest.raises(ValueError, match="do not sum to 1"):
        ev.evaluate({"u": Unnormalised()}, [episode(0)], progress=False)
    with pytest.raises(ValueError, match=r"\(3, 2\); \(items, classes\) = \(31, 2\)"):
        ev.evaluate({"s": Short()}, [episode(0)], progress=False)
    with pytest.raises(ValueError, match="nothing to evaluate"):
        ev.evaluate({"s": Short()}, [], progress=False)


def test_variants_are_scored_without_a_fit():
    def flipped(method):
        other = NearestMean(flip=True)
        other.classes_, other.mean_ = method.classes_, method.mean_
        return other

    frame = ev.evaluate(
        {"near": NearestMean()}, [episode(0)], variants={"near": {"flipped": flipped}}, progress=False
    ).set_index(["method", "metric"])["value"]
    assert len(SEEN) == 1
    assert frame["near", "accuracy"] + frame["flipped", "accuracy"] == pytest.approx(1)
    assert frame["flipped", "fit seconds"] >= frame["near", "fit seconds"]
    with pytest.raises(ValueError, match="no method 'nera'; did you mean 'near'"):
        ev.evaluate({"near": NearestMean()}, [episode(0)], variants={"nera": {}}, progress=False)


def test_both_tracks():
    frame = ev.evaluate({"n": NearestMean()}, list(ev.both_tracks([episode(1), episode(2, val=False)])), progress=False)
    assert frame.groupby(["seed", "track"]).size().index.tolist() == [
        (1, "few-shot val"),
        (1, "validation-free"),
        (2, "validation-free"),
    ]


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=30))
def test_interval_is_the_t_interval_of_scipy(values):
    mean, low, high = ev.interval(values)
    assert mean == pytest.approx(np.mean(values))
    if np.std(values) > 0:
        want = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert (low, high) == pytest.approx((want.low, want.high), abs=1e-6)
    else:
        assert low == pytest.approx(high)


def test_interval_of_one_draw_is_unknown():
    assert ev.interval([0.5])[0] == 0.5 and math.isnan(ev.interval([0.5])[1]) and math.isnan(ev.interval([])[0])


def test_interval_covers_about_95_of_100():
    rng = np.random.default_rng(0)
    hits = [low <= 3 <= high for _, low, high in (ev.interval(rng.normal(3, 2, 5)) for _ in range(1000))]
    assert 0.93 < np.mean(hits) < 0.97


def frame_of(values: dict[str, list[float]], shot: int = 1) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"method": m, "track": "t", "seed": s, "shot": shot, "metric": "accuracy", "value": v}
            for m, vs in values.items()
            for s, v in enumerate(vs)
        ]
    )


def test_summary_counts_draws_not_lines():
    frame = pd.concat([frame_of({"x": [0.1, 0.2, 0.6]}, 1), frame_of({"x": [0.3, 0.2, 0.4]}, 2)])
    each = ev.summary(frame)
    assert each["n"].tolist() == [3, 3] and each["shot"].tolist() == [1, 2]
    assert each.loc[0, ["mean", "low", "high"]].tolist() == pytest.approx(ev.interval([0.1, 0.2, 0.6]))
    over = ev.summary(frame, by=["method"])
    assert over["n"].tolist() == [3]
    assert over.loc[0, ["mean", "low", "high"]].tolist() == pytest.approx(ev.interval([0.2, 0.2, 0.5]))


def test_paired_differences():
    frame = frame_of({"x": [0.1, 0.5, 0.9], "y": [0.0, 0.4, 0.7, 0.3]})
    line = ev.paired(frame, "x", "y").iloc[0]
    assert (line["a"], line["b"], line["n"], line["shot"]) == ("x", "y", 3, 1)
    want = stats.ttest_rel([0.1, 0.5, 0.9], [0.0, 0.4, 0.7])
    assert line["mean"] == pytest.approx(0.4 / 3)
    assert tuple(line[["low", "high"]]) == pytest.approx(tuple(want.confidence_interval(0.95)))
    with pytest.raises(ValueError, match="no method 'z'"):
        ev.paired(frame, "x", "z")
    apart = pd.concat([frame[frame["method"] == "x"], frame_of({"y": [0.5]}, 2)])
    with pytest.raises(ValueError, match="share no draw"):
        ev.paired(apart, "x", "y")


def test_modality_gap_by_hand():
    a = torch.tensor([[2.0, 0.0], [0.0, 5.0]])  # centroid (1/2, 1/2)
    b = torch.tensor([[-1.0, 0.0]])  # centroid (-1, 0)
    line = ev.modality_gap({"image": a, "text": b}).iloc[0]
    assert (line["a"], line["b"]) == ("image", "text")
    assert line["gap"] == pytest.approx(math.hypot(1.5, 0.5))
    assert line["spread"] == pytest.approx(math.sqrt((0.5 + 0.5 + 0) / 3))
    assert len(ev.modality_gap({"a": a, "b": b, "c": a})) == 3 and ev.modality_gap({"a": a}).empty


@given(seed=st.integers(0, 999), n=st.integers(1, 30), m=st.integers(1, 30), ids=st.integers(1, 8))
def test_retrieval_is_the_slow_loop(seed, n, m, ids):
    rng = torch.Generator().manual_seed(seed)
    a, b = torch.randn(n, 3, generator=rng), torch.randn(m, 3, generator=rng)
    b[m // 2] = b[0]  # a tie
    ids_a = torch.randint(0, ids, (n,), generator=rng)
    ids_b = torch.randint(0, ids, (m,), generator=rng)
    ranks = []
    for i in range(n):
        score = (normalize(b.double(), dim=1) @ normalize(a.double(), dim=1)[i]).tolist()
        partners = [j for j in range(m) if ids_b[j] == ids_a[i]]
        if partners:
            best = max(score[j] for j in partners)
            ranks.append(1 + sum(score[j] >= best - 1e-12 for j in range(m) if j not in partners))
    if not ranks:
        with pytest.raises(ValueError, match="has a partner"):
            ev.retrieval(a, ids_a, b, ids_b)
        return
    found = ev.retrieval(a, ids_a, b, ids_b)
    assert found["queries"] == len(ranks) and found["candidates"] == m
    for k in (1, 5, 10):
        assert found[f"R@{k}"] == pytest.approx(np.mean([r <= k for r in ranks]))
    assert found["median rank"] == pytest.approx(np.median(ranks))


def test_a_collapsed_space_retrieves_nothing():
    z = torch.ones(50, 4)
    assert ev.retrieval(z, torch.arange(50), z, torch.arange(50))["R@10"] == 0


def test_predictions_and_saving(tmp_path):
    draw = episode(0)
    fitted = NearestMean().fit(draw.support)
    said = ev.predictions(fitted, draw.query)
    assert said["item"].tolist() == draw.query.items().tolist() and said["y"].tolist() == draw.query.labels().tolist()
    assert said["yhat"].tolist() == fitted.predict(draw.query).tolist() and said["confidence"].between(0.5, 1).all()
    ev.save(said, tmp_path / "new", "said", data="abc", seed=0)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "new" / "said.parquet"), said)
    written = json.loads((tmp_path / "new" / "said.json").read_text())
    assert written["provenance"]["data"] == "abc" and "torch" in written["provenance"]["versions"]
    assert [line["yhat"] for line in written["rows"]] == said["yhat"].tolist()
    assert len(list((tmp_path / "new").iterdir())) == 2
