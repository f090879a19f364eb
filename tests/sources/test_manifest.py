import csv
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from xmodal_lib.sources import manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures, a stereo recording at 22,050 Hz."""
    for name, colour in [("rex", "red"), ("fido", "blue"), ("tom", "green"), ("kit", "white")]:
        Image.new("RGB", (20, 10), colour).save(tmp_path / f"{name}.png")
    t = np.linspace(0, 1, 22_050, endpoint=False)
    Image.new("RGB", (1, 2000)).save(tmp_path / "long.png")
    Image.new("F", (4, 4), 0.5).save(tmp_path / "float.tiff")
    for name, sample, rate in [("loud", 20_000.0, 16_000), ("nan", np.nan, 16_000), ("odd", 0.5, 44_101)]:
        soundfile.write(tmp_path / f"{name}.wav", np.array([0.0, sample]), rate, "FLOAT")
    soundfile.write(tmp_path / "bark.wav", np.stack([np.sin(2 * np.pi * 440 * t), 0 * t], 1) * 0.8, 22_050)
    return tmp_path


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "pets.csv"
    path.write_bytes(text.encode(encoding))
    return path


GOOD = """image,text,audio,label,split,item
rex.png,a dog on grass,,dog,train,rex
rex.png,"rex, sitting",,dog,train,rex
fido.png,,bark.wav,dog,test,fido
tom.png,,,cat,train,

