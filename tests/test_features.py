"""The feature cache: what is computed, what is kept, and what damage does."""

import multiprocessing
import os
import signal
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from xmodal_lib import features
from xmodal_lib.encoders import frozen
from xmodal_lib.encoders.encoder import Encoder
from xmodal_lib.features import extract
from xmodal_lib.sources.source import Source
from xmodal_lib.tables import Table, Tables

N = 50


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path))
    return tmp_path / "features"


@pytest.fixture
def opened():
    return Counter()


@pytest.fixture
def source(opened):
    def open_row(i):
        opened[i] += 1
        return "x" * i

    rows = Table(torch.arange(N), torch.arange(N) % 2, torch.arange(N))
    tables = Tables({"text": rows, "image": rows}, ("even", "odd"))
    info = pd.DataFrame({"row": range(N)})
    return Source("toy", tables, {"text": info, "image": info}, {"text": open_row, "image": open_row}, "d" * 64, "none")


def lengths(items):
    return torch.tensor([[float(len(item))] for item in items])


def encoder(seed=0, **options):
    torch.manual_seed(seed)
    return Encoder("line", nn.Linear(1, 3), lengths, sample="", **options)


def expected(e):
    return e(torch.arange(float(N)).view(-1, 1))


def test_rows_are_computed_once(source, opened):
    e = encoder()
    for _ in range(2):
        tables = extract(source, {"text": e}, progress=False)
        torch.testing.assert_close(tables["text"].x, expected(e))
    assert tables.modalities == ("text",)
    assert torch.equal(tables["text"].y, source.tables["text"].y)
    assert opened == Counter(range(N))
    extract(source, {"text": encoder(seed=1)}, progress=False)  # other weights, other rows
    assert opened[0] == 2


def test_subsets_share_the_cache(source, opened):
    e = encoder(batch=2)
    some = source.tables.take(torch.tensor([3, 40, 7]))
    doubled = Tables({"text": Table(torch.tensor([7, 3, 7]), torch.zeros(3, dtype=torch.int64), torch.arange(3))},
                     ("even", "odd"))  # fmt: skip
    assert len(extract(source, {"text": e}, tables=some, progress=False)["text"]) == 3
    assert opened == Counter([3, 7, 40])
    torch.testing.assert_close(extract(source, {"text": e}, tables=doubled)["text"].x, expected(e)[[7, 3, 7]])
    torch.testing.assert_close(extract(source, {"text": e})["text"].x, expected(e))
    assert opened == Counter(range(N))


def pictures(rng, n):
    return [Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(n)]


def texts(rng, n):
    return [" ".join(rng.choice(["dog", "violins", "of", "unpronounceable"], k)) for k in rng.integers(1, 30, n)]


def waves(rng, n):
    return [rng.uniform(-1, 1, k).astype(np.float32) for k in rng.integers(4_000, 16_000, n)]


@pytest.mark.parametrize(("make", "items"), [(lambda: frozen.efficientnet(64), pictures), (frozen.minilm, texts),
                                             (frozen.speech_embedding, waves)])  # fmt: skip
def test_rows_are_the_same_in_whatever_portions_they_come(source, monkeypatch, cache, make, items):
    """Bit for bit, with the encoders that the results rest on: else a result would depend on which job came first."""
    e, rng = make(), np.random.default_rng(0)
    source = replace(source, open={"text": items(rng, N).__getitem__})
    order = torch.from_numpy(rng.permutation(N))
    whole = extract(source, {"text": e}, progress=False)["text"].x
    monkeypatch.setenv("XMODAL_HOME", str(cache / "another"))
    for part in order.split([1, 2, 7, 20, 17, 3]):
        extract(source, {"text": e}, tables=source.tables.take(part), progress=False)
    assert torch.equal(extract(source, {"text": e}, progress=False)["text"].x, whole)


def test_heads_share_their_trunk(source, opened):
    trunk = encoder()
    for _ in range(2):
        head = Encoder("head", nn.Linear(3, 2), trunk=trunk)
        x = extract(source, {"text": head}, progress=False)["text"].x
        torch.testing.assert_close(x, head.module(expected(trunk)))
    assert opened == Counter(range(N))


def test_float16_rows(source, cache):
    e = encoder(float16=True)
    x = extract(source, {"text": e}, progress=False)["text"].x
    assert x.dtype == torch.float32
    assert torch.equal(x, expected(e).half().float())
    assert np.load(next(cache.rglob("x.npy"))).dtype == np.float16


