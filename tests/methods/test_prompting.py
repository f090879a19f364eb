"""Learnt prompts against whole sentences, CoOp's formula written out, and ProGrad's rule by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.conftest import text_tower, world
from xmodal_lib.methods import ProGrad, Prompting, store
from xmodal_lib.methods.prompting import Prompts, projected
from xmodal_lib.training import batches, generator, warmup_cosine

NAMES = ["dog", "a violin case", "cat"]
SENTENCES = [f"a photo of a {name}." for name in NAMES]


def tower(**options):
    return {"prompt": text_tower(**options)}


@pytest.mark.parametrize("options", [{}, {"pool_type": "eos", "eos_id": 49407}, {"no_causal_mask": True}])
def test_words_as_context_give_the_features_of_the_sentence(options: dict) -> None:
    """Spliced, and cut at the end where the tower is causal: to the same features as the plain sentence."""
    encoder = text_tower(**options)
    prompts = Prompts(encoder, NAMES, "a photo of a")
    context = prompts.start(False, generator(0))
    assert prompts.m == 4 and context.shape == (4, 16)
    assert prompts.ids.shape[1] == (24 if options.get("no_causal_mask") else 10)
    want = F.normalize(encoder.encode(SENTENCES), dim=1)
    torch.testing.assert_close(prompts(context), want, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(prompts(prompts.start(True, generator(0))), want, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_the_bridges_text_side_learns_a_context_too() -> None:
    from xmodal_lib.encoders.encoder import Encoder
    from xmodal_lib.encoders.frozen import minilm

    encoder = Encoder("bridge-text", torch.nn.Identity(), trunk=minilm())
    prompts = Prompts(encoder, NAMES, "a photo of a")
    context = prompts.start(False, generator(0)).requires_grad_()
    head = prompts(context)
    torch.testing.assert_close(head.detach(), F.normalize(encoder.encode(SENTENCES), dim=1), atol=1e-4, rtol=1e-4)
    (slope,) = torch.autograd.grad(head[0, 0], context)
    assert slope.abs().min() > 0
    with torch.no_grad():  # against a small step
        step = torch.zeros_like(context)
        step[2, 7] = 1e-2
        moved = (prompts(context + step) - prompts(context - step))[0, 0] / 2e-2
    assert moved.item() == pytest.approx(slope[2, 7].item(), rel=0.05)


def reference(episode, method: Prompting, epochs: int) -> torch.Tensor:
    """CoOp's prompt learner, its text encoder formula and torch's own optimiser, on whole-length prompts."""
    text = method.encoders["prompt"].module
    ids = method.encoders["prompt"].prepare([f"x x x class {c}." for c in range(5)])
    with torch.no_grad():
        embedded = text.token_embedding(ids)
    context = (0.02 * torch.randn(3, 16, generator=generator(method.seed, 3))).requires_grad_()
    optimiser = torch.optim.SGD([context], lr=1.0, momentum=0.9, weight_decay=5e-4)
    streams = [
        batches((t.x, t.y), size, generator(method.seed, size, i))
        for i, (m, size) in enumerate({"image": 4, "text": 4}.items())
        if (t := episode.support[m]) is not None
    ]
    for step in range(epochs * 5):
        optimiser.param_groups[0]["lr"] = warmup_cosine(step // 5, epochs, lr=method.lr, warmup=1)
        parts = [next(stream) for stream in streams]
        x, y = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
        h = torch.cat([embedded[:, :1], context.expand(5, 3, 16), embedded[:, 4:]], 1) + text.positional_embedding
        h = text.ln_final(text.transformer(h, attn_mask=text.attn_mask))
        t = h[torch.arange(5), ids.argmax(1)] @ text.text_projection
        loss = F.cross_entropy(100 * F.normalize(x, dim=1) @ F.normalize(t, dim=1).T, y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return context.detach()


def test_training_equals_the_plain_loop(episode) -> None:
    method = Prompting(tower(), tokens=3, epochs=6, lr=0.02, batch=8, seed=2)
    fitted = method.fit(episode.support)
    want = reference(episode, method, 6)
    torch.testing.assert_close(fitted.context_, want, atol=1e-4, rtol=1e-3)
    assert len(fitted.history_) == 6 * 5 and fitted.context_.shape == (3, 16)


def test_epochs_are_the_published_ones_for_the_shots() -> None:
    steps = {}
    for shot in (1, 2, 8):
        few = world(shot=shot)
        fitted = Prompting(tower(), modalities=("image",), tokens=2).fit(few.support)
        steps[shot] = len(fitted.history_)
    assert steps == {1: 50, 2: 100, 8: 200}  # 5, 10 and 40 rows: one batch an epoch


def test_the_kept_context_is_the_first_best_on_val(episode) -> None:
    method = Prompting(tower(), tokens=2, per_class=True, epochs=12, lr=0.1)
    fitted = method.fit(episode.support, episode.val)
    with torch.no_grad():
        head = Prompts(text_tower(), [f"class {c}" for c in range(5)], 2)(fitted.context_)
    torch.testing.assert_close(fitted.head_, head)
    right = (fitted.predict(episode.val) == episode.val.labels()).sum()
    assert right >= (method.fit(episode.support).predict(episode.val) == episode.val.labels()).sum()


def test_without_val_is_the_fit_that_was_given_no_val(episode) -> None:
    method = Prompting(tower(), tokens=2, epochs=6, lr=0.1)
    alone, chosen = method.fit(episode.support), method.fit(episode.support, episode.val)
    assert torch.equal(chosen.without_val().head_, alone.head_)
    assert torch.equal(chosen.without_val().context_, alone.context_)


def test_projection_by_hand() -> None:
    few, general = torch.tensor([[1.0, -2.0], [0.5, 0.0]]), torch.tensor([[0.0, 3.0], [0.0, 0.0]])
    torch.testing.assert_close(projected(few, general), torch.tensor([[1.0, 0.0], [0.5, 0.0]]))
    torch.testing.assert_close(projected(few, general, 0.5), torch.tensor([[1.0, -1.0], [0.5, 0.0]]))
    torch.testing.assert_close(projected(few, -general), few)  # no conflict


def test_prograd_steps_along_the_projected_gradient(episode) -> None:
    """Both gradients by autograd from the definition: KL divergence, and cross-entropy."""
    method = ProGrad(tower(), tokens=3, temperature=2.0)
    method.zeroshot_ = F.normalize(torch.randn(5, 16, generator=generator(1)), dim=1)
    prompts = Prompts(text_tower(), [f"class {c}" for c in range(5)], 3)
    context = prompts.start(False, generator(0)).requires_grad_()
    z, y = F.normalize(episode.support["image"].x, dim=1), episode.support["image"].y
    found, loss = method._gradient(context, prompts(context), z, y)
    ours, theirs = (100 * z @ prompts(context).T), (100 * z @ method.zeroshot_.T)
    far = 4 * F.kl_div((ours / 2).log_softmax(1), (theirs / 2).softmax(1), reduction="batchmean")
    ce = F.cross_entropy(ours, y)
    few, general = (torch.autograd.grad(part, context, retain_graph=True)[0] for part in (ce, far))
    along = (few * general).sum() / general.square().sum()
    want = few - along * general if along < 0 else few
    torch.testing.assert_close(found, want, atol=1e-4, rtol=1e-3)
    assert loss == pytest.approx(ce.item(), rel=1e-5)


def test_prograd_of_weight_0_is_coop(episode) -> None:
    options = {"modalities": ("image",), "tokens": 3, "epochs": 5}
    coop = Prompting(tower(), **options).fit(episode.support)
    torch.testing.assert_close(ProGrad(tower(), weight=0.0, **options).fit(episode.support).context_, coop.context_)


def test_a_temperature_of_0_is_one_clear_line(episode) -> None:
    with pytest.raises(ValueError, match=r"temperature=0\.0; a number above 0"):
        ProGrad(tower(), temperature=0.0).fit(episode.support)


def test_light_answers_alike_and_is_saved_small(episode, tmp_path) -> None:
    fitted = Prompting(tower(), tokens=2, epochs=3).fit(episode.support)
    store.save(fitted.light(), tmp_path / "m")
    again = store.load(tmp_path / "m")
    assert torch.equal(again.proba(episode.query), fitted.proba(episode.query))
    assert (tmp_path / "m.safetensors").stat().st_size < 10_000
    with pytest.raises(ValueError, match="needs a text tower"):
        again.fit(episode.support)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"encoders": {}}, "prompting needs a text tower"),
        ({"tokens": 0}, "tokens=0; at least 1"),
        ({"batch": 1}, "batch=1; at least 2"),
        ({"modalities": "image"}, "a tuple of names is needed"),
        ({"tokens": 22}, "22 tokens of context and the class names do not fit into the 24"),
        ({"encoders": {"prompt": text_tower(8)}}, "features of width 8, but the image rows are of 16"),
    ],
)
def test_impossible_fields_are_one_clear_line(episode, fields: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        Prompting(**({"encoders": tower(), "epochs": 1} | fields)).fit(episode.support)
    assert "\n" not in str(error.value)
