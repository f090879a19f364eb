"""The leaderboard on tiny tables: every method takes part or has a reason, and the numbers are those of plain loops."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from tests.conftest import gappy, text_tower, world
from xmodal_lib import leaderboard
from xmodal_lib.episodes import Episode
from xmodal_lib.evaluate import summary
from xmodal_lib.leaderboard import Task, absent, board, entrant, gains, leaders, played, ranks, stored
from xmodal_lib.methods import METHODS, FromScratch, Joint, LinearProbe, Method, NearestMean, TipAdapter
from xmodal_lib.methods.croma_baselines import Reading
from xmodal_lib.methods.gtl import GTL
from xmodal_lib.methods.meta_transfer import MetaTransfer
from xmodal_lib.methods.multimodal import Multimodal
from xmodal_lib.methods.prompting import Prompting
from xmodal_lib.tables import Tables
from xmodal_lib.views.board_plots import costs, frontier, shown, standings

TINY = {
    LinearProbe: {"iterations": 20, "batch": 4},
    Prompting: {"tokens": 2, "epochs": 2},
    Multimodal: {"epochs": 10},
    MetaTransfer: {"shot": 2, "iterations": 2, "steps": 2},
    GTL: {"concept": 4, "disturbance": 2, "domains": 2, "hidden": 8, "base_epochs": 1, "epochs": 1},
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(leaderboard.RECIPES, "tiny", TINY)


def one_shot(episode: Episode) -> list[tuple[dict[str, int], Episode]]:
    return [({"shot": 1}, replace(episode, val=None))]


def named() -> Task:
    return Task("names", 3, one_shot(world()), tower=text_tower())


def paired() -> Task:
    return Task("pairs", 3, one_shot(gappy()), given={"modalities": ("image", "text"), "init": ""})


def transferred() -> Task:
    """Image rows alone to learn from; base rows of text and image, of which some are pairs."""
    episode = world(classes=5)
    support = episode.support.only("image")
    base = gappy(seed=9).query
    given = {"modalities": ("image",), "init": ""}
    return Task("new", 3, one_shot(replace(episode, support=support)), base, given, ("text", "image"))


@pytest.fixture(scope="module")
def everything() -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(leaderboard.RECIPES, "tiny", TINY)
        return pd.concat([played(task, recipe="tiny") for task in (named(), paired(), transferred())])


def test_every_method_takes_part_or_says_why_not(everything: pd.DataFrame) -> None:
    for _, own in everything.groupby("task"):
        there = set(own.loc[own["metric"] == "accuracy", "method"])
        out = own[own["metric"] == "absent"]
        assert there | set(out["method"]) == set(METHODS) and not there & set(out["method"])
        assert out["why"].str.len().min() > 10 and not out["why"].str.contains("\n").any()
    never = set(METHODS) - set(everything.loc[everything["metric"] == "accuracy", "method"])
    assert never == {"weak labels"}  # of strong pairs, each is a set of its own


def test_reasons_are_those_of_the_classes(everything: pd.DataFrame) -> None:
    why = everything[everything["metric"] == "absent"].set_index(["task", "method"])["why"]
    for name, cls in METHODS.items():
        assert (("names", name) in why) == issubclass(cls, Multimodal) or issubclass(cls, MetaTransfer | Reading)
        assert ("pairs", name) in why or not issubclass(cls, MetaTransfer | Reading | Prompting)
    assert "meta-learns on base classes" in why["names", "CroMA"] and ("names", "from scratch") not in why
    assert why["new", "zero-shot"].startswith("it learns from 'text', but the support holds image")
    table = absent(everything).set_index(["task", "why"])["methods"]
    assert table["new", why["new", "zero-shot"]] == "zero-shot, CLAP, LP++"


@dataclass
class Constant(Method):
    """Always the first class."""

    def _fit(self, support: Tables, val: Tables | None) -> None:
        self.weight_ = torch.zeros(3, 2)

    def logits(self, query: Tables) -> dict[str, torch.Tensor]:
        score = torch.eye(len(self.classes_))[0]
        return {m: score.expand(len(t), -1) for m, t in query.rows.items()}


def test_a_new_method_needs_its_entry_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "constant", Constant)
    for name in set(METHODS) - {"constant", "nearest mean"}:  # to be quick
        monkeypatch.delitem(METHODS, name)
    frame = pd.concat([played(task, recipe="tiny") for task in (named(), transferred())])
    mine = frame[frame["method"] == "constant"]
    assert mine.loc[mine["metric"] == "accuracy", "value"].tolist() == [0.2, 0.2]
    assert mine.loc[mine["metric"] == "numbers", "value"].tolist() == [6, 6]
    assert "constant" in board(frame)["method"].tolist()


def test_an_entrant_is_its_class_with_what_task_and_recipe_give() -> None:
    assert entrant("nearest mean", named(), "tiny") == NearestMean()
    assert entrant("nearest mean", paired(), "tiny") == NearestMean(modalities=("image", "text"))
    assert entrant("linear probe", named(), "defaults") == LinearProbe()
    assert entrant("WiSE-FT", named(), "tiny").probe == LinearProbe(iterations=20, batch=4)
    croma = entrant("CroMA", transferred(), "tiny")
    assert (croma.source, croma.target, croma.way, croma.iterations) == ("text", "image", 5, 2)
    assert entrant("GTL", transferred(), "tiny").way == GTL().way  # the same name, another meaning
    with pytest.raises(ValueError, match=r"recipe='slow'; there are fast, defaults, tiny"):
        entrant("CroMA", named(), "slow")


def test_a_draw_gives_the_same_again() -> None:
    """Small nets are drawn by the method's seed, and not by what was drawn before."""
    for task, names in ((transferred(), ["CroMA", "from scratch"]), (paired(), ["joint", "partial finetuning"])):
        first, again = (played(task, names, "tiny") for _ in range(2))
        same = first["metric"] == "accuracy"
        assert same.sum() == 2 and first.loc[same, "value"].tolist() == again.loc[same, "value"].tolist()


