"""One notebook, executed by papermill in this process; a folder of results, or the failed notebook with its reason.

python -m xmodal_lib.runs.run results/.engine/plan.json 10_cross_modal_adaptation/draw/seed=1
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from xmodal_lib.home import Unusable, replacing
from xmodal_lib.runs import provenance
from xmodal_lib.runs.plan import Job, Plan, each

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
           "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS")  # fmt: skip
LIMIT = 300_000  # bytes of a committed notebook
SOLUTION = "solution"  # tag of the cell that solves a notebook's exercise: no part of a job, nor of its page
READER = "reader"  # tag of the cells that make no output of a job: those of brief jobs do without them
LEFT_OUT = "left-out"
SHORT = "*Not run in this job, which is brief: the report of the same notebook shows it.*"


class Failed(Exception):
    """A notebook that did not end well: one line, and where the executed notebook lies."""

    def __init__(self, reason: str, notebook: Path):
        super().__init__(reason)
        self.reason, self.notebook = reason, notebook


def run_job(plan: Plan, name: str) -> bool:
    """Run one job of a plan into its folder, telling what happens by lines of JSON in `results/.engine/events`."""
    job, began = plan[name], time.monotonic()
    tell = teller(plan, job)
    tell("started", at=time.time())
    files = {p: relative(plan.root / job.notebook, plan.results, files) for p, files in job.needs.items()}
    try:
        memory = execute(
            plan.root,
            plan.root / job.notebook,
            plan.results / job.name,
            {**job.parameters, **files},
            outputs=job.outputs,
            threads=job.resources["threads"],
            minutes=job.resources["minutes"],
            needs={p: digests(plan.results, files) for p, files in job.needs.items()},
            code=job.code,
            brief=job.brief,
            said=lambda line: tell("said", line=line),
        )
    except Failed as failed:
        shown = failed.notebook.relative_to(plan.root).as_posix()
        tell("failed", seconds=time.monotonic() - began, reason=failed.reason, notebook=shown)
        return False
    tell("done", seconds=time.monotonic() - began, memory=memory)
    return True


def execute(
    root: Path,
    notebook: Path,
    out: Path,
    given: Mapping[str, Any],
    *,
    outputs: Mapping[str, str] | None = None,
    threads: int = 1,
    minutes: float = 240,
    needs: Mapping[str, Any] | None = None,
    code: str | None = None,
    brief: bool = False,
    said: Callable[[str], None] = print,
) -> int | None:
    """Execute a notebook into the folder `out`, which appears only when all went well; returns the peak memory in MB.

    The kernel works in the notebook's folder, as in JupyterLab. `out` then has notebook.ipynb, notebook.html,
    provenance.json and what the notebook wrote. A `brief` execution is without the cells for readers.

    Raises:
        Failed: a cell raised, the time is over, or a declared output is missing; `out` has failed.ipynb instead.
    """
    from xmodal_lib.runs.plan import parameters

    began, partial = time.monotonic(), out.with_name(f".{out.name}.partial")
    for folder in (out, partial):
        shutil.rmtree(folder, ignore_errors=True)
    partial.mkdir(parents=True)
    known = parameters(notebook.parent, notebook.name)
    inject = {**given, **({"out": _relative(partial, notebook.parent)} if "out" in known else {})}
    done = partial / "notebook.ipynb"
    without = {SOLUTION, READER} if brief else {SOLUTION}
    failure = papermill(notebook, done, inject, threads, minutes, said, leave_out=without)
    missing = [file for file in (outputs or {}).values() if not (partial / file).is_file()]
    if failure is None and missing:
        failure = f"the notebook ended, but did not write {', '.join(missing)} to `out`", ""
    if failure is not None:
        raise Failed(failure[0], keep_failed(root, out, *failure, seconds=time.monotonic() - began))
    record = provenance.collect(root, notebook, dict(given), partial, code)
    memory = peak_memory()
    record |= {"needs": needs or {}, "seconds": round(time.monotonic() - began, 1), "peak_memory_mb": memory}
    (partial / "provenance.json").write_text(json.dumps(record, indent=1), "utf-8")
    tidy(done, partial.name, out.name)
    export(root, done, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out, ignore_errors=True)  # the engine makes empty folders for what it expects
    partial.replace(out)
    return memory


def papermill(
    notebook: Path,
    to: Path,
    inject: dict[str, Any],
    threads: int,
    minutes: float,
    said: Callable[[str], None],
    *,
    leave_out: Collection[str] = (),
) -> tuple[str, str] | None:
    """Execute `notebook` with these parameters, save it at `to`: None, or the reason in a line and the traceback.

    Cells with one of the tags `leave_out` are not executed.
    """
    set_threads(threads)
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # the kernel of this environment, not of the user's home
    os.environ["XMODAL_HEADLESS"] = "1"  # nobody is there to move a slider
    os.environ["PLOTLY_RENDERER"] = "plotly_mimetype"  # data only: the page brings its own plotly.js
    # a second or two of building a grammar, for a format of URIs that no notebook has; jsonschema does without it
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    import nbformat
    import papermill as pm
    from nbclient.exceptions import CellTimeoutError

    deadline = time.monotonic() + 60 * minutes
    lines = Lines(said)
    try:
        book = nbformat.read(notebook, 4)
        for cell in book.cells:
            if not set(leave_out).isdisjoint(tags := cell.metadata.get("tags", [])):
                cell.metadata["tags"] = [*tags, LEFT_OUT]
        nbformat.write(book, to)
        pm.execute_notebook(
            to,
            to,
            inject,
            kernel_name="python3",
            cwd=notebook.parent,
            progress_bar=False,
            stdout_file=lines,
            stderr_file=lines,
            extra_arguments=["--log-level=40"],  # a kernel's own warnings are of no interest here
            skip_cells_with_tag=LEFT_OUT,
            shutdown_kernel="immediate",  # all is written: a kernel that takes torch down in order needs three seconds
            timeout_func=lambda cell: max(1, int(deadline - time.monotonic())),
        )
    except pm.PapermillExecutionError as error:
        reason = next((line for line in str(error.evalue).splitlines() if line.strip()), "")
        return f"{error.ename}: {reason}".rstrip(": "), "\n".join(error.traceback)
    except CellTimeoutError:
        return f"stopped after its {minutes:g} minutes; give it more with resources.minutes", traceback.format_exc(1)
    except Exception as error:  # a kernel that died, a notebook that cannot be read: the job failed all the same
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", traceback.format_exc()
    return None


def refresh(root: Path, notebook: Path, said: Callable[[str], None] = print) -> int:
    """Execute a committed notebook in place with its own defaults; returns its size in bytes.

    Raises:
        Failed: a cell raised; the executed notebook is kept below results/.
        ValueError: the result is too big to commit, or shows a path of this machine.
    """
    import nbformat

    out = root / "results" / "adhoc" / f"{notebook.stem}-in-place"
    kept = out / "failed.ipynb"
    with replacing(notebook) as partial:
        failure = papermill(notebook, partial.with_suffix(".ipynb"), {}, 1, 60, said)
        partial.with_suffix(".ipynb").replace(partial)
        if failure is not None:
            out.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(partial, kept)
            raise Failed(failure[0], kept)
        book = nbformat.read(partial, 4)
        normalise(book)
        book.metadata["xmodal"] = {"code_digest": provenance.code_digest(notebook)}
        text = nbformat.writes(book)
        for private in (str(root), str(Path.home()) + os.sep):
            if len(private) > 2 and private in json.dumps([c.get("outputs") for c in book.cells]):
                raise ValueError(f"{notebook.name}: an output shows {private}, a path of this machine")
        if len(text.encode()) > LIMIT:
            raise ValueError(f"{notebook.name}: {len(text.encode()) / 1e3:.0f} kB with its outputs, {_biggest(book)}; "
                             f"{LIMIT / 1e3:.0f} kB may be committed")  # fmt: skip
        partial.write_text(text if text.endswith("\n") else text + "\n", "utf-8")
    return len(text.encode())


def normalise(book: Any) -> None:
    """Drop what differs from run to run: times, widget state, progress bars, versions of the kernel."""
    book.metadata.clear()
    book.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    book.metadata["language_info"] = {"name": "python"}
    for cell in book.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags" and value}
        if SOLUTION in cell.metadata.get("tags", []):  # folded, until somebody wants to know
            cell.metadata["jupyter"] = {"source_hidden": True, "outputs_hidden": True}
        if cell.cell_type != "code":
            continue
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        for output in cell.outputs:
            if "metadata" in output:  # what a picture shows, for who cannot see it, is kept
                output.metadata = {k: {"alt": v["alt"]} for k, v in output.metadata.items() if "alt" in v}


def _biggest(book: Any) -> str:
    sizes = [len(json.dumps(cell.get("outputs", []))) for cell in book.cells]
    return f"{max(sizes) / 1e3:.0f} kB of them from cell {sizes.index(max(sizes))}"


def keep_failed(root: Path, out: Path, reason: str, trace: str, seconds: float | None = None) -> Path:
    """Move what there is of a failed job to `out`: failed.ipynb (and .html), failed.json; returns the notebook."""
    partial, kept = out.with_name(f".{out.name}.partial"), out / "failed.ipynb"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    if (partial / "notebook.ipynb").is_file():
        (partial / "notebook.ipynb").replace(kept)
        tidy(kept, partial.name, out.name)
        export(root, kept, out)
    shutil.rmtree(partial, ignore_errors=True)
    record = {"reason": reason, "traceback": trace, "seconds": seconds}
    (out / "failed.json").write_text(json.dumps(record, indent=1), "utf-8")
    return kept


def tidy(notebook: Path, partial: str, final: str) -> None:
    """Say the final folder where the notebook says the partial one, and which cells were not run; drop papermill's
    absolute paths, and solutions."""
    book = json.loads(notebook.read_text("utf-8").replace(partial, final))
    for key in ("input_path", "output_path"):
        book["metadata"].get("papermill", {}).pop(key, None)
    book["cells"] = [cell for cell in book["cells"] if SOLUTION not in cell["metadata"].get("tags", [])]
    said = {"output_type": "display_data", "data": {"text/markdown": SHORT}, "metadata": {}}
    for cell in book["cells"]:
        if LEFT_OUT in cell["metadata"].get("tags", []):
            cell["outputs"] = [said]
        if "outputs" in cell:
            cell["outputs"] = [o for o in cell["outputs"] if not _is_progress(o)]
    notebook.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _is_progress(output: Mapping[str, Any]) -> bool:
    """A progress bar: what was written over itself."""
    return output.get("name") == "stderr" and "\r" in "".join(output.get("text", ""))


def export(root: Path, notebook: Path, out: Path) -> None:
    """Write the notebook as a page beside it. It will be read at `out`, and shares plotly.js with all of results/."""
    from xmodal_lib.runs import pages

    results = root / "results"
    shared = results if out.is_relative_to(results) else notebook.parent
    away = _relative(shared, out) if shared == results else "."
    html = pages.notebook_page(notebook, shared, away, home=shared == results)
    notebook.with_suffix(".html").write_text(html, "utf-8")


def set_threads(threads: int) -> None:
    """Have every kernel that is started from here use so many threads."""
    for name in THREADS:
        os.environ[name] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def peak_memory() -> int | None:
    """MB at most used by a kernel that was started here and has ended; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 1e6)


