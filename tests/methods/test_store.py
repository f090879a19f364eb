"""Laws of saving and loading, tested once for each entry of METHODS."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pandas as pd
import pytest
import safetensors.torch
import torch
from torch import nn

from tests.conftest import world
from tests.methods.test_laws import make
from xmodal_lib.home import Unusable
from xmodal_lib.methods import METHODS, MLA, Joint, LinearProbe, Method, NearestMean, NotFitted, WiseFT, store
from xmodal_lib.methods.croma_baselines import Reading
from xmodal_lib.methods.meta_transfer import MetaTransfer
from xmodal_lib.methods.multimodal import Multimodal
from xmodal_lib.methods.searched import Searched
from xmodal_lib.tables import Tables


def other_weights(method: Method) -> dict[str, nn.Module]:
    """The encoders of a method with weights that are not its own."""
    given = copy.deepcopy(dict(getattr(getattr(method, "method", method), "encoders", {})))
    with torch.no_grad():
        for p in (p for encoder in given.values() for p in encoder.parameters()):
            p.normal_()
    return given


def both(episode) -> Tables:
    """Items that have both modalities, and some that have one."""
    text = episode.support["text"]
    return episode.query | Tables({"text": replace(text, pair=text.pair - 1000 + 3000)}, episode.query.classes)


def saved(name: str, path: Path, **settings) -> tuple[Method, Method]:
    """A fitted method, and what comes back from disk."""
    episode, method = world(), make(name)
    fitted = replace(method, **settings).fit(episode.support, episode.val)
    store.save(fitted, path)
    return fitted, store.load(path, other_weights(method))


@pytest.fixture(params=METHODS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Method, Method]:
    return saved(request.param, tmp_path / "m")


def same(a: object, b: object) -> None:
    """Two attributes hold the same, to the last bit and of the same types."""
    assert type(a) is type(b)
    match a:
        case torch.Tensor():
            assert a.dtype == b.dtype and torch.equal(a, b)
        case nn.Module():
            same(dict(a.state_dict()), dict(b.state_dict()))
            assert a.training == b.training
        case pd.DataFrame():
            pd.testing.assert_frame_equal(a, b)
        case dict():
            assert list(a) == list(b)
            for k in a:
                same(a[k], b[k])
        case list() | tuple():
            assert len(a) == len(b)
            for x, y in zip(a, b, strict=True):
                same(x, y)
        case Method():
            same(vars(a), vars(b))
        case _:
            assert a == b or (a != a and b != b)  # or both are NaN


def test_answers_are_the_same_to_the_last_bit(pair, episode) -> None:
    fitted, again = pair
    query = episode.query if isinstance(fitted, MetaTransfer | Reading) else both(episode)  # those know the target only
    assert torch.equal(again.proba(query), fitted.proba(query))
    for answer in ("logits", "embed"):
        want, found = getattr(fitted, answer)(query), getattr(again, answer)(query)
        assert list(want) == list(found) and all(torch.equal(want[m], found[m]) for m in want)


def test_everything_learnt_and_every_field_comes_back(pair) -> None:
    same(*pair)


def test_it_can_be_fitted_again(pair) -> None:
    fitted, again = pair
    other = world(seed=7)
    assert torch.equal(*(m.fit(other.support, other.val).proba(other.query) for m in (fitted, again)))


def test_fusion_can_be_changed_after_loading(pair, episode) -> None:
    fitted, again = pair
    if isinstance(fitted, Multimodal):
        for rule in ("uniform", {"image": 0.7, "text": 0.3}):
            assert torch.equal(again.fused_by(rule).proba(both(episode)), fitted.fused_by(rule).proba(both(episode)))


@pytest.mark.parametrize("name", [n for n, cls in METHODS.items() if issubclass(cls, LinearProbe)])
def test_the_other_methods_in_a_probe_come_back(name: str, tmp_path: Path, episode) -> None:
    cell = {name: values[0] for name, values in make(name).grid.items()}  # of the fields, so that it is trained
    fitted, again = saved(name, tmp_path / "m", **cell)
    assert torch.equal(again.at(0.3).proba(episode.query), fitted.at(0.3).proba(episode.query))
    assert torch.equal(again.without_val().proba(episode.query), fitted.without_val().proba(episode.query))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_is_not_fitted_is_refused(name: str, tmp_path: Path, episode) -> None:
    with pytest.raises(NotFitted, match="call fit"):
        store.save(make(name), tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_the_modules_given_stay_as_they_are(tmp_path: Path, episode) -> None:
    method = make("MLA")
    store.save(method.fit(episode.support), tmp_path / "m")
    given = other_weights(method)
    before = {m: copy.deepcopy(e.state_dict()) for m, e in given.items()}
    store.load(tmp_path / "m", given)
    assert all(torch.equal(before[m][k], v) for m, e in given.items() for k, v in e.state_dict().items())
    assert all(e.training for e in given.values())


def test_a_trace_wider_numbers_and_odd_fields_come_back(tmp_path: Path, episode) -> None:
    nets = {m: nn.Linear(16, 4).double() for m in ("image", "text")}
    rows = {m: replace(t, x=t.x.double()) for m, t in episode.support.rows.items()}
    support = Tables(rows, episode.support.classes)
    query = Tables({"image": replace(episode.query["image"], x=episode.query["image"].x.double())}, support.classes)
    fitted = MLA(nets, epochs=1, trace=True, fusion={"text": 0.25, "image": 0.75}).fit(support)
    store.save(fitted, tmp_path / "m.1")
    again = store.load(tmp_path / "m.1.json", {m: nn.Linear(16, 4) for m in nets})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.1.json", "m.1.safetensors"]
    assert again.proba(query).dtype == torch.float64 and torch.equal(again.proba(query), fitted.proba(query))
    assert again.trace_ == fitted.trace_ and len(again.trace_) and again.fusion == {"text": 0.25, "image": 0.75}


def test_a_method_in_a_method_comes_back(tmp_path: Path, episode) -> None:
    searched = Searched(make("MLA"), {"lr": (0.1, 0.01), "epochs": (1, 2)}).fit(episode.support, episode.val)
    store.save(searched, tmp_path / "m")
    again = store.load(tmp_path / "m", other_weights(searched.method))
    same(searched, again)
    assert torch.equal(again.proba(both(episode)), searched.proba(both(episode)))
    with pytest.raises(ValueError, match=r"method\.encoders\.image is a Sequential of 7 tensors"):
        store.load(tmp_path / "m")


def test_equal_tensors_are_stored_once(tmp_path: Path, episode) -> None:
    fitted = NearestMean({"image": nn.Linear(16, 512)}).fit(episode.support)
    one = WiseFT(LinearProbe({"image": nn.Linear(16, 16)}, iterations=2, batch=4)).fit(episode.support)
    for name, method, want in (("a", fitted, 3), ("b", one, 5)):  # head; head mixed, zero-shot, trained; 2 of a Linear
        store.save(method, tmp_path / name)
        assert len(safetensors.torch.load_file(tmp_path / f"{name}.safetensors")) <= want


def test_a_frozen_encoder_is_stored_once_and_comes_back(tmp_path: Path, episode) -> None:
    """It is in the fields and in what was learnt, with the same weights."""
    nets = {m: nn.Sequential(nn.Linear(16, 4), nn.BatchNorm1d(4)).requires_grad_(False) for m in ("image", "text")}
    fitted = MLA(nets, epochs=1).fit(episode.support)
    store.save(fitted, tmp_path / "m")
    shapes = [tuple(t.shape) for t in safetensors.torch.load_file(tmp_path / "m.safetensors").values()]
    assert shapes.count((4, 16)) == 2
    again = store.load(tmp_path / "m", other_weights(fitted))
    assert torch.equal(again.proba(episode.query), fitted.proba(episode.query))


WRONG = {
    "none": ({}, r"encoders.image is a Linear of 2 tensors \(weight \(4, 16\), bias \(4,\), \.\.\.\); .*'image'"),
    "one of two": ({"image": nn.Linear(16, 4)}, "encoders.text is a Linear of 2 tensors .*'text'"),
    "other modality": ({"image": nn.Linear(16, 4), "audio": nn.Linear(16, 4)}, "encoders.text is a Linear"),
    "one too many": ({m: nn.Linear(16, 4) for m in ("image", "text", "audio")},
                     "an encoder for 'audio' is given, but MLA was saved with encoders for image, text"),
    "shape": ({m: nn.Linear(16, 5) for m in ("image", "text")},
              r"encoders.image: weight is of shape \(4, 16\) in the file and of shape \(5, 16\) in the module given"),
    "no bias": ({m: nn.Linear(16, 4, bias=False) for m in ("image", "text")}, r"bias is of shape \(4,\) .* missing"),
    "more": ({m: nn.Bilinear(16, 16, 4) for m in ("image", "text")}, r"weight is of shape \(4, 16\) .* \(4, 16, 16\)"),
    "kind": ({m: nn.Sequential(nn.Linear(16, 4)) for m in ("image", "text")}, "weight is of shape .* missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_encoders_are_named(case: str, tmp_path: Path, episode) -> None:
    given, message = WRONG[case]
    store.save(MLA({m: nn.Linear(16, 4) for m in ("image", "text")}, epochs=1).fit(episode.support), tmp_path / "m")
    with pytest.raises(ValueError, match=message) as error:
        store.load(tmp_path / "m", given)
    assert "\n" not in str(error.value)


def test_another_activation_is_another_architecture(tmp_path: Path, episode) -> None:
    nets = {m: nn.Sequential(nn.Linear(16, 4), nn.ReLU()) for m in ("image", "text")}
    store.save(Joint(nets, epochs=1).fit(episode.support), tmp_path / "m")
    with pytest.raises(ValueError, match="part 2 of the module is ReLU in the file and GELU in the module given"):
        store.load(tmp_path / "m", {m: nn.Sequential(nn.Linear(16, 4), nn.GELU()) for m in nets})


def test_an_encoder_nobody_asked_for_is_named(tmp_path: Path, episode) -> None:
    store.save(NearestMean().fit(episode.support), tmp_path / "m")
    with pytest.raises(ValueError, match="'image' is given, but NearestMean was saved with encoders for no modality"):
        store.load(tmp_path / "m", {"image": nn.Identity()})


def edit(change):
    def damage(folder: Path) -> None:
        about = json.loads((folder / "m.json").read_text())
        change(about)
        (folder / "m.json").write_text(json.dumps(about))

    return damage


def foreign(folder: Path) -> None:
    (folder / "m.json").write_text('{"rows": []}')


def cut(folder: Path) -> None:
    (folder / "m.json").write_text((folder / "m.json").read_text()[:-30])


def flip(folder: Path) -> None:
    raw = bytearray((folder / "m.safetensors").read_bytes())
    raw[-1] ^= 1
    (folder / "m.safetensors").write_bytes(raw)


DAMAGE = {
    "no json": (lambda f: (f / "m.json").unlink(), FileNotFoundError, "m.json; m.safetensors alone is half"),
    "no tensors": (lambda f: (f / "m.safetensors").unlink(), FileNotFoundError, "m.safetensors; m.json alone is half"),
    "cut": (cut, Unusable, "m.json is damaged"),
    "foreign": (foreign, Unusable, "not a method saved as"),
    "a list": (lambda f: (f / "m.json").write_text("[1]"), Unusable, "not a method saved as"),
    "one bit": (flip, Unusable, "m.safetensors is damaged or not the other half of m.json"),
    "class": (edit(lambda a: a.update({"class": "Nearest"})), Unusable, "holds a method 'Nearest', .* NearestMean"),
    "field": (edit(lambda a: a["attributes"].update(width=3)), Unusable, "with a field 'width', which it has not"),
    "tensor": (edit(lambda a: a["attributes"]["head_"].update(key="x")), Unusable, "m.json cannot be read .*'x'"),
    "kind": (edit(lambda a: a["attributes"].update(a_={"$": "pickle"})), Unusable, "unknown kind 'pickle'"),
    "empty": (edit(lambda a: a.pop("attributes")), Unusable, "m.json cannot be read .*'attributes'"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_file_that_cannot_be_used_is_named(case: str, tmp_path: Path, episode) -> None:
    damage, kind, message = DAMAGE[case]
    store.save(NearestMean().fit(episode.support), tmp_path / "m")
    damage(tmp_path)
    with pytest.raises(kind, match=message) as error:
        store.load(tmp_path / "m")
    assert "\n" not in str(error.value)


def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path, episode) -> None:
    @dataclass
    class Mine(NearestMean):
        pass

    with pytest.raises(ValueError, match="Mine is none of METHODS"):
        store.save(Mine().fit(episode.support), tmp_path / "m")
    fitted = NearestMean().fit(episode.support)
    fitted.rule_ = {"best": lambda z: z}
    with pytest.raises(ValueError, match=r"rule_\.best is a function, which cannot be saved"):
        store.save(fitted, tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_every_field_is_written(tmp_path: Path, episode) -> None:
    store.save(NearestMean(seed=3).fit(episode.support), tmp_path / "m")
    about = json.loads((tmp_path / "m.json").read_text())
    assert about["class"] == "NearestMean" and about["version"] and about["attributes"]["seed"] == 3
    assert {f.name for f in fields(NearestMean)} <= set(about["attributes"]) and about["attributes"]["classes_"]
