"""Calls that can change nothing of their process, so that nothing need be looked at after them.

A function whose code calls nothing, looks up nothing and sets nothing, with numbers and texts as arguments: what its operators do is the
interpreter's own, and ends with the value they give.
"""

from __future__ import annotations

from opcode import opname
from types import FunctionType
from typing import Any

PLAIN = frozenset({bool, bytes, complex, float, int, str, type(None)})
"""Exactly these: a class of a program's own may do anything in its operators."""

_HARMLESS = frozenset(
    {"BINARY_OP", "BUILD_TUPLE", "CACHE", "COMPARE_OP", "COPY", "IS_OP", "JUMP_BACKWARD", "JUMP_FORWARD", "LOAD_CONST", "LOAD_FAST", "NOP",
     "POP_JUMP_BACKWARD_IF_FALSE", "POP_JUMP_BACKWARD_IF_NONE", "POP_JUMP_BACKWARD_IF_NOT_NONE", "POP_JUMP_BACKWARD_IF_TRUE",
     "POP_JUMP_FORWARD_IF_FALSE", "POP_JUMP_FORWARD_IF_NONE", "POP_JUMP_FORWARD_IF_NOT_NONE", "POP_JUMP_FORWARD_IF_TRUE", "POP_JUMP_IF_FALSE",
     "POP_JUMP_IF_NONE", "POP_JUMP_IF_NOT_NONE", "POP_JUMP_IF_TRUE", "POP_TOP", "RESUME", "RETURN_CONST", "RETURN_VALUE", "STORE_FAST", "SWAP"}
)  # fmt: skip
"""By name; one that is not here, as of a later interpreter, is taken for one that does something."""


def has_no_side_effects(function: Any) -> bool:
    """Return whether a call of this object with arguments of the types in PLAIN runs no code but its own, and that changes nothing."""
    if type(function) is not FunctionType or function.__defaults__ or function.__kwdefaults__:
        return False
    return {opname[byte] for byte in function.__code__.co_code[::2]} <= _HARMLESS
