"""The `xmodal` command. Heavy libraries are imported where they are used, so that `--help` is quick."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Learn across modalities with few labels.",
                  pretty_exceptions_enable=False, rich_markup_mode="rich")  # fmt: skip
data = typer.Typer(no_args_is_help=True, help="Data sets and weights: what is known, and what is here.")
app.add_typer(data, name="data")
console = Console(highlight=False, soft_wrap=True)


def clear_errors(command: Callable) -> Callable:
    """What a user can mend is one line and exit code 2, not a traceback."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        from xmodal_lib.home import Unusable

        try:
            command(*args, **kwargs)
        except (ValueError, OSError, Unusable) as problem:
            print(f"xmodal: {problem}", file=sys.stderr)
            raise typer.Exit(2) from None

    return wrapped


@app.command()
@clear_errors
def reproduce(
    targets: Annotated[list[str] | None, typer.Argument(help="Notebooks or jobs: 10, 10/draw, 10/draw/seed=1")] = None,
    jobs: Annotated[int, typer.Option(min=0, help="How many at once; 0: as many as there are cores")] = 0,
    profile: Annotated[str, typer.Option(help="quick, default, full or paper: a file of params/profiles/")] = "default",
    dry_run: Annotated[bool, typer.Option(help="Say what would run, and why; run nothing")] = False,
    engine: Annotated[str, typer.Option(help="Where to run: a folder of params/engine/")] = "local",
) -> None:
    """Run every notebook job that is not up to date, and write results/index.html."""
    from xmodal_lib.runs import engine as runner
    from xmodal_lib.runs.plan import make_plan

    plan = make_plan(_root(), profile)
    chosen = targets or []
    runner.snakemake(plan, plan.select(chosen), jobs, engine)  # an unknown target or engine is refused before a word
    if dry_run:
        for name, why in (waiting := runner.pending(plan, chosen, engine)).items():
            say(f"{name}  {why}")
        say(f"{len(waiting)} of {len(plan.jobs)} jobs would run" if waiting else "nothing to be done")
        return
    say(f"profile {profile}, {len(plan.jobs)} job{'s' * (len(plan.jobs) > 1)}: looking for what is not up to date")
    outcome = runner.reproduce(plan, chosen, jobs, engine, say)
    if not (outcome.done or outcome.failed or outcome.trouble):
        say("nothing to be done: everything is up to date")
    if outcome.done:
        say(f"{len(outcome.done)} done")
    if outcome.failed:
        say(f"{len(outcome.failed)} failed; the executed notebooks:")
        for name, where in outcome.failed.items():
            say(f"  {name}  {where}")
    if outcome.failed and outcome.waiting:
        say(f"{outcome.waiting} not started, since what they need failed or was stopped")
    if outcome.trouble:
        say(outcome.trouble)
    say(f"results: {outcome.index}")
    raise typer.Exit(outcome.code)


@app.command()
@clear_errors
def run(
    notebook: Annotated[str, typer.Argument(help="Name, number or path: 10")],
    parameter: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", help="key=value, as often as needed")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; results/adhoc/NOTEBOOK if not given")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the kernel; 1 gives the numbers of `reproduce`")] = 1,
    brief: Annotated[bool, typer.Option(help="Only what the numbers need: no cells for readers, no pictures")] = False,
    dry_run: Annotated[bool, typer.Option(help="Check the values and say what would run; run nothing")] = False,
) -> None:
    """Execute one notebook with its own defaults, or other values."""
    from xmodal_lib.runs import run as runner
    from xmodal_lib.runs.plan import check, find_notebook, parameters
    from xmodal_lib.runs.plan import parse as parse_value

    root = _root()
    path = find_notebook(root, notebook)
    known, given = parameters(path.parent, path.name), {}
    folder = (out or root / "results" / "adhoc" / path.stem).resolve()
    check_folder(folder, root / "results")
    for words in parameter or []:
        key, equals, value = words.partition("=")
        if not equals:
            raise ValueError(f"-p {words}: key=value is needed")
        check("-p", path.name, known, {key: known[key].default} if key in known else {key: value})
        if key == "out":
            raise ValueError("-p out: use --out FOLDER")
        try:
            given[key] = parse_value(value, known[key].default)
        except TypeError as error:
            raise ValueError(f"-p {key}: {error}") from None
        except ValueError:
            raise ValueError(f"-p {key}: {value!r} is no value in YAML, such as 3, 0.1, word or [1, 2]") from None
        if known[key].default in ("", []):  # what a notebook reads; "" and [] stand for "compute it"
            files = [file for file in ([given[key]] if isinstance(given[key], str) else given[key])
                     if isinstance(file, str) and file]  # fmt: skip
            if missing := [file for file in files if not Path(file).exists()]:
                raise FileNotFoundError(f"-p {key}: there is no file {missing[0]!r} (paths are from {Path.cwd()})")
            if files:  # the kernel works in the notebook's folder
                given[key] = runner.relative(path, Path.cwd(), given[key])
        elif key == "source" and is_path(value):  # a name, or where your own data are
            if not Path(value).exists():
                raise FileNotFoundError(f"-p source: there is no {value!r} (paths are from {Path.cwd()})")
            given[key] = runner.relative(path, Path.cwd(), value)
    if dry_run:
        changed = ", ".join(f"{key}={value!r}" for key, value in given.items())
        say(f"{path.stem}  would run with {changed or 'its own values'}, into {folder}")
        return
    say(f"{path.stem}  started")
    try:
        runner.execute(root, path, folder, given, threads=threads, brief=brief, said=lambda s: say(f"  {s}"))
    except runner.Failed as failed:
        say(f"{path.stem}  FAILED: {failed.reason}\n{failed.notebook}")
        raise typer.Exit(1) from None
    say(f"{path.stem}  done: {folder / 'notebook.html'}")


