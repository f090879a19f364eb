"""The ridge probe against least squares written out row by row, and what must not change its answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.conftest import world
from xmodal_lib.methods import RidgeProbe
from xmodal_lib.tables import Table, Tables, class_means
from xmodal_lib.training import accuracy, cells


def lopsided(episode) -> Tables:
    """A support whose first class has one picture and the others four."""
    image = episode.support["image"]
    keep = torch.cat([(image.y == 0).nonzero()[:1, 0], (image.y != 0).nonzero()[:, 0]])
    return replace(episode.support, rows={**episode.support.rows, "image": image[keep]})


def reference(support: Tables, share: float, ridge: float) -> tuple[Tensor, Tensor]:
    """Head (C, d) and image mean (d,) from the loss sum_i q_i |W z_i - e_y|^2 + ridge tr(S) |W|^2, row by row."""
    classes, rows, means = len(support.classes), [], {}
    for m, part in (("image", 1 - share), ("text", share)):
        z, y = F.normalize(support[m].x.double(), dim=1), support[m].y
        means[m] = torch.stack([z[y == c].mean(0) for c in range(classes)]).mean(0)
        for row, label in zip(z, y.tolist(), strict=True):
            rows.append((part / classes / (y == label).sum(), row - means[m], label))
    trace = sum(q * z.square().sum() for q, z, _ in rows)
    a = [q.sqrt() * z for q, z, _ in rows] + list((ridge * trace).sqrt() * torch.eye(16, dtype=torch.float64))
    b = [q.sqrt() * F.one_hot(torch.tensor(c), classes) for q, _, c in rows] + [torch.zeros(classes)] * 16
    head = torch.linalg.lstsq(torch.stack(a), torch.stack(b).double()).solution.T
    own = sum(q * (head[c] @ z) for q, z, c in rows)
    return (head / own).float(), means["image"].float()


@pytest.mark.parametrize(("share", "ridge"), [(0.3, 0.01), (0.9, 1.0), (0.0, 0.1), (1.0, 0.1)])
def test_the_head_is_the_least_squares_solution(episode, share: float, ridge: float) -> None:
    """Also where the classes have different numbers of rows: each weighs the same."""
    support = lopsided(episode)
    fitted = RidgeProbe(share=share, ridge=ridge).fit(support)
    head, mean = reference(support, share, ridge)
    torch.testing.assert_close(fitted.head_, head, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(fitted.means_["image"], mean)
    scores = fitted.scale * (F.normalize(episode.query["image"].x, dim=1) - mean) @ head.T
    torch.testing.assert_close(fitted.logits(episode.query)["image"], scores, atol=1e-3, rtol=1e-3)


def test_the_cell_that_is_best_on_val_is_kept() -> None:
    """Of all cells, each fitted by itself: accuracy first, then cross-entropy, then order."""
    episode = world(noise=0.6, shot=2, seed=3)
    chosen = RidgeProbe().fit(episode.support, episode.val)
    lines = []
    for cell in cells(chosen.grid):
        alone = RidgeProbe(**cell, scale=1.0).fit(episode.support)
        scores, y = alone.logits(episode.val)["image"], episode.val["image"].y
        loss = min(F.cross_entropy(s * scores, y).item() for s in chosen.scales)
        lines.append((accuracy(alone, episode.val), -loss, cell, alone.head_))
    best = max(lines, key=lambda line: line[:2])
    assert len({line[0] for line in lines}) > 1
    assert chosen.cell_ == best[2] and torch.equal(chosen.head_, best[3])
    assert [accuracy for accuracy, *_ in lines] == pytest.approx(chosen.cells_["val_accuracy"].tolist())
    assert chosen.scale_ in chosen.scales


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), times=st.integers(2, 4), share=st.floats(0.05, 0.95))
def test_turned_repeated_and_renamed_rows_change_nothing(seed: int, times: int, share: float) -> None:
    """Answers do not depend on the axes of the space, on rows given several times, or on how classes are numbered."""
    episode = world(seed=seed % 1000)
    rng = torch.Generator().manual_seed(seed)
    turn, names = torch.linalg.qr(torch.randn(16, 16, generator=rng))[0], torch.randperm(5, generator=rng)

    def changed(tables: Tables, times: int = 1) -> Tables:
        rows = {m: (t.x @ turn, names[t.y]) for m, t in tables.rows.items()}
        return replace(tables, rows={
            m: Table(x.repeat(times, 1), y.repeat(times), torch.arange(times * len(x))) for m, (x, y) in rows.items()
        })  # fmt: skip

    probe = RidgeProbe(share=share)
    plain = probe.fit(episode.support).logits(episode.query)["image"]
    other = probe.fit(changed(episode.support, times)).logits(changed(episode.query))["image"]
    torch.testing.assert_close(other[:, names], plain, atol=1e-3, rtol=1e-3)


def test_texts_alone_and_a_strong_ridge_are_zero_shot_around_the_mean_text(episode) -> None:
    """W goes to the mean text of each class less the mean of all texts, which every class scores alike."""
    fitted = RidgeProbe(share=1.0, ridge=1e4).fit(episode.support)
    text = class_means(F.normalize(episode.support["text"].x, dim=1), episode.support["text"].y, 5)
    around = F.normalize((text - text.mean(0)).flatten(), dim=0).view_as(text)
    torch.testing.assert_close(fitted.head_ / fitted.head_.norm(), around, atol=1e-3, rtol=1e-3)


def test_a_modality_that_was_not_learnt_from_is_answered_from_the_mean_of_the_first(episode) -> None:
    fitted = RidgeProbe(modalities=("image",)).fit(episode.support, episode.val)
    spoken = replace(episode.query, rows={"speech": episode.query["image"]})
    torch.testing.assert_close(fitted.logits(spoken)["speech"], fitted.logits(episode.query)["image"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"share": 1.5}, r"share=1.5, ridge=0.01; a share from 0 to 1"),
        ({"ridge": 0.0}, "a ridge above 0"),
        ({"grid": {"share": (0.5,)}}, "a grid needs values of share and ridge"),
        ({"grid": {"share": (0.5,), "ridge": (-1.0,)}}, "ridge=-1.0"),
        ({"scales": ()}, r"scales=\(\); numbers above 0"),
        ({"scale": 0.0}, "scale=0.0"),
        ({"modalities": "image"}, "a tuple of names"),
    ],
)
def test_impossible_fields_are_refused(episode, fields: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RidgeProbe(**fields).fit(episode.support, episode.val)


def test_rows_that_are_all_alike_are_refused(episode) -> None:
    same = {m: replace(t, x=torch.ones_like(t.x)) for m, t in episode.support.rows.items()}
    with pytest.raises(ValueError, match="are alike"):
        RidgeProbe().fit(replace(episode.support, rows=same))
