"""From `params/*.yaml` to jobs: everything is checked here, before any kernel starts.

A sheet names one notebook and either is one job or has several:

    notebook: notebooks/10_cross_modal_adaptation.ipynb
    parameters: {iterations: 12800}                 # shared by the jobs below
    jobs:
      draw:
        matrix: {seed: [1, 2, 3, 4, 5]}             # one job a combination
        needs: {features: 02_features/features}     # SHEET[/JOB][/OUTPUT] -> the parameter `features`, a path
        outputs: {scores: scores.parquet}           # must be there when the job ends
        resources: {threads: 1, mem_mb: 4000, gpu: 0, minutes: 240}
      report:
        needs: {draws: 10_cross_modal_adaptation/draw}   # five paths: the matrix of `draw` is not one of `report`;
                                                         # a list of such names gives the paths of all of them
        partial: true                                    # where some of them fail, it runs on those that are there

Profiles (`params/profiles/*.yaml`) have the same shape under the name of each sheet, and are laid over it: maps are
merged, other values replaced, and a matrix axis, need or output that is null is removed.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import io
import itertools
import json
import math
import os
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from xmodal_lib.runs import provenance

RESULTS = "results"
LARGEST = 1_000_000  # values in a YAML file
DEEPEST = 100  # brackets within brackets there; PyYAML's time grows with their square
MOST_JOBS = 100_000  # of one sheet's matrix
AHEAD = 10  # places in the order of jobs
SHOWN = 200  # characters of a value that a message shows
FILE = re.compile(r"[\w+-][\w.+-]*(/[\w+-][\w.+-]*)*")  # below `out`; Snakemake gives braces a meaning


class Resources(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    threads: int = Field(default=1, ge=1)
    mem_mb: int | None = Field(default=None, ge=1)
    gpu: int = Field(default=0, ge=0)
    minutes: int = Field(default=240, ge=1)  # after which the job counts as failed


class Run(BaseModel):
    """One entry of `jobs:`, or a sheet that is a single job."""

    model_config = ConfigDict(extra="forbid", strict=True)
    needs: dict[str, str | list[str]] = {}
    outputs: dict[str, str] = {}
    matrix: dict[str, list[Any]] = {}
    parameters: dict[str, Any] = {}
    resources: Resources = Resources()
    partial: bool = False  # runs on what there is where a part of a need failed
    brief: bool = False  # without the cells with the tag `reader`, which no output of the job needs
    skip: bool = False  # left out, for a profile


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's parameters cell."""

    name: str
    default: Any
    help: str


@dataclass(frozen=True)
class Job:
    """One execution of one notebook. Paths are relative: `notebook` to the project, the others to its results."""

    name: str  # "10_cross_modal_adaptation/draw/seed=1", also its folder below results/
    rule: str  # the same as an identifier
    notebook: str
    matrix: dict[str, Any]
    parameters: dict[str, Any]
    needs: dict[str, str | list[str]]
    outputs: dict[str, str]
    resources: dict[str, Any]
    code: str
    partial: bool = False
    brief: bool = False
    contents: dict[str, str] = field(default_factory=dict)  # digest of each file that a parameter names

    @property
    def inputs(self) -> list[str]:
        return [file for files in self.needs.values() for file in each(files)]

    @property
    def done(self) -> str:
        """The file that says that the job succeeded."""
        return f"{self.name}/provenance.json"

    @property
    def files(self) -> list[str]:
        return [self.done, *(f"{self.name}/{file}" for file in self.outputs.values())]

    @property
    def given(self) -> str:
        """Everything but the code that makes the job what it is."""
        known: dict[str, Any] = {"parameters": self.parameters, "needs": self.needs, "outputs": self.outputs}
        if self.contents:
            known["contents"] = self.contents
        if self.brief:
            known["brief"] = True
        return json.dumps(known, sort_keys=True)


