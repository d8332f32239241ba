"""What a command of the user's has provided outside, when its drill was killed before it could be destroyed.

The scratch directory's marker says what the destroy command needs, and no secret. The command itself is taken from the
configuration, and only where it is the very one that would have run: a file in a directory decides over no program.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

from replcheck.config.model import CommandBackup
from replcheck.drill.scratch import ScratchState
from replcheck.errors import ProgramError
from replcheck.model.names import printable
from replcheck.model.run import short_id
from replcheck.postgres.commands import end_command, run_command


def command_digest(argv: Sequence[str]) -> str:
    """Return the SHA-256 of a command with its arguments."""
    return hashlib.sha256(json.dumps(list(argv)).encode("utf-8", "surrogatepass")).hexdigest()


def destroy_provided(state: ScratchState, section: CommandBackup | None) -> str:
    """Run the destroy command for what a drill had provided, and return why it is not gone; empty where it is.

    Its marker then says that nothing is left outside, and the directory may be removed.
    """
    provided = state.provided
    if provided is None:
        return ""
    where = f" at {provided.where}" if provided.where else ""
    what = f"the server{where} that drill {short_id(state.run_id)} had provided for backup {printable(state.backup)}"
    if section is None or command_digest(section.destroy) != provided.destroy:
        return f"{what} may still be there: {_by_hand(state)}"
    if provided.process is not None:
        # What is killed leaves its commands at work: one that goes on would provide the server behind the destroyer.
        end_command(provided.process)
    try:
        run_command(section.destroy, variables=provided.variables, timeout_s=section.timeout)
    except ProgramError as error:
        return f"{what} may still be there: {error.message}; {_by_hand(state)}"
    replace(state, provided=None).save()
    return ""


def _by_hand(state: ScratchState) -> str:
    return (
        "replcheck drill --clean with the configuration that it was drilled with destroys it; or run its destroy"
        f" command with REPLCHECK_RUN_ID={state.run_id}, and remove {state.directory} once it is gone"
    )
