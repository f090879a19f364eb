"""The 2x2 of every classifier, the switches beside it, and the lines that one drawing of each class leaves possible."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from tests.conftest import text_tower, world
from xmodal_lib import adaptation_rows as rows
from xmodal_lib.methods import ZeroShot
from xmodal_lib.sources import emoji
from xmodal_lib.tables import Table, Tables

TWO = world(classes=2, shot=5, noise=0.6)


def everything() -> dict:
    """All arms, made short."""
    torch.manual_seed(0)
    one = {"lr": (1e-3,), "weight_decay": (0.0,), "batch": (2,)}
    tail = nn.Linear(16, 16, bias=False)
    arms = rows.heads(20) | rows.prompted(text_tower(), {}, 1) | rows.partial(tail, 20) | {"zero-shot": ZeroShot()}
    shorter = {"linear probe": {"batch": 2, "grid": one | {"lr": (1e-3,), "weight_decay": (0.01,)}},
               "adapter": {"batch": 2, "grid": one | {"lr": (1e-4,)}},
               "partial finetuning": {"batch": 2, "grid": one, "lr": 1e-3},
               "Tip-Adapter": {"grid": {"alpha": (0.5, 2.0), "beta": (1.0, 5.0)}}, "Tip-Adapter-F": {"epochs": 2},
               "ZS-LP": {"epochs": 5}, "CLAP": {"epochs": 5}, "LP++": {"steps": 20}}  # fmt: skip
    shorter["Tip-Adapter-F"] |= shorter["Tip-Adapter"]
    return {name: replace(arm, **shorter.get(name.partition(": ")[0], {})) for name, arm in arms.items()}


def test_no_label_of_the_query_reaches_an_answer() -> None:
    """Two classes with the query's labels exchanged: what was right is wrong, in every arm and both tracks."""
    y = TWO.query["image"].y
    poisoned = replace(TWO, query=Tables({"image": replace(TWO.query["image"], y=1 - y)}, TWO.query.classes))
    arms = everything()
    right, wrong = (rows.scored(arms, [({"shot": 5}, episode)]) for episode in (TWO, poisoned))
    both = right.merge(wrong, on=["method", "track", "shot"], suffixes=("", " poisoned"))
    assert len(both) == len(right) == 2 * (len(arms) + 4)  # WiSE-FT beside each of four linear probes
    np.testing.assert_allclose(both["value"] + both["value poisoned"], 1)


def test_every_classifier_has_its_corners() -> None:
    names = rows.corners(pd.DataFrame({"method": list(everything())})).dropna()
    count = names.groupby("classifier")["method"].nunique()
    half = {"LP++", "logistic regression", "class means"}
    assert {c: n for c, n in count.items() if c in half} == dict.fromkeys(half, 2)
    assert set(count[~count.index.isin(half)]) == {4}
    for name, arm in everything().items():
        if name != "zero-shot":
            assert arm.modalities == rows.ROWS[name.rpartition(" start, ")[2]]


def frame(values: dict[tuple[str, int], list[float]]) -> pd.DataFrame:
    lines = [{"method": m, "track": "few-shot val", "seed": s, "shot": k, "metric": "accuracy", "value": v}
             for (m, k), draws in values.items() for s, v in enumerate(draws)]  # fmt: skip
    return pd.DataFrame(lines)


def test_effects_are_paired_differences_of_corners() -> None:
    given = frame({(rows.name_of("x", "random", "image"), 1): [0.1, 0.3],
                   (rows.name_of("x", "random", "image + text"), 1): [0.2, 0.6],
                   (rows.name_of("x", "text", "image"), 1): [0.4, 0.5]})  # fmt: skip
    found = rows.effects(given, 1, "few-shot val").set_index("effect")["mean"]
    assert dict(found.round(6)) == {"text rows, random start": 0.2, "text start, image rows": 0.25}


def test_one_more_image_is_of_the_next_number_of_shots() -> None:
    given = frame({(rows.name_of("linear probe", "text", "image + text"), 1): [0.5],
                   (rows.name_of("linear probe", "random", "image"), 2): [0.4]})  # fmt: skip
    found = rows.words_and_images(given, shots=(1,)).set_index("method")
    assert dict(found["value"]) == {"n images and a word": 0.5, "n + 1 images": 0.4} and set(found["shot"]) == {1}


def test_prompts_replace_the_text_rows_alone() -> None:
    classes = ("food-fruit", "tool")
    support = Tables({"image": Table(torch.ones(3, 16), torch.tensor([0, 1, 1]), torch.tensor([4, 9, 2])),
                      "text": Table(torch.zeros(2, 16), torch.arange(2), torch.tensor([11, 12]))}, classes)  # fmt: skip
    tower = text_tower()
    for kind in emoji.PROMPTS:
        changed = rows.with_prompts(support, tower, kind)
        texts = [text for name in classes for text in emoji.class_prompts(name, kind)]
        assert torch.equal(changed["text"].x, tower.encode(texts)) and changed["image"] is support["image"]
        assert changed["text"].y.bincount().tolist() == [len(texts) // 2] * 2
        assert not set(changed["text"].pair.tolist()) & {4, 9, 2}


def test_a_line_between_two_drawings_lies_halfway() -> None:
    """And with the prompts it separates all four rows."""
    made = world(classes=2, shot=20, noise=1.0, query=30)
    prompts = made.support.only("text")
    points, lines = rows.one_shot_lines(made.support, made.query, prompts, made.support.classes, draws=5)
    shots = points[points["kind"] == "shot"]
    for line in lines[lines["rows"] == "image"].itertuples():
        (a, b), normal = shots.loc[shots["draw"] == line.draw, ["x", "y"]].to_numpy(), np.array([line.a, line.b])
        cosine = normal @ (b - a) / np.linalg.norm(normal) / np.linalg.norm(b - a)
        assert cosine == pytest.approx(1, abs=1e-2)
        assert abs(normal @ (a + b) / 2 + line.c) < 2e-2 * np.linalg.norm(normal)
    asked = points[points["kind"] == "drawing"]
    for line in lines.itertuples():
        yhat = line.a * asked["x"] + line.b * asked["y"] + line.c > 0
        assert (yhat == (asked["class"] == made.support.classes[1])).mean() == pytest.approx(line.accuracy)


def test_scatter_of_directions() -> None:
    """Turned by half a turn a line is the same; evenly spread lines have no direction."""
    turned = pd.DataFrame({"rows": "image", "a": [1.0, -1.0], "b": [1.0, -1.0], "accuracy": [0.5, 1.0]})
    assert rows.spread(turned).loc["image", "scatter (degrees)"] == pytest.approx(0, abs=1e-4)
    angles = torch.tensor([-10.0, 10.0]).deg2rad()
    two = turned.assign(a=angles.cos().numpy(), b=angles.sin().numpy())
    assert rows.spread(two).loc["image", "scatter (degrees)"] == pytest.approx(10, rel=0.02)
    assert rows.spread(two).loc["image", "accuracy"] == 0.75


def test_an_encoder_of_one_module_has_no_projection() -> None:
    with pytest.raises(ValueError, match="is one module: give a number of blocks"):
        rows.deeper(None, text_tower(), "projection", torch.arange(2))
