"""ZS-LP, CLAP, LP++ and the L-BFGS path against their equations written out slowly."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from xmodal_lib.methods import CLAP, ZSLP, LogisticPath, LPPlusPlus, ZeroShot
from xmodal_lib.tables import Tables, class_means


def unit(x: torch.Tensor) -> torch.Tensor:
    return F.normalize(x, dim=1)


def one_batch(episode) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit image rows, their labels, and the text features of the classes as long as they are."""
    image, text = episode.support["image"], episode.support["text"]
    return unit(image.x), image.y, torch.stack([text.x[text.y == c].mean(0) for c in range(5)])


@pytest.mark.parametrize("kind", [ZSLP, CLAP])
def test_clap_equals_the_plain_loop(episode, kind: type[ZSLP]) -> None:
    """Gradients from the loss of the paper, lambda by a loop over rows, SGD with momentum by hand."""
    z, y, text = one_batch(episode)
    held = torch.zeros(5)
    for c in range(5):
        probabilities = [(100 * zi @ unit(text).T).softmax(0)[c] for zi in z[y == c]]
        held[c] = sum(probabilities) / len(probabilities)
    w, velocity = text.clone(), torch.zeros_like(text)
    for epoch in range(30):
        leaf = w.clone().requires_grad_()
        loss = F.cross_entropy(100 * z @ (leaf / leaf.norm(dim=1, keepdim=True)).T, y)
        if kind is CLAP:
            loss = loss + sum(held[c] * ((leaf[c] - text[c]) ** 2).sum() for c in range(5)) / 5
        (slope,) = torch.autograd.grad(loss, leaf)
        velocity = 0.9 * velocity + slope
        w = w - (1e-5 if epoch == 0 else 0.05 * (1 + math.cos(math.pi * (epoch - 1) / 30))) * velocity
    fitted = kind(epochs=30).fit(episode.support)
    torch.testing.assert_close(fitted.head_, unit(w), atol=1e-4, rtol=1e-3)
    if kind is CLAP:
        torch.testing.assert_close(fitted.lambda_, held)


def test_clap_stays_nearer_to_the_text_than_zs_lp(episode) -> None:
    zero_shot = ZeroShot().fit(episode.support).head_
    far = {kind: (kind(epochs=60).fit(episode.support).head_ - zero_shot).norm() for kind in (ZSLP, CLAP)}
    assert far[CLAP] < far[ZSLP]


def test_the_epoch_that_is_best_on_val_is_kept(episode) -> None:
    """One of the iterates, and the first one of its accuracy: validation labels that zero-shot gives keep the start."""
    zero_shot = ZeroShot().fit(episode.support)
    y = zero_shot.predict(episode.val)
    agreeing = replace(episode.val, rows={"image": replace(episode.val["image"], y=y)})
    torch.testing.assert_close(ZSLP(epochs=20).fit(episode.support, agreeing).head_, zero_shot.head_)


def test_text_rows_can_be_shots_and_the_start_random(episode) -> None:
    for init in ("text", ""):
        for modalities in (("image",), ("image", "text")):
            fitted = ZSLP(modalities=modalities, init=init, epochs=60).fit(episode.support)
            assert (fitted.predict(episode.query) == episode.query.labels()).float().mean() > 0.5
    ZSLP(init="", epochs=2).fit(episode.support.only("image"))  # no text is needed