@dataclass(frozen=True)
class Plan:
    root: Path
    profile: str
    jobs: tuple[Job, ...]

    @property
    def results(self) -> Path:
        return self.root / RESULTS

    def __getitem__(self, name: str) -> Job:
        return next(job for job in self.jobs if job.name == name)

    def select(self, targets: Iterable[str]) -> list[Job]:
        """The jobs of these notebooks ("10_cross_modal_adaptation", or "10"), runs ("10/draw") or matrix entries.

        Raises:
            ValueError: a target is none of these.
        """
        chosen: list[Job] = []
        for target in targets:
            head, *rest = target.strip("/").split("/")
            found = [job for job in self.jobs if _answers(job.name.split("/"), head, rest)]
            if not found:
                raise ValueError(unknown("target", target, self._names()))
            chosen += [job for job in found if job not in chosen]
        return chosen

    def urgent(self) -> dict[str, int]:
        """{job: the higher, the sooner}: the order of the plan, but a job is AHEAD places earlier for each job of the
        longest chain that waits for it. So tables come one by one, and no core is left idle beside a long last draw."""
        makers = {file: job.name for job in self.jobs for file in job.files}
        needs = {job.name: {makers[file] for file in job.inputs if file in makers} for job in self.jobs}
        waiting = dict.fromkeys(needs, 0)
        for name in reversed(list(TopologicalSorter(needs).static_order())):
            for need in needs[name]:
                waiting[need] = max(waiting[need], waiting[name] + 1)
        return {job.name: len(self.jobs) - n + AHEAD * waiting[job.name] for n, job in enumerate(self.jobs)}

    def _names(self) -> list[str]:
        parts = [job.name.split("/") for job in self.jobs]
        return list(dict.fromkeys("/".join(p[:n]) for n in (1, 2, 3) for p in parts if len(p) >= n))

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = {"root": str(self.root), "profile": self.profile, "jobs": [asdict(job) for job in self.jobs]}
        path.write_text(json.dumps(whole, indent=1), "utf-8")

    @classmethod
    def load(cls, path: Path | str) -> Plan:
        whole = json.loads(Path(path).read_text("utf-8"))
        return cls(Path(whole["root"]), whole["profile"], tuple(Job(**job) for job in whole["jobs"]))


def make_plan(root: Path, profile: str = "default") -> Plan:
    """All jobs of `root/params`, each key and type compared with its notebook.

    Raises:
        ValueError: a sheet, profile or notebook is not as it must be; says which file and key.
        FileNotFoundError: there is no such profile or notebook, or no sheet at all.
    """
    sheets = {path.stem: path for path in sorted((root / "params").glob("*.yaml"))}
    if not sheets:
        raise FileNotFoundError(f"{root / 'params'} has no *.yaml: there is nothing to run")
    overlays = read_profile(root, profile, sheets)
    runs: dict[str, tuple[str, str, Run]] = {}  # run name -> (where it is from, notebook, run)
    for stem, path in sheets.items():
        where = path.relative_to(root).as_posix()
        raw = read_yaml(path)
        if overlays.get(stem):
            raw, where = overlay(raw, overlays[stem]), f"{where} with profile {profile}"
        notebook, entries = read_sheet(where, raw)
        runs |= {f"{stem}/{name}".rstrip("/"): (where, notebook, run) for name, run in entries.items() if not run.skip}
    cells = {notebook: parameters(root, notebook, where) for where, notebook, _ in runs.values()}
    codes = {notebook: provenance.code_digest(root / notebook) for notebook in cells}
    points = {name: _points(where, run.matrix) for name, (where, _, run) in runs.items()}
    jobs: list[Job] = []
    for name, (where, notebook, run) in runs.items():
        for point in points[name]:
            given = check(where, notebook, cells[notebook], {**run.parameters, **point})
            needs = {p: _needs(where, p, need, runs, points, point) for p, need in run.needs.items()}
            jobs.append(
                Job(
                    name=_folder(name, point),
                    rule=f"job{len(jobs):03d}_" + re.sub(r"\W+", "_", _folder(name, point)),
                    notebook=notebook,
                    matrix=point,
                    parameters=given,
                    needs=needs,
                    outputs=run.outputs,
                    resources=run.resources.model_dump(),
                    code=codes[notebook],
                    partial=run.partial,
                    brief=run.brief,
                    contents=_contents((root / notebook).parent, given),
                )
            )
        _check_ends(where, notebook, cells[notebook], run)
    _check_names(jobs)
    _check_order(runs)
    return Plan(root, profile, tuple(jobs))


