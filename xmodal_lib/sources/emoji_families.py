"""Concept families: emoji that are nearly the same picture, which no split may separate.

Two concepts are of one family
1. if they are of one category and their names have the same head word: the last word before `with`, `of`, `behind`, …
   and without a final `face` ("dog face", "guide dog" -> dog; "sun behind cloud" -> sun; all moons -> moon; times of
   day, such as "twelve o'clock" and "one-thirty", -> clock);
2. if the code of one begins with the code of the other (lime is lemon + green, phoenix is bird + fire);
3. if `ALIKE` says so: pairs that only their drawings show to be alike.
2 and 3 also join across categories. A family is all that is joined, directly or through others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# What follows one of these words says how the head word is shown, not what it is.
_TAIL = frozenset((
    "with", "without", "of", "on", "in", "behind", "at", "showing", "over", "tilted", "not", "done",
    "increasing", "decreasing", "low", "medium", "high", "face",
))  # fmt: skip
_TIMES = {"o'clock": "clock", "thirty": "clock"}

# Found by comparing the drawings (grey, 24 x 24, correlation in each set) and kept where the things are alike too.
ALIKE = (
    ("tiger", "leopard"), ("horse", "unicorn"), ("ox", "water buffalo"), ("ox", "cow"), ("ram", "ewe"),
    ("mouse", "rat"), ("evergreen tree", "Christmas tree"), ("rice cracker", "rice ball"),
    ("cityscape at dusk", "night with stars"), ("cityscape at dusk", "sunset"),
    ("automobile", "taxi"), ("automobile", "police car"), ("automobile", "sport utility vehicle"),
    ("bus", "minibus"), ("bus", "trolleybus"), ("ship", "ferry"), ("speedboat", "motor boat"),
    ("droplet", "drop of blood"), ("baseball", "softball"), ("glasses", "sunglasses"), ("purse", "clutch bag"),
    ("t-shirt", "woman's clothes"), ("computer mouse", "trackball"), ("optical disk", "dvd"),
    ("closed book", "notebook"), ("notebook", "ledger"), ("envelope", "e-mail"), ("locked", "unlocked"),
    ("fountain pen", "crayon"), ("fountain pen", "paintbrush"), ("hammer", "pick"), ("pick", "wrench"),
)  # fmt: skip


def words(text: str) -> list[str]:
    """Lower-case words; hyphens part words, straight apostrophes do not."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower())


def singular(word: str) -> str:
    """An English noun without its plural or possessive ending, near enough to compare two of them."""
    word = word.removesuffix("'s")
    for ending, replacement in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word.removesuffix(ending) + replacement
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3 else word


def head(name: str) -> str:
    """The word that says what a name is a name of: "sun behind cloud" -> "sun"."""
    parts = words(name)
    end = next((i for i, word in enumerate(parts) if i and word in _TAIL), len(parts))
    noun = singular(parts[end - 1])
    return _TIMES.get(noun, noun)


def families(codes: Sequence[str], names: Sequence[str], categories: Sequence[str]) -> list[str]:
    """The family of each concept, written as the "category/head word" of its first member.

    Raises:
        ValueError: a name in `ALIKE` is no concept's.
    """
    own = {name: f"{category}/{head(name)}" for name, category in zip(names, categories, strict=True)}
    joined = {family: family for family in own.values()}  # in the order of the concepts
    order = {family: i for i, family in enumerate(joined)}

    def root(family: str) -> str:
        return family if joined[family] == family else root(joined[family])

    for left, right in [*_sequences(codes, names), *ALIKE]:
        if left not in own or right not in own:
            raise ValueError(f"no concept is named {(right if left in own else left)!r}; mend ALIKE")
        first, second = sorted((root(own[left]), root(own[right])), key=order.__getitem__)
        joined[second] = first
    return [root(own[name]) for name in names]


def _sequences(codes: Sequence[str], names: Sequence[str]) -> list[tuple[str, str]]:
    """Names of (base, sequence) where one emoji is another joined with something: ("lemon", "lime")."""
    plain = {code.replace("-FE0F", ""): name for code, name in zip(codes, names, strict=True)}
    bases = {code: code.partition("-200D")[0] for code in plain if "-200D" in code}
    return [(plain[base], plain[code]) for code, base in bases.items() if base in plain]
