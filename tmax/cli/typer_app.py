"""The typer app, generated from the declarations of all verbs.

Imported only for what the fast path leaves: help, the version, combined short options, and the explanation of mistakes.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from tmax.cli import output, verbs
from tmax.cli.declaration import ANY_WORDS, COMMON_OPTIONS, ONE_OR_MORE_WORDS, OPTIONAL_WORD, Option, Verb
from tmax.errors import ExitCode, UsageError
from tmax.version import __version__

_EXAMPLES = (
    ("tmax init -n 4", "start a swarm of four workers"),
    ("tmax run -- make test", "run a command on it: its output, its exit code"),
    ("tmax submit -- python train.py", "queue a command"),
    ("tmax attach w1", "watch a worker; C-b d detaches"),
    ("tmax down", "take the swarm down; the queue is kept"),
)
_HELP = "A durable swarm of warm, attachable tmux workers for kernels, Python callables and shell commands."
_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_KEYWORD = inspect.Parameter.KEYWORD_ONLY


class _Command(TyperCommand):
    """A verb, with its usage and examples; the help reads the same under every version of typer."""

    declared: Verb

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        formatter.write_usage(ctx.command_path, f"[OPTIONS] {self.declared.usage}".rstrip())

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        super().format_help_text(ctx, formatter)
        _write_examples(formatter, self.declared.examples)


class _Group(TyperGroup):
    def format_usage(self, ctx: Any, formatter: Any) -> None:
        formatter.write_usage(ctx.command_path, "[OPTIONS] VERB ...")

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        super().format_help_text(ctx, formatter)
        _write_examples(formatter, _EXAMPLES)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(verbs.FILES)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        verbs.verb_named(args[0])  # raises the error with the nearest verb
        return super().resolve_command(ctx, args)


def _write_examples(formatter: Any, examples: Sequence[tuple[str, str]]) -> None:
    with formatter.section("Examples"):
        formatter.write_dl(list(examples), col_max=46)


def build_app() -> typer.Typer:
    """Return the app with a command for every verb."""
    app = typer.Typer(cls=_Group, rich_markup_mode=None, add_completion=False, context_settings=_SETTINGS, help=_HELP)
    app.callback(invoke_without_command=True)(_with_signature(_root, [_VERSION]))
    for verb in verbs.all_verbs():
        settings = {**_SETTINGS, "allow_interspersed_args": not verb.passes_on}
        command = type("_DeclaredCommand", (_Command,), {"declared": verb})
        app.command(verb.name, cls=command, context_settings=settings, help=verb.help)(_function_of(verb))
    return app


def _function_of(verb: Verb) -> Callable[..., int]:
    """Return a function whose signature makes typer parse what the verb declares, and which calls the verb."""

    def call(ctx: typer.Context, words: Sequence[str] | str | None = None, **values: Any) -> int:
        # A common option may stand before the verb or after it; the latter overrides.
        common = output.Common(**{**ctx.obj, **_take_common(values)})
        if verb.words == (0, 0):
            return verb.function(common, **_given(values))
        typed = [words] if isinstance(words, str) else list(words or ())
        return verb.function(common, typed, **_given(values))

    call.__name__ = verb.name
    return _with_signature(call, [*_words_of(verb), *map(_parameter, verb.options)])


def _words_of(verb: Verb) -> list[inspect.Parameter]:
    """Return the parameter that takes the verb's words, which the usage line already names."""
    if verb.words == (0, 0):
        return []
    kind: Any = {ANY_WORDS: list[str] | None, ONE_OR_MORE_WORDS: list[str], OPTIONAL_WORD: str | None}.get(verb.words, str)
    default = inspect.Parameter.empty if verb.words[0] else None
    argument = typer.Argument(metavar=verb.usage.split()[0].strip("[]"), hidden=True)
    return [inspect.Parameter("words", _KEYWORD, annotation=Annotated[kind, argument], default=default)]


def _parameter(option: Option) -> inspect.Parameter:
    """Return the parameter that makes typer parse an option."""
    text = f"{option.help.removesuffix('.')} [default: {option.default}]." if option.default else option.help
    if option.read is None:
        switch = typer.Option(*option.flags, help=text)
        return inspect.Parameter(option.name, _KEYWORD, annotation=Annotated[bool, switch], default=False)
    read = functools.partial(option.read_value, max(option.flags, key=len))
    read.__name__ = option.name  # type: ignore[attr-defined]  # typer reads the name of a parser
    value = typer.Option(*option.flags, metavar=option.metavar, parser=read, help=text)
    return inspect.Parameter(option.name, _KEYWORD, annotation=Annotated[str | None, value], default=None)


def _with_signature(function: Callable[..., int], own: Sequence[inspect.Parameter]) -> Callable[..., int]:
    """Give ``function`` the signature ``(ctx, *own, *common options)``, which typer reads."""
    context = inspect.Parameter("ctx", _KEYWORD, annotation=typer.Context)
    parameters = [context, *own, *map(_parameter, COMMON_OPTIONS)]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # every function may have one
    function.__annotations__ = {one.name: one.annotation for one in parameters}
    return function


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given; 0 is a value, though it equals False."""
    return {name: value for name, value in values.items() if value is not None and value is not False}


def _take_common(values: dict[str, Any]) -> dict[str, Any]:
    """Remove the common options from ``values``; return those that were given."""
    return _given({option.name: values.pop(option.name) for option in COMMON_OPTIONS})


def _print_version(wanted: bool) -> None:
    if wanted:
        output.write(f"tmax {__version__}\n")
        raise typer.Exit


_VERSION = inspect.Parameter(
    "version",
    _KEYWORD,
    annotation=Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version of tmax.")],
    default=False,
)


def _root(ctx: typer.Context, **values: Any) -> int:
    ctx.obj = _take_common(values)
    if ctx.invoked_subcommand is not None:
        return 0
    return verbs.verb_named(verbs.DEFAULT).function(output.Common(**ctx.obj))


def run(words: Sequence[str]) -> int:
    """Run a command line through typer and return its exit code.  Raises TmaxError, also for mistakes that typer finds."""
    # Help is printed like all other output, so that a stdout that cannot be written is the same error everywhere.
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            code = typer.main.get_command(build_app()).main(list(words), prog_name="tmax", standalone_mode=False)
        output.write(printed.getvalue())
    except typer.Abort:
        return int(ExitCode.INTERRUPTED)
    except OSError:
        raise
    except Exception as error:
        # The classes of typer's own errors moved between versions; their methods did not.
        format_message = getattr(error, "format_message", None)
        if format_message is None:
            raise
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "tmax" + "".join(f" {word}" for word in words[:1] if word in verbs.FILES)
        raise UsageError(_plain(format_message()), hint=f"{path} --help") from error
    return code if isinstance(code, int) else 0


def _plain(message: str) -> str:
    text = message.strip().rstrip(".")
    return text[:1].lower() + text[1:]
