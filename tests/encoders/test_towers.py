"""open_clip towers from a checkpoint on disk, and trunk + tail = tower for every kind of tower."""

import json
import logging

import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from xmodal_lib.encoders.towers import Tail, open_clip_towers, split

TEXT = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
VISION = {
    "resnet": {"layers": [1, 1, 1, 1], "width": 8, "head_width": 32, "image_size": 64, "patch_size": None},
    "vit": {"layers": 3, "width": 16, "head_width": 8, "image_size": 32, "patch_size": 8},
    "vit_avg": {"layers": 2, "width": 16, "head_width": 8, "image_size": 32, "patch_size": 8, "pool_type": "avg",
                "final_ln_after_pool": True},
    "efficientnet": {"timm_model_name": "tf_efficientnet_lite0", "timm_pool": "", "timm_proj": "mlp", "image_size": 64},
    "convnext": {"timm_model_name": "convnext_atto", "timm_pool": "", "timm_proj": "linear", "image_size": 64},
    "timm_vit": {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 160},
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Vision kind -> (registered model name, safetensors file of its random weights)."""
    folder, known = tmp_path_factory.mktemp("models"), {}

    def make(kind, **text):
        name = f"tiny-{kind}" + "".join(f"-{key}" for key in text)
        if name not in known:
            config = {"embed_dim": 8, "vision_cfg": VISION[kind], "text_cfg": TEXT | text,
                      "custom_text": bool(text)}  # fmt: skip
            path = folder / f"{name}.json"
            path.write_text(json.dumps(config))
            open_clip.add_model_config(path)
            torch.manual_seed(0)
            logging.disable(logging.WARNING)  # it warns that weights are random: here they are meant to be
            model = open_clip.create_model(name)
            logging.disable(logging.NOTSET)
            for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
                nn.init.uniform_(norm.weight, 0.5, 1.5)  # one of them starts at 0 and would hide its branch
                norm.load_state_dict(norm.state_dict() | {"running_mean": torch.randn(norm.num_features) / 10})
            save_file(model.state_dict(), folder / f"{name}.safetensors")
            known[name] = (model, folder / f"{name}.safetensors")
        return name, *known[name]

    return make


def pictures(n=3, size=40):
    noise = torch.randint(0, 255, (n, size, size, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return [Image.fromarray(one.numpy()) for one in noise]


WORDS = ["a dog", "a rather long line about a violin and a banana on a table", "cat"]


@pytest.mark.parametrize("kind", VISION)
def test_image_trunk_and_tail_make_the_tower(checkpoint, kind):
    name, _, path = checkpoint(kind)
    tower = open_clip_towers(name, path)["image"]
    expected = tower.encode(pictures())
    assert expected.shape == (3, 8) and tower.width == (8,)
    trunk, tail = split(tower, 1)
    assert isinstance(tail, Tail) and all(p.requires_grad for p in tail.parameters())
    assert not any(p.requires_grad for p in trunk.parameters())
    rows = trunk.encode(pictures())
    assert rows.shape[1:] == trunk.width
    torch.testing.assert_close(tail.train()(rows), expected, rtol=1e-5, atol=1e-5)
    if kind != "resnet":
        trunk, tail = split(tower, 0)
        torch.testing.assert_close(tail(trunk.encode(pictures())), expected, rtol=1e-5, atol=1e-5)
    for two in split(tower, 2)[1].parameters():  # trains a copy
        nn.init.zeros_(two)
    assert torch.equal(tower.encode(pictures()), expected)


@pytest.mark.parametrize("options", [{}, {"embed_cls": True}, {"no_causal_mask": True, "pool_type": "last"}])
def test_text_trunk_and_tail_make_the_tower(checkpoint, options):
    name, _, path = checkpoint("vit", **options)
    tower = open_clip_towers(name, path)["text"]
    trunk, tail = split(tower, 1)
    assert trunk.width == (12 + ("embed_cls" in options), 16 + 1)
    torch.testing.assert_close(tail(trunk.encode(WORDS)), tower.encode(WORDS), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="float16"):
        split(tower, 1, float16=True)


def test_the_whole_tower_can_be_the_tail(checkpoint):
    """last_blocks=-1: rows are the pictures, or the token ids, as a feature cache gives them back."""
    name, _, path = checkpoint("resnet")
    towers = open_clip_towers(name, path)
    for m, items in {"image": pictures(), "text": WORDS}.items():
        trunk, tail = split(towers[m], -1)
        rows = trunk.encode(items)
        assert rows.dtype == torch.float32 and rows.shape[1:] == ((3, 64, 64) if m == "image" else (12,))
        torch.testing.assert_close(tail.train()(rows), towers[m].encode(items), rtol=1e-5, atol=1e-5)
        assert len(list(tail.parameters())) == len(list(towers[m].module.parameters()))
        assert trunk.digest != split(towers[m])[0].digest


def test_towers_are_the_model(checkpoint):
    name, model, path = checkpoint("vit")
    towers = open_clip_towers(name, path)
    model.eval()
    look = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    with torch.no_grad():
        image = model.encode_image(torch.stack([look(p) for p in pictures()]))
        text = model.encode_text(open_clip.get_tokenizer(name)(WORDS))
    torch.testing.assert_close(towers["image"].encode(pictures()), image)
    torch.testing.assert_close(towers["text"].encode(WORDS), text)
    again = open_clip_towers(name, path)
    assert all(towers[m].digest == again[m].digest for m in towers)
    assert towers["image"].digest != split(towers["image"])[0].digest


def test_tail_learns_what_the_blocks_compute(checkpoint):
    name, _, path = checkpoint("resnet")
    trunk, tail = split(open_clip_towers(name, path)["image"], 2)
    before = {k: v.clone() for k, v in tail.state_dict().items()}
    tail.train()(trunk.encode(pictures())).square().sum().backward()
    assert all(p.grad is not None for p in tail.parameters())
    assert all(torch.equal(v, before[k]) for k, v in tail.state_dict().items() if "running" in k)


def test_never_silently_random(checkpoint, tmp_path):
    name, _, path = checkpoint("vit")
    with pytest.raises(ValueError, match=r"random ones are never used.*openai"):
        open_clip_towers("RN50")
    with pytest.raises(ValueError, match=r"near it: .*RN50"):
        open_clip_towers("RN50-typo", "openai")
    with pytest.raises(ValueError, match="no file and no tag"):
        open_clip_towers("RN50", tmp_path / "absent.pt")
    with pytest.raises(ValueError, match="is not a checkpoint of open_clip's 'RN50'"):
        open_clip_towers("RN50", path)
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="is not a checkpoint"):
        open_clip_towers(name, tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match="0 to 3 can be trained"):
        split(open_clip_towers(name, path)["image"], 4)
