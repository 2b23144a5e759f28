"""The typer app: every verb with its help.  Imported only when the fast path does not do (help, mistakes, verbs that take their time).

A verb's function here only names its options; what it does lies in the same files that the fast path calls.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from tmax.cli import arguments, output
from tmax.errors import ExitCode, UsageError
from tmax.version import __version__

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("tmax init -n 4", "start a swarm of four workers"),
        ("tmax run -- make test", "run a command on it, see its output, get its exit code"),
        ("tmax submit -- python train.py", "queue one and go on"),
        ("tmax attach w1", "look at a worker (tmux: C-b d leaves)"),
        ("tmax down", "take the swarm down; the queue is kept"),
    ),
}
"""By verb: what to type, and what it does."""

_ORDER = (
    "init",
    "up",
    "down",
    "status",
    "workers",
    "ps",
    "submit",
    "run",
    "kernel",
    "wait",
    "result",
    "logs",
    "cancel",
    "attach",
    "hold",
    "resume",
    "tmux",
    "doctor",
)
"""Of the verbs in the help."""

WORDS: dict[str, str] = {}
"""By verb: what stands behind its options."""

CommonOptions: dict[str, Any] = {
    "swarm": Annotated[str | None, typer.Option("--swarm", metavar="S", help="The swarm [default: $TMAX_SWARM, else default].")],
    "json": Annotated[bool, typer.Option("--json", help="Data as one JSON value; errors too.")],
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="Only ids, names, or nothing.")],
    "debug": Annotated[bool, typer.Option("--debug", help="Tracebacks of tmax itself.")],
    "plain": Annotated[bool, typer.Option("--plain", help="No colour, nothing cut to the terminal's width.")],
    "color": Annotated[
        str | None, typer.Option("--color", metavar="WHEN", parser=arguments.color, help="Colour: auto, always or never [default: auto].")
    ],
}

Words = Annotated[list[str] | None, typer.Argument(metavar="COMMAND", hidden=True)]
Dry = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


class _ExamplesFirst:
    """Help that begins with what to type, and reads the same under every version of typer."""

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        words = "VERB ..." if isinstance(self, TyperGroup) else WORDS[ctx.info_name]
        formatter.write_usage(ctx.command_path, f"[OPTIONS] {words}".rstrip())

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        super().format_help_text(ctx, formatter)  # type: ignore[misc]  # of the command or group it is mixed into
        examples = EXAMPLES.get("" if isinstance(self, TyperGroup) else ctx.info_name, ())
        if examples:
            with formatter.section("Examples"):
                formatter.write_dl(list(examples), col_max=46)


class _Command(_ExamplesFirst, TyperCommand):
    pass


class _Group(_ExamplesFirst, TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands, key=_ORDER.index)


_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

app = typer.Typer(
    cls=_Group,
    rich_markup_mode=None,
    add_completion=False,
    context_settings=_SETTINGS,
    help="A durable swarm of warm, attachable tmux workers for kernels, Python callables and shell commands.",
)


def verb(name: str, words: str = "", *, examples: Sequence[tuple[str, str]]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Register a verb: ``function(common, ...)`` with the common options added.

    ``words``: what stands behind its options, for its help; with ``--`` before it, options end at the first word.
    """

    def register(function: Callable[..., int]) -> Callable[..., int]:
        EXAMPLES[name] = tuple(examples)
        WORDS[name] = words
        settings = {**_SETTINGS, "allow_interspersed_args": False} if words.startswith("--") else _SETTINGS
        app.command(name, cls=_Command, context_settings=settings)(_with_common(function))
        return function

    return register


def _with_common(function: Callable[..., int]) -> Callable[..., int]:
    """Return ``function`` as typer is to see it: without ``common``, with the options that ``common`` is made of."""
    hints = get_type_hints(function, include_extras=True)
    for hint in (*hints.values(), *CommonOptions.values()):
        _name_flag(hint)
    own = [one.replace(annotation=hints[name]) for name, one in inspect.signature(function).parameters.items() if name != "common"]

    def call(ctx: typer.Context, **given: Any) -> int:
        # An option may stand before the verb or behind it; behind wins.
        common: dict[str, Any] = {**ctx.obj, **_take_common(given)}
        return function(output.Common(**common), **given)

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    return _shaped(call, own)


def _name_flag(hint: Any) -> None:
    """Have what reads an option's text name the option when it complains, as the fast path does."""
    for info in getattr(hint, "__metadata__", ()):
        read = getattr(info, "parser", None)
        if read is not None and not isinstance(read, functools.partial):
            # The first flag is what typer calls the default until it has looked at the annotation.
            info.parser = functools.partial(arguments.read_value, read, str(info.default))
            functools.update_wrapper(info.parser, read)


def _take_common(given: dict[str, Any]) -> dict[str, Any]:
    """Take the common options out of ``given``; return those that were given."""
    taken = {name: given.pop(name) for name in CommonOptions}
    return {name: value for name, value in taken.items() if value not in (None, False)}


def _shaped(call: Callable[..., int], own: Sequence[inspect.Parameter]) -> Callable[..., int]:
    """Give ``call`` the signature ``(ctx, *own, *common options)``, which is what typer reads."""
    kind = inspect.Parameter.KEYWORD_ONLY
    context = inspect.Parameter("ctx", kind, annotation=typer.Context)
    common = [
        inspect.Parameter(name, kind, annotation=hint, default=None if name in {"swarm", "color"} else False)
        for name, hint in CommonOptions.items()
    ]
    parameters = [context, *(one.replace(kind=kind) for one in own), *common]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # every function may have one
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    return call


def _version(wanted: bool) -> None:
    if wanted:
        output.out(f"tmax {__version__}\n")
        raise typer.Exit


def _root(ctx: typer.Context, **given: Any) -> int:
    ctx.obj = _take_common(given)
    if ctx.invoked_subcommand is not None:
        return 0
    from tmax.cli.status import status

    return status(output.Common(**ctx.obj))


_Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="The version of tmax.")]
_version_option = inspect.Parameter("version", inspect.Parameter.KEYWORD_ONLY, annotation=_Version, default=False)
app.callback(invoke_without_command=True)(_shaped(_root, [_version_option]))


def run(words: Sequence[str]) -> int:
    """Run a command line through typer and return its exit code.  Raises TmaxError, also for what typer finds wrong."""
    from tmax.cli import doctor, swarm, tasks  # noqa: F401 - they register their verbs

    # typer's own words (help) take the way that all others take, so that an output that cannot be written is one error everywhere.
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            answer = typer.main.get_command(app).main(list(words), prog_name="tmax", standalone_mode=False)
        output.out(said.getvalue())
    except typer.Abort:
        return int(ExitCode.INTERRUPTED)
    except OSError:
        raise
    except Exception as error:
        told = getattr(error, "format_message", None)
        if told is None:
            raise
        # typer's own complaint (its classes moved between versions, what they can do did not)
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "tmax" + "".join(f" {word}" for word in words[:1] if word in WORDS)
        raise UsageError(_plain_words(told()), hint=f"{path} --help") from error
    return answer if isinstance(answer, int) else 0


def _plain_words(message: str) -> str:
    text = message.strip().rstrip(".")
    return text[:1].lower() + text[1:]
