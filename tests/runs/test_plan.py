"""Sheets become jobs; what is wrong with one is said in a line before anything starts."""

import re
from pathlib import Path

import pytest

from tests.runs.conftest import write_notebook
from xmodal_lib.runs.plan import Plan, find_notebook, make_plan, parse, project_root, typed, unknown


def edit(project: Path, old: str, new: str) -> None:
    path = project / "params" / "10_small.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_matrix_needs_and_names(project: Path) -> None:
    plan = make_plan(project)
    assert [job.name for job in plan.jobs] == ["10_small/draw/seed=1", "10_small/draw/seed=2", "10_small/report"]
    assert plan["10_small/report"].needs == {"values": [f"10_small/draw/seed={s}/value.json" for s in (1, 2)]}
    assert plan["10_small/draw/seed=2"].parameters == {"scale": 1.0, "seed": 2}
    plan.save(project / "plan.json")
    assert Plan.load(project / "plan.json") == plan
    assert [j.name for j in plan.select(["10/draw/seed=2", "10/report"])] == ["10_small/draw/seed=2", "10_small/report"]
    with pytest.raises(ValueError, match="unknown target '10/drow'"):
        plan.select(["10/drow"])


def test_an_axis_that_both_have_is_matched(project: Path) -> None:
    edit(project, "  report:\n", "  report:\n    matrix: {seed: [2, 1]}\n")
    plan = make_plan(project)
    assert plan["10_small/report/seed=2"].needs == {"values": "10_small/draw/seed=2/value.json"}
    edit(project, "[2, 1]", "[2, 7]")
    with pytest.raises(ValueError, match="10_small/draw has no job at seed=7"):
        make_plan(project)


def test_what_others_wait_for_goes_first_within_some_places(project: Path) -> None:
    small = (project / "params" / "10_small.yaml").read_text()
    (project / "params" / "90_last.yaml").write_text(small.replace("10_small/draw", "90_last/draw"))
    urgent = make_plan(project).urgent()
    assert sorted(urgent, key=urgent.__getitem__, reverse=True) == [
        "10_small/draw/seed=1", "10_small/draw/seed=2", "90_last/draw/seed=1", "90_last/draw/seed=2",
        "10_small/report", "90_last/report"]  # fmt: skip
    (project / "params" / "10_small.yaml").write_text(small.replace("[1, 2]", str(list(range(30)))))
    urgent = make_plan(project).urgent()  # a table does not wait for all draws of later notebooks
    assert urgent["10_small/draw/seed=29"] > urgent["10_small/report"]
    write_far = small.replace("10_small/draw", "95_far/draw").replace("[1, 2]", str(list(range(30))))
    (project / "params" / "95_far.yaml").write_text(write_far)
    urgent = make_plan(project).urgent()
    assert urgent["10_small/report"] > urgent["95_far/draw/seed=29"]


