"""The ledger: all claims of the papers, listed beforehand in claims.yaml, and decided together by ten draws or more.

decided(rows(), gains(rows(), draws_of(paths)))    # by these tables of draws
decided(rows(), kept())                            # by the ten draws that came with the library, claims_draws.csv
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict
from scipy import stats

from xmodal_lib.claims import MARGIN, holm, verdict
from xmodal_lib.evaluate import interval, per_cent
from xmodal_lib.home import replacing

DRAWS = 10  # fewer decide nothing in the ledger


class Row(BaseModel):
    """A row of claims.yaml, where its fields are explained."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    source: str
    statement: str
    kind: Literal["claim", "finding"] = "claim"
    published: str = ""
    scores: str = ""
    a: str = ""
    b: str = ""
    where: dict[str, Any] = {}
    only_a: dict[str, Any] = {}
    only_b: dict[str, Any] = {}
    metric: str = "accuracy"
    margin: float = MARGIN
    needs: str = ""
    shown: str = ""

    @property
    def job(self) -> str:
        """The job whose draws decide it; "" where none can."""
        return self.scores.partition(":")[0]

    @property
    def file(self) -> str:
        return self.scores.partition(":")[2] or "scores.parquet"


def rows() -> list[Row]:
    """The ledger as it is listed.

    Raises:
        ValueError: a row lacks what decides it, or two have one id.
    """
    found = [Row(**row) for row in yaml.safe_load((files("xmodal_lib") / "claims.yaml").read_text("utf-8"))]
    for row in found:
        if bool(row.scores and row.a and row.b) + bool(row.needs) + bool(row.shown) != 1:
            raise ValueError(f"claims.yaml, {row.id}: give scores with a and b, or needs, or shown")
    if twice := sorted(name for name, n in Counter(row.id for row in found).items() if n > 1):
        raise ValueError(f"claims.yaml: {', '.join(twice)} stands there twice")
    return found


def draws_of(paths: Iterable[str | Path]) -> dict[str, pd.DataFrame]:
    """Tables of draws by job and file: {"10_.../draw:scores.parquet": frame}. What the folder of a draw is named for
    (`source=words,seed=1`) becomes a column where the table has none; a table without rows is left out.

    Source of the layout: results/NOTEBOOK/JOB/AXIS=VALUE,.../FILE, as `xmodal reproduce` writes it.
    """
    parts: dict[str, list[pd.DataFrame]] = {}
    for path in map(Path, paths):
        frame = pd.read_parquet(path)
        if frame.empty:
            continue
        named = dict(axis.split("=", 1) for axis in path.parent.name.split(",") if "=" in axis)
        job = path.parent.parent if named else path.parent
        own = {axis: value for axis, value in named.items() if axis not in frame}
        key = f"{job.parent.name}/{job.name}:{path.name}"
        parts.setdefault(key, []).append(frame.assign(**own))
    return {key: pd.concat(some, ignore_index=True) for key, some in parts.items()}


