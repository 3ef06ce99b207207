"""What a pickle would build, found out from its instructions before any of them is carried out.

A small file can ask for much: tuples nested so deep that hashing them overflows the stack, places in the unpickler's
table far beyond those in use, one array copied a thousand times. Here the instructions are read and counted; what they
would put on the unpickler's stack is followed as sizes only.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from mmap import mmap

from .errors import UnsafeCheckpointError

MAX_INSTRUCTIONS = 1_000_000  # a checkpoint of the original has some thousands
MAX_NESTING = 100  # containers within containers; there are some six
MAX_USES = 20  # of each byte on average: from text to array to dict it is used some six times
SMALL = 1_000_000  # what is below this is never too much

_CHANGING = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}  # what lies lowest on the stack
_STORING = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_LOADING = {"GET", "BINGET", "LONG_BINGET"}


@dataclass(slots=True)
class _Size:
    """Of an object on the stack: how deep it is nested, and how many bytes and objects it is made of."""

    nesting: int = 0
    content: int = 1


_MARK = _Size()


def check_limits(file: mmap) -> None:
    """Reads the instructions of a pickle, from the start of the file to its end.

    Raises:
        UnsafeCheckpointError: it has too many of them, nests too deep, uses its content too often, or takes places in
            the unpickler's table that it does not need.
        ValueError: it is no pickle, or is cut off.
    """
    stack: list[_Size] = []
    stored: dict[int, _Size] = {}
    used, allowed = 0, MAX_USES * len(file) + SMALL
    for number, (instruction, argument, _) in enumerate(pickletools.genops(file)):
        if number == MAX_INSTRUCTIONS:
            raise UnsafeCheckpointError(f"it has more than {MAX_INSTRUCTIONS} instructions.")
        if instruction.name in _STORING:
            place = len(stored) if instruction.name == "MEMOIZE" else argument
            if not 0 <= place <= MAX_INSTRUCTIONS:
                raise UnsafeCheckpointError(f"it stores an object at place {place} of a table that it does not fill.")
            stored[place] = _top(stack)
        elif instruction.name in _LOADING:
            if argument not in stored:
                raise ValueError(f"place {argument} is read before anything is stored there")
            stack.append(stored[argument])
        else:
            taken = _take(stack, instruction)
            built = _built(instruction, argument, taken)
            if built.nesting > MAX_NESTING:
                raise UnsafeCheckpointError(f"it nests objects more than {MAX_NESTING} deep.")
            used += sum(size.content for size in taken)
            if instruction.name in _CHANGING:
                used -= taken[0].content
                taken[0].nesting, taken[0].content = built.nesting, built.content
                built = taken[0]
            if used > allowed:
                raise UnsafeCheckpointError(
                    "it uses its content over and over, to build far more than the file holds."
                )
            is_mark = instruction.name == "MARK"
            stack.extend([_MARK if is_mark else built] * len(instruction.stack_after))


def _top(stack: list[_Size]) -> _Size:
    if not stack or stack[-1] is _MARK:
        raise ValueError("an instruction finds nothing on the stack")
    return stack[-1]


def _take(stack: list[_Size], instruction: pickletools.OpcodeInfo) -> list[_Size]:
    """Takes from the stack what an instruction takes; the lowest comes first, a mark is left out."""
    wanted = list(instruction.stack_before)
    taken: list[_Size] = []
    if pickletools.stackslice in wanted:
        while stack and stack[-1] is not _MARK:
            taken.append(stack.pop())
        if not stack:
            raise ValueError("an instruction finds no mark on the stack")
        stack.pop()
        wanted = wanted[: wanted.index(pickletools.markobject)]
    elif instruction.name == "POP" and stack and stack[-1] is _MARK:
        stack.pop()
        return taken
    for _ in wanted:
        taken.append(_top(stack))
        stack.pop()
    return taken[::-1]


def _built(instruction: pickletools.OpcodeInfo, argument: object, taken: list[_Size]) -> _Size:
    """The size of what an instruction makes of what it took."""
    own = len(argument) if isinstance(argument, (str, bytes, bytearray)) else 1
    content = own + sum(size.content for size in taken)
    if instruction.name in _CHANGING and taken:
        nesting = max([taken[0].nesting, *(1 + size.nesting for size in taken[1:])])
    else:
        nesting = max((1 + size.nesting for size in taken), default=0)
    return _Size(nesting, content)
