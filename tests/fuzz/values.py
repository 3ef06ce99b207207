"""Values that are odd where something else is expected, and changes of JSON."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

NAN, INF = float("nan"), float("inf")

odd_numbers = st.one_of(
    st.sampled_from([0, -1, 1, 2**31, -(2**63), 2**64, 10**30, 0.5, -0.0, NAN, INF, -INF, 1e18, 1e308]),
    st.integers(-5, 300),
    st.floats(width=32),
)
odd_texts = st.one_of(
    st.sampled_from(
        ["", " ", "../../secret.png", "/etc/passwd", "C:\\a.png", "a\0b", "%2e%2e/x.png", "0", "nan", "ü" * 300]
    ),
    st.text(max_size=12),
)
odd_values = st.recursive(
    st.one_of(st.none(), st.booleans(), odd_numbers, odd_texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def changed(draw: Any, content: Any, most: int = 3) -> Any:
    """The JSON content with one to `most` of its parts replaced, removed, doubled, or moved elsewhere."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, most))):
        places = [place for place in _places(content)]
        if not places:
            return draw(odd_values)
        parent, key = draw(st.sampled_from(places))
        action = draw(st.sampled_from(["replace", "replace", "replace", "number", "remove", "double", "move"]))
        if action == "replace":
            parent[key] = draw(odd_values)
        elif action == "number":
            parent[key] = draw(odd_numbers)
        elif action == "remove":
            del parent[key]
        elif action == "double" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        elif action == "move":
            other, name = draw(st.sampled_from(places))
            if name in other if isinstance(other, dict) else name < len(other):
                parent[key] = copy.deepcopy(other[name])
    return content


def _places(content: Any) -> list[tuple[Any, Any]]:
    """Each place in nested lists and dicts: what holds it, and its key."""
    found, waiting = [], [content]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        found += [(holder, key) for key in keys]
        waiting += [holder[key] for key in keys if isinstance(holder[key], (dict, list))]
    return found


@st.composite
def changed_bytes(draw: Any, contents: list[bytes]) -> bytes:
    """One of the contents with some bytes changed, left out, repeated or cut off."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        action = draw(st.sampled_from(["set", "insert", "remove", "repeat", "cut"]))
        if action == "set" and content:
            content[place] = draw(st.integers(0, 255))
        elif action == "insert":
            content[place:place] = draw(st.binary(min_size=1, max_size=6))
        elif action == "remove":
            del content[place : place + draw(st.integers(1, 9))]
        elif action == "repeat":
            content[place:place] = content[place : place + 30] * draw(st.integers(1, 200))
        elif action == "cut" and draw(st.integers(0, 3)) == 0:
            del content[place:]
    return bytes(content)