class Lines:
    """A text file for what a notebook prints: hands on whole lines, at most one in `every` seconds."""

    def __init__(self, said: Callable[[str], None], every: float = 2.0):
        self.said, self.every, self.last, self.rest = said, every, 0.0, ""

    def write(self, text: str) -> None:
        *whole, self.rest = (self.rest + text).replace("\r", "\n").split("\n")
        lines = [line.strip() for line in whole if line.strip()]
        if lines and time.monotonic() - self.last > self.every:
            self.last = time.monotonic()
            self.said(lines[-1][:160])

    def flush(self) -> None:
        pass


def teller(plan: Plan, job: Job) -> Callable[..., None]:
    path = plan.results / ".engine" / "events" / f"{job.rule}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)

    def tell(event: str, **values: Any) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, **values}) + "\n")

    return tell


def relative(notebook: Path, results: Path, files: str | list[str]) -> str | list[str]:
    """Paths of upstream files as the kernel, which works in the notebook's folder, sees them."""
    if isinstance(files, list):
        return [_relative(results / file, notebook.parent) for file in files]
    return _relative(results / files, notebook.parent)


def digests(results: Path, files: str | list[str]) -> dict[str, str]:
    return {f: provenance.file_digest(results / f) for f in each(files)}


def _relative(path: Path, start: Path) -> str:
    """`path` from `start`, if the two share more than the root of the file system; else as it is."""
    try:
        shared = os.path.commonpath([path.resolve(), start.resolve()])
    except ValueError:  # two drives
        return path.as_posix()
    if Path(shared) == Path(shared).parent:
        return path.resolve().as_posix()
    return Path(os.path.relpath(path.resolve(), start.resolve())).as_posix()


if __name__ == "__main__":
    try:
        sys.exit(0 if run_job(Plan.load(sys.argv[1]), sys.argv[2]) else 1)
    except (ValueError, FileNotFoundError, Unusable) as problem:
        sys.exit(f"{sys.argv[2]}: {problem}")
