"""The layer that checks every page of the restored files against its checksum, once their server has stopped."""

from replcheck.drill.layers.layer import Case, Moment
from replcheck.errors import NodeError, ProgramError
from replcheck.model.drill import Blame, LayerName, LayerReport, LayerState, Problem
from replcheck.postgres.control import read_control
from replcheck.postgres.page_checksums import BadPage, check_pages
from replcheck.postgres.server import LocalServer

_SHOWN = 20
_BLOCKS_PER_FILE = 131072
"""Blocks of one segment file of a relation, 1 GB of 8 kB blocks each (manual, Database File Layout)."""


class ChecksumsLayer:
    """Runs pg_checksums."""

    name = LayerName.CHECKSUMS
    moment = Moment.STOPPED

    def run(self, case: Case) -> LayerReport:
        """Check the pages; not run where the cluster has no checksums."""
        server = case.restored.server if case.restored is not None else None
        if server is None:
            return self._not_run("the copy lies on no server of ours", by_design=True)
        try:
            return self._checked(server, case)
        except (ProgramError, NodeError) as exc:
            return self._not_run(exc.message, by_design=False)

    def _checked(self, server: LocalServer, case: Case) -> LayerReport:
        control = read_control(server.programs, server.data_dir, account=server.account)
        if not control.checksums:
            return self._not_run("data checksums are off in this cluster", by_design=True)
        if server.running or not control.state.startswith("shut down"):
            return self._not_run("the scratch server did not shut down cleanly", by_design=False)
        found = check_pages(server.programs, server.data_dir, account=server.account, watch=case.stages.obey)
        checked = f"{found.blocks:,} pages of {found.files:,} files"
        if not found.bad:
            return LayerReport(name=self.name, state=LayerState.PASSED, checked=checked)
        first = _where(found.bad[0])
        more = f", and {len(found.bad) - 1:,} more" if len(found.bad) > 1 else ""
        return LayerReport(
            name=self.name,
            state=LayerState.FAILED,
            reason=f"{first} is damaged{more}",
            checked=checked,
            problems=tuple(
                Problem(code="page_damaged", what=f"{_where(page)} is damaged", blame=Blame.BACKUP)
                for page in found.bad[:_SHOWN]
            ),
        )

    def _not_run(self, reason: str, *, by_design: bool) -> LayerReport:
        return LayerReport(name=self.name, state=LayerState.NOT_RUN, reason=reason, by_design=by_design)


def _where(page: BadPage) -> str:
    """Return a page in words, its block counted within the relation as the server does.

    >>> from pathlib import Path
    >>> _where(BadPage(file=Path("base/5/16384.1"), block=7))
    'block 131079 of base/5/16384 (file base/5/16384.1)'
    >>> _where(BadPage(file=Path("base/5/16384"), block=7))
    'block 7 of base/5/16384'
    """
    if page.block is None:
        return f"file {page.file}"
    segment = page.file.suffix.removeprefix(".")
    if not segment.isdigit():
        return f"block {page.block} of {page.file}"
    return f"block {int(segment) * _BLOCKS_PER_FILE + page.block} of {page.file.with_suffix('')} (file {page.file})"
