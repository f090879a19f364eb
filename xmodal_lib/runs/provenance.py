"""Which code, versions and inputs a result came from.

A job runs again when its parameters, or the code that it uses, changed: `code_digest` is that code in a word.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import platform
import re
import subprocess
import tokenize
from collections.abc import Iterator
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

PACKAGE = "xmodal_lib"
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)  # of JSON that is no notebook
VERSIONS = ["xmodal", "torch", "torchvision", "torchaudio", "open_clip_torch", "timm", "onnxruntime", "scikit-learn",
            "numpy", "pandas", "matplotlib", "umap-learn", "openTSNE", "papermill", "snakemake"]  # fmt: skip


def code_digest(notebook: Path) -> str:
    """16 hex digits of a notebook's code cells, their tags, the library modules that they import, and the data files of
    the library that these name ("claims.yaml").

    Outputs, markdown, comments, docstrings and blank lines do not count. Modules count transitively; an
    `__init__.py` that is only passed through on the way to a module, or that only re-exports the name, does not.
    """
    parts = [("cell", f"{sorted(tags)} {bare(source)}") for source, tags in code_cells(notebook)]
    found: set[Path] = set()
    for source, _ in code_cells(notebook):
        _follow(source, PACKAGE, found)
    root = package_folder()
    sources = {path.relative_to(root).as_posix(): bare(path.read_text("utf-8")) for path in sorted(found)}
    parts += [*sources.items()]
    named = "\n".join(sources.values())
    parts += [(path.name, file_digest(path)) for path in data_files() if f'"{path.name}"' in named]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def modules(notebook: Path) -> list[str]:
    """Files of the library, relative to it, that a notebook uses."""
    found: set[Path] = set()
    for source, _ in code_cells(notebook):
        _follow(source, PACKAGE, found)
    return sorted(path.relative_to(package_folder()).as_posix() for path in found)


def code_cells(notebook: Path) -> list[tuple[str, list[str]]]:
    """(source, tags) of each code cell, without lines that are IPython's (`%matplotlib inline`, `!ls`)."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    return [
        (re.sub(r"(?m)^\s*[%!?].*$", "", "".join(c["source"])), c["metadata"].get("tags", []))
        for c in cells
        if c["cell_type"] == "code"
    ]


@cache
def bare(source: str) -> str:
    """The source without comments, docstrings, blank lines and trailing blanks; the same in every Python version."""
    lines = source.splitlines()
    try:
        for start, stop in _docstrings(ast.parse(source)):
            lines[start:stop] = [""] * (stop - start)
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            row, column = token.start
            if token.type == tokenize.COMMENT and lines[row - 1]:
                lines[row - 1] = lines[row - 1][:column]
    except (SyntaxError, tokenize.TokenError):
        pass  # not Python: its plain text counts
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _docstrings(tree: ast.AST) -> Iterator[tuple[int, int]]:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            first = body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                yield first.lineno - 1, first.end_lineno or first.lineno


@cache
def package_folder() -> Path:
    spec = util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the package {PACKAGE} is not installed; run: pip install -e .")
    return Path(spec.origin).parent


def data_files() -> list[Path]:
    """What the library brings along that is no code."""
    files = (path for path in package_folder().rglob("*.*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(path for path in files if path.suffix not in (".py", ".pyc"))


def _follow(source: str, package: str, found: set[Path]) -> None:
    """Add the library modules that `source`, itself a module of `package`, imports to `found`, transitively."""
    for module, name in _imports(source, package):
        _reach(module, name, found)


@cache
def _imports(source: str, package: str) -> tuple[tuple[str, str | None], ...]:
    """(module, name or None) of each import of the library, wherever in the source it stands."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ()
    found: list[tuple[str, str | None]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parent = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(filter(None, (parent, node.module)))
            found += [(module, alias.name) for alias in node.names]
    return tuple((m, n) for m, n in found if m.split(".")[0] == PACKAGE)


def _reach(module: str, name: str | None, found: set[Path]) -> None:
    path = _file(f"{module}.{name}") if name else None
    if path:  # `from package import module`
        return _add(path, f"{module}.{name}", found)
    path = _file(module)
    if path and path.name == "__init__.py" and name:
        exported = [(m, n) for m, n in _imports(path.read_text("utf-8"), module) if n == name]
        if exported:  # a re-export: follow it to where the name is made
            return _reach(*exported[0], found)
    if path:
        _add(path, module, found)


def _add(path: Path, module: str, found: set[Path]) -> None:
    if path in found:
        return
    found.add(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    _follow(path.read_text("utf-8"), package, found)


def _file(module: str) -> Path | None:
    base = package_folder().joinpath(*module.split(".")[1:])
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def file_digest(path: Path) -> str:
    """16 hex digits of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, as far as they are installed."""
    known = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for name in VERSIONS:
        try:
            known[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return known


def commit(root: Path) -> str | None:
    """The git commit of `root`, with "+" where tracked files were changed since; None outside a repository."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def collect(
    root: Path, notebook: Path, parameters: dict[str, Any], out: Path, code: str | None = None
) -> dict[str, Any]:
    """What is to be known of a run besides its results. A notebook tells its data by writing `data.json` to `out`."""
    data = out / "data.json"
    return {
        "notebook": notebook.relative_to(root).as_posix() if notebook.is_relative_to(root) else notebook.name,
        "parameters": parameters,
        "seed": parameters.get("seed"),
        "data": json.loads(data.read_text("utf-8")) if data.is_file() else None,
        "code": code or code_digest(notebook),
        "commit": commit(root),
        "versions": versions(),
    }