def is_path(value: str) -> bool:
    """Whether a source is given as a path, and not as a name: my.csv, ./photos, data/photos.

    >>> is_path("caltech101"), is_path("my.csv"), is_path("./photos")
    (False, True, True)
    """
    return (
        len(Path(value).parts) > 1 or value.startswith(".") or Path(value).suffix in (".csv", ".tsv", ".txt", ".json")
    )


@app.command()
@clear_errors
def explore(
    result: Annotated[str, typer.Argument(help="A job or folder with a collection: 60_latent_views/adaptation/seed=1")],
    html: Annotated[
        bool, typer.Option("--html", help="Write one HTML file that works offline, without a kernel")
    ] = False,
    file: Annotated[Path | None, typer.Argument(help="The HTML file; explore.html in the result if not given")] = None,
) -> None:
    """Write the page to explore the points that a job kept: xmodal explore RESULT --html [FILE]."""
    from xmodal_lib.views import explore_page

    if not html:
        raise ValueError("explore: add --html for a page that works offline; notebook 61 is the live explorer")
    folder = collection_of(result)
    title = (folder.parent.name if Path(result).is_dir() else result).replace("_", " ").replace("/", " · ")
    page = explore_page.write(folder, file or folder.parent / "explore.html", title=title)
    say(f"{page}  {page.stat().st_size / 1e6:.1f} MB")


def collection_of(result: str) -> Path:
    """The one saved collection in a result, given as a folder or as the name of a job."""
    places = [Path(result), *([_root() / "results" / result] if not Path(result).is_dir() else [])]
    if not (there := [place for place in places if place.is_dir()]):
        raise FileNotFoundError(f"{result}: neither a folder nor a job that has run; run: xmodal reproduce {result}")
    found = [p.parent for p in (*there[0].glob("points.parquet"), *there[0].glob("*/points.parquet"))]
    if len(found) != 1:
        names = ", ".join(sorted(str(p) for p in found)) or "none"
        raise ValueError(f"{there[0]} must hold one saved collection; it holds {names} (Collection.save writes one)")
    return found[0]


RESULT_FILES = ("provenance.json", "failed.json")


