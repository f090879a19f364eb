"""The concepts: name, tags, category, group and family of each emoji of five groups, from emojibase (Unicode CLDR)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import pandas as pd

from xmodal_lib.sources import packages
from xmodal_lib.sources.emoji_families import families, singular, words

GROUPS = ("animals-nature", "food-drink", "travel-places", "activities", "objects")
MIN_CONCEPTS = 12  # a category is a class if it has this many concepts …
MIN_FAMILIES = 9  # … in this many families: at least five to learn from and four new ones

_EMOJIBASE = packages.PACKAGES["emojibase-data"]


def concepts() -> pd.DataFrame:
    """All concepts in Unicode's order: concept (hex code, unique), name, tags, category, group, family."""
    data, meta = packages.read_many(_EMOJIBASE, ["en/data.json", "meta/groups.json"])
    meaning = json.loads(meta)
    emoji = sorted((e for e in json.loads(data) if "group" in e), key=lambda e: e["order"])
    table = pd.DataFrame(
        {
            "concept": [e["hexcode"] for e in emoji],
            "name": [_straight(e["label"]) for e in emoji],
            "tags": [tuple(map(_straight, e.get("tags", ()))) for e in emoji],
            "category": [meaning["subgroups"][str(e["subgroup"])] for e in emoji],
            "group": [meaning["groups"][str(e["group"])] for e in emoji],
        }
    )
    table = table[table["group"].isin(GROUPS)].reset_index(drop=True)
    return table.assign(family=families(*(table[c].tolist() for c in ("concept", "name", "category"))))


@cache
def concept_records() -> dict[str, dict[str, Any]]:
    """The lines of `concepts()` by hex code."""
    return {line["concept"]: line for line in records(concepts())}


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The lines of a table, each {column: value}."""
    return [dict(zip(table.columns, line, strict=True)) for line in table.itertuples(index=False, name=None)]


def _straight(text: str) -> str:
    return text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")


def class_categories(table: pd.DataFrame) -> tuple[str, ...]:
    """The categories that are classes: those with `MIN_CONCEPTS` concepts in `MIN_FAMILIES` families, in order."""
    counts = table.groupby("category", sort=False).agg({"concept": "nunique", "family": "nunique"})
    enough = counts[(counts["concept"] >= MIN_CONCEPTS) & (counts["family"] >= MIN_FAMILIES)]
    return tuple(enough.index)


def other_words(tags: Sequence[str], name: str) -> list[str]:
    """The tags without any word of the name: what may stand for an item without saying which it is."""
    known = stems(name)
    return [tag for tag in tags if not stems(tag) & known]


@cache
def category_stems(category: str, group: str) -> frozenset[str]:
    """Stems of the words that would tell the category."""
    return stems(f"{category} {group}") - {stem("other")}


@cache
def stems(text: str) -> frozenset[str]:
    """The stem of each word of a text."""
    return frozenset(stem(word) for word in words(text))


def stem(word: str) -> str:
    """A word without its endings, so that music, musical; clothes, clothing; activity, activities are each one."""
    bare = re.sub(r"(ation|ing|al|es|e|y|i)$", "", singular(word))
    return bare if len(bare) > 2 else word