def test_one_job_sheet_and_profiles(project: Path) -> None:
    (project / "params" / "20_more.yaml").write_text(
        "notebook: notebooks/10_small.ipynb\nneeds: {values: 10_small/draw/metrics}\nmatrix: {scale: [0.5, 2]}\n"
    )
    (project / "params" / "profiles").mkdir()
    (project / "params" / "profiles" / "quick.yaml").write_text(
        "10_small: {parameters: {scale: 3}, jobs: {draw: {matrix: {seed: [9]}}, report: {skip: true}}}\n"
        "20_more: {matrix: null}\n"
    )
    with pytest.raises(ValueError, match="matrix"):
        make_plan(project, "quick")
    quick = project / "params" / "profiles" / "quick.yaml"
    quick.write_text(quick.read_text().replace("matrix: null", "matrix: {scale: null}"))
    names = [job.name for job in make_plan(project, "quick").jobs]
    assert names == ["10_small/draw/seed=9", "20_more"]
    assert [job.name for job in make_plan(project).jobs][-2:] == ["20_more/scale=0.5", "20_more/scale=2"]
    with pytest.raises(FileNotFoundError, match="unknown profile 'quik'; did you mean 'quick'"):
        make_plan(project, "quik")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{scale: 1.0}", "{scal: 1.0}", "unknown parameter 'scal'; did you mean 'scale'?"),
        ("{scale: 1.0}", "{scale: 1e-3}", "parameter scale: '1e-3' is a str; the default 1.0 is a float .*write 0.001"),
        ("{scale: 1.0}", "{scale: true}", "parameter scale: True is a bool; the default 1.0 is a float"),
        ("[1, 2]", "[1, 2.5]", "parameter seed: 2.5 is a float; the default 0 is a int"),
        ("[1, 2]", "[]", "matrix.seed is empty"),
        ("[1, 2]", "[1, 1]", "two jobs would share the folder '10_small/draw/seed=1'"),
        ("seed: [1, 2]", "sede: [1, 2]", "unknown parameter 'sede'; did you mean 'seed'?"),
        ("seed: [1, 2]", "seed: 1", "jobs.draw.matrix.seed is 1: input should be a valid list"),
        ("matrix:", "matirx:", "unknown key 'jobs.draw.matirx'; did you mean 'matrix'?"),
        ("small.ipynb", "smal.ipynb", "there is no notebooks/10_smal.ipynb; did you mean 10_small?"),
        ("notebook:", "notebok:", "key `notebook` is missing"),
        ("10_small/draw", "10_small/drow", "needs.values: unknown need '10_small/drow'"),
        ("10_small/draw", "10_small/draw/vale", "needs.values: unknown output 'vale'; did you mean 'value'?"),
        ("10_small/draw", "10_small/report/metrics", "need each other in a circle: 10_small/report -> 10_small/report"),
        ("{values: 10", "{scale: 10", 'its default in notebooks/10_small.ipynb must be "" or'),
        ("{values: 10", "{vals: 10", "needs: unknown parameter 'vals'"),
        ("value.json", "../value.json", "jobs.draw.outputs.value is '../value.json'; a file name inside"),
        ("{scale: 1.0}", "{scale: 1.0, out: here}", "`out` is set by the engine"),
        ("{scale: 1.0}", "{scale: 1.0, scale: 2.0}", "the key 'scale' stands twice"),
        ("{scale: 1.0}", "{scale: 1.0, 1: 2.0}", "the key 1 is no printable text"),
        ("{scale: 1.0}", "{scale: !!bool x}", "no YAML: 'x'"),
        ("notebooks/10_small.ipynb", '"\\r0"', "key `notebook` is missing, or is no path"),
        ("{scale: 1.0}", "{scale: " + "[" * 3000 + "}", "nested too deep"),
        ("{scale: 1.0}", "{scale: " + "[" * 101 + "}", "line .*nested too deep"),
        ("{scale: 1.0}", "{scale: 1.0}\n    resources:\n      " + "- " * 3000, "nested too deep"),
        ("value: value.json", 'value: "a{b}.json"', "a file name inside `out` is needed"),
        ("{scale: 1.0}", "{scale: 1.0", "10_small.yaml, line"),
        ("{scale: 1.0}", "{scale: 1.0}\n    resources: {threads: 0}", "threads is 0: input should be greater"),
        ("{scale: 1.0}", "{scale: 1.0}\n    resources: {thread: 2}", "did you mean 'threads'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(project: Path, old: str, new: str, said: str) -> None:
    edit(project, old, new)
    with pytest.raises((ValueError, FileNotFoundError), match=re.compile(said)) as caught:
        make_plan(project)
    assert "\n" not in str(caught.value)


def test_only_literals_are_parameters(project: Path) -> None:
    write_notebook(project / "notebooks" / "10_small.ipynb", "seed = 1 + int('1')")
    with pytest.raises(ValueError, match="has `seed = 1 \\+ int\\('1'\\)`; only `name = literal`"):
        make_plan(project)


def test_types() -> None:
    assert typed(1, 2.0) == 1.0 and isinstance(typed(1, 2.0), float)
    assert typed([1, 2], [0.5]) == [1.0, 2.0] and typed("anything", None) == "anything"
    assert parse("1e-3", 0.1) == 1e-3 and parse("[1, 2]", [3]) == [1, 2] and parse("3", "") == "3"
    assert parse("9007199254740993", 0) == 9_007_199_254_740_993  # which no float is
    for value, default in (("x", 1), (1, "x"), (1, True), (["a"], [1]), (10**400, 0.5)):
        with pytest.raises(TypeError):
            typed(value, default)


def test_where_things_are(project: Path) -> None:
    assert project_root(project / "notebooks") == project
    assert find_notebook(project, "10").stem == find_notebook(project, "10_small").stem == "10_small"
    with pytest.raises(FileNotFoundError, match="did you mean '10_small'"):
        find_notebook(project, "10_smal")
    with pytest.raises(FileNotFoundError, match="is not inside a project"):
        project_root(project.parent)


def test_a_line_that_names_what_there_is_stays_one_to_read() -> None:
    assert unknown("target", "?", ["a", "b"]) == "unknown target '?'; there are: a, b"
    assert unknown("target", "?", [f"x{i}" for i in range(300)]).endswith(", x19 and 280 more")
