"""What all tests share: one thread, a small world of two modalities in one space, small data sets in real layouts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.episodes import Episode
from xmodal_lib.tables import Table, Tables
from xmodal_lib.training import seeded

torch.set_num_threads(1)
SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Files for tests that are not part of the project."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the shared test data is not on this machine")
    return SHARED


class Layouts(dict[str, Path]):
    """Folder of each layout of `sources/layouts`, written when it is first asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def __missing__(self, key: str) -> Path:
        from tests.sources.layouts import BY_CLASS, VISUAL, WRITERS
        from tests.sources.picture_layouts import PICTURES

        (WRITERS | BY_CLASS | VISUAL | PICTURES)[key](self.root / key)
        self[key] = self.root / key
        return self[key]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Layouts:
    """Every layout; tests that change one copy it."""
    return Layouts(tmp_path_factory.mktemp("data"))


@pytest.fixture
def copied(written: Layouts, tmp_path: Path) -> Callable[[str], Path]:
    """A layout that a test may change."""
    return lambda key: Path(shutil.copytree(written[key], tmp_path / key))


def world(classes: int = 5, shot: int = 4, d: int = 16, seed: int = 0, noise: float = 0.25, query: int = 12) -> Episode:
    """An episode whose image and text rows scatter around one direction a class, with a gap between modalities."""
    rng = torch.Generator().manual_seed(seed)
    means, gap = torch.randn(classes, d, generator=rng), torch.randn(d, generator=rng)

    def rows(per_class: int, shift: float, first: int) -> Table:
        y = torch.arange(classes).repeat_interleave(per_class)
        x = F.normalize(means[y], dim=1) + shift * gap / d**0.5
        x = x + noise * torch.randn(len(y), d, generator=rng)
        return Table(x, y, torch.arange(first, first + len(y)))

    names = tuple(f"class {c}" for c in range(classes))
    support = Tables({"image": rows(shot, 0.3, 0), "text": rows(2, -0.3, 1000)}, names)
    val = Tables({"image": rows(min(shot, 4), 0.3, 2000)}, names)
    return Episode(support, val, Tables({"image": rows(query, 0.3, 3000)}, names), seed)


def gappy(seed: int = 0) -> Episode:
    """Image and text rows of the same items, last item first; of three items one lacks the image, one the text."""
    image, text = world(seed=seed), world(seed=seed + 100)

    def part(name: str) -> Tables:
        rows = {"image": getattr(image, name)["image"], "text": getattr(text, name)["image"]}
        kept = {m: (t.pair % 3 != k).nonzero().squeeze(1).flip(0) for k, (m, t) in enumerate(rows.items())}
        return Tables({m: t[kept[m]] for m, t in rows.items()}, image.query.classes)

    return Episode(part("support"), part("val"), part("query"), seed)


@cache
def text_tower(width: int = 16, **options: Any) -> Encoder:
    """A small open_clip text tower with random weights, always the same: strings -> (width,)."""
    from open_clip.tokenizer import SimpleTokenizer
    from open_clip.transformer import TextTransformer

    with seeded(0):
        tower = TextTransformer(24, 49_408, width=16, heads=2, layers=1, output_dim=width, **options)
        for p in tower.parameters():
            if p.ndim > 1:
                torch.nn.init.normal_(p, std=0.3)
    return Encoder("tiny-text", tower, SimpleTokenizer(context_length=24), sample="a")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of open_clip of 16 pixels and some thousand weights, as "local-dir:FOLDER"."""
    folder = tmp_path_factory.mktemp("tiny")
    vision = {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": 77, "vocab_size": 49_408, "width": 16, "heads": 1, "layers": 1}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    import open_clip
    from safetensors.torch import save_file

    with seeded(0):
        model = open_clip.CLIP(**config)  # type: ignore[arg-type]
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


@pytest.fixture
def episode() -> Episode:
    return world()