,a cat that sleeps,,cat,test,
"""


def test_rows_items_classes_and_doors(folder):
    source = manifest.read(write(folder, GOOD))
    tables = source.tables
    assert source.name == "pets" and tables.classes == ("cat", "dog")
    assert {m: len(t) for m, t in tables.rows.items()} == {"image": 3, "text": 3, "audio": 1}  # rex.png is one row
    assert len(tables.items()) == 4
    x, y, _ = tables.paired("image", "text")
    assert x["image"].tolist() == [0, 0] and x["text"].tolist() == [0, 1] and y.tolist() == [1, 1]
    assert source.open["text"](1) == "rex, sitting"
    assert source.open["image"](1).getpixel((0, 0)) == (0, 0, 255)
    assert len(tables.take(source.where("image", split="train"))["image"]) == 2
    assert source.column("audio", "split") == ["test"]
    assert manifest.found(source) == (
        "pets: 4 items of 2 classes; rows: image 3, text 3, audio 1. Splits: train 2, test 2 items. "
        "Smallest class: 'cat' with 2."
    )


def test_audio_is_mono_at_16_khz(folder):
    wave = manifest.read(write(folder, GOOD)).open["audio"](0)
    assert wave.dtype == torch.float32 and wave.shape == (16_000,)
    t = np.arange(16_000) / 16_000
    middle = slice(1000, -1000)
    assert (
        np.abs(wave.numpy() - 0.4 * np.sin(2 * np.pi * 440 * t))[middle].max() < 0.01
    )  # the mean of 0.8 sin and silence


def test_transparent_and_16_bit_pictures(folder):
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(folder / "clear.png")
    assert manifest.open_image(folder / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    Image.fromarray(np.full((4, 4), 128 * 257, np.uint16)).save(folder / "deep.png")
    assert manifest.open_image(folder / "deep.png").getpixel((0, 0)) == (128, 128, 128)


def test_labels_that_look_the_same_are_one(folder):
    source = manifest.read(write(folder, "\n\nlabel;text\nCaf\u00e9;a\nCafe\u0301;b, c\n"))
    assert source.tables.classes == ("Caf\u00e9",) and source.column("text", "text") == ["a", "b, c"]


def test_the_digest_is_of_the_content(folder):
    first = manifest.read(write(folder, GOOD)).digest
    assert manifest.read(write(folder, GOOD)).digest == first
    assert manifest.read(write(folder, GOOD.replace("a cat", "one cat"))).digest != first
    Image.new("RGB", (20, 10), "black").save(folder / "rex.png")
    assert manifest.read(write(folder, GOOD)).digest != first


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_the_encodings_that_spreadsheets_write(folder, encoding):
    text = "Text;Label\r\nein Kätzchen;cat\r\nein Hund;dog\r\n;\r\n"
    assert manifest.read(write(folder, text, encoding)).open["text"](0) == "ein Kätzchen"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", ValueError, "no rows"),
        ("image,label\n", ValueError, "no rows"),
        ("image,lable\nrex.png,dog\n", ValueError, "line 1 .*'lable'; did you mean 'label'"),
        ("image,zzz\nrex.png,dog\n", ValueError, "'zzz'; the columns are image, text"),
        ("image,label,label\nrex.png,dog,dog\n", ValueError, "'label' twice"),
        ("image\nrex.png\n", ValueError, "no column 'label'"),
        ("label\ndog\n", ValueError, "none of the columns image, text, audio"),
        ("image,label\nrex.png,\n", ValueError, "line 2, column label: empty"),
        ("image,label\nrex.png,dog\n,cat\n", ValueError, "line 3 has no image, text, audio"),
        ("image,label\nrex.png,dog,extra\n", ValueError, "line 2 has 3 cells and the header 2"),
        ("image,label\ngone.png,dog\nlost.png,dog\n", FileNotFoundError, "line 2, column image.*'gone.png'.*1 more"),
        ("image,label\n" + "a" * 5000 + ",dog\n", FileNotFoundError, "line 2, column image"),
        ("image,label\nimg\\rex.png,dog\n", FileNotFoundError, "write folders with /"),
        ("image,label\n../rex.png,dog\n", ValueError, "line 2, column image.*leaves the CSV's folder"),
        ("image,label\n/etc/passwd,dog\n", ValueError, "leaves the CSV's folder"),
        ("image,label\nbark.wav,dog\n", ValueError, "line 2, column image: 'bark.wav' cannot be read"),
        ("audio,label\nrex.png,dog\n", ValueError, "line 2, column audio: 'rex.png' cannot be read"),
        ("image,label,item\nrex.png,dog,a\ntom.png,cat,a\n", ValueError, "line 3, column label: item 'a' has 'cat'"),
        ("image,label,split\nrex.png,dog,train\nrex.png,dog,test\n", ValueError, "line 3, column split: file"),
        ("image,label,split\nrex.png,dog,a\n./rex.png,dog,b\n", ValueError, "line 3, column split: file 'rex.png'"),
        (
            "audio,label\nloud.wav,dog\n",
            ValueError,
            "line 2, column audio: 'loud.wav' .*samples are up to 20000, where",
        ),
        ("audio,label\nnan.wav,dog\n", ValueError, "samples are not finite numbers"),
        ("audio,label\nodd.wav,dog\n", ValueError, "a rate of 44101 Hz is no simple multiple of 16000 Hz; convert"),
        ("image,label\nfloat.tiff,dog\n", ValueError, "its pixels are floating-point numbers"),
        ("image,label\nlong.png,dog\n", ValueError, "1 x 2000 pixels; no side may be 500 times the other"),
        ('text,label\n"a "b,dog\n', ValueError, "line 2 is no CSV"),
        ("text,label\na\0b,dog\n", ValueError, "line 2 holds a zero byte"),
    ],
)
def test_each_mistake_has_one_clear_line(folder, text, error, message):
    with pytest.raises(error, match=message) as caught:
        manifest.read(write(folder, text))
    assert str(caught.value).startswith("pets.csv: ") and "\n" not in str(caught.value)


def test_a_truncated_picture_and_a_wrong_encoding(folder):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for suffix in ("jpg", "png"):
        path = folder / f"cut.{suffix}"
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(ValueError, match=r"line 2, column image.*cannot be read"):
            manifest.read(write(folder, f"image,label\ncut.{suffix},dog\n"))
    with pytest.raises(ValueError, match="line 3 is not UTF-8 text"):
        manifest.read(write(folder, "text,label\na,b\né,c\n", "latin-1"))
    with pytest.raises(FileNotFoundError, match="is not a file"):
        manifest.read(folder / "none.csv")


def test_folders_with_and_without_splits(folder):
    for name in ("dog/a/rex.png", "dog/fido.png", "cat/tom.png"):
        for root in ("plain", "split/train", "split/test"):
            path = folder / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((folder / Path(name).name).read_bytes())
    (folder / "plain" / "dog" / "notes.txt").write_text("no picture")
    plain = manifest.folders(folder / "plain")
    assert plain.name == "plain" and plain.tables.classes == ("cat", "dog") and len(plain.tables["image"]) == 3
    assert plain.column("image", "image") == ["cat/tom.png", "dog/a/rex.png", "dog/fido.png"]
    split = manifest.folders(folder / "split")
    assert len(split.where("image", split="test")) == 3 and split.tables.classes == ("cat", "dog")
    assert split.open["image"](0).size == (20, 10)


def test_folders_that_are_not_there_or_empty(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        manifest.folders(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="holds no class folders"):
        manifest.folders(tmp_path)
    (tmp_path / "dog").mkdir()
    with pytest.raises(ValueError, match="class folder dog holds no picture"):
        manifest.folders(tmp_path)
    (tmp_path / "dog" / "a.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"dog/a.png, column image: .* cannot be read"):
        manifest.folders(tmp_path)


cell = st.one_of(st.sampled_from(["", "rex.png", "bark.wav", "dog", "cat", "train", "a"]), st.text(max_size=8))
header = st.permutations(manifest.COLUMNS).flatmap(lambda c: st.integers(1, 6).map(lambda n: list(c[:n])))


@st.composite
def table(draw) -> bytes:
    rows = [draw(header), *draw(st.lists(st.lists(cell, min_size=1, max_size=6), max_size=4))]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])), "replace")


@given(raw=st.one_of(table(), st.binary(max_size=60), st.text(max_size=60).map(lambda t: t.encode("utf-8", "replace"))))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused_in_one_line(folder, raw):
    path = folder / "any.csv"
    path.write_bytes(raw)
    try:
        source = manifest.read(path)
    except (ValueError, FileNotFoundError) as error:
        assert type(error) in (ValueError, FileNotFoundError) and str(error).startswith("any.csv: ")
        assert len(str(error).splitlines()) == 1
    else:
        assert len(source.tables.labels()) == len(source.tables.items()) > 0
        assert all(torch.equal(t.x, torch.arange(len(source.info[m]))) for m, t in source.tables.rows.items())
