"""The use case `seal`: one moment of a primary from request to manifest and record."""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from replcheck.drill.manifest import write_manifest
from replcheck.drill.primary_node import find_primary
from replcheck.drill.seal_dump import check_dump_file, discard_dump
from replcheck.drill.seal_options import DumpFormat, SealOptions
from replcheck.drill.sealing import connect_primary, seal_primary
from replcheck.errors import Interrupted, ReplcheckError, UsageError
from replcheck.events import Emit, RunFinished, RunStarted
from replcheck.model.evidence import EvidenceHead
from replcheck.model.node import NodeRole, NodeTarget
from replcheck.model.plain import to_plain
from replcheck.model.run import UNNAMED_CLUSTER, RunRecord, RunStart
from replcheck.model.seal import SealResult, SealVerdict
from replcheck.report.seal import seal_document, sentence
from replcheck.runs.lock import lock_file, one_of_several_runs
from replcheck.runs.recorder import Recorder
from replcheck.runs.records import ended, failed, now, started
from replcheck.runs.request import flag_target
from replcheck.runs.signals import stop_on_signals
from replcheck.runs.signing import UNSIGNED, Signing, signing_of
from replcheck.runs.sinks import FanOut, Sink
from replcheck.runs.targets import configured_targets
from replcheck.runs.turn import turn_of

if TYPE_CHECKING:
    from replcheck.config.model import Configuration

KIND = "seal"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealFlags:
    """What the caller gave; None means that the configuration, or the default, decides. Durations are seconds."""

    primary: str | None = None
    """A connection string, or the name of a configured node."""
    databases: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    catalogs: bool | None = None
    jobs: int | None = None
    max_age_s: float | None = None
    dump_file: Path | None = None
    dump_format: DumpFormat = DumpFormat.CUSTOM


@dataclass(frozen=True, slots=True, kw_only=True)
class SealRequest:
    """One seal, ready to be made."""

    cluster: str
    nodes: tuple[NodeTarget, ...]
    """The primary, or nodes among which it is looked for."""
    options: SealOptions
    folder: Path
    signing: Signing = UNSIGNED
    """What the seal and the record of its run are signed with."""

    @property
    def argument_digest(self) -> str:
        """Return the SHA-256 of what was asked; of the nodes it covers the names, never a connection string."""
        options = self.options
        asked = {
            "cluster": self.cluster,
            "nodes": [node.name for node in self.nodes],
            "scope": to_plain((options.databases, options.tables, options.excludes, options.catalogs)),
            "dump": options.dump_format.value if options.dump_file else None,
        }
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedSeal:
    """How a seal ended: with a result, or with the error that kept it from one."""

    record: RunRecord
    result: SealResult | None
    error: ReplcheckError | None
    unrecorded: str = ""
    """Why the history lacks this run; empty where it was kept or none was wanted."""
    evidence: EvidenceHead | None = None
    """The run's record in the chain of its cluster; None where none was kept."""


def seal_request(flags: SealFlags, configuration: "Configuration | None", folder: Path | None) -> SealRequest:
    """Return what to seal and how; raise UsageError or ConfigurationError where it makes no sense."""
    if flags.primary is not None:
        nodes: tuple[NodeTarget, ...] = (
            flag_target("primary", "--primary", flags.primary, NodeRole.PRIMARY, configuration),
        )
    else:
        nodes = configured_targets(configuration)
    if not nodes:
        raise UsageError("no primary is named", hint="Give --primary DSN, or a configuration with --config FILE.")
    if folder is None:
        raise UsageError(
            "nothing says where the seal is to be kept: neither XDG_STATE_HOME nor HOME is set",
            hint="Name a folder with --folder, or with seal.folder in the configuration.",
        )
    if flags.dump_file is not None:
        check_dump_file(flags.dump_file)
    return SealRequest(
        cluster=configuration.cluster if configuration else UNNAMED_CLUSTER,
        nodes=nodes,
        options=_options(flags, configuration),
        folder=folder,
        signing=signing_of(configuration),
    )


def _options(flags: SealFlags, configuration: "Configuration | None") -> SealOptions:
    options = SealOptions(
        databases=flags.databases,
        tables=flags.tables,
        excludes=flags.excludes,
        dump_file=flags.dump_file,
        dump_format=flags.dump_format,
    )
    if configuration is not None:
        options = replace(
            options,
            jobs=configuration.seal.jobs,
            max_age_s=configuration.seal.max_age,
            programs=configuration.drill.programs,
        )
    given = {"jobs": flags.jobs, "max_age_s": flags.max_age_s, "catalogs": flags.catalogs}
    return replace(options, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def run_seal(
    request: SealRequest,
    *,
    sinks: Sequence[Sink] = (),
    store: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> FinishedSeal:
    """Seal a primary, keep the manifest and the record, and return both; a ReplcheckError is returned, not raised.

    `store` is the file of the history, None for none. Must not be called from a running event loop.
    """
    request.signing.check()
    start = started(KIND, request.cluster, request.argument_digest)
    # Shared, so that it stops nobody: it tells those who read the history that a seal is at work.
    lock = one_of_several_runs(lock_file(store, KIND)) if store else nullcontext()
    with turn_of(start, lock, store=store, signing=request.signing, unchecked=SealVerdict.NOT_SEALED.value):
        return _run(request, start, sinks=sinks, store=store, tell=tell)


def _run(
    request: SealRequest, start: RunStart, *, sinks: Sequence[Sink], store: Path | None, tell: Callable[[str], None]
) -> FinishedSeal:
    recorder = Recorder(store, request.signing)
    recorder.begin(start)
    emit = FanOut(list(sinks), report_broken=tell)
    emit(RunStarted(at=start.started_at, run_id=start.run_id, kind=KIND, cluster=request.cluster))
    try:
        result = asyncio.run(_seal(request, start, emit, tell))
        record = ended(start, result.verdict.outcome, result.verdict.value, sentence(result))
        finished = FinishedSeal(record=record, result=result, error=None)
    except ReplcheckError as error:
        record = failed(start, SealVerdict.NOT_SEALED.value, error)
        finished = FinishedSeal(record=record, result=None, error=error)
    except BaseException as defect:
        recorder.finish(
            failed(start, SealVerdict.NOT_SEALED.value, ReplcheckError(f"ended by {type(defect).__name__}"))
        )
        raise
    recorder.finish(record, seal_document(finished.result) if finished.result else None)
    emit(RunFinished(at=record.finished_at, run_id=record.run_id, outcome=record.outcome, summary=record.summary))
    return replace(finished, unrecorded=recorder.problem, evidence=recorder.evidence)


async def _seal(request: SealRequest, start: RunStart, emit: Emit, tell: Callable[[str], None]) -> SealResult:
    stop = asyncio.Event()
    began = time.monotonic()
    with stop_on_signals(stop, tell):
        target = await find_primary(request.nodes)
        primary = await connect_primary(target, request.options, emit)
        manifest = None
        try:
            try:
                manifest, snapshot_s = await seal_primary(
                    primary, request.options, seal_id=start.run_id, cluster=request.cluster, emit=emit, stop=stop
                )
            finally:
                await primary.close()
            if stop.is_set():
                raise Interrupted("the seal was stopped before it was kept")
            kept = write_manifest(manifest, request.folder, signing_key=request.signing.key)
        except BaseException:
            discard_dump(manifest.dump if manifest is not None else None)
            raise
    elapsed_s = time.monotonic() - began
    return SealResult(
        run_id=start.run_id,
        started_at=start.started_at,
        finished_at=now(),
        elapsed_s=round(elapsed_s, 3),
        snapshot_s=round(snapshot_s, 3),
        seal=kept,
        primary=target.name,
    )
