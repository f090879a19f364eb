"""The embedded data: what is in it, families that no split parts, texts that do not tell the label."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from xmodal_lib.home import Unusable, home
from xmodal_lib.sources import emoji, emoji_drawings, speech
from xmodal_lib.sources.emoji_concepts import category_stems, class_categories, concepts, other_words, stems
from xmodal_lib.sources.emoji_families import families, head
from xmodal_lib.sources.emoji_words import TEMPLATES
from xmodal_lib.tables import shared_items

CATEGORIES = ("animal-mammal", "food-fruit", "tool")
SIZE = 32  # of drawings, in pixels: quick to render


def tiny(level="category", **change: Any):
    small: dict[str, Any] = {"styles": ("twemoji",), "size": SIZE, "categories": CATEGORIES, "per_category": 8}
    return emoji.load(level, **(small | change))


@pytest.fixture(scope="module")
def source():
    return tiny()


@pytest.fixture(scope="module")
def table():
    return concepts()


def test_tiny_source(source):
    assert source.tables.classes == CATEGORIES
    assert {m: len(t) for m, t in source.tables.rows.items() if m != "text"} == {"image": 24, "speech": 24 * 18}
    for modality, rows in source.tables.rows.items():
        assert rows.x.tolist() == list(range(len(source.info[modality])))
        assert source.column(modality, "category") == [CATEGORIES[y] for y in rows.y.tolist()]
    assert len(source.tables.items()) == sum(len(t) for t in source.tables.rows.values())  # each row is an item


def test_rows_open(source):
    image = source.open["image"](0)
    assert image.mode == "RGB" and image.size == (SIZE, SIZE)
    assert np.asarray(image).std() > 5 and image.getpixel((0, 0)) == (255, 255, 255)
    assert source.open["text"](0) == "mammal"
    wave = source.open["speech"](5)
    assert wave.dtype == torch.float32 and torch.equal(wave, source.open["speech"](5))
    line = source.info["speech"].iloc[5]
    assert torch.equal(wave, speech.speak(line["name"], line["voice"], int(line["rate"]), int(line["pitch"])))


def test_tiny_takes_different_families_first(source):
    assert source.info["image"].groupby("category")["family"].nunique().tolist() == [8, 8, 8]


def test_concept_level():
    source = tiny("concept", modalities=("text", "image"))
    assert len(source.tables.classes) == 24 and source.tables.modalities == ("text", "image")
    assert source.column("image", "name") == [source.tables.classes[y] for y in source.tables["image"].y.tolist()]
    assert set(source.info["text"]["kind"]) == {"prompt", "name", "tag"}


def test_whole_data_set(table):
    assert len(table) == 861 and table["concept"].is_unique and table["name"].is_unique
    assert len(class_categories(table)) == 27
    sizes = table["category"].value_counts()
    assert [sizes[c] for c in ("animal-mammal", "transport-ground", "clothing", "sky-weather")] == [66, 50, 47, 47]


@pytest.mark.slow
def test_every_set_draws_what_it_should(table):
    drawn = {style: emoji_drawings.svgs(style, table) for style in emoji_drawings.STYLES}
    counts = {style: len(found) for style, found in drawn.items()}
    assert counts == {
        "twemoji": 861, "noto": 861, "noto-v1": 648, "openmoji": 861, "openmoji-line": 861,
        "fluent": 853, "fluent-one-ink": 853, "emojione": 649, "emojione-one-ink": 649,
    }  # fmt: skip
    assert len(set.intersection(*(set(found) for found in drawn.values()))) == 648
    assert not any("currentColor" in svg for found in drawn.values() for svg in found.values())


def test_one_ink_sets_have_one_ink():
    source = tiny(modalities=("image",), styles=("fluent-one-ink", "openmoji-line"), per_category=3)
    for row in range(len(source.tables["image"])):
        pixels = np.asarray(source.open["image"](row)).astype(int)
        assert np.ptp(pixels, axis=2).max() <= 1 and pixels.min() < 80
    assert source.info["image"].groupby("style")["ink"].first().tolist() == ["one-ink", "line"]


def test_drawing_families():
    together: dict[str, set[str]] = {s.drawing_family: set() for s in emoji_drawings.STYLES.values()}
    for style in emoji_drawings.STYLES.values():
        together[style.drawing_family].add(style.name)
    assert len(together) == 5 and together["openmoji"] == {"openmoji", "openmoji-line"}


@pytest.mark.parametrize(
    ("name", "word"),
    [("dog face", "dog"), ("guide dog", "dog"), ("sun behind small cloud", "sun"), ("first quarter moon face", "moon"),
     ("twelve o'clock", "clock"), ("one-thirty", "clock"), ("cherries", "cherry"), ("woman's boot", "boot"),
     ("glasses", "glass"), ("wind face", "wind"), ("chart increasing with yen", "chart"), ("cactus", "cactus")],
)  # fmt: skip
def test_head_word(name, word):
    assert head(name) == word


def test_near_duplicates_are_one_family(table):
    family = dict(zip(table["name"], table["family"], strict=True))
    for animal in ("dog", "cat", "cow", "pig", "mouse", "rabbit", "tiger", "horse", "monkey", "dragon"):
        assert family[animal] == family[f"{animal} face"]
    for alike in (["lemon", "lime"], ["mushroom", "brown mushroom"], ["evergreen tree", "Christmas tree"],
                  ["bird", "black bird", "phoenix"], ["automobile", "taxi", "oncoming police car"],
                  ["locked", "unlocked"], ["open book", "ledger", "notebook"]):  # fmt: skip
        assert len({family[name] for name in alike}) == 1
    time = table[table["category"] == "time"]
    dials = time[time["name"].str.contains("o'clock|thirty")]
    assert len(dials) == 24 and dials["family"].nunique() == 1
    moons = table[(table["category"] == "sky-weather") & table["name"].str.contains("moon")]
    assert len(moons) == 13 and moons["family"].nunique() == 1
    assert family["dog"] != family["hot dog"] and family["cat"] != family["dog"]


def test_families_name_a_mistake_in_the_list():
    with pytest.raises(ValueError, match="mend ALIKE"):
        families(["1F415"], ["dog"], ["animal-mammal"])


def test_tags_tell_neither_name_nor_category(source):
    texts = source.info["text"]
    tags = texts[texts["kind"] == "tag"]
    assert len(tags) > 40 and not tags["category_word"].any()
    assert not any(stems(t) & stems(n) for t, n in zip(tags["string"], tags["name"], strict=True))
    assert texts[texts["kind"] == "class"]["category_word"].all()


def test_captions_without_category_words(table):
    told = sum(
        any(w in c.split("-") for t in tags for w in t.split()) for c, tags in table[["category", "tags"]].values
    )
    assert told == 445  # concepts with a tag that is a word of their category's name
    for line in table.itertuples():
        caption = emoji.caption(line.concept)
        assert caption and not stems(caption) & category_stems(line.category, line.group)
    assert emoji.caption("1F415", without_category_words=False) == "dog, animal, animals, dogs, pet"
    assert emoji.caption("1F415") == "dog, dogs, pet"
    assert emoji.caption("1F415", tags=()) == "dog"
    with pytest.raises(ValueError, match="no concept 'dog'"):
        emoji.caption("dog")


def test_other_words():
    assert other_words(("dogs", "pet", "guide dog"), "dog face") == ["pet"]


def test_prompts(source, table):
    assert emoji.readable("food-fruit") == "fruit" and emoji.readable("animal-mammal") == "mammal"
    assert emoji.class_prompts("food-fruit", "name") == ("fruit",)
    assert emoji.class_prompts("food-fruit", "drawing") == ("a drawing of a fruit",)
    assert emoji.class_prompts("ice cream") == ("a drawing of an ice cream",)
    assert emoji.class_prompts("grapes", "drawing") == ("a drawing of grapes",)
    assert len(emoji.class_prompts("tool", "templates")) == len(TEMPLATES)
    crafted = emoji.prompt_table(class_categories(table))
    assert len(set(crafted.values())) == 27
    with pytest.raises(ValueError, match="no prompts of kind 'poem'"):
        emoji.class_prompts("tool", "poem")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_base_and_novel(source, table, seed):
    split = emoji.base_novel(source, seed)
    assert not split.base & split.novel and split.base | split.novel == set(table["family"])
    share = table.drop_duplicates("family").assign(base=lambda t: t["family"].isin(split.base))
    large = share.groupby("category")["base"].agg(["mean", "size"]).query("size >= 9")
    assert large["mean"].between(0.3, 0.5).all()
    base, novel = split.items(source, "base"), split.items(source, "novel")
    assert not torch.isin(base, novel).any()
    whole_class = source.where("text", kind=["class", "prompt"])
    assert len(base) + len(novel) + len(whole_class) == len(source.tables.items())
    other_level = emoji.base_novel(tiny("concept", modalities=("text",)), seed)
    assert other_level.base == split.base
    assert emoji.base_novel(source, seed).novel == split.novel != emoji.base_novel(source, seed + 9).novel
    assert set(split.novel_count) == set(CATEGORIES) == set(split.short(100))


def test_paired_items():
    source = tiny("concept", styles=("twemoji", "noto", "openmoji-line"), per_category=3)
    train = emoji.pair_rows(source, 0, styles=("twemoji", "noto"), held_out=False)
    test = emoji.pair_rows(source, 0, styles=("openmoji-line",), held_out=True)
    assert len(train.items()) == 9 * 2 and len(test.items()) == 9
    assert len(shared_items(train, test)) == 0 and len((train | test).items()) == 27
    for tables, held_out in ((train, False), (test, True)):
        x, y, _ = tables.paired("image", "speech")
        assert len(y) == len(tables.items())  # one drawing and one recording each
        assert len(x["speech"].unique()) == len(y)
        images, spoken = (source.info[m].iloc[x[m].tolist()] for m in ("image", "speech"))
        assert images["concept"].tolist() == spoken["concept"].tolist()
        assert (spoken["held_out"] == held_out).all()
        tables.labels()  # raises if the rows of an item disagree
    again = emoji.pair_rows(source, 0, styles=("twemoji", "noto"), held_out=False)
    assert torch.equal(again["speech"].x, train["speech"].x)
    other = emoji.pair_rows(source, 1, styles=("twemoji", "noto"), held_out=False)
    assert not torch.equal(other["speech"].x, train["speech"].x)


def test_three_modalities_use_each_tag_once():
    source = tiny("concept", styles=("twemoji", "noto"), per_category=3)
    both = [emoji.pair_rows(source, 0, modalities=("image", "speech", "text"), held_out=h) for h in (False, True)]
    for tables in both:
        assert len(tables["text"].x.unique()) == len(tables["text"]) > 0
        assert torch.isin(tables["text"].pair, tables["image"].pair).all()
        assert set(source.info["text"].iloc[tables["text"].x.tolist()]["kind"]) == {"tag"}
    assert not torch.isin(both[0]["text"].x, both[1]["text"].x).any()
    with pytest.raises(ValueError, match="image must be among them"):
        emoji.pair_rows(source, 0, modalities=("speech", "text"))


def test_digest_changes_with_everything(monkeypatch):
    made = [tiny(**change).digest for change in (
        {}, {}, {"size": 33}, {"styles": ("noto",)}, {"per_category": 3}, {"voices": ("en-us+f1",)}, {"snr": 0.0},
        {"seed": 1}, {"level": "concept"}, {"modalities": ("image",)},
    )]  # fmt: skip
    assert made[0] == made[1] and len(set(made)) == len(made) - 1
    monkeypatch.setattr(speech, "RULES", speech.RULES + 1)
    assert tiny().digest not in made


def test_noise_is_of_the_row():
    plain, noisy = (tiny(modalities=("speech",), per_category=1, snr=snr) for snr in (None, 0.0))
    a, b, c = plain.open["speech"](0), noisy.open["speech"](0), noisy.open["speech"](0)
    assert torch.equal(b, c) and a.shape == b.shape and (a - b).std() > 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [({"level": "animal"}, "no level 'animal'"), ({"modalities": ("smell",)}, "no modality 'smell'"),
     ({"styles": ("apple",)}, "no style 'apple'; there are twemoji"), ({"styles": ()}, "at least one style"),
     ({"categories": ("time",)}, "no category 'time'"), ({"per_category": 0}, "per_category is 0"),
     ({"size": 2}, "at least 8"), ({"voices": ("en-gb+f1",)}, "no voice 'en-gb"),
     ({"voices": ("en-us+nobody",)}, "no voice variant 'nobody'")],
)  # fmt: skip
def test_wrong_arguments_are_one_clear_line(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)


def test_licences():
    found = emoji.licences()
    assert len(found) == 11 and found["licence"].notna().all()
    assert set(found["licence"]) == {"Apache-2.0", "CC-BY-4.0", "CC-BY-SA-4.0", "MIT", "GPL-3.0-or-later"}
    assert "GPL" in tiny(modalities=("text",)).licence


@pytest.mark.parametrize("damage", ["truncate", "change"])
def test_damaged_drawings_are_noticed(tmp_path, monkeypatch, damage):
    emoji_drawings.svgs("twemoji", concepts())  # fetches into the real cache
    (tmp_path / "packages").symlink_to(home() / "packages")
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path))
    path = emoji_drawings.drawings("twemoji", 8).path
    assert path.is_relative_to(tmp_path)
    content = bytearray(path.read_bytes())
    content[-500] ^= 1
    path.write_bytes(content[:-100] if damage == "truncate" else content)
    emoji_drawings._index.cache_clear()
    with pytest.raises(Unusable, match="is damaged or gone; delete it and run this again"):
        emoji_drawings.drawings("twemoji", 8)


def test_opening_a_drawing_that_went_away(tmp_path):
    gone = emoji_drawings.Drawings(tmp_path / "none.safetensors", ("1F415",), "")
    with pytest.raises(Unusable, match="is damaged or gone"):
        gone.open(0)


def test_drawings_are_stored_end_to_end():
    drawn = emoji_drawings.drawings("twemoji", SIZE)
    shown = [np.asarray(drawn.open(k)) for k in range(4)]
    assert all((a != b).any() for a, b in pairwise(shown))


# edges


def step(low: int, high: int, channel: int = 0) -> Image.Image:
    """The left half `low`, the right half `high` in one colour, 0 in the others."""
    pixels = np.zeros((20, 24, 3), np.uint8)
    pixels[:, :12, channel], pixels[:, 12:, channel] = low, high
    return Image.fromarray(pixels)


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_edges_are_where_colours_change_and_as_dark_as_they_change(sigma):
    for channel in range(3):
        for low, high in ((0, 255), (255, 0), (0, 51), (100, 200)):
            shown = np.asarray(emoji_drawings.edges(step(low, high, channel), sigma), float)
            assert shown.shape == (20, 24, 3) and (shown == shown[:, :, :1]).all() and (shown == shown[:1]).all()
            line = 255 - shown[0, :, 0]  # (24,) darkness
            slope = abs(high - low) * np.exp(-0.5 * ((np.arange(24) - 11.5) / sigma) ** 2)
            assert np.abs(line - slope).max() <= 0.05 * abs(high - low) + 1  # a Gaussian around the edge
    assert np.asarray(emoji_drawings.edges(Image.new("RGB", (8, 8), (9, 200, 30)))).min() == 255
    assert emoji_drawings.edges(Image.new("L", (7, 5), 3)).size == (7, 5)
    with pytest.raises(ValueError, match="sigma is 0 pixels"):
        emoji_drawings.edges(step(0, 1), 0)


def test_edges_of_colour_drawings_are_a_modality_on_request():
    source = tiny(styles=("twemoji", "openmoji-line"), modalities=("image", "edges"))
    image, drawn = source.info["image"], source.info["edges"]
    assert len(image) == 2 * len(drawn) and set(drawn["style"]) == {"twemoji"} and set(drawn["ink"]) == {"colour"}
    for i in (0, 11):
        row = int(np.flatnonzero((image["concept"] == drawn["concept"][i]) & (image["style"] == "twemoji"))[0])
        assert np.array_equal(source.open["edges"](i), emoji_drawings.edges(source.open["image"](row)))
    assert len(shared_items(source.tables.only("image"), source.tables.only("edges"))) == 0
    assert source.digest_of("edges") != source.digest_of("image") and "edges" not in emoji.MODALITIES
    with pytest.raises(ValueError, match="edges need at least one style in colour: twemoji, noto"):
        tiny(styles=("openmoji-line",), modalities=("edges",))
