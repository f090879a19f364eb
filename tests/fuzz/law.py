"""The law of every door: what is given is read as it was meant, or refused in one clear line of the documented kind.

`make fuzz` sets XMODAL_FUZZ, the number of examples a test, and draws new ones each time; else 200, always the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

LONGEST = 1500  # characters of a clear line
SECONDS = 20.0  # of CPU, after which an example counts as one that hangs

EXAMPLES = int(os.environ.get("XMODAL_FUZZ", "200"))
door = settings(max_examples=EXAMPLES, deadline=None, derandomize="XMODAL_FUZZ" not in os.environ, database=None,
                print_blob=True, suppress_health_check=list(HealthCheck))  # fmt: skip

NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp"), exclude_characters="\\"), min_size=1,
                max_size=8)  # fmt: skip
NASTY_TEXTS = st.one_of(st.text(max_size=12), st.sampled_from([
    "", " ", "\0", "\n", "a\nb", "\r", "\u2028", "\ufeff", "e\u0301", "é", "日本", "\U0001f600", '"', '""', "'", ",",
    ";", "\t", "\\", "../x", "/etc/passwd", "C:\\x.png", "~", ".", "..", "./a.png", "a.png/", "folder", "link.png",
    "loop.png", "{x}", "%s",
    "nan", "inf", "-1", "0", "1e999", "1e-3", "0x10", "010", "12:30", "true", "no", "null", "a" * 5000, "9" * 5000,
]))  # fmt: skip
NASTY = st.one_of(NASTY_TEXTS, st.none(), st.booleans(), st.integers(), st.floats(), st.dates(), st.sampled_from([
    10**30, 2**63, -1, 0, [], {}, [[]], [None], {"a": {}}, [1, "1"], [float("nan")], [[[[[1]]]]],
]))  # fmt: skip


def one_line(error: BaseException, *kinds: type[Exception]) -> str:
    """The line of an error, which is of one of these kinds itself, not of a kind that happens to derive from it."""
    assert type(error) in (kinds or (ValueError,)), f"{type(error).__name__}: {error}"
    said = str(error)
    assert len(said.splitlines()) == 1 and 8 < len(said) < LONGEST, repr(said)
    return said


@contextmanager
def lawful(*kinds: type[Exception]) -> Iterator[None]:
    """What happens inside obeys the law, and does not hang."""
    start = time.process_time()
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        one_line(error, *kinds)
    finally:
        assert time.process_time() - start < SECONDS


@st.composite
def damaged(draw: Callable[..., Any], raw: bytes, most: int = 4) -> bytes:
    """Bytes with up to `most` accidents: flipped, cut, lost, doubled, put in, or a number of a header made strange."""
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, max(0, len(raw) - 1)) | st.integers(0, min(64, max(0, len(raw) - 1))))  # headers too
        end = at + draw(st.integers(1, 40))
        kind = draw(st.sampled_from(["flip", "cut", "lose", "double", "put", "number"]))
        if kind == "flip" and raw:
            raw = raw[:at] + bytes([raw[at] ^ draw(st.integers(1, 255))]) + raw[at + 1 :]
        elif kind == "cut":
            raw = raw[:at]
        elif kind == "lose":
            raw = raw[:at] + raw[end:]
        elif kind == "double":
            raw = raw[:end] + raw[at:]
        elif kind == "put":
            some = st.sampled_from([b"\0", b"\xff", b"\xef\xbb\xbf", b"\r", b"\n\n", b'"', b",", b"\t", b"[" * 3000])
            raw = raw[:at] + draw(some | st.binary(max_size=8)) + raw[at:]
        else:
            number = draw(st.sampled_from([0, 1, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 44_101]))
            raw = raw[:at] + number.to_bytes(4, draw(st.sampled_from(["little", "big"]))) + raw[at + 4 :]
    return raw


@st.composite
def altered(draw: Callable[..., Any], tree: Any) -> Any:
    """A tree of lists and maps with one thing in it put out of place: another value, gone, or there twice."""
    if isinstance(tree, dict | list) and tree and draw(st.integers(0, 4)):
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        key, kind = draw(st.sampled_from(keys)), draw(st.sampled_from(["within"] * 4 + ["lose", "double", "rename"]))
        if kind == "within":
            new = draw(altered(tree[key]))
            return {**tree, key: new} if isinstance(tree, dict) else [*tree[:key], new, *tree[key + 1 :]]
        rest: Any = dict(tree) if isinstance(tree, dict) else list(tree)
        del rest[key]
        if kind == "lose":
            return rest
        if isinstance(tree, list):
            return [*tree, tree[key]]
        other = draw(NASTY_TEXTS | st.sampled_from(keys) | st.integers() | st.none() | st.booleans())
        return {**(rest if kind == "rename" else tree), other: tree[key]}
    return draw(NASTY)
