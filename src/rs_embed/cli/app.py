"""The root of the command line: what all commands share, and how a run ends."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from rs_embed import __version__
from rs_embed.cli.printing import fail, note
from rs_embed.core.errors import RSEmbedError

__all__ = ["app", "main", "usage"]

EPILOG = "Exit codes: 0 done, 1 an error, a failed region or a failed check, 2 wrong usage, 130 stopped by Ctrl-C."

Usage: type[Exception] = typer.BadParameter.__mro__[1]
"""click's UsageError: newer versions of typer carry a click of their own."""


class _Commands(TyperGroup):
    """Ends in silence where the reader of standard output has gone."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            found = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            # or Python complains when it flushes at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(128 + signal.SIGPIPE) from error
        return found


app = typer.Typer(
    name="rs-embed",
    cls=_Commands,
    help="One call turns a place and a time into an embedding of any remote-sensing foundation model.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help starts in half the time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def usage(message: str) -> NoReturn:
    """End with exit code 2: options that are missing or contradict each other."""
    raise Usage(message)


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error (at any place).")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold what all commands share."""


def _show_usage(error: Any, arguments: Sequence[str]) -> None:
    """Print a wrong usage as one line; help that was asked for by giving nothing is shown whole."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return
    command = error.ctx.command_path if error.ctx is not None else f"rs-embed {arguments[0]}"
    said = error.format_message().rstrip(".") + _written(getattr(error, "param", None), arguments)
    fail(f"{said}{'' if said.endswith('?') else ';'} see {command} --help")


def _written(option: Any, arguments: Sequence[str]) -> str:
    """What was given for an option, and how it is written: typer says neither."""
    name = next((name for name in getattr(option, "opts", ()) if name in arguments), None)
    if name is None or not option.metavar:
        return ""
    at = arguments.index(name) + 1
    return f", got {' '.join(arguments[at : at + option.nargs])!r}; it is written {name} {option.metavar}"


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)  # as an exception, so that temporary files go


def _bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print what nobody foresaw as one line."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" at {os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
    fail(f"unexpected {kind.__name__}{where}: {error}; this is a bug: report what --debug prints")


def _run(arguments: Sequence[str], *, debug: bool) -> int:
    """Run one command and return its exit code."""
    try:
        code = app(list(arguments), prog_name="rs-embed", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except Usage as error:
        _show_usage(error, arguments)
        return 2
    except typer.Abort:
        return 130
    except RSEmbedError as error:
        if debug:
            raise
        fail(str(error))
        return 1
    except OSError as error:
        if debug:
            raise
        name = f"{error.filename}: " if error.filename else ""
        fail(f"{name}{error.strerror or error}")
        return 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Parameters
    ----------
    arguments
        Those after the program's name; ``None``: the process's own.

    Raises
    ------
    SystemExit
        Always, with 0 = done, 1 = an error, a failed region or a failed check, 2 = wrong usage, 130 = stopped by
        Ctrl-C, 141 = the reader of standard output has gone.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [each for each in given if each != "--debug"]
    before: Any = signal.signal(signal.SIGTERM, _terminated)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            code = _run(given, debug=debug)
    except KeyboardInterrupt:
        code = 130
    finally:
        signal.signal(signal.SIGTERM, before)
        if not debug and sys.exc_info()[0] is not None:
            sys.excepthook = _bug  # typer sets its own
    if code == 130:
        note("stopped")
    sys.exit(code)


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    note(f"warning: {message}")


Completion = Callable[[str], list[str]]
