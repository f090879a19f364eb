"""Published numbers: complete, and each with a source."""

from __future__ import annotations

import pytest

from xmodal_lib.published import published


@pytest.mark.parametrize(
    "paper", ["cross-modal adaptation", "balanced multimodal learning", "cross-modal generalization", "Tip-Adapter"]
)
def test_every_number_has_a_source(paper: str) -> None:
    table = published(paper)
    assert table["source"].str.len().gt(5).all()
    assert not table.duplicated(["table", "method", "shots"]).any()
    assert table["accuracy"].between(0, 100).all()


def test_the_headline_gain_of_the_slides() -> None:
    """27.4 points at one shot over linear probing, as the slides' last line says."""
    table = published("cross-modal adaptation").set_index(["method", "shots"])["accuracy"]
    assert table["Cross-modal linear", 1] - table["Linear probing", 1] == pytest.approx(27.4)


def test_what_was_read_off_a_plot_says_so() -> None:
    table = published("cross-modal generalization")
    assert table["source"].str.contains("read off the plot").equals(table["table"].str.startswith("label noise"))
    assert table["shots"].eq(0).equals(table["table"].str.startswith("label noise"))


def test_an_unknown_paper_is_refused() -> None:
    with pytest.raises(ValueError, match="no published numbers of 'x'"):
        published("x")
