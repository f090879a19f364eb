"""Fusion against a loop over items."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xmodal_lib.methods.fusion import fuse


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.lists(st.integers(0, 4), max_size=8), st.integers(0, 99))
@settings(deadline=None)
def test_fuse_is_a_weighted_mean_of_the_rows_an_item_has(image: list[int], text: list[int], seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    pairs = {"image": torch.tensor(image), "text": torch.tensor(text, dtype=torch.int64)}
    logits = {m: torch.randn(len(p), 3, generator=rng) for m, p in pairs.items()}
    weight = {"image": 2.0, "text": 1.0}
    fused = fuse(logits, pairs, lambda z, m: torch.full((len(z),), weight[m]))
    for i, item in enumerate(sorted({*image, *text})):
        rows = [(weight[m], z) for m in logits for z, p in zip(logits[m], pairs[m].tolist(), strict=True) if p == item]
        mean = sum(w * z for w, z in rows) / sum(w for w, _ in rows)
        torch.testing.assert_close(fused[i], mean.softmax(0))
