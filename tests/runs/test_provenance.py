"""The digest of the code that a notebook uses: what counts, and what does not."""

from pathlib import Path

import pytest

from tests.runs.conftest import write_notebook
from xmodal_lib.runs import provenance


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library of the same name: `heads` re-exported by `methods`, which uses `tables`; and `other`, of no use."""
    root = tmp_path / "xmodal_lib"
    (root / "methods").mkdir(parents=True)
    (root / "__init__.py").write_text('"""Nothing."""\n')
    (root / "tables.py").write_text("rows = 1\n")
    (root / "methods" / "heads.py").write_text(
        '"""Doc."""\nfrom ..tables import rows\n\n\ndef head():\n    return rows\n'
    )
    (root / "methods" / "other.py").write_text("other = 1\n")
    (root / "methods" / "__init__.py").write_text("from .heads import head\nfrom .other import other\n")
    monkeypatch.setattr(provenance, "package_folder", lambda: root)
    return root


@pytest.mark.parametrize(
    "line",
    [
        "from xmodal_lib.methods import head",
        "from xmodal_lib.methods.heads import head",
        "import xmodal_lib.methods.heads",
    ],
)
def test_modules_are_followed_to_where_a_name_is_made(package: Path, tmp_path: Path, line: str) -> None:
    write_notebook(tmp_path / "n.ipynb", "seed = 0", line)
    assert provenance.modules(tmp_path / "n.ipynb") == ["methods/heads.py", "tables.py"]


def test_the_digest_is_of_code_only(package: Path, tmp_path: Path) -> None:
    notebook, heads = tmp_path / "n.ipynb", package / "methods" / "heads.py"
    write_notebook(notebook, "seed = 0", "%matplotlib inline\nfrom xmodal_lib.methods import head\nhead()")
    first = provenance.code_digest(notebook)

    write_notebook(
        notebook, "seed = 0", "from xmodal_lib.methods import head\n\nhead()  # a comment", text="# Other words"
    )
    heads.write_text('"""Other doc."""\nfrom ..tables import rows\ndef head():\n    "Doc."\n    return rows  # more\n')
    (package / "methods" / "other.py").write_text("other = 2\n")
    assert provenance.code_digest(notebook) == first

    (package / "tables.py").write_text("rows = 2\n")
    second = provenance.code_digest(notebook)
    write_notebook(notebook, "seed = 1", "from xmodal_lib.methods import head\nhead()")
    assert len({first, second, provenance.code_digest(notebook)}) == 3


def test_a_data_file_counts_where_the_code_names_it(package: Path, tmp_path: Path) -> None:
    notebook = tmp_path / "n.ipynb"
    write_notebook(notebook, "seed = 0", "from xmodal_lib.methods import head\nhead()")
    first = provenance.code_digest(notebook)
    (package / "rows.csv").write_text("1")
    assert provenance.code_digest(notebook) == first
    (package / "tables.py").write_text('rows = open("rows.csv").read()\n')
    second = provenance.code_digest(notebook)
    (package / "rows.csv").write_text("2")
    assert len({first, second, provenance.code_digest(notebook)}) == 3


def test_strings_that_look_like_comments_stay() -> None:
    assert provenance.bare('x = "# no comment"  # comment\n') == 'x = "# no comment"'
    assert provenance.bare("not python (") == "not python ("


def test_commit_outside_a_repository(tmp_path: Path) -> None:
    assert provenance.commit(tmp_path) is None
