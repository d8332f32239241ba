"""The layer that compares the restored files with the backup's manifest, before a server has touched them."""

from pathlib import Path

from replcheck.drill.layers.layer import Case, Moment
from replcheck.drill.software import ProgramsFor, installed
from replcheck.errors import ProgramError
from replcheck.model.drill import Blame, LayerName, LayerReport, LayerState, Problem
from replcheck.postgres.base_backups import FileFault, verify
from replcheck.postgres.programs import Programs, readable_programs, server_account

_MANIFEST = "backup_manifest"
_SHOWN = 20
_WORDS = {
    "missing": "file {} is in the manifest and not in the backup",
    "extra": "file {} is in the backup and not in the manifest",
    "size": "file {} has another size than in the manifest",
    "changed": "file {} has another checksum than in the manifest",
    "unreadable": "file {} cannot be read",
    "manifest": "backup_manifest itself is damaged",
    "system": "backup_manifest is of another database system",
}


class ManifestLayer:
    """Runs pg_verifybackup over a base backup, and over each of those that an incremental one was combined from."""

    name = LayerName.MANIFEST
    moment = Moment.FETCHED

    def __init__(self, programs: ProgramsFor = installed) -> None:
        self._programs = programs

    def run(self, case: Case) -> LayerReport:
        """Verify the files; not run where there is no manifest."""
        folders = case.stages.parts or ((case.data_dir,) if case.data_dir is not None else ())
        without = [folder for folder in folders if not (folder / _MANIFEST).is_file()]
        if not folders or without or case.copy.major is None:
            which = f" of part {folders.index(without[0]) + 1}" if without and len(folders) > 1 else ""
            return self._not_run(f"the backup{which} has no manifest", by_design=True)
        try:
            account = server_account()
            programs = readable_programs(self._programs(case.copy.major), account)
            faults = [fault for folder in folders for fault in self._verified(programs, folder, case)]
        except ProgramError as exc:
            return self._not_run(exc.message, by_design=False)
        files = sum(_count(folder) for folder in folders)
        checked = f"{files:,} files" + (f" of {len(folders)} backups" if len(folders) > 1 else "")
        if not faults:
            return LayerReport(name=self.name, state=LayerState.PASSED, checked=checked)
        return LayerReport(
            name=self.name,
            state=LayerState.FAILED,
            reason=_summary(faults),
            checked=checked,
            problems=tuple(_problem(fault) for fault in faults[:_SHOWN]),
        )

    def _verified(self, programs: Programs, folder: Path, case: Case) -> tuple[FileFault, ...]:
        found = verify(programs, folder, account=server_account(), watch=case.stages.obey)
        if not found.ok and not found.faults:
            raise ProgramError("pg_verifybackup refused the backup and did not say why in words that are known")
        return found.faults

    def _not_run(self, reason: str, *, by_design: bool) -> LayerReport:
        return LayerReport(name=self.name, state=LayerState.NOT_RUN, reason=reason, by_design=by_design)


def _problem(fault: FileFault) -> Problem:
    return Problem(
        code="manifest_mismatch",
        what=_WORDS[fault.kind].format(fault.file),
        blame=Blame.BACKUP,
        hint="" if fault.kind == "extra" else "The backup changed after it was taken.",
    )


def _summary(faults: list[FileFault]) -> str:
    first = _WORDS[faults[0].kind].format(faults[0].file)
    return first if len(faults) == 1 else f"{first}, and {len(faults) - 1:,} more"


def _count(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*") if path.is_file())
