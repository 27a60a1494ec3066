"""Lists as text."""

import pytest

from d2ext.text import did_you_mean, first_few, join_sorted


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], "none"),
        (["a"], "a"),
        (range(5), "0, 1, 2, 3, 4"),
        (range(7), "0, 1, 2, 3, 4 and 2 more"),
        ((n for n in "xy"), "x, y"),
    ],
)
def test_long_lists_show_their_first_items_and_count_the_rest(items, expected):
    assert first_few(items) == expected


def test_how_many_are_shown_can_be_chosen():
    assert first_few("abc", 2) == "a, b and 1 more"


def test_names_are_sorted_and_all_of_them_joined():
    assert join_sorted("gfedcba") == "a, b, c, d, e, f, g"
    assert join_sorted([]) == "none"


def test_a_similar_name_is_suggested():
    assert did_you_mean("aple", ["apple", "pear"]) == "; did you mean apple?"
    assert did_you_mean("xyz", ["apple", "pear"]) == "."
