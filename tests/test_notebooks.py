"""Every notebook is built in the same way: eight headings, one idea a cell, values to change at the top.

Read as files, no kernel. tests/runs/test_committed.py has the rest: outputs of the present code, size, parameters that
are literals with a comment each, sheets whose notebook exists.
"""

import ast
import re
import symtable
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

from xmodal_lib.runs.pages import WIDGET
from xmodal_lib.runs.plan import parameters

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[!.]*.ipynb"))  # `xmodal notebooks` works in hidden ones
HEADINGS = ["Parameters", "Data", "Idea", "Fit", "Result", "Look", "Learnt, and to try"]  # the title is the eighth
LINES = 14  # of a code cell
METHODS = ["10_cross_modal_adaptation", "11_audio_visual", "12_domain_shift", "20_alternating_unimodal",
           "30_meta_alignment", "40_generative_transfer"]  # fmt: skip
LONGER = {  # (notebook, first line of the cell): why it may have more
    ("02_features", "import json"): "eleven imports",
    (
        "10_cross_modal_adaptation",
        'source = "drawings"  # or caltech101, dtd, ... of `xmodal data list`; any: the first here; or your CSV',
    ): "parameters of eleven image sets",
    ("10_cross_modal_adaptation", "from dataclasses import replace"): "nothing but imports",
    ("11_audio_visual", "from dataclasses import replace"): "nothing but imports",
    (
        "20_alternating_unimodal",
        "scores = []  # scores.parquet files of draws made before, to be reported together; [] fits here",
    ): "parameters of six data sets",
    ("20_alternating_unimodal", "from dataclasses import replace"): "nothing but imports",
    (
        "30_meta_alignment",
        "scores = []  # scores.parquet files of draws made before, to be reported together; [] fits here",
    ): "parameters of six data sets",
    ("30_meta_alignment", "from pathlib import Path"): "nothing but imports",
    (
        "40_generative_transfer",
        "scores = []  # scores.parquet files of draws made before, to be reported together; [] fits here",
    ): "parameters of eight data sets",
    ("61_explorer", "from dataclasses import replace"): "nothing but imports",
}
SILENT = {"results.table", "results.metrics", "slider"}  # calls that leave nothing in a stored notebook
FIGURES = {"results.figure", "display", "items"}
ELSEWHERE = re.compile(r"(?<![\w./~:])/(home|root|tmp|usr|var|opt|mnt|srv|Users|private)/|\b[A-Z]:\\\\?(Users|Temp)\b")

each = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


@cache
def cells_of(notebook: Path) -> list[Any]:
    return nbformat.read(notebook, 4).cells


def code_of(notebook: Path) -> list[tuple[int, str]]:
    """(number, source) of the code cells."""
    return [(i, cell.source) for i, cell in enumerate(cells_of(notebook)) if cell.cell_type == "code"]


def text_of(notebook: Path) -> str:
    return "\n\n".join(cell.source for cell in cells_of(notebook) if cell.cell_type == "markdown")


def calls(node: ast.AST) -> list[str]:
    """Names of all functions that are called within, such as `results.figure`."""
    return [ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)]


