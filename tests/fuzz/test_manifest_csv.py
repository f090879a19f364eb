"""The door of `manifest.read` and `predict`: a CSV."""

from __future__ import annotations

import csv
import io
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.law import NAMES, NASTY_TEXTS, damaged, door, lawful
from xmodal_lib.sources import manifest

FILES = {"image": ["rex.png", "tom.png", "sub/ünï.png", "link.png"], "audio": ["bark.wav"]}
TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("own")
    (root / "sub").mkdir()
    (root / "folder").mkdir()
    for n, name in enumerate(FILES["image"][:3]):
        Image.new("RGB", (4, 4), (n, 0, 0)).save(root / name)
    (root / "link.png").symlink_to(root / "rex.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    soundfile.write(root / "bark.wav", np.zeros(160), 16_000)
    return root


@st.composite
def rows(draw) -> list[dict[str, str]]:
    """Lines that are right: each an item of its own."""
    found = []
    for n in range(draw(st.integers(1, 5))):
        row = {"label": draw(NAMES), "split": "", "item": draw(st.sampled_from(["", f"no. {n}"]))}
        row["text"] = draw(TEXTS.map(str.strip).filter(bool))
        for modality, files in FILES.items():
            row[modality] = draw(st.sampled_from(["", *files]))
        found.append(row)
    return found


@st.composite
def written(draw, lines: list[list[str]]) -> bytes:
    """Cells as a spreadsheet may write them."""
    delimiter, end = draw(st.sampled_from(",;\t")), draw(st.sampled_from(["\n", "\r\n"]))
    quoting = draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(lines)
    blank = end * draw(st.integers(0, 2))
    return (blank + text.getvalue()).encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])))


@given(st.data())
@door
def test_what_was_put_in_comes_out(folder: Path, data: st.DataObject) -> None:
    lines = data.draw(rows())
    columns = data.draw(st.permutations([*FILES, "text", "label", "split", "item"]))
    path = folder / "right.csv"
    path.write_bytes(data.draw(written([columns, *([row[c] for c in columns] for row in lines)])))
    source = manifest.read(path)
    said, labels = source.opened("text", source.tables.items().tolist()), source.tables.labels().tolist()
    assert said == [row["text"] for row in lines]
    assert [source.tables.classes[y] for y in labels] == [unicodedata.normalize("NFC", row["label"]) for row in lines]
    for modality in FILES:
        kept = source.column(modality, modality) if modality in source.tables.modalities else []
        assert kept == [row[modality] for row in lines if row[modality]]


@given(st.data())
@door
def test_what_is_wrong_is_refused_in_a_line(folder: Path, data: st.DataObject) -> None:
    """Cells, columns and bytes out of place."""
    lines = data.draw(rows())
    columns = data.draw(st.lists(st.sampled_from(manifest.COLUMNS), min_size=1, max_size=6))
    table = [columns, *([row[c] for c in columns] for row in lines)]
    for _ in range(data.draw(st.integers(0, 3))):
        line = data.draw(st.sampled_from(table))
        if line:
            line[data.draw(st.integers(0, len(line) - 1))] = data.draw(NASTY_TEXTS.filter(lambda t: "\ud800" not in t))
        if data.draw(st.booleans()):
            line.append("more")
    raw = data.draw(written(table))
    path = folder / "wrong.csv"
    path.write_bytes(data.draw(damaged(raw)) if data.draw(st.booleans()) else raw)
    with lawful(ValueError, FileNotFoundError):
        source = manifest.read(path)
        assert len(manifest.found(source).splitlines()) == 1
        assert len(source.tables.labels()) == len(source.tables.items()) > 0
        for modality, table_ in source.tables.rows.items():
            assert torch.equal(table_.x, torch.arange(len(source.info[modality])))
            assert [source.tables.classes[y] for y in table_.y.tolist()] == source.info[modality]["label"].tolist()
            for item in table_.pair.tolist():  # all was checked, so all opens
                source.opened(modality, [item])
        for modality in set(FILES) & set(source.tables.modalities):
            for name in source.column(modality, modality):
                assert ".." not in Path(name).parts and not Path(name).is_absolute()