def test_an_error_that_is_no_reason_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Broken(Constant):
        def _fit(self, support: Tables, val: Tables | None) -> None:
            raise KeyError("a mistake")

    monkeypatch.setitem(METHODS, "broken", Broken)
    with pytest.raises(KeyError, match="a mistake"):
        played(named(), ["broken"], "tiny")


def test_stored_counts_every_number_once() -> None:
    episode = world()
    assert stored(NearestMean().fit(episode.support)) == 5 * 16
    assert stored(NearestMean()) == 0
    keys = 5 * 4
    assert stored(TipAdapter().fit(episode.support)) == keys * 16 + keys * 5 + 5 * 16  # keys, values, zero-shot head
    joint = entrant("joint", paired(), "tiny").fit(gappy().support)
    assert isinstance(joint, Joint)
    assert stored(joint) == sum(p.numel() for net in (joint.encoders_, joint.head_) for p in net.parameters())
    scratch = entrant("from scratch", transferred(), "tiny").fit(transferred().episodes[0][1].support)
    assert isinstance(scratch, FromScratch)
    assert stored(scratch) == sum(p.numel() for net in (scratch.encoders_, scratch.head_) for p in net.parameters())


# -- the numbers ----------------------------------------------------------------------------------------------------


def lines(values: dict[tuple[str, str], list[list[float]]]) -> pd.DataFrame:
    """{(task, method): a list a draw of accuracies by shots} as `played` gives them."""
    found = []
    for (task, method), draws in values.items():
        for seed, own in enumerate(draws):
            found += [{"task": task, "method": method, "seed": seed, "shot": shot, "metric": "accuracy", "value": v,
                       "why": ""} for shot, v in zip((1, 4), own, strict=True)]  # fmt: skip
            found += [{"task": task, "method": method, "seed": seed, "shot": 1, "metric": metric, "value": 2.0,
                       "why": ""} for metric in ("fit seconds", "base seconds", "numbers")]  # fmt: skip
    return pd.DataFrame(found)


@pytest.fixture
def scores() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    level = {"a": 0.8, "b": 0.79, "c": 0.6, "d": 0.3}
    return lines({
        (task, method): (mean + 0.02 * rng.standard_normal((6, 2))).tolist()
        for task in ("x", "y") for method, mean in level.items() if (task, method) != ("y", "d")
    })  # fmt: skip


