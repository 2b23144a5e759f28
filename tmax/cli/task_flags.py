"""The flags of a task's options, made from the table of options.  On the fast path of every verb."""

from __future__ import annotations

from tmax.cli.option import Option
from tmax.core.option_values import reader
from tmax_pipes.task_options import OPTIONS

TASK_FLAGS: tuple[Option, ...] = tuple(
    Option(one.name, *one.flags, read=reader(one), metavar=one.metavar, help=one.help_text, default=one.default)
    for one in OPTIONS
    if one.flags
)
"""One for each option that has flags; the values go into the fields of the same names of a submit request."""