def lp_plus_plus(episode, accumulate: bool, steps: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """w, b, alpha after some steps: softmax gradients written out, momentum by hand."""
    z, y, text = one_batch(episode)
    text, n = unit(text), len(z)
    w = torch.stack([z[y == c].sum(0) for c in range(5)])
    alpha = torch.full((5,), 250 * float(torch.stack([(z[y == c] @ text[c]).mean() for c in range(5)]).mean()))
    b, vw, vb, total = torch.zeros(5), torch.zeros_like(w), torch.zeros(5), torch.zeros(5)
    step_w = 4 * n / float(torch.linalg.eigvalsh(z.T @ z).max())
    step_alpha = n / (4 * float(((z @ text.T) ** 2).sum(0).max()))
    for step in range(steps):
        error = (z @ w.T + alpha * (z @ text.T) + b).softmax(1) - F.one_hot(y, 5)  # (n, C)
        slope_alpha = (error * (z @ text.T)).mean(0)
        total = total + slope_alpha
        vw, vb = 0.9 * vw + error.T @ z / n, 0.9 * vb + error.mean(0)
        w, b = w - step_w * vw, b - step_w * vb
        if (step + 1) % 10 == 0:
            alpha = alpha - step_alpha * (total if accumulate else slope_alpha)
    return w, b, alpha


@pytest.mark.parametrize("accumulate", [False, True])
def test_lp_plus_plus_equals_its_equations(episode, accumulate: bool) -> None:
    w, b, alpha = lp_plus_plus(episode, accumulate, 25)
    fitted = LPPlusPlus(steps=25, accumulate=accumulate).fit(episode.support)
    text = ZeroShot().fit(episode.support).head_
    torch.testing.assert_close(fitted.alpha_, alpha, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(fitted.head_, w + alpha[:, None] * text, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(fitted.bias_, b, atol=1e-4, rtol=1e-3)
    losses = [loss for _, loss in fitted.history_]
    assert losses[-1] < losses[0]


def test_lp_plus_plus_keeps_the_last_best_step_on_val(episode) -> None:
    fitted = LPPlusPlus(steps=40).fit(episode.support, episode.val)
    z, y = unit(episode.val["image"].x), episode.val["image"].y
    right = []
    for steps in range(1, 41):
        alone = LPPlusPlus(steps=steps).fit(episode.support)
        right.append(int(((z @ alone.head_.T + alone.bias_).argmax(1) == y).sum()))
    last_best = max(s for s in range(1, 41) if right[s - 1] == max(right))
    torch.testing.assert_close(fitted.head_, LPPlusPlus(steps=last_best).fit(episode.support).head_)


def test_the_path_equals_the_released_search(episode) -> None:
    """The seven values, then eight halvings of the two decades around the first best, each a fresh fit."""
    z, y = unit(episode.support["image"].x).numpy(), episode.support["image"].y.numpy()
    val, labels = unit(episode.val["image"].x).numpy(), episode.val["image"].y.numpy()

    def right(c: float) -> int:
        return int((LogisticRegression(C=c, max_iter=1000, tol=1e-6).fit(z, y).predict(val) == labels).sum())

    path = (1e4, 1e2, 1.0, 1e-2)
    scores = [right(c) for c in path]
    peak = path[scores.index(max(scores))]
    left, end = math.log10(peak) - 1, math.log10(peak) + 1
    for _ in range(8):
        middle = (left + end) / 2
        if right(10**left) < right(10**end):
            kept, left = end, middle
        else:
            kept, end = left, middle
    fitted = LogisticPath(path=path).fit(episode.support, episode.val)
    assert fitted.c_ == pytest.approx(10**kept, rel=1e-6)
    alone = LogisticPath(c=fitted.c_).fit(episode.support)
    torch.testing.assert_close(alone.proba(episode.query), fitted.proba(episode.query), atol=0.02, rtol=0.05)


def test_two_classes_give_a_line_each(episode) -> None:
    two = Tables({"image": episode.support["image"][episode.support["image"].y < 2]}, ("a", "b"))
    fitted = LogisticPath(c=10.0).fit(two)
    z, y = unit(two["image"].x), two["image"].y
    want = LogisticRegression(C=10.0).fit(z.numpy(), y.numpy()).predict_proba(z.numpy())
    torch.testing.assert_close(fitted.proba(two).double(), torch.from_numpy(want).double(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (ZSLP(epochs=0), "epochs=0; at least 1"),
        (CLAP(modalities="image"), "a tuple of names is needed"),
        (LPPlusPlus(steps=0), "steps=0; at least 1"),
        (LPPlusPlus(modalities=()), "a tuple of names is needed"),
        (LogisticPath(c=0.0), "c=0.0, path=.*numbers above 0"),
        (LogisticPath(path=()), "numbers above 0"),
    ],
)
def test_impossible_fields_are_one_clear_line(episode, method, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        method.fit(episode.support, episode.val)
    assert "\n" not in str(error.value)


def test_class_means_are_those_of_the_prompts(episode) -> None:
    """`unit_prompts`: each prompt unit before the mean, as CLIP and CoOp do; else as the release."""
    text = episode.support["text"]
    plain = unit(class_means(text.x, text.y, 5))
    each = unit(class_means(unit(text.x), text.y, 5))
    assert torch.equal(ZeroShot().fit(episode.support).head_, plain)
    assert torch.equal(ZeroShot(unit_prompts=True).fit(episode.support).head_, each)
    assert not torch.allclose(plain, each)