def project_root(start: Path | None = None) -> Path:
    """The folder, from here upwards, that has `params/` and `notebooks/`."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "params").is_dir() and (folder / "notebooks").is_dir():
            return folder
    raise FileNotFoundError(f"{here} is not inside a project: no folder upwards of it has params/ and notebooks/")


def find_notebook(root: Path, name: str) -> Path:
    """A notebook by path, by name, or by the number that its name starts with.

    Raises:
        FileNotFoundError: there is no such notebook, or more than one.
    """
    if name.endswith(".ipynb") and Path(name).is_file():
        return Path(name).resolve()
    all_ = {path.stem: path for path in sorted((root / "notebooks").glob("[!.]*.ipynb"))}
    stem = Path(name).stem
    found = [all_[stem]] if stem in all_ else [path for s, path in all_.items() if s.split("_")[0] == stem]
    if len(found) != 1:
        raise FileNotFoundError(unknown("notebook", name, all_))
    return found[0]


# Reading


class _Loader(yaml.SafeLoader):
    """YAML of what JSON has too: texts, numbers, true, false, null, lists, maps. A key is a text and stands once."""

    def fetch_flow_collection_start(self, kind: type[yaml.Token]) -> None:
        if self.flow_level == DEEPEST:
            raise yaml.scanner.ScannerError(None, None, "lists or maps are nested too deep", self.get_mark())
        super().fetch_flow_collection_start(kind)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict:
    found: dict[str, Any] = {}
    for at, value in node.value:
        key = loader.construct_object(at, deep=True)
        if not isinstance(key, str) or not key.isprintable():
            said = f"the key {repr(key)[:SHOWN]} is no printable text; a number, or a word like yes, needs quotes"
            raise yaml.constructor.ConstructorError(None, None, said, at.start_mark)
        if key in found:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", at.start_mark)
        found[key] = loader.construct_object(value, deep=True)
    return found


_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "seq", "str")}
_Loader.yaml_constructors = {tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items()
                             if tag in _TAGS or tag is None}  # fmt: skip
_Loader.yaml_constructors["tag:yaml.org,2002:timestamp"] = yaml.SafeLoader.construct_yaml_str
_Loader.yaml_constructors["tag:yaml.org,2002:map"] = _mapping


def from_yaml(text: str) -> Any:
    """What a text of YAML says.

    Raises:
        ValueError: it is none, or says more than JSON can, or aliases make it larger than a file of `LARGEST` values.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {})
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{line}{error.problem}") from None
    except RecursionError:
        raise ValueError("lists or maps are nested too deep") from None
    except Exception as error:  # of a value that is not what its tag says, PyYAML raises whatever comes
        raise ValueError(f"no YAML: {(str(error).splitlines() or [''])[0] or type(error).__name__}") from None