@pytest.mark.parametrize("reference", ["", "c"])
def test_gains_are_those_of_a_plain_loop(scores: pd.DataFrame, reference: str) -> None:
    table = gains(scores, reference)
    accuracy = scores[scores["metric"] == "accuracy"]
    for task, own in table.groupby("task"):
        held = accuracy[accuracy["task"] == task]
        means = {m: held.loc[held["method"] == m, "value"].mean() for m in own["method"]}
        assert own["method"].tolist() == sorted(means, key=means.get, reverse=True)
        against = reference or max(means, key=means.get)
        raw = {}
        for _, line in own.iterrows():
            draws = []
            for seed in range(6):
                here = held[held["seed"] == seed].set_index("method")["value"]
                draws.append(here[line["method"]].mean() - here[against].mean())
            mean, sd = np.mean(draws), np.std(draws, ddof=1)
            half = stats.t.ppf(0.975, 5) * sd / math.sqrt(6)
            np.testing.assert_allclose(line[["mean", "low", "high"]].astype(float), [mean, mean - half, mean + half])
            assert line["reference"] == against and line["n"] == 6
            if line["method"] != against:
                raw[line["method"]] = 2 * stats.t.sf(abs(mean) / (sd / math.sqrt(6)), 5)
        for method, p in raw.items():  # Holm: the k-th smallest of m times m - k + 1, never less than one before
            smaller = sorted(q for q in raw.values() if q <= p)
            corrected = max(min(1, (len(raw) - k) * q) for k, q in enumerate(smaller))
            np.testing.assert_allclose(own.set_index("method").loc[method, ["p", "holm"]].astype(float), [p, corrected])


def test_who_stands_with_the_best(scores: pd.DataFrame) -> None:
    table = board(scores)
    assert table[table["task"] == "x"].set_index("method")["with_best"].to_dict() == {
        "a": True, "b": True, "c": False, "d": False}  # fmt: skip
    assert table["fit seconds"].eq(2).all() and table["numbers"].eq(2).all()
    said = leaders(table).loc["x"]
    assert (said["not told apart"], said["told apart"]) == ("b", "c, d") and said["best mean"].startswith("a, ")
    one = board(scores[scores["seed"] == 0])
    assert one["with_best"].all()  # one draw tells nothing apart


def test_what_is_not_tested_stands_with_the_best() -> None:
    """A tie, the same difference in every draw, and fewer draws than three."""
    frame = lines({("x", "a"): [[0.5, 0.6]] * 3, ("x", "b"): [[0.5, 0.6]] * 3, ("x", "c"): [[0.49, 0.59]] * 3})
    assert gains(frame)["p"].isna().all() and board(frame)["with_best"].all()
    far = lines({("x", "a"): [[0.9, 0.9]] * 3, ("x", "b"): [[0.1, 0.1], [0.11, 0.1], [0.1, 0.12]]})
    assert board(far)["with_best"].tolist() == [True, False]
    assert board(far[far["seed"] < 2])["with_best"].all()


def test_ranks_are_among_those_who_take_part_in_all(scores: pd.DataFrame) -> None:
    table = ranks(scores).set_index("method")
    assert set(table.index) == {"a", "b", "c"} and table.loc["c", "mean"] == 3.0
    accuracy = scores[(scores["metric"] == "accuracy") & (scores["method"] != "d")]
    first = accuracy.groupby(["seed", "task", "method"])["value"].mean().unstack()
    places = (first.gt(first["a"], axis=0)).sum(axis=1) + 1
    assert table.loc["a", "mean"] == pytest.approx(places.mean())
    assert ranks(lines({("x", "a"): [[0.5, 0.5]], ("y", "b"): [[0.5, 0.5]]})).empty


def test_a_reference_that_takes_no_part_is_named(scores: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="'d' takes no part in 'y'; there are"):
        gains(scores, "d")


def test_shots_that_a_task_lacks_are_left_out() -> None:
    assert leaderboard._possible("pairs", [1, 4, 16]) == [1, 4]
    with pytest.raises(ValueError, match=r"shots=\[16\]; 'visual' has 1 to 5"):
        leaderboard._possible("visual", [16])


# -- pictures -------------------------------------------------------------------------------------------------------


def test_the_frontier_is_what_pays() -> None:
    table = pd.DataFrame({"method": list("abcd"), "seconds": [1.0, 2.0, 3.0, 4.0], "accuracy": [0.5, 0.505, 0.6, 0.5]})
    assert frontier(table)["method"].tolist() == ["a", "c"]
    assert frontier(table, margin=0)["method"].tolist() == ["a", "b", "c"]


def test_table_and_figures_have_a_line_a_method(scores: pd.DataFrame) -> None:
    table = board(scores)
    own = table[table["task"] == "x"]
    page = shown(own, summary(scores.query("task == 'x' and metric == 'accuracy'"), by=["method", "shot"]))
    assert page.index.tolist() == own["method"].tolist() and page.loc["a", "to the best"] == ""
    assert page.loc["d", "told apart"] == "yes" and page.loc["d", "p (Holm)"] == "< 0.001"
    x, y = standings(gains(scores, "b")).axes
    assert [t.get_text() for t in x.get_yticklabels()] == own["method"].tolist() and len(y.get_yticklabels()) == 3
    assert len(costs(table).axes) == 2
