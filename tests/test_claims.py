"""Verdicts follow from the interval alone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmodal_lib.claims import (
    Claim,
    Row,
    draws_of,
    gains,
    holm,
    in_words,
    judge,
    kept,
    ledger,
    link,
    rows,
    shown,
    verdict,
    write,
)

ROOT = Path(__file__).resolve().parent.parent


@given(st.floats(-1, 1), st.floats(0, 1))
def test_a_verdict_and_its_opposite_never_both_hold(mean: float, half: float) -> None:
    one, other = verdict(mean, mean - half, mean + half), verdict(-mean, -mean - half, -mean + half)
    assert not (one == other == "supported")
    if one == "supported":
        assert other == "contradicted"
    if one == "no effect":
        assert other in ("no effect", "contradicted")  # a sure loss, however small, speaks against "better"


def test_one_draw_proves_nothing() -> None:
    assert verdict(0.5, float("nan"), float("nan")) == "inconclusive"


def scores(a: list[float], b: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"method": m, "seed": s, "shot": 1, "metric": "accuracy", "value": v}
            for m, values in (("a", a), ("b", b))
            for s, v in enumerate(values)
        ]
    )


def test_judge_pairs_within_draws() -> None:
    """Draws differ by far more than the methods: only pairing shows the difference."""
    table = judge(scores([0.1, 0.5, 0.93], [0.05, 0.45, 0.9]), [Claim("a beats b", "here", "a", "b", {"shot": 1})])
    assert table.loc[0, "verdict"] == "supported"
    assert table.loc[0, "mean"] == pytest.approx(0.13 / 3)
    assert table.loc[0, "draws"] == 3


def test_a_line_in_words() -> None:
    claims = [Claim("c", "here", "a", b, {"shot": 1}) for b in ("b", "c")]
    assert in_words(judge(scores([0.1, 0.5, 0.93], [0.05, 0.45, 0.9]), claims)) == [
        "supported 4.3 (1.5 to 7.2)",
        "not run",
    ]
    assert in_words(judge(scores([0.5], [0.4]), claims[:1])) == ["inconclusive 10.0"]


def test_a_claim_about_what_was_not_run_says_so() -> None:
    claims = [Claim("c", "here", "a", "c", {"shot": 1}), Claim("d", "here", "a", "b", {"shot": 16})]
    assert judge(scores([1.0], [0.0]), claims)["verdict"].tolist() == ["not run", "not run"]


def test_the_ledger_can_be_read_and_each_row_names_what_decides_it() -> None:
    listed = rows()
    assert {row.kind for row in listed} == {"claim", "finding"}
    sheets = {path.stem for path in (ROOT / "params").glob("*.yaml")}
    assert {row.job.partition("/")[0] for row in listed if row.job} <= sheets
    for row in listed:
        assert not row.shown or (ROOT / row.shown.partition("::")[0].partition(" ")[0]).is_file(), row.shown


def test_holm_is_the_slow_obvious_form() -> None:
    p = np.array([0.04, 0.001, np.nan, 0.02, 0.02])
    order = sorted((v, i) for i, v in enumerate(p) if v == v)
    slow = np.full(5, np.nan)
    for place, (_, i) in enumerate(order):
        slow[i] = min(1, max((len(order) - k) * order[k][0] for k in range(place + 1)))
    assert np.allclose(holm(p), slow, equal_nan=True)


def many(gain: float, noise: float, draws: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    lines = []
    for seed in range(draws):
        level = rng.normal()  # of the draw, far larger than the difference
        for shot in (1, 2):
            value = level + rng.normal(scale=noise)
            same = {"seed": seed, "shot": shot, "metric": "accuracy"}
            lines += [same | {"method": "b", "value": level}, same | {"method": "a", "value": value + gain}]
    return pd.DataFrame(lines)


def row(name: str = "r", **changed: object) -> Row:
    given = {"id": name, "source": "s", "statement": "a is better", "scores": "10/draw", "a": "a", "b": "b"}
    return Row(**given | {"where": {"shot": [1, 2]}} | changed)


def of(frame: pd.DataFrame, *listed: Row) -> pd.DataFrame:
    return ledger(listed, gains(listed, {"10/draw:scores.parquet": frame}))


def test_the_rule_of_the_ledger() -> None:
    def said(frame: pd.DataFrame, *listed: Row) -> list[str]:
        return of(frame, *(listed or [row()]))["verdict"].tolist()

    assert said(many(0.05, 0.01, 10)) == ["supported"]
    assert said(many(-0.05, 0.01, 10)) == ["contradicted"]
    assert said(many(0.0, 0.001, 10)) == ["no effect"]
    assert said(many(0.02, 0.2, 10)) == ["inconclusive"]
    assert said(many(0.05, 0.01, 9)) == ["too few draws"]
    assert said(many(0.05, 0.01, 10), row(where={"shot": 3}), row(needs="photos", scores="")) == \
        ["not run", "needs photos"]  # fmt: skip


def test_a_draw_that_lacks_a_shot_does_not_count() -> None:
    frame = many(0.05, 0.01, 11).drop(index=0)
    assert of(frame, row())["draws"].item() == 10


def test_two_methods_are_compared_on_the_same_values() -> None:
    frame = many(0.05, 0.01, 10)
    less = frame[(frame["method"] == "b") | (frame["shot"] == 1)]
    with pytest.raises(ValueError, match="a has shot 1 and b 1, 2; name the shot to compare"):
        of(less, row(where={}))
    assert of(less, row(where={"shot": 1}))["draws"].item() == 10


def test_holm_makes_a_narrow_support_inconclusive() -> None:
    frame = many(0.03, 0.055, 10)
    assert of(frame, row())["verdict"].item() == "supported"
    assert set(of(frame, *(row(str(n)) for n in range(40)))["verdict"]) == {"inconclusive"}


def test_draws_are_found_by_their_folders(tmp_path: Path) -> None:
    place = tmp_path / "30_meta" / "draw" / "source=words,seed=1"
    place.mkdir(parents=True)
    many(0.1, 0.1, 2).to_parquet(place / "scores.parquet")
    found = draws_of([place / "scores.parquet"])
    assert list(found) == ["30_meta/draw:scores.parquet"]
    assert set(found["30_meta/draw:scores.parquet"]["source"]) == {"words"}
    assert set(found["30_meta/draw:scores.parquet"]["seed"]) == {0, 1}  # a column of the table is kept


def test_what_a_reader_sees_of_a_row() -> None:
    table = of(many(0.05, 0.0001, 2), row(kind="finding", published="+1"), row("s", where={"shot": 3}))
    page = shown(table, here=table)
    assert page.index.tolist() == ["Released code: a is better", "a is better"]
    effect, none = page["effect (draws)"]
    assert re.fullmatch(r"\+5\.0 ± 0\.\d \(2\)", effect) and none == ""
    assert page["here (draws)"].tolist() == [effect, none] and "here (draws)" not in shown(table)


def test_every_row_leads_to_the_cell_that_shows_its_numbers() -> None:
    for listed in rows():
        assert bool(link(listed, ROOT / "notebooks")) == bool(listed.scores)


def test_gains_are_kept_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gained = gains([row()], {"10/draw:scores.parquet": many(0.05, 0.01, 12)})
    write(gained, tmp_path / "claims_draws.csv")
    monkeypatch.setattr("xmodal_lib.claims.files", lambda _: tmp_path)
    pd.testing.assert_frame_equal(kept(), gained.round({"gain": 6}))
    (tmp_path / "claims_draws.csv").unlink()
    assert not len(kept()) and ledger([row()], kept())["verdict"].item() == "not run"


def test_kept_draws_are_of_rows_of_the_ledger() -> None:
    """Ten or more, one a seed: what is kept decides."""
    draws = kept()
    assert set(draws["id"]) == {listed.id for listed in rows() if listed.scores}
    assert not draws.duplicated(["id", "seed"]).any() and np.isfinite(draws["gain"]).all()
    assert (draws.groupby("id").size() >= 10).all()
