"""What is written about concepts and categories: class names, prompts, captions."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType

from xmodal_lib.sources.emoji_concepts import category_stems, concept_records, stems
from xmodal_lib.sources.emoji_families import singular, words

# How a category reads, with its article in a sentence, and a sentence written for it. A category that is missing here
# is too small to be a class and reads as its own name.
_READABLE = {
    "animal-mammal": ("mammal", "a mammal", "a drawing of a mammal, a kind of animal"),
    "animal-bird": ("bird", "a bird", "a drawing of a bird, a kind of animal"),
    "animal-marine": ("marine animal", "a marine animal", "a drawing of an animal that lives in the sea"),
    "animal-bug": ("bug", "a bug", "a drawing of a bug, an insect or another very small animal"),
    "plant-flower": ("flower", "a flower", "a drawing of a flower, a kind of plant"),
    "plant-other": ("plant", "a plant", "a drawing of a plant, such as a tree, or of its leaves"),
    "food-fruit": ("fruit", "a fruit", "a drawing of a fruit, a kind of food"),
    "food-vegetable": ("vegetable", "a vegetable", "a drawing of a vegetable, a kind of food"),
    "food-prepared": ("prepared food", "prepared food", "a drawing of prepared food, a dish or a snack"),
    "food-asian": ("Asian food", "Asian food", "a drawing of Asian food, a dish or a snack"),
    "food-sweet": ("sweet food", "sweet food", "a drawing of sweet food, a dessert"),
    "drink": ("drink", "a drink", "a drawing of a drink in its glass, cup or bottle"),
    "place-building": ("building", "a building", "a drawing of a building, seen from outside"),
    "place-other": ("place", "a place", "a drawing of a place to visit or a view of it"),
    "transport-ground": ("ground transport", "ground transport", "a drawing of ground transport, a vehicle or a sign"),
    "transport-air": ("air transport", "air transport", "a drawing of air transport, something that flies"),
    "sky-weather": ("sky or weather", "the sky or the weather", "a drawing of the weather or of something in the sky"),
    "event": ("event", "an event", "a drawing of a thing for a festive event"),
    "sport": ("sport", "a sport", "a drawing of a thing used in sport"),
    "game": ("game", "a game", "a drawing of a game or a toy"),
    "clothing": ("clothing", "clothing", "a drawing of clothing, something to wear"),
    "musical-instrument": ("musical instrument", "a musical instrument", "a drawing of a musical instrument to play"),
    "computer": ("computer", "a computer", "a drawing of a computer or of a part of one"),
    "light-video": ("light or video", "light or video", "a drawing of a device for light or video"),
    "book-paper": ("book or paper", "a book or paper", "a drawing of a book or a sheet of paper"),
    "office": ("office thing", "an office thing", "a drawing of a thing used in an office"),
    "tool": ("tool", "a tool", "a drawing of a tool, used to work or to fight"),
    "household": ("household thing", "a household thing", "a drawing of a thing found in the household"),
}

# Words of the prompts that tell no category.
_FILLER = stems(
    "a an the of or and in its it one part that such as another very small kind drawing thing used for found from seen "
    "outside view visit something to sheet line device sign"
)

TEMPLATES = (
    "a drawing of {}",
    "an emoji of {}",
    "a line drawing of {}",
    "a simple picture of {}",
    "a cartoon of {}",
    "a coloured icon of {}",
    "a black and white icon of {}",
)

PROMPTS = MappingProxyType(
    {
        "name": "the class name only",
        "drawing": "one template, 'a drawing of a …'",
        "crafted": "a sentence written for each category",
        "templates": f"{len(TEMPLATES)} templates, to be averaged",
    }
)


def readable(category: str) -> str:
    """A category in words, "food-fruit" -> "fruit"; any other name as it is."""
    return _READABLE[category][0] if category in _READABLE else category


def class_prompts(name: str, kind: str = "crafted") -> tuple[str, ...]:
    """The prompts of one class, a category ("food-fruit") or a concept's name ("banana"); `kind` is one of PROMPTS.

    Raises:
        ValueError: no such kind.
    """
    text = readable(name)
    phrase, crafted = _READABLE[name][1:] if name in _READABLE else (_phrase(text), f"a drawing of {_phrase(text)}")
    prompts = {
        "name": (text,),
        "drawing": (TEMPLATES[0].format(phrase),),
        "crafted": (crafted,),
        "templates": tuple(template.format(phrase) for template in TEMPLATES),
    }
    if kind not in prompts:
        raise ValueError(f"no prompts of kind {kind!r}; there are {', '.join(PROMPTS)}")
    return prompts[kind]


def prompt_table(classes: Collection[str], kind: str = "crafted") -> Mapping[str, tuple[str, ...]]:
    """The prompts of each class: {class: prompts}."""
    return {name: class_prompts(name, kind) for name in classes}


def caption(concept: str, without_category_words: bool = True, tags: Collection[str] | None = None) -> str:
    """A concept (hex code) as one text, its name and then its tags: "dog, pet, puppy".

    `tags` are those to use (default: all it has). Without category words, no word of its own category's or group's
    name is left, so that a model trained on it never reads the class of what it sees; a tag of nothing else goes.

    Raises:
        ValueError: no such concept.
    """
    if concept not in concept_records():
        raise ValueError(f"no concept {concept!r}; a hex code as in the concept column is needed, such as 1F415")
    line = concept_records()[concept]
    texts = [line["name"], *(line["tags"] if tags is None else tags)]
    if without_category_words:
        texts = texts_without_category(texts, line["category"], line["group"])
    return ", ".join(dict.fromkeys(texts))


def texts_without_category(texts: Collection[str], category: str, group: str) -> list[str]:
    """The texts without the words of the category's and group's names, nor the telling ones of the category's prompt.

    A text that has nothing else goes.
    """
    telling = stems(class_prompts(category)[0]) - _FILLER if category in _READABLE else frozenset()
    known = category_stems(category, group) | stems(readable(category)) | telling
    kept = (" ".join(word for word in text.split() if not stems(word) & known) for text in texts)
    return [text for text in kept if text]


def _phrase(name: str) -> str:
    """A name with its article: "a banana", "an ice cream", "grapes"."""
    last = words(re.split(" with| of ", name)[0])[-1]
    if singular(last) != last and not last.endswith("'s"):
        return name
    return f"an {name}" if re.match("(?!ewe|uni|euro|one)[aeiou]|hour", name, re.IGNORECASE) else f"a {name}"
