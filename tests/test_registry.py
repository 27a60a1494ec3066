"""The registry behind the extension points."""

import pytest

from d2ext.errors import ConfigError
from d2ext.registry import ExtensionRegistry


@pytest.fixture
def fruit():
    registry = ExtensionRegistry("fruit")
    registry.register("apple", 1)
    registry.register("pear", 2)
    return registry


def test_values_are_found_by_key_in_the_order_of_registration(fruit):
    assert (fruit.get("pear", "BASKET"), list(fruit), fruit.values()) == (
        2,
        ["apple", "pear"],
        [1, 2],
    )
    assert "apple" in fruit
    assert "plum" not in fruit


def test_a_key_is_taken_once(fruit):
    with pytest.raises(ValueError, match="a fruit is registered as 'apple' already"):
        fruit.register("apple", 3)
    assert fruit.get("apple", "BASKET") == 1


def test_an_unknown_key_is_refused_with_its_setting_the_nearest_and_all_known_keys(fruit):
    with pytest.raises(ConfigError) as caught:
        fruit.get("aple", "BASKET")
    assert str(caught.value).startswith(
        "BASKET: the fruit 'aple' is unknown; did you mean apple? Known: apple, pear."
    )
