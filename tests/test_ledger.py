"""All claims together: each listed, judged by ten draws, corrected for their number, and linked to its numbers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from xmodal_lib.ledger import Row, decided, draws_of, gains, kept, link, rows, shown, write

ROOT = Path(__file__).resolve().parent.parent


def test_the_ledger_can_be_read_and_each_row_names_what_decides_it() -> None:
    listed = rows()
    assert {row.kind for row in listed} == {"claim", "finding"}
    sheets = {path.stem for path in (ROOT / "params").glob("*.yaml")}
    assert {row.job.partition("/")[0] for row in listed if row.job} <= sheets
    for row in listed:
        assert not row.shown or (ROOT / row.shown.partition("::")[0].partition(" ")[0]).is_file(), row.shown


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
    return decided(listed, gains(listed, {"10/draw:scores.parquet": frame}))


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
    pd.DataFrame().to_parquet(place / "missing.parquet")  # what a job writes that was asked for none of it
    assert draws_of([place / "missing.parquet"]) == {}


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
    monkeypatch.setattr("xmodal_lib.ledger.files", lambda _: tmp_path)
    pd.testing.assert_frame_equal(kept(), gained.round({"gain": 6}))
    (tmp_path / "claims_draws.csv").unlink()
    assert not len(kept()) and decided([row()], kept())["verdict"].item() == "not run"


def test_kept_draws_are_of_rows_of_the_ledger() -> None:
    """Ten or more, one a seed: what is kept decides."""
    draws = kept()
    assert set(draws["id"]) == {listed.id for listed in rows() if listed.scores}
    assert not draws.duplicated(["id", "seed"]).any() and np.isfinite(draws["gain"]).all()
    assert (draws.groupby("id").size() >= 10).all()
