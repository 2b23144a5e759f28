"""Detects calls that cannot change their process, so that the checks after the task can be skipped.

Such a function's code calls nothing, looks up no global and sets none, and its arguments are numbers and texts: its operators are the
interpreter's own, and their only effect is their value.
"""

from __future__ import annotations

from opcode import opname
from types import FunctionType
from typing import Any

PLAIN = frozenset({bool, bytes, complex, float, int, str, type(None)})
"""Exactly these types: a subclass may define operators with any effect."""

_HARMLESS = frozenset(
    {"BINARY_OP", "BUILD_TUPLE", "CACHE", "COMPARE_OP", "COPY", "IS_OP", "JUMP_BACKWARD", "JUMP_FORWARD", "LOAD_CONST", "LOAD_FAST", "NOP",
     "POP_JUMP_BACKWARD_IF_FALSE", "POP_JUMP_BACKWARD_IF_NONE", "POP_JUMP_BACKWARD_IF_NOT_NONE", "POP_JUMP_BACKWARD_IF_TRUE",
     "POP_JUMP_FORWARD_IF_FALSE", "POP_JUMP_FORWARD_IF_NONE", "POP_JUMP_FORWARD_IF_NOT_NONE", "POP_JUMP_FORWARD_IF_TRUE", "POP_JUMP_IF_FALSE",
     "POP_JUMP_IF_NONE", "POP_JUMP_IF_NOT_NONE", "POP_JUMP_IF_TRUE", "POP_TOP", "RESUME", "RETURN_CONST", "RETURN_VALUE", "STORE_FAST", "SWAP"}
)  # fmt: skip
"""Opcode names.  An opcode that is missing here, as of a later interpreter, counts as one with side effects."""


def has_no_side_effects(function: Any) -> bool:
    """Return whether a call with arguments of the types in PLAIN runs only the function's own code, and that code changes nothing."""
    if type(function) is not FunctionType or function.__defaults__ or function.__kwdefaults__:
        return False
    return {opname[byte] for byte in function.__code__.co_code[::2]} <= _HARMLESS
