"""Texts of JSON and YAML -> their content, as `json` and `yaml` read it; but a key that stands twice is refused.

Of two values both would take the last one in silence, so that a setting or a class that somebody wrote is lost.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

MERGE_TAG = "tag:yaml.org,2002:merge"  # of <<, by which a mapping takes what another one has


def read_json(text: str) -> Any:
    """The content of a JSON text.

    Raises:
        ValueError: it is none, or a key stands twice.
    """
    return json.loads(text, object_pairs_hook=_mapping)


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if key in mapping:
            raise ValueError(f"'{key}' stands twice")
        mapping[key] = value
    return mapping


def read_yaml(text: str, loader: type[yaml.SafeLoader] | type[yaml.BaseLoader] = yaml.SafeLoader) -> Any:
    """The content of a YAML text. What a mapping takes from another by `<<` may be replaced in it.

    Raises:
        yaml.YAMLError: it is none, or a key stands twice.
    """
    return yaml.load(text, Loader=type("UniqueKeysLoader", (_UniqueKeys, loader), {}))


class _UniqueKeys:
    """Of a loader. Looks at the nodes, since `<<` puts the keys of two mappings into one before it is made."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE_TAG:
                continue
            line = key.start_mark.line + 1
            if (key.tag, key.value) in lines:
                raise yaml.YAMLError(f"'{key.value}' stands twice, in lines {lines[key.tag, key.value]} and {line}")
            lines[key.tag, key.value] = line
        return node