def check_folder(folder: Path, results: Path) -> None:
    """Raises ValueError if a run would overwrite what is not of an earlier `xmodal run`."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file; give a new or empty folder")
    if folder.is_relative_to(results) and not folder.is_relative_to(results / "adhoc"):
        raise ValueError(f"--out {folder} belongs to `xmodal reproduce`; give a folder below {results / 'adhoc'}")
    if folder.is_dir() and any(folder.iterdir()) and not any((folder / f).is_file() for f in RESULT_FILES):
        raise ValueError(f"--out {folder} has other files; give a new or empty folder")


@app.command()
@clear_errors
def params(notebook: Annotated[str, typer.Argument(help="Name, number or path: 10")]) -> None:
    """The parameters of a notebook: type, default, meaning."""
    from xmodal_lib.runs.plan import find_notebook, parameters

    path = find_notebook(_root(), notebook)
    table = Table("parameter", "type", "default", "meaning", title=path.stem, title_justify="left", box=None)
    for p in parameters(path.parent, path.name).values():
        table.add_row(p.name, type(p.default).__name__, repr(p.default), p.help)
    console.print(table)


@app.command()
@clear_errors
def notebooks(
    names: Annotated[list[str] | None, typer.Argument(help="Names or numbers; all if none is given")] = None,
    check: Annotated[bool, typer.Option(help="Only say which are out of date")] = False,
    every: Annotated[bool, typer.Option("--all", help="Also those that are up to date")] = False,
) -> None:
    """Execute the committed notebooks in place, with their own defaults, where code or library changed."""
    from xmodal_lib.runs import run as runner
    from xmodal_lib.runs.plan import find_notebook

    root, bad = _root(), 0
    paths = [find_notebook(root, name) for name in names or []] or sorted((root / "notebooks").glob("[!.]*.ipynb"))
    for n, path in enumerate(paths, 1):
        place = f"[{n}/{len(paths)}] {path.stem}"
        if not every and up_to_date(path):
            say(f"{place}  up to date")
        elif check:
            say(f"{place}  out of date: run `xmodal notebooks {path.stem}`")
            bad += 1
        else:
            say(f"{place}  started")
            try:
                say(f"{place}  done, {runner.refresh(root, path, lambda s: say(f'  {s}')) / 1e3:.0f} kB")
            except (runner.Failed, ValueError) as problem:
                where = f"\n  {problem.notebook}" if isinstance(problem, runner.Failed) else ""
                say(f"{place}  FAILED: {problem}{where}")
                bad += 1
    raise typer.Exit(1 if bad else 0)


def up_to_date(notebook: Path) -> bool:
    """Whether the outputs of a committed notebook are of its present code."""
    import json

    from xmodal_lib.runs.provenance import UNREADABLE, code_digest

    try:
        stored = json.loads(notebook.read_text("utf-8"))["metadata"].get("xmodal", {}).get("code_digest")
        return stored == code_digest(notebook)
    except UNREADABLE:
        raise ValueError(f"{notebook.name} is no notebook of format 4") from None


@app.command()
@clear_errors
def predict(
    model: Annotated[Path, typer.Argument(help="A method that xmodal_lib.predict.save wrote: the path it was given")],
    items: Annotated[Path, typer.Argument(help="A folder of pictures, one picture, or a CSV with image, text, audio")],
    out: Annotated[Path | None, typer.Option(help="The CSV to write; printed if not given")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Where the open_clip weights are, if they have moved")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Items at a time")] = 32,
) -> None:
    """Classify files with a fitted method: a table of class and probability."""
    from xmodal_lib import predict as predictor

    if not items.exists():
        raise FileNotFoundError(f"there is no {items}; give a folder of pictures, a picture or a CSV")
    classifier = predictor.load(model, checkpoint)
    listed = items.is_file() and items.suffix.lower() in (".csv", ".tsv", ".txt")
    answers, skipped = classifier.csv(items, batch) if listed else classifier.folder(items, batch)
    for name, reason in skipped:
        print(f"xmodal: skipped {name}: {reason}", file=sys.stderr)
    if not len(answers):
        raise ValueError(f"nothing in {items} could be read")
    text = answers.to_csv(index=False)
    if out is None:
        say(text.rstrip("\n"))
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    say(f"{len(answers)} classified, {len(skipped)} skipped: {out}")


@data.command("list")
@clear_errors
def data_list() -> None:
    """The data sets that are known by name, and how to bring your own."""
    from xmodal_lib.sources import catalogue

    table = Table("name", "what it is", "licence", box=None)
    for entry in catalogue.entries():
        table.add_row(entry.name, entry.description, entry.licence)
    console.print(table)


@data.command("get")
@clear_errors
def data_get(names: Annotated[list[str], typer.Argument(help="Names of `xmodal data list`, or `all`")]) -> None:
    """Fetch and build what is missing."""
    for entry in data_sets(names):
        say(f"{entry.name}: {entry.get()}")


@data.command("check")
@clear_errors
def data_check(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names, or the path of a CSV or folder; all if none")
    ] = None,
    root: Annotated[str, typer.Option(help="The folder of the one data set that is named")] = "",
) -> None:
    """Compare what is here with what it must be; fetch nothing. Exit code 1 if anything is missing or damaged.

    What only you can get counts where you name it.
    """
    if root and len(names or []) != 1:
        raise ValueError(f"--root {root}: name the one data set that is there")
    every, bad = names in (None, [], ["all"]), 0
    for entry in data_sets(names or ["all"], root):
        if every and entry.folder and not entry.folder.is_dir():
            say(f"{entry.name}: not here (optional); `xmodal data get {entry.name}` says where it is from")
            continue
        trouble, words = status(entry.check)
        bad += bool(trouble and not (every and entry.folder))
        line = trouble or words
        own = {Path(entry.name).name, Path(entry.name).stem}  # of a path, which its own words begin with
        say(line if line.partition(":")[0] in own else f"{entry.name}: {line}")
    raise typer.Exit(1 if bad else 0)


def data_sets(names: list[str], root: str = "") -> list[Any]:
    from xmodal_lib.sources import catalogue

    return catalogue.entries() if names == ["all"] else [catalogue.entry(name, root) for name in names]


def status(check: Callable[[], Any]) -> tuple[str, str]:
    """What is wrong ("" if nothing), and what `check` says of what is here."""
    from xmodal_lib.home import Unusable

    try:
        return "", str(check())
    except (ValueError, OSError, ImportError, Unusable) as problem:
        return str(problem), ""


@app.command()
@clear_errors
def doctor() -> None:
    """Versions, device, threads, caches, weights and data: what is here, and what to do about what is not."""
    import os

    from xmodal_lib.home import home
    from xmodal_lib.runs.provenance import versions

    table = Table(box=None, show_header=False)
    for name, version in versions().items():
        table.add_row(name, version)
    table.add_row("device", devices())
    table.add_row("cores", str(os.cpu_count()))
    kept = [folder for folder in home().glob("*") if folder.name != "datasets"]  # which are the user's, and large
    files = [p.stat().st_size for folder in kept for p in (folder, *folder.rglob("*")) if p.is_file()]
    size = f"{sum(files) / 1e6:,.0f} MB in {len(files)} files" if files else "empty"
    table.add_row("cache", f"{home()} ({size}); $XMODAL_HOME moves it")
    console.print(table)
    table = Table("weights and data", "here", "", box=None)
    for what, (trouble, words) in weights_and_data().items():
        table.add_row(what, "no" if trouble else "yes", trouble or words)
    console.print(table)


def devices() -> str:
    try:
        import torch
    except ImportError as problem:
        return f"torch cannot be imported ({problem}); run: pip install -e ."
    cards = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    apple = ["Apple GPU"] if torch.backends.mps.is_available() else []
    device = ", ".join(cards or apple) or "CPU only, enough for the default notebooks"
    return f"{device}; {torch.get_num_threads()} threads of torch"


def weights_and_data() -> dict[str, tuple[str, str]]:
    """{what: (what is wrong and what to do, or "", what is here)}."""
    from xmodal_lib.encoders import frozen
    from xmodal_lib.sources import catalogue

    found = {f"{m} encoder": status(partial(frozen.check, m)) for m in frozen.WEIGHTS}
    found["bridge"] = status(bridges)
    for entry in catalogue.entries():
        if entry.folder:  # optional, and long to look through
            if entry.folder.is_dir():
                found[f"data {entry.name}"] = "", f"{entry.folder}; look through it: xmodal data check {entry.name}"
            continue
        trouble, words = status(entry.check) if entry.fetches else ("", "nothing to fetch")
        found[f"data {entry.name}"] = (trouble and f"{trouble}; run: xmodal data get {entry.name}"), words
    return found


def bridges() -> str:
    """Which trained bridges are in the cache; they are trained from the emoji when they are first asked for."""
    from safetensors import SafetensorError, safe_open

    from xmodal_lib.home import home

    paths = sorted((home() / "bridge").glob("*.safetensors"))
    if not paths:
        raise FileNotFoundError("none is trained yet; run: xmodal reproduce 02 (a few minutes), or open notebook 02")
    for path in paths:
        try:
            with safe_open(path, "np") as file:
                file.metadata()
        except (SafetensorError, OSError):
            raise ValueError(f"{path} is damaged; it will be trained again when it is needed") from None
    return f"{len(paths)} trained"


def say(line: str) -> None:
    print(line, flush=True)


def _root() -> Path:
    from xmodal_lib.runs.plan import project_root

    return project_root()


if __name__ == "__main__":
    app()
