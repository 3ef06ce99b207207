"""Of JSON and YAML a key that stands twice is refused; all else is read as json and yaml read it."""

import json

import pytest
import yaml

from modeling_maskformer.files.unique_keys import read_json, read_yaml


@pytest.mark.parametrize("text", ["{}", '{"a": [{"b": 1}, {"b": 2}], "b": {"a": null}}', "[1, 2]", "3"])
def test_unlike_keys_are_read_as_ever(text):
    assert read_json(text) == json.loads(text) and read_yaml(text) == yaml.safe_load(text)


def test_what_is_merged_may_be_replaced():
    text = "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\n"
    assert read_yaml(text) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}


def test_a_loader_without_types_keeps_texts():
    assert read_yaml("no: 1\n", yaml.BaseLoader) == {"no": "1"}


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '[{"b": {"a": 1, "a": 1}}]'])
def test_a_key_that_stands_twice_is_named(text):
    with pytest.raises(ValueError, match="'a' stands twice"):
        read_json(text)
    with pytest.raises(yaml.YAMLError, match="'a' stands twice, in lines 1 and 1"):
        read_yaml(text)
