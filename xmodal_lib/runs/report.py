"""results/index.html: what the jobs of a plan gave, to be looked through from disk."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from xmodal_lib.home import replacing
from xmodal_lib.runs import pages
from xmodal_lib.runs.plan import Job, Plan

ROWS, COLUMNS = 10, 8  # shown of a table, and of headline metrics
OWN = {"notebook.ipynb", "notebook.html", "provenance.json", "metrics.json", "data.json", "failed.ipynb", "failed.html",
       "failed.json"}  # fmt: skip


def write(plan: Plan) -> Path:
    """Write the index of all jobs of the plan, done or not; returns its path."""
    path = plan.results / "index.html"
    sheets = [(sheet, list(jobs)) for sheet, jobs in groupby(plan.jobs, key=lambda job: job.name.split("/")[0])]
    body = [_top(plan, sheets), *(_sheet(plan, sheet, jobs) for sheet, jobs in sheets), _others(plan)]
    with replacing(path) as partial:
        partial.write_text(pages.page("Results", "\n".join(filter(None, body))), "utf-8")
    return path


def state(plan: Plan, job: Job) -> str:
    """ "done", "failed" or "missing"."""
    if (plan.results / job.done).is_file():
        return "done"
    return "failed" if (plan.results / job.name / "failed.json").is_file() else "missing"


def _top(plan: Plan, sheets: list[tuple[str, list[Job]]]) -> str:
    states = [state(plan, job) for job in plan.jobs]
    counts = ", ".join(f'<span class="{s}">{states.count(s)} {SAID[s]}</span>' for s in SAID if s in states)
    seconds = sum(_json(plan, job, "provenance.json").get("seconds", 0) for job in plan.jobs)
    lines = [
        f'<li><a href="#{sheet}">{escape(_about(plan, jobs[0])[0])}</a> {_badge(plan, jobs)}</li>'
        for sheet, jobs in sheets
    ]
    return (
        f"<header><h1>Results</h1>\n<p>Profile <code>{escape(plan.profile)}</code>: {counts} "
        f"({len(plan.jobs)} in all); {_time(seconds)} of computing.</p></header>\n"
        f'<nav aria-label="Notebooks"><ul>\n{chr(10).join(lines)}\n</ul></nav>'
    )


SAID = {"done": "done", "failed": "failed", "missing": "not run"}


def _badge(plan: Plan, jobs: list[Job]) -> str:
    states = [state(plan, job) for job in jobs]
    worst = next(s for s in ("failed", "missing", "done") if s in states)
    many = f" {states.count(worst)} of {len(jobs)}" if len(jobs) > 1 and worst != "done" else ""
    return f'<span class="state {worst}">{SAID[worst]}{many}</span>'


def _sheet(plan: Plan, sheet: str, jobs: list[Job]) -> str:
    """One notebook: its question, then its runs; those that sum others up come first."""
    title, question = _about(plan, jobs[0])
    runs = [(run, list(found)) for run, found in groupby(jobs, key=_run)]
    runs.sort(key=lambda entry: not _sums_up(entry[1][0]))
    head = f'<section id="{sheet}">\n<h2>{escape(title)}</h2>\n{pages.paragraph(question) if question else ""}'
    parts = [_each(plan, run, found) if _sums_up(found[0]) else _many(plan, run, found) for run, found in runs]
    return "\n".join([head, *parts, "</section>"])


def _sums_up(job: Job) -> bool:
    """Whether a job is to be read whole: it is alone, or made from many others."""
    return not job.matrix or any(isinstance(files, list) for files in job.needs.values())


def _each(plan: Plan, run: str, jobs: list[Job]) -> str:
    """Jobs that sum others up, one below the other."""
    if not jobs[0].matrix:
        return f"<h3>{escape(run)} {_badge(plan, jobs)}</h3>\n{_result(plan, jobs[0])}"
    parts = [f"<h4>{escape(_label(job))} {_badge(plan, [job])}</h4>\n{_result(plan, job)}" for job in jobs]
    return "\n".join([f"<h3>{escape(run)}</h3>", *parts])


def _many(plan: Plan, run: str, jobs: list[Job]) -> str:
    """The jobs of a matrix: a line of metrics each, and the rest folded."""
    found = [_json(plan, job, "metrics.json") for job in jobs]
    metrics = list(dict.fromkeys(key for metric in found for key in metric))
    rows = [
        [*job.matrix.values(), *(metric.get(key, "") for key in metrics[:COLUMNS])]
        for job, metric in zip(jobs, found, strict=True)
    ]
    table = _table([*jobs[0].matrix, *metrics[:COLUMNS]], rows)
    more = f'<p class="soft">{len(metrics) - COLUMNS} more metrics below.</p>' if len(metrics) > COLUMNS else ""
    folded = []
    for job in jobs:
        shown = " open" if state(plan, job) == "failed" else ""
        name = f"<summary>{escape(_label(job))} {_badge(plan, [job])}</summary>"
        folded.append(f'<details class="job"{shown}>{name}\n{_result(plan, job)}</details>')
    return "\n".join([f"<h3>{escape(run)} {_badge(plan, jobs)}</h3>", table, more, *folded])


def _label(job: Job) -> str:
    """What tells a job of a matrix from the others: "speech, image · seed 1"."""
    parts = []
    for axis, value in job.matrix.items():
        words = all(isinstance(part, str) for part in (value if isinstance(value, list) else [value]))
        parts.append(_text(value) if words else f"{axis} {_text(value)}")
    return " · ".join(parts)


def _result(plan: Plan, job: Job) -> str:
    folder, now = plan.results / job.name, state(plan, job)
    if now == "missing":
        return f'<p class="missing">Not run yet: <code>xmodal reproduce {escape(job.name)}</code> runs it.</p>'
    if now == "failed":
        return _failure(plan, job)
    record, metrics = _json(plan, job, "provenance.json"), _json(plan, job, "metrics.json")
    memory = f", {record['peak_memory_mb']} MB" if record.get("peak_memory_mb") else ""
    links = f"{_link(job, 'notebook.html', 'Executed notebook')} ({_link(job, 'notebook.ipynb', '.ipynb')})"
    parts = [f'<p>{links} <span class="soft">{_time(record["seconds"])}{memory}</span></p>']
    kept = {p.parent for p in folder.rglob("points.parquet")}  # saved collections, of which the page is the view
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.parent not in kept
                   and p.relative_to(folder).as_posix() not in OWN)  # fmt: skip
    explorers = [p for p in files if p.match("explore*.html")]
    parts += [_explorer(job, folder, p) for p in explorers]
    if kept and not explorers:
        parts.append(f"<p>To explore its maps: <code>xmodal explore {escape(job.name)} --html</code></p>")
    pictures = [p for p in files if p.suffix == ".png"]
    if pictures:
        parts.append('<div class="figures">' + "\n".join(_figure(job, folder, p) for p in pictures) + "</div>")
    if metrics:
        parts.append(_metrics(metrics))
    tables = [p for p in files if p.suffix in (".parquet", ".csv", ".json")]
    parts += [_file_table(job, folder, p) for p in tables]
    copies = {p.with_suffix(suffix) for p in pictures for suffix in (".png", ".pdf", ".svg", ".txt")}
    rest = [p for p in files if p not in {*tables, *copies, *explorers} and p.name != "plotly.min.js"]
    if rest:
        words = ", ".join(_link(job, p.relative_to(folder).as_posix()) for p in rest)
        parts.append(f"<p>Files: {words}</p>")
    parts.append(_provenance(record))
    return "\n".join(parts)


def _metrics(metrics: dict[str, Any]) -> str:
    """The first metrics, and the others folded."""
    rows = list(metrics.items())
    table = _table(["metric", "value"], rows[:ROWS])
    if len(rows) <= ROWS:
        return table
    more = _table(["metric", "value"], rows[ROWS:])
    return f"{table}<details><summary>{len(rows) - ROWS} more metrics</summary>{more}</details>"


def _failure(plan: Plan, job: Job) -> str:
    """Why a job failed: the reason, the end of the traceback, and the notebook as far as it came."""
    record = _json(plan, job, "failed.json")
    trace = re.sub(r"\x1b\[[0-9;]*m", "", record["traceback"]).strip()
    links = [_link(job, name, text) for name, text in (("failed.html", "executed notebook"), ("failed.ipynb", ".ipynb"))
             if (plan.results / job.name / name).is_file()]  # fmt: skip
    shown = f"<details><summary>Traceback</summary><pre>{escape(trace)}</pre></details>" if trace else ""
    kept = f"<p>As far as it came: {', '.join(links)}</p>" if links else ""
    return f'<p class="failed"><strong>Failed.</strong> {escape(record["reason"])}</p>\n{kept}\n{shown}'


def _figure(job: Job, folder: Path, picture: Path) -> str:
    name = picture.relative_to(folder).as_posix()
    caption = picture.stem.replace("_", " ").capitalize()
    papers = [_link(job, p.relative_to(folder).as_posix(), p.suffix[1:].upper())
              for p in (picture.with_suffix(s) for s in (".pdf", ".svg")) if p.is_file()]  # fmt: skip
    alt = _described(picture) or f"{caption}, {job.name}"
    more = f" · {' · '.join(papers)}" if papers else ""
    href = _href(job, name)
    return (
        f'<figure><a href="{href}"><img loading="lazy" src="{href}" alt="{escape(alt, quote=True)}"></a>'
        f"<figcaption>{escape(caption)}{more}</figcaption></figure>"
    )


def _explorer(job: Job, folder: Path, page: Path) -> str:
    """The link to a page to explore: "explore_gtl.html" is called "gtl"."""
    which = page.stem.removeprefix("explore").strip("_").replace("_", " ")
    link = _link(job, page.relative_to(folder).as_posix(), f"Explore the maps{which and f': {which}'}")
    return f'<p>{link} <span class="soft">one file, {page.stat().st_size / 1e6:.1f} MB, works offline</span></p>'


def _described(picture: Path) -> str:
    """The text alternative that a figure was saved with: NAME.txt."""
    words = picture.with_suffix(".txt")
    return words.read_text("utf-8").strip() if words.is_file() else ""


def _file_table(job: Job, folder: Path, path: Path) -> str:
    """The first rows of a table, folded."""
    import pandas as pd

    name = path.relative_to(folder).as_posix()
    if path.suffix == ".json":
        whole = json.loads(path.read_text("utf-8"))
        if not (isinstance(whole, list) and whole and all(isinstance(row, dict) for row in whole)):
            text = json.dumps(whole, indent=1)
            shown = f"<pre>{escape(text[:4000])}{' …' if len(text) > 4000 else ''}</pre>"
            return f"<details><summary>{escape(name)}</summary>{shown}</details>"
        frame = pd.DataFrame(whole)
    else:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index()
    shape = f"{len(frame)} rows" if len(frame) <= ROWS else f"first {ROWS} of {len(frame)} rows"
    rows = [[_cell(value) for value in row] for row in frame.head(ROWS).itertuples(index=False)]
    table = _table([str(c) for c in frame.columns], rows)
    summary = f'<summary>{escape(name)} <span class="soft">{shape}</span></summary>'
    return f"<details>{summary}{table}<p>{_link(job, name, 'The whole file')}</p></details>"


def _cell(value: Any) -> Any:
    if hasattr(value, "__len__") and not isinstance(value, str):
        return f"{type(value).__name__} of {len(value)}"
    return value.item() if hasattr(value, "item") else value


def _provenance(record: dict[str, Any]) -> str:
    """Where a result is from, folded."""
    given = _table(["parameter", "value"], [[k, v] for k, v in record["parameters"].items()])
    origin = {
        "notebook": record["notebook"],
        "code": record["code"],
        "commit": record["commit"] or "not in a repository",
        **{f"data: {k}": v for k, v in (record["data"] or {}).items()},
        **{f"need: {p}": ", ".join(f"{f} ({d})" for f, d in files.items()) for p, files in record["needs"].items()},
    }
    versions = ", ".join(f"{k} {v}" for k, v in record["versions"].items())
    return (
        "<details><summary>Provenance</summary>"
        f"{given if record['parameters'] else '<p>The defaults of the notebook.</p>'}"
        f'{_table(["from", ""], list(origin.items()))}<p class="soft">{escape(versions)}</p></details>'
    )


def _others(plan: Plan) -> str:
    """Results on disk that are of no job of this plan: another profile, or parameters of before."""
    known = {job.name for job in plan.jobs} | {"adhoc"}
    folders = sorted({p.parent for name in ("provenance.json", "failed.json") for p in plan.results.rglob(name)})
    names = [p.relative_to(plan.results).as_posix() for p in folders]
    names = [n for n in names if n not in known and n.split("/")[0] != "adhoc" and "/." not in f"/{n}"]
    if not names:
        return ""
    lines = "".join(f'<li><a href="{quote(n)}/">{escape(n)}</a></li>' for n in names)
    return f"<details><summary>Also on disk, of other profiles or earlier parameters ({len(names)})</summary><ul>{lines}</ul></details>"  # noqa: E501


def _about(plan: Plan, job: Job) -> tuple[str, str]:
    return pages.title_and_question(plan.root / job.notebook)


def _run(job: Job) -> str:
    return job.name.rpartition("/")[0] if job.matrix else job.name


def _json(plan: Plan, job: Job, name: str) -> dict[str, Any]:
    path = plan.results / job.name / name
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def _href(job: Job, name: str) -> str:
    return quote(f"{job.name}/{name}")


def _link(job: Job, name: str, text: str = "") -> str:
    return f'<a href="{_href(job, name)}">{escape(text or name)}</a>'


def _table(head: list[str], rows: Sequence[Sequence[Any]]) -> str:
    """An HTML table; columns of numbers to the right, floats with four digits."""
    right = [all(isinstance(row[i], int | float | str) and not (isinstance(row[i], str) and row[i]) for row in rows)
             for i in range(len(head))]  # fmt: skip
    side = ['class="n"' if r else "" for r in right]
    top = "".join(f'<th scope="col" {s}>{escape(str(name))}</th>' for name, s in zip(head, side, strict=True))
    lines = [
        "<tr>" + "".join(f"<td {s}>{escape(_text(value))}</td>" for value, s in zip(row, side, strict=True)) + "</tr>"
        for row in rows
    ]
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if not isinstance(value, float):
        return str(value)
    if value.is_integer() and abs(value) >= 10:  # a count
        return f"{value:.0f}"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.4g}"


def _time(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )
