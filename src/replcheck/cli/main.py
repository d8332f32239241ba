"""The entry point: runs the application and turns whatever happens into a line of text and an exit status.

Typer's own statuses (1 and 2) would read as "partial" and "refuted", so they never leave this module.
"""

import gc
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import typer
from typer.core import TyperOption

from replcheck.cli.exits import exit_status_of, scrubbed, told, trace
from replcheck.cli.streams import is_plain_ascii
from replcheck.errors import Interrupted, ReplcheckError
from replcheck.model.outcome import ExitStatus
from replcheck.runs.ending import Ending, ending_with_a_status

_DEBUG = "--debug"
_VARIABLE = re.compile(r"(?P<flag>'--?[\w-]+'(?: / '--?[\w-]+')*) \(env var: '[A-Z_]+'\)")
_PLACES = {
    "--replica": "a connection string goes behind --primary or --replica",
    "--primary": "a connection string goes behind --primary",
    "--file": "a file goes behind --file",
}
"""Where it belongs what may have been given without its option, by an option of the command."""
_COMPLETION_OPTIONS = frozenset({"--install-completion", "--show-completion"})
_COMPLETION_VARIABLE = "_REPLCHECK_COMPLETE"
_process_value = TyperOption.process_value
_GARBAGE_THRESHOLDS = (20_000, 20, 50)
"""Of the collector of cycles: with Python's own, a tenth of a short command goes into walking over loaded modules."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit status; prints at most one error, and never a traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = _DEBUG in given or bool(os.environ.get("REPLCHECK_DEBUG"))
    words = [word for word in given if word != _DEBUG]
    gc.set_threshold(*_GARBAGE_THRESHOLDS)
    _prepare_streams()
    with ending_with_a_status(for_good=arguments is None) as ending:
        return _ended(words, ending, debug=debug)


def _ended(words: Sequence[str], ending: Ending, *, debug: bool) -> int:
    try:
        try:
            status = _invoke(list(words))  # Typer takes what it has read out of the list
            sys.stdout.flush()
        finally:
            ending.work_is_done()
    except BrokenPipeError:
        _abandon_output()
        return ExitStatus.UNCHECKED
    except SystemExit as ended:
        # Typer's own options leave like this when they are done.
        if ended.code == 0 and not _COMPLETION_OPTIONS.isdisjoint(words):
            return ExitStatus.PROVEN
        _abandon_output()
        return ExitStatus.UNCHECKED
    except KeyboardInterrupt as error:
        return _report(Interrupted("interrupted"), error, debug=debug)
    except Exception as error:  # noqa: BLE001 - the last place where a defect can be kept from ending as a traceback
        return _report(_understood(error, words), error, debug=debug)
    return status


def _invoke(words: list[str]) -> int:
    from typer.main import get_command

    from replcheck.cli.app import app

    _spare_validators()
    command, given = get_command(app), tuple(words)
    if _COMPLETION_VARIABLE in os.environ:
        return _complete(lambda: command.main(words, prog_name="replcheck", complete_var=_COMPLETION_VARIABLE))
    try:
        with command.make_context("replcheck", words) as context:
            command.invoke(context)
    except typer.Exit as done:
        if done.exit_code and not _COMPLETION_OPTIONS.isdisjoint(given):
            return ExitStatus.UNCHECKED  # Typer knows no such shell
        return done.exit_code
    except typer.Abort as error:
        raise Interrupted("interrupted") from error
    return ExitStatus.PROVEN


def _spare_validators() -> None:
    """Have options that are not given do without a validator.

    Typer makes one of pydantic for each option of a command, given or not: for thirty of them that is a tenth of a
    second, and the loading of pydantic is as much, which the first picture of a screen needs not.
    """
    TyperOption.process_value = _process_given  # type: ignore[method-assign, assignment]


def _process_given(option: TyperOption, context: typer.Context, value: Any) -> Any:
    if value is not None or option.required:
        return _process_value(option, context, value)
    return option.callback(context, option, None) if option.callback is not None else None


def _complete(answer: Callable[[], object]) -> int:
    # Shells read the status of some of their questions, and an error would land in the middle of somebody's line.
    try:
        answer()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else ExitStatus.PROVEN
    except Exception:  # noqa: BLE001 - no completion is better than a message
        return ExitStatus.PARTIAL
    return ExitStatus.PROVEN


def _prepare_streams() -> None:
    # A descriptor that the caller closed would go to the next file that is opened, and that file would take in what is
    # written here. Nobody reads errors then, but a report that nobody can read must fail.
    if getattr(sys, "stdout", None) is None:
        sys.stdout = _in_place_of_closed(1, os.O_RDONLY)
    if getattr(sys, "stderr", None) is None:
        sys.stderr = _in_place_of_closed(2, os.O_WRONLY)
    # A name that the terminal cannot show must not end a run.
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="ascii" if is_plain_ascii(os.environ) else None, errors="backslashreplace")


def _in_place_of_closed(number: int, flags: int) -> TextIO:
    null = os.open(os.devnull, flags)
    try:
        os.fstat(number)
    except OSError:
        os.dup2(null, number)
        os.close(null)
        null = number
    return os.fdopen(null, "w")


def _understood(error: Exception, words: Sequence[str]) -> ReplcheckError:
    if isinstance(error, ReplcheckError):
        return error
    if isinstance(error, typer.TyperException):
        return _usage_error(error, words)
    if isinstance(error, OSError):
        where = f" {error.filename}" if isinstance(error.filename, str) else ""
        return ReplcheckError(f"the system refused{where}: {(error.strerror or 'unknown error').lower()}")
    return ReplcheckError(
        f"internal error: {type(error).__name__}", hint="Please report it with what --debug shows; nothing was proven."
    )


def _usage_error(error: typer.TyperException, words: Sequence[str]) -> ReplcheckError:
    context = getattr(error, "ctx", None)
    usage = context.command_path if context else "replcheck"
    message = _in_own_words(error)
    if message.startswith("Got unexpected extra argument"):
        message = _unexpected(context)  # Typer repeats the argument, which may be a connection string
    # Click names the variable whether or not the value came from it.
    message = _VARIABLE.sub(lambda found: found["flag"] if _was_given(found["flag"], words) else found[0], message)
    message = scrubbed(message, words).rstrip(".")
    return ReplcheckError(f"{message[:1].lower()}{message[1:]}", hint=f'Try "{usage} --help".')


def _in_own_words(error: typer.TyperException) -> str:
    message, cause = error.format_message(), error.__cause__
    problems = getattr(cause, "errors", None)
    if problems is None:
        return message
    from replcheck.config.problems import requirement  # loads pydantic, which has refused something here

    return f"{message.removesuffix(error.message)}{requirement(problems()[0])}"


def _unexpected(context: typer.Context | None) -> str:
    parameters = context.command.params if context else []
    options = {option for parameter in parameters for option in parameter.opts}
    takes_some = any(parameter.param_type_name == "argument" for parameter in parameters)
    places = [] if takes_some else [place for option, place in _PLACES.items() if option in options]
    return f"unexpected argument: {next(iter(places), 'there is one too many')}"


def _was_given(flag: str, words: Sequence[str]) -> bool:
    names = re.findall(r"--?[\w-]+", flag)
    return any(word == name or word.startswith(f"{name}=") for word in words for name in names)


def _report(error: ReplcheckError, origin: BaseException, *, debug: bool) -> int:
    try:
        if debug:
            sys.stderr.write(trace(origin) + "\n")
        sys.stderr.write(told(error.message, error.hint) + "\n")
        sys.stderr.flush()
    except OSError:
        pass  # nobody reads errors
    _abandon_output()
    return exit_status_of(error)


def _abandon_output() -> None:
    # Where a reader is gone, or a disk full, what is still buffered must not raise again when the interpreter ends.
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(null, stream.fileno())
    os.close(null)