def tagged(cell: Any, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def shows(source: str) -> bool:
    """Whether a reader finds something below the cell: a figure, printed words, or the value of its last line."""
    body = ast.parse(source).body
    loud = [s for s in body if not (isinstance(s, ast.Expr) and calls(s) and calls(s)[0] in SILENT)]
    if {"print", *FIGURES} & {name for statement in loud for name in calls(statement)}:
        return True
    return bool(loud) and loud[-1] is body[-1] and isinstance(body[-1], ast.Expr)


@each
def test_the_first_cell_says_what_to_expect(notebook: Path) -> None:
    first = cells_of(notebook)[0]
    assert first.cell_type == "markdown"
    assert re.match(rf"# {notebook.stem[:2]} · \S", first.source), "the title is `# NN · Name`"
    words = ["**Question.**", "**Run time.**", "**Reads**", "**Writes**"]
    places = [first.source.find(word) for word in words]
    assert -1 not in places and places == sorted(places), f"in this order: {', '.join(words)}"
    question = first.source.partition("**Question.**")[2].partition("\n\n")[0].strip()
    assert question.endswith("?") and question.count("?") == 1, f"one sentence that is a question: {question}"


@each
def test_the_same_headings_in_the_same_order(notebook: Path) -> None:
    found = re.findall(r"^(#+) (.*)$", text_of(notebook), re.MULTILINE)
    assert [name for mark, name in found if mark == "##"] == HEADINGS
    assert [mark for mark, _ in found].count("#") == 1, "one title"
    starts = [cell.source.startswith("#") for cell in cells_of(notebook) if "\n#" in f"\n{cell.source}"
              and cell.cell_type == "markdown"]  # fmt: skip
    assert all(starts), "a heading begins its cell"


@each
def test_one_cell_of_parameters_right_after_its_heading(notebook: Path) -> None:
    cells = cells_of(notebook)
    tagged = [i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1 and cells[tagged[0]].cell_type == "code"
    assert cells[tagged[0] - 1].source.startswith("## Parameters")
    lines = cells[tagged[0]].source.splitlines()
    assert len(lines) == len(parameters(ROOT, str(notebook.relative_to(ROOT)))), "a parameter a line, nothing else"


@each
def test_learnt_says_what_to_try(notebook: Path) -> None:
    last = [cell for cell in cells_of(notebook) if not tagged(cell, "solution")][-1]
    assert last.cell_type == "markdown" and last.source.startswith("## Learnt")
    sets = [line for line in last.source.splitlines() if line.startswith("* Set ")]
    assert sets and "\n* Exercise: " in last.source
    named = {name for line in sets for name in re.findall(r"`(\w+) = ", line)}
    known = set(parameters(ROOT, str(notebook.relative_to(ROOT))))
    assert named and named <= known, f"no parameter of this notebook: {sorted(named - known)}"
    assert not re.findall(r"\b(VERDICT|TODO|TBD|FIXME|XXX)\b", text_of(notebook)), "a sentence is still to be written"


@pytest.mark.parametrize("stem", METHODS)
def test_a_method_is_taught(stem: str) -> None:
    """Its core from scratch in at most 15 lines, checked equal to the library's; a pitfall; two things to try; and an
    exercise whose solution is a folded cell after the last text."""
    cells = cells_of(ROOT / "notebooks" / f"{stem}.ipynb")
    scratch = [i for i, cell in enumerate(cells) if tagged(cell, "from-scratch")]
    assert scratch, "no cell has the tag from-scratch"
    for i in scratch:
        lines = [line for line in cells[i].source.splitlines() if line.strip() and not line.startswith("#")]
        assert len(lines) <= 15, f"cell {i} has {len(lines)} lines"
        assert "show_source" not in cells[i].source
    checks = [cell.source for cell in cells[scratch[-1] :] if tagged(cell, "nbval-check-output")]
    assert any("allclose" in source for source in checks), "a checked cell compares it with the library by allclose"
    text = text_of(ROOT / "notebooks" / f"{stem}.ipynb")
    assert "**Pitfall.**" in text
    sliders = sum("slider" in source for _, source in code_of(ROOT / "notebooks" / f"{stem}.ipynb"))
    assert len(re.findall(r"(?m)^\* Set ", text)) + sliders >= 2, "two parameters or sliders to try"
    folded = cells[-1]
    assert tagged(folded, "solution") and folded.source.startswith("# Solution"), "the last cell is the solution"
    assert folded.metadata.jupyter == {"source_hidden": True, "outputs_hidden": True}, "folded in JupyterLab"
    assert folded.outputs, "the solution shows what it found"


@each
def test_code_cells_are_short(notebook: Path) -> None:
    for i, source in code_of(notebook):
        lines = source.splitlines()
        if (notebook.stem, lines[0]) not in LONGER:
            most = 15 if tagged(cells_of(notebook)[i], "from-scratch") else LINES
            assert len(lines) <= most, f"cell {i} ({lines[0]}) has {len(lines)} lines"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                assert length <= 5, f"cell {i}: {node.name} has {length} lines; it belongs to the library"
            assert not isinstance(node, ast.ClassDef), f"cell {i}: a class belongs to the library"


@pytest.mark.parametrize(("stem", "first"), LONGER, ids=lambda value: value[:12])
def test_exceptions_are_still_needed(stem: str, first: str) -> None:
    found = [source for _, source in code_of(ROOT / "notebooks" / f"{stem}.ipynb") if source.startswith(f"{first}\n")]
    assert found and len(found[0].splitlines()) > LINES, "take it out of LONGER"


@each
def test_a_brief_job_does_without_the_cells_for_readers(notebook: Path) -> None:
    """Nothing that the other cells read was last made or changed by a cell with the tag `reader`, or by a solution."""
    left_out: dict[str, int] = {}  # name -> the cell that bound or changed it last, if it is left out
    for i, source in code_of(notebook):
        read, bound, changed = names_in(source)
        if tagged(cells_of(notebook)[i], "reader") or tagged(cells_of(notebook)[i], "solution"):
            assert "results.table" not in source and "results.metrics" not in source, f"cell {i} makes an output"
            left_out |= dict.fromkeys(bound | changed, i)
            continue
        for statement in ast.parse(source).body:
            read, bound, changed = names_in(ast.unparse(statement))
            loop = bound if isinstance(statement, ast.For | ast.With | ast.If | ast.Try) else set()
            wanted = {name: left_out[name] for name in (read | changed) - loop if name in left_out}
            assert not wanted, f"cell {i} needs what cells for readers made: {wanted}"
            left_out = {name: at for name, at in left_out.items() if name not in bound}


@each
def test_a_sentence_before_what_is_shown(notebook: Path) -> None:
    """Between two texts: at most two code cells, of which at most one shows something, and at most one figure a cell.

    So a cell that shows something follows a text, or a silent cell that does.
    """
    together: list[int] = []
    for i, cell in enumerate(cells_of(notebook)):
        if cell.cell_type != "code":
            together = []
            continue
        together.append(i)
        seen = [j for j in together if shows(cells_of(notebook)[j].source)]
        assert len(together) <= 2, f"cells {together} have no text between them"
        assert len(seen) <= 1, f"cells {seen} each show something; say before each what to look for"
        drawn = [name for name in calls(ast.parse(cell.source)) if name in FIGURES]
        assert len(drawn) <= 1, f"cell {i} shows {len(drawn)} figures"


@each
def test_nothing_of_a_machine_or_a_live_session(notebook: Path) -> None:
    book = nbformat.read(notebook, 4)
    assert "widgets" not in book.metadata
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if WIDGET in output.get("data", {})]
    texts = [text for output in outputs for kind, text in output.get("data", {"text/": output.get("text", "")}).items()
             if kind.startswith("text/")]  # fmt: skip
    for text in [*(cell.source for cell in book.cells), *texts]:
        found = ELSEWHERE.search(text)
        assert str(ROOT) not in text and not found, f"an absolute path: {text[found.start() :][:80] if found else ROOT}"


def test_the_map_has_every_notebook_and_the_class_ends_in_time() -> None:
    start = NOTEBOOKS[0]
    text, headings = text_of(start), re.findall(r"(?m)^#+ (.*)$", text_of(start))
    table = text.partition("### A map of the notebooks")[2].partition("\n#")[0]
    linked = re.findall(r"\]\((\w+)\.ipynb\)", table)
    assert linked == [path.stem for path in NOTEBOOKS[1:]], "each once, in order"
    assert set(re.findall(r"\]\((\w+)\.ipynb\)", text)) <= set(linked), "a link to no notebook"
    assert {place.replace("-", " ") for place in re.findall(r"\]\(#([^)]+)\)", text)} <= set(headings)
    minutes = re.findall(r"(?m)^\| (\d+) \|", text.partition("### A class of 90 minutes")[2])
    assert sum(map(int, minutes)) == 90


def test_every_notebook_has_a_sheet() -> None:
    sheets = {yaml.safe_load(path.read_text("utf-8"))["notebook"] for path in (ROOT / "params").glob("*.yaml")}
    assert sheets == {path.relative_to(ROOT).as_posix() for path in NOTEBOOKS}


def test_the_readme_lists_the_notebooks() -> None:
    table = (ROOT / "README.md").read_text("utf-8").partition("## The notebooks")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE) == [path.stem for path in NOTEBOOKS]


def names_in(source: str) -> tuple[set[str], set[str], set[str]]:
    """The global names that a cell reads, that it binds, and whose values it changes in place, as far as code shows."""
    read: set[str] = set()
    bound: set[str] = set()
    tables = [symtable.symtable(source, "cell", "exec")]
    while tables:
        table = tables.pop()
        for symbol in table.get_symbols():
            if table.get_type() == "module" and (symbol.is_assigned() or symbol.is_imported()):
                bound.add(symbol.get_name())
            if symbol.is_referenced() and (table.get_type() == "module" or symbol.is_global()):
                read.add(symbol.get_name())
        tables += table.get_children()
    stored = [node for node in ast.walk(ast.parse(source)) if isinstance(getattr(node, "ctx", None), ast.Store)]
    changed = {
        ast.unparse(node).split(".")[0].split("[")[0] for node in stored if not isinstance(node, ast.Name | ast.Tuple)
    }
    added = {ast.unparse(node.target) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.AugAssign)}
    return read | added & bound, bound, changed & read
