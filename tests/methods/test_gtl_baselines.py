"""Simple classifiers against loops, and their reading of a trained GTL."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from xmodal_lib.methods import GTL, Cache, ClassMeans, Logistic
from xmodal_lib.methods.gtl_baselines import OnRows
from xmodal_lib.synthetic import World, world
from xmodal_lib.tables import Tables


@pytest.fixture(scope="module")
def made() -> World:
    return world(3, classes=(8, 4), rows=(20, 12))


def standard(made: World, modality: str) -> torch.Tensor:
    base = made.base["image"].x
    return (made.novel[modality].x - base.mean(0)) / base.std(0, unbiased=False)


@pytest.mark.parametrize("each", [False, True])
def test_class_means_against_a_loop(made: World, each: bool) -> None:
    fitted = ClassMeans(each=each).pretrain(made.base).fit(made.novel)
    rows = {m: F.normalize(standard(made, m), dim=1) for m in ("image", "sketch")}
    for m in rows:
        for c in range(4):
            own = [rows[k][made.novel[k].y == c] for k in ([m] if each else rows)]
            mean = F.normalize(torch.cat(own).mean(0), dim=0)
            torch.testing.assert_close(fitted.logits(made.novel)[m][:, c], 10 * rows[m] @ mean)


def test_a_modality_that_a_class_lacks_takes_its_mean_over_all(made: World) -> None:
    sketch = made.novel["sketch"]
    few = Tables({"image": made.novel["image"], "sketch": sketch[sketch.y != 2]}, made.novel.classes)
    fitted = ClassMeans(each=True).pretrain(made.base).fit(few)
    torch.testing.assert_close(fitted.means_["sketch"][2], fitted.means_[""][2])
    assert not torch.allclose(fitted.means_["sketch"][1], fitted.means_[""][1])


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_regression_gives_the_probabilities_of_scikit_learn(made: World, classes: int) -> None:
    novel = made.novel.of_classes(made.novel.classes[:classes])
    fitted = Logistic(c=0.1).pretrain(made.base).fit(novel)
    base = made.base["image"].x
    z = {m: ((t.x - base.mean(0)) / base.std(0, unbiased=False)).numpy() for m, t in novel.rows.items()}
    both, y = torch.cat([torch.tensor(v) for v in z.values()]).numpy(), torch.cat([t.y for t in novel.rows.values()])
    model = LogisticRegression(C=0.1, max_iter=1000).fit(both, y.numpy())
    found = fitted.logits(novel)["sketch"].softmax(1)
    torch.testing.assert_close(found, torch.tensor(model.predict_proba(z["sketch"])).float(), atol=1e-4, rtol=1e-3)


def test_the_cache_votes_by_nearness(made: World) -> None:
    fitted = Cache(beta=3.0).pretrain(made.base).fit(made.novel)
    z = torch.cat([F.normalize(standard(made, m), dim=1) for m in ("image", "sketch")])
    y = torch.cat([made.novel[m].y for m in ("image", "sketch")])
    for i in (0, 7):
        votes = [sum(float(torch.exp(-3 * (1 - z[i] @ z[j]))) for j in range(len(z)) if y[j] == c) for c in range(4)]
        torch.testing.assert_close(fitted.logits(made.novel)["image"][i].exp(), torch.tensor(votes))


@pytest.mark.parametrize("kind", [ClassMeans, Logistic, Cache])
def test_behind_a_trained_gtl_they_read_its_concept(made: World, kind: type[OnRows]) -> None:
    body = GTL(concept=6, disturbance=3, domains=4, hidden=32, base_epochs=6, base_decay_at=(), lr=3e-3)
    fitted = kind(body).pretrain(made.base).fit(made.novel)
    torch.testing.assert_close(fitted.embed(made.novel)["sketch"], body.pretrain(made.base).embed(made.novel)["sketch"])
    assert (fitted.predict(made.novel) == made.novel.labels()).double().mean() > 0.5  # chance is 0.25