def _measure(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for, where an alias counts as all that it repeats."""
    if id(node) not in known:
        known[id(node)] = LARGEST + 1  # of a node that holds itself
        inside = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for entry in inside for part in (entry if isinstance(entry, tuple) else (entry,))]
        known[id(node)] = 1 + sum(_measure(part, known) for part in parts)
    if known[id(node)] > LARGEST:
        raise ValueError(f"anchors and aliases make more than {LARGEST} values of it")
    return known[id(node)]


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a file; {} if it is empty.

    Raises:
        ValueError: it cannot be read, or is no mapping in YAML (see `from_yaml`).
    """
    try:
        whole = from_yaml(path.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is no text in UTF-8 ({error.reason} at byte {error.start})") from None
    except ValueError as error:
        raise ValueError(f"{path.name}, {error}") from None
    if whole is None:
        return {}
    if not isinstance(whole, dict):
        raise ValueError(f"{path.name}: a mapping (key: value) is needed, not {type(whole).__name__}")
    return whole


def read_profile(root: Path, profile: str, sheets: Mapping[str, Path]) -> dict[str, dict]:
    """{sheet: what to lay over it}. The profile "default" need not have a file."""
    folder = root / "params" / "profiles"
    path = folder / f"{profile}.yaml"
    if not path.is_file():
        known = {"default", *(p.stem for p in folder.glob("*.yaml"))}
        if profile not in known:
            raise FileNotFoundError(unknown("profile", profile, known))
        return {}
    overlays = read_yaml(path)
    for stem, values in overlays.items():
        if stem not in sheets:
            raise ValueError(f"params/profiles/{path.name}: {unknown('sheet', stem, sheets)}")
        if not isinstance(values, dict):
            raise ValueError(
                f"params/profiles/{path.name}: {stem} needs a mapping of what to lay over params/{stem}.yaml"
            )
    return overlays


def overlay(under: Mapping[str, Any], over: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """`over` laid over `under`: maps merge; null removes a matrix axis, a need or an output.

    >>> overlay({"matrix": {"seed": [1, 2], "shot": [1]}}, {"matrix": {"seed": [7], "shot": None}})
    {'matrix': {'seed': [7]}}
    """
    result = dict(under)
    for key, value in over.items():
        if value is None and section in ("matrix", "needs", "outputs"):
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict) and section != "parameters":
            result[key] = overlay(result[key], value, key)
        else:
            result[key] = value
    return result


def read_sheet(where: str, raw: dict[str, Any]) -> tuple[str, dict[str, Run]]:
    """The notebook, and {job name: run}, where a sheet without `jobs:` is one job of name ""."""
    notebook, jobs = raw.get("notebook"), raw.get("jobs")
    if not isinstance(notebook, str) or not notebook.isprintable():
        raise ValueError(f"{where}: key `notebook` is missing, or is no path")
    if jobs is not None and not (isinstance(jobs, dict) and all(isinstance(j, dict | None) for j in jobs.values())):
        raise ValueError(f"{where}: `jobs` needs a mapping of job names to their values")
    shared = {key: value for key, value in raw.items() if key not in ("notebook", "jobs")}
    runs = {}
    for name, values in (jobs or {"": {}}).items():
        key = f"jobs.{name}." if name else ""
        if jobs and not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise ValueError(f"{where}: job name {name!r} needs letters, digits, - and _ only")
        try:
            runs[name] = Run.model_validate(overlay(shared, values or {}))
        except ValidationError as error:
            raise ValueError(f"{where}: {_first(error, key)}") from None
        for output, file in runs[name].outputs.items():
            if not FILE.fullmatch(file):
                raise ValueError(f"{where}: {key}outputs.{output} is {file!r}; a file name inside `out` is needed")
    return PurePosixPath(notebook).as_posix(), runs


def _first(error: ValidationError, prefix: str) -> str:
    """The first complaint of pydantic in a line."""
    first = error.errors()[0]
    key = prefix + ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        model = Resources if "resources" in first["loc"][:-1] else Run
        return unknown("key", key, model.model_fields, str(first["loc"][-1]))
    return f"{key} is {repr(first['input'])[:SHOWN]}: {first['msg'][0].lower()}{first['msg'][1:]}"


def parameters(root: Path, notebook: str, where: str = "") -> dict[str, Parameter]:
    """The parameters of a notebook: the literals of its one cell tagged `parameters`, with their trailing comments.

    Not papermill.inspect_notebook, which leaves out any line with a second "=", be it in a comment.
    """
    prefix = f"{where}: " if where else ""
    path = root / notebook
    if not path.is_file():
        near = difflib.get_close_matches(path.stem, [p.stem for p in path.parent.glob("[!.]*.ipynb")], 1)
        raise FileNotFoundError(f"{prefix}there is no {notebook}" + (f"; did you mean {near[0]}?" if near else ""))
    try:
        cells = [source for source, tags in provenance.code_cells(path) if "parameters" in tags]
    except provenance.UNREADABLE:
        raise ValueError(f"{prefix}{notebook} is no notebook of format 4") from None
    if len(cells) > 1:
        raise ValueError(f"{prefix}{notebook} has {len(cells)} cells tagged `parameters`; one is needed")
    return {p.name: p for cell in cells for p in _literals(cell, f"{prefix}{notebook}")}


def _literals(cell: str, where: str) -> list[Parameter]:
    try:
        lines = ast.parse(cell).body
        tokens = list(tokenize.generate_tokens(io.StringIO(cell).readline))
    except (SyntaxError, tokenize.TokenError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{where}: the parameters cell is no Python: {(*error.args, 'too deep')[0]}") from None
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    found = []
    for node in lines:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        try:
            if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(target, ast.Name):
                raise ValueError
            default = ast.literal_eval(value)  # type: ignore[arg-type]
        except (ValueError, TypeError, RecursionError, MemoryError):
            line = cell.splitlines()[node.lineno - 1].strip()
            raise ValueError(f"{where}: the parameters cell has `{line}`; only `name = literal` is allowed") from None
        found.append(Parameter(target.id, default, comments.get(node.end_lineno or node.lineno, "")))
    return found


# Checking


MOST = 20  # names in a line


def unknown(what: str, name: str, known: Iterable[str], last: str | None = None) -> str:
    """One line that says that there is no such thing, and what comes nearest."""
    known = list(known)
    near = difflib.get_close_matches(last or name, known, 1, 0.5)
    shown = ", ".join(known[:MOST]) + (f" and {len(known) - MOST} more" if len(known) > MOST else "")
    return f"unknown {what} {repr(name)[:SHOWN]}; " + (f"did you mean {near[0]!r}?" if near else f"there are: {shown}")


def check(where: str, notebook: str, cell: Mapping[str, Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, each of its parameter's type (an int where a float is asked becomes one).

    Raises:
        ValueError: the notebook has no such parameter, or the value is of another type than its default.
    """
    given = {}
    for name, value in values.items():
        if name not in cell:
            raise ValueError(f"{where}: {unknown('parameter', name, cell)} (parameters cell of {notebook})")
        try:
            given[name] = typed(value, cell[name].default)
        except TypeError as error:
            raise ValueError(f"{where}: parameter {name}: {error}") from None
    return given


def typed(value: Any, default: Any) -> Any:
    """`value` as the type of `default`; None as a default accepts anything.

    >>> typed(1, 0.5)
    1.0

    Raises:
        TypeError: it is of another type, or larger than any float where one is asked.
    """
    kind = type(default)
    if default is None or type(value) is kind:
        if kind is list and default:
            return [typed(item, default[0]) for item in value]
        return value
    if kind is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise TypeError(f"a number of {value.bit_length()} bits is too large for a float") from None
    if kind is tuple and type(value) is list:
        return value
    said = f"{repr(value)[:SHOWN]} is a {type(value).__name__}; the default {default!r} is a {kind.__name__}"
    if isinstance(value, str) and kind in (float, int) and _number(value):
        said += f" (YAML reads {value} as a string: write {_as_yaml(float(value), kind)})"
    raise TypeError(said)


def parse(text: str, default: Any) -> Any:
    """A value from the command line, by the type of the default: "1e-3" is a float where one is asked.

    Raises:
        TypeError: it is of another type.
        ValueError: it is no YAML.
    """
    if isinstance(default, str):
        return text
    if isinstance(default, int | float) and not isinstance(default, bool) and _number(text):
        if isinstance(default, int) and re.fullmatch(r"\s*[+-]?[0-9]+\s*", text):
            return int(text)  # a float would round what has more than 15 digits
        number = float(text)
        return typed(int(number) if number.is_integer() and isinstance(default, int) else number, default)
    return typed(from_yaml(text), default)


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _as_yaml(number: float, kind: type) -> str:
    if kind is int and number.is_integer():
        return str(int(number))
    text = repr(number)
    if not math.isfinite(number):
        return text.replace("nan", ".nan").replace("inf", ".inf")
    return text if "." in text or "e" not in text else text.replace("e", ".0e")


def _contents(here: Path, given: Mapping[str, Any]) -> dict[str, str]:
    """{parameter: digest} of the values that name a file, by itself or behind "MODEL:", as a kernel at `here` sees it.

    So a job runs again when a checkpoint changes under its name. Folders of data are not looked through.
    """
    found = {}
    for name, value in given.items():
        for text in (value, value.partition(":")[2]) if isinstance(value, str) else ():
            if text and os.path.isfile(here / text):  # noqa: PTH113 (a Path raises at names that no file can have)
                found[name] = provenance.file_digest(here / text)
    return found


def _points(where: str, matrix: Mapping[str, list]) -> list[dict[str, Any]]:
    empty = next((axis for axis, values in matrix.items() if not values), None)
    if empty:
        raise ValueError(
            f"{where}: matrix.{empty} is empty; give at least one value, or null to remove it in a profile"
        )
    if (count := math.prod(map(len, matrix.values()))) > MOST_JOBS:
        raise ValueError(f"{where}: matrix has {count} combinations; {MOST_JOBS} jobs of one kind are the most")
    return [dict(zip(matrix, point, strict=True)) for point in itertools.product(*matrix.values())]


def _folder(run: str, point: Mapping[str, Any]) -> str:
    """Name of a job: also its folder, so safe on every file system."""
    if not point:
        return run
    words = ",".join(f"{axis}={_text(value)}" for axis, value in point.items())
    return f"{run}/{words if len(words) < 80 else words[:70] + '-' + hashlib.sha256(words.encode()).hexdigest()[:8]}"


def _text(value: Any) -> str:
    text = str(value)
    return text if isinstance(value, int | float) else re.sub(r"[^\w.+-]+", "-", text).strip("-.") or "none"


def _needs(
    where: str, parameter: str, need: str | list[str], runs: Mapping, points: Mapping, point: Mapping
) -> str | list[str]:
    """The file or files of a need, which may name several runs: then one list of all."""
    if isinstance(need, str):
        return _need(where, parameter, need, runs, points, point)
    return [file for one in need for file in each(_need(where, parameter, one, runs, points, point))]


def each(some: str | list[str]) -> list[str]:
    """One name or several, as a list."""
    return [some] if isinstance(some, str) else some


def _need(where: str, parameter: str, need: str, runs: Mapping, points: Mapping, point: Mapping) -> str | list[str]:
    """The file of a need; a list of files when that run has an axis that this one has not."""
    name = next((n for n in (need, need.rpartition("/")[0]) if n in runs), None)
    if name is None:
        known = [f"{n}/{output}" for n, (_, _, run) in runs.items() for output in run.outputs]
        raise ValueError(f"{where}: needs.{parameter}: {unknown('need', need, known)}")
    outputs, output = runs[name][2].outputs, need[len(name) + 1 :]
    if not output:
        found = list(outputs) if len(outputs) == 1 else [o for o in outputs if o != "metrics"]
        if len(found) != 1:
            raise ValueError(f"{where}: needs.{parameter}: {name} has the outputs {', '.join(outputs) or '(none)'}; "
                             f"name one: {name}/{found[0] if found else 'OUTPUT'}")  # fmt: skip
        output = found[0]
    if output not in outputs:
        raise ValueError(f"{where}: needs.{parameter}: {unknown('output', output, outputs)}")
    others = points[name]
    shared = [axis for axis in point if axis in others[0]]
    same = [p for p in others if all(p[axis] == point[axis] for axis in shared)]
    if not same:
        at = ", ".join(f"{axis}={point[axis]!r}" for axis in shared)[:SHOWN]
        raise ValueError(f"{where}: needs.{parameter}: {name} has no job at {at}; give both the same matrix values")
    files = [f"{_folder(name, p)}/{outputs[output]}" for p in same]
    return files if len(shared) < len(others[0]) else files[0]


def _check_ends(where: str, notebook: str, cell: Mapping[str, Parameter], run: Run) -> None:
    """That the notebook takes its needs and `out`, and gets neither by another door."""
    for name in run.needs:
        if name not in cell:
            raise ValueError(f"{where}: needs: {unknown('parameter', name, cell)} (parameters cell of {notebook})")
        if not isinstance(cell[name].default, str | list):
            raise ValueError(f'{where}: needs.{name}: a path is passed; its default in {notebook} must be "" or []')
        if name in run.parameters or name in run.matrix:
            raise ValueError(f"{where}: {name} is given as a need and as a parameter; keep one")
    if "out" in run.parameters or "out" in run.matrix:
        raise ValueError(f"{where}: `out` is set by the engine; remove it")
    if run.outputs and (not isinstance(cell.get("out", Parameter("", None, "")).default, str)):
        raise ValueError(f'{where}: outputs are asked, but the parameters cell of {notebook} has no `out = ""`')


def _check_names(jobs: list[Job]) -> None:
    seen: dict[str, Job] = {}
    for job in jobs:
        other = seen.setdefault(job.name.lower(), job)
        if other is not job:
            raise ValueError(f"two jobs would share the folder {job.name!r}: matrix {other.matrix} and {job.matrix}")


def _check_order(runs: Mapping[str, tuple[str, str, Run]]) -> None:
    graph = {}
    for name, (_, _, run) in runs.items():
        wanted = [need for some in run.needs.values() for need in each(some)]
        graph[name] = {n for need in wanted for n in (need, need.rpartition("/")[0]) if n in runs}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise ValueError(f"the jobs need each other in a circle: {' -> '.join(reversed(error.args[1]))}") from None


def _answers(parts: list[str], head: str, rest: list[str]) -> bool:
    """Whether a job's name, in parts, starts with the target; the first part may be a number only."""
    return (parts[0] == head or parts[0].split("_")[0] == head) and parts[1 : 1 + len(rest)] == rest