def gains(listed: Sequence[Row], draws: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Within a draw the two methods of a row are averaged over what it names, and subtracted: columns id, seed, gain,
    a line for each draw that has both.

    Raises:
        ValueError: a table of draws lacks a column that a row names, or the two methods were measured with different
            numbers of shots and it names none.
    """
    each = {row.id: _gain(row, draws.get(f"{row.job}:{row.file}")) for row in listed}
    parts = [pd.DataFrame({"id": name, "seed": g.index.astype(int), "gain": g.to_numpy()}) for name, g in each.items()]
    return pd.concat(parts, ignore_index=True)


def write(gained: pd.DataFrame, path: str | Path) -> None:
    """Save gains as the file that `kept` reads: points of accuracy as shares, six digits."""
    with replacing(Path(path)) as partial:
        said = "# a - b of each row of claims.yaml, by draw; `xmodal reproduce --profile claims 90` writes it\n"
        partial.write_text(said + gained.round({"gain": 6}).to_csv(index=False, lineterminator="\n"), "utf-8")


def kept() -> pd.DataFrame:
    """The gains of ten draws that came with the library (claims_draws.csv), as `xmodal reproduce --profile claims 90`
    measures them; no line before they were measured.
    """
    file = files("xmodal_lib") / "claims_draws.csv"
    if not file.is_file():
        return pd.DataFrame({"id": [], "seed": [], "gain": []})
    with file.open("r", encoding="utf-8") as text:
        return pd.read_csv(text, comment="#")


def decided(listed: Sequence[Row], gained: pd.DataFrame, enough: int = DRAWS) -> pd.DataFrame:
    """Every row with its effect and verdict, from `gains`. The interval is Student's over draws, and p that of a
    two-sided t-test, also after Holm's correction over all rows that have draws.

    Columns id, kind, source, statement, published, scores, mean, low, high, draws, p, holm, verdict. The verdict is
    that of `verdict`, where supported and contradicted also need holm < 0.05; "too few draws" below `enough`, "shown",
    "needs ..." or "not run".
    """
    lines = []
    for row in listed:
        line = row.model_dump(include={"id", "kind", "source", "statement", "published", "scores"})
        gain = gained.loc[gained["id"] == row.id, "gain"].to_numpy(float)
        mean, low, high = interval(gain)
        p = float(stats.ttest_1samp(gain, 0).pvalue) if len(gain) > 1 and gain.std() > 0 else math.nan
        lines.append(line | {"mean": mean, "low": low, "high": high, "draws": len(gain), "p": p})
    table = pd.DataFrame(lines)
    table["holm"] = holm(table["p"].to_numpy())
    table["verdict"] = [_said(row, line, enough) for row, (_, line) in zip(listed, table.iterrows(), strict=True)]
    return table


def shown(table: pd.DataFrame, here: pd.DataFrame | None = None) -> pd.DataFrame:
    """Rows of a ledger as a reader wants them: where the paper says it and what it prints, the effect in points (and
    draws), the verdict; and beside it the effects of another ledger of the same rows, `here`."""
    where = table["source"].str.replace(r"^.* et al\., ", "", regex=True)
    printed = where + table["published"].map(lambda words: f": {words}" if words else "")
    columns = {"source, and what it prints": printed, "effect (draws)": effects(table), "verdict": table["verdict"]}
    if here is not None:
        columns["here (draws)"] = effects(here.loc[table.index])
    statement = table["kind"].map({"claim": "", "finding": "Released code: "}) + table["statement"]
    return pd.DataFrame(columns).set_axis(pd.Index(statement, name="statement"))


def link(row: Row, notebooks: Path) -> str:
    """Where in a notebook of this folder the row's numbers are shown, as NOTEBOOK.ipynb#cell-id=ID, which JupyterLab
    opens: the cell with the tag `claims:FILE`, of the file of scores. "" for a row without scores.

    Raises:
        ValueError: no cell has that tag.
    """
    if not row.scores:
        return ""
    notebook, tag = f"{row.job.partition('/')[0]}.ipynb", f"claims:{Path(row.file).stem}"
    cells = json.loads((notebooks / notebook).read_text("utf-8"))["cells"]
    found = [cell["id"] for cell in cells if tag in cell["metadata"].get("tags", [])]
    if not found:
        raise ValueError(f"{notebook} has no cell with the tag {tag}, which shows what decides {row.id}")
    return f"{notebook}#cell-id={found[0]}"


def anchor(place: str) -> str:
    """A place of `link` as HTML: the number of its notebook, to click."""
    return f'<a href="{place}">{place[:2]}</a>' if place else ""


def effects(table: pd.DataFrame) -> list[str]:
    """Of each row of a ledger "+5.0 ± 1.2 (10)": mean and half of the interval in points, and the draws; "" without."""
    columns = (table[name] for name in ("mean", "low", "high", "draws"))
    return [f"{per_cent(mean, low, high, signed=True)} ({n})" if n else ""
            for mean, low, high, n in zip(*columns, strict=True)]  # fmt: skip


def _gain(row: Row, frame: pd.DataFrame | None) -> pd.Series:
    """Differences a - b by seed, of each draw that has both on all that the row names; none where there is no such."""
    if frame is None:
        return pd.Series(dtype=float)
    both, parts = [], []
    for method, only in ((row.a, row.only_a), (row.b, row.only_b)):
        at = {"method": method, **({"metric": row.metric} if row.metric else {}), **row.where, **only}
        if lacking := [column for column in at if column not in frame]:
            raise ValueError(f"claims.yaml, {row.id}: {row.scores} has no column {lacking[0]}")
        part = frame
        for column, value in at.items():
            part = part[
                part[column].astype(str).isin([str(v) for v in (value if isinstance(value, list) else [value])])
            ]
        parts.append(part)
        asked = [column for column, value in (row.where | only).items() if isinstance(value, list)]
        cells = part.groupby(["seed", *asked])["value"].mean().groupby("seed")
        whole = math.prod(len((row.where | only)[column]) for column in asked)
        both.append(cells.mean()[cells.size() == whole] if len(part) else pd.Series(dtype=float))
    if all(map(len, parts)) and "shot" in frame and "shot" not in row.only_a | row.only_b:
        one, other = (sorted(part["shot"].unique()) for part in parts)
        if one != other:
            raise ValueError(f"claims.yaml, {row.id}: {row.a} has shot {', '.join(map(str, one))} and {row.b} "
                             f"{', '.join(map(str, other))}; name the shot to compare")  # fmt: skip
    return (both[0] - both[1]).dropna()


def _said(row: Row, line: pd.Series, enough: int) -> str:
    if row.needs or row.shown:
        return f"needs {row.needs}" if row.needs else "shown"
    if not line["draws"]:
        return "not run"
    if line["draws"] < enough:
        return "too few draws"
    found = verdict(line["mean"], line["low"], line["high"], row.margin)
    holds = found not in ("supported", "contradicted") or line["holm"] < 0.05
    return found if holds else "inconclusive"
