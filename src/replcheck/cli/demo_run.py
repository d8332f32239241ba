"""`replcheck demo` from its options to its exit status: the story is standard output, its progress standard error."""

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from replcheck.cli.display import Display
from replcheck.errors import Interrupted
from replcheck.model.demo import Scene
from replcheck.model.outcome import ExitStatus
from replcheck.report.story import Storyteller
from replcheck.report.style import Style
from replcheck.runs.demo import DemoOptions, run_demo

_WIDEST = 100


def demo_and_tell(*, major: int | None, keep: bool, directory: Path | None) -> ExitStatus:
    """Play the demo, tell it, and return the exit status; raise the error that kept it from its end."""
    forget_other_servers()
    display = Display(quiet=False)
    ended = run_demo(
        DemoOptions(major=major, root=directory, keep=keep),
        narrate=_narrator(),
        watch=display.progress,
        tell=display.note,
    )
    return display.heard(ExitStatus.UNCHECKED if ended.problems else ExitStatus.PROVEN)


def _narrator() -> Callable[[Scene], None]:
    """Return a function that prints a scene to standard output, at once."""
    terminal = Console()
    page = io.StringIO()
    console = Console(
        file=page,
        force_terminal=terminal.is_terminal,
        color_system=terminal.color_system,  # type: ignore[arg-type]
        no_color=terminal.no_color,
        width=min(terminal.width, _WIDEST),
        highlight=False,
    )
    teller = Storyteller(console, Style(ascii_only=not terminal.encoding.startswith("utf")))

    def narrate(scene: Scene) -> None:
        page.seek(0)
        page.truncate()
        teller(scene)
        try:
            sys.stdout.write("".join(f"{line.rstrip()}\n" for line in page.getvalue().splitlines()))
            sys.stdout.flush()
        except BrokenPipeError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Interrupted(
                "nobody reads the story any more", hint="Everything that the demo had started was removed."
            ) from error

    return narrate


def forget_other_servers() -> None:
    """Take the PG* variables out of the environment: they are about the caller's servers, never about the demo's."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