def test_what_a_reader_writes_stays_out_of_the_cache(source):
    e = encoder()
    extract(source, {"text": e}, progress=False)["text"].x.zero_()
    torch.testing.assert_close(extract(source, {"text": e}, progress=False)["text"].x, expected(e))


@pytest.mark.parametrize("damage", ["truncated", "emptied", "header", "bits", "sums"])
def test_damage_is_noticed_and_mended(source, opened, cache, capsys, damage):
    e = encoder()
    extract(source, {"text": e}, progress=False)
    (x,), (sums,) = cache.rglob("x.npy"), cache.rglob("sums.npy")
    good = x.read_bytes()
    changed = {"truncated": good[:-100], "emptied": b"", "header": b"\0" * 20 + good[20:],
               "bits": good[:-13] + bytes([good[-13] ^ 1]) + good[-12:], "sums": good}[damage]  # fmt: skip
    x.write_bytes(changed)
    if damage == "sums":
        sums.unlink()
    torch.testing.assert_close(extract(source, {"text": e}, progress=False)["text"].x, expected(e))
    assert opened[0] == (1 if damage == "bits" else 2)
    assert capsys.readouterr().err.count("computing") == 1


def test_a_failing_row_keeps_those_before_it(source, opened):
    class Broken(Exception):
        pass

    def prepare(items):
        if any(len(item) == 30 for item in items) and opened[30] == 1:
            raise Broken
        return lengths(items)

    torch.manual_seed(0)
    e = Encoder("line", nn.Linear(1, 3), prepare, sample="", batch=10)
    with pytest.raises(Broken):
        extract(source, {"text": e}, progress=False)
    torch.testing.assert_close(extract(source, {"text": e}, progress=False)["text"].x, expected(e))
    assert opened == Counter([*range(N), *range(30, 40)])


def _extract_until_killed(source, e):
    original = source.open["text"]

    def open_row(i):
        if i == 30:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(i)

    source.open["text"] = open_row
    extract(source, {"text": e}, progress=False)


def test_a_killed_run_is_resumed(source, opened):
    e = encoder(batch=10)
    process = multiprocessing.get_context("fork").Process(target=_extract_until_killed, args=(source, e))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    torch.testing.assert_close(extract(source, {"text": e}, progress=False)["text"].x, expected(e))
    assert opened == Counter(range(30, N))


def _extract(source, e):
    torch.testing.assert_close(extract(source, {"text": e}, progress=False)["text"].x, expected(e))


def test_several_at_once(source):
    e = encoder(batch=3)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_extract, args=(source, e)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    _extract(source, e)


def _extract_noting(source, e, file):
    def noting(row):
        with file.open("a") as notes:
            notes.write(f"{row}\n")
        return source.open["text"](row)

    _extract(replace(source, open={"text": noting}), e)


def test_several_at_once_share_the_work(source, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "BLOCK", 8)
    e, file, context = encoder(), tmp_path / "notes", multiprocessing.get_context("fork")
    processes = [context.Process(target=_extract_noting, args=(source, e, file)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert Counter(file.read_text().split()) == Counter(str(row) for row in range(N))  # each row once in all


def test_what_cannot_be_extracted_says_why(source):
    e = encoder()
    with pytest.raises(ValueError, match="an encoder is given for 'speech'; the tables have text, image"):
        extract(source, {"speech": e})
    with pytest.raises(ValueError, match=r"x must be row numbers 0..49 of 'toy'"):
        extract(source, {"text": e}, tables=extract(source, {"text": e}))
    nan = Encoder("nan", nn.Linear(1, 3), lambda items: lengths(items) / 0, sample="a")
    with pytest.raises(ValueError, match="not finite for row 0"):
        extract(source, {"text": nan})


def test_no_rows(source):
    assert extract(source, {"text": encoder()}, tables=source.tables.take(torch.tensor([-1])))["text"].x.shape == (0, 3)


def test_saved_tables_come_back(tmp_path, episode) -> None:
    features.save(episode.support, tmp_path / "f.safetensors")
    back = features.load(tmp_path / "f.safetensors")
    assert back.classes == episode.support.classes
    for m, table in episode.support.rows.items():
        assert torch.equal(back[m].x, table.x)
        assert torch.equal(back[m].y, table.y)
        assert torch.equal(back[m].pair, table.pair)


@pytest.mark.parametrize("cut", [0, 5, 200])
def test_a_damaged_file_of_features_is_one_clear_line(tmp_path, episode, cut: int) -> None:
    path = tmp_path / "f.safetensors"
    features.save(episode.support, path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match="not a file of features, or a damaged one"):
        features.load(path)
    with pytest.raises(FileNotFoundError, match="no such file of features"):
        features.load(tmp_path / "other")
