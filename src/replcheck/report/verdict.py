"""The verdict of an audit in one sentence, and what to do next: the same words in every report."""

from collections.abc import Sequence

from replcheck.model.audit import AuditResult, DifferenceKind, Divergence, Finding, RelationKind, ReplicaReport
from replcheck.model.outcome import Outcome, Verdict, worst
from replcheck.model.units import format_size

INDEX_BROKEN = "index_broken"
"""Code of the finding of an index that matches its table on no node."""
CHECKSUM_FAILURES = "checksum_failures"
"""Code of the finding of pages whose checksum was seen to fail."""
_VERDICT_OF = {verdict.outcome: verdict for verdict in Verdict}


def outcome_of(result: AuditResult) -> Outcome:
    """Return the outcome of the run: one that ended early has left something unproven."""
    return worst([result.verdict.outcome, result.stop_outcome])


_TOLD_BY_STOP: frozenset[str] = frozenset({"stopped", "unfinished"})
"""Codes of what was not checked because the run ended early: one step speaks for them and the run."""


def verdict_of(result: AuditResult) -> Verdict:
    """Return the verdict that stands for `outcome_of`."""
    return _VERDICT_OF[outcome_of(result)]


def sentence(result: AuditResult) -> str:
    """Return the verdict in one sentence, with what it rests on."""
    told = {
        Verdict.CONSISTENT: _consistent,
        Verdict.DIVERGED: _diverged,
        Verdict.INCONCLUSIVE: _inconclusive,
        Verdict.UNCHECKED: _unchecked,
    }[verdict_of(result)](result)
    return f"{told}{_limits(result)}."


def next_steps(result: AuditResult, *, alone: bool = False) -> tuple[str, ...]:
    """Return what the reader should do now, most urgent first; nothing where all is well.

    `alone` says that the verdict stands without the report, and so without its queries.
    """
    verdict = verdict_of(result)
    steps: list[str] = []
    if verdict is Verdict.DIVERGED:
        steps += _after_divergence(result, alone=alone)
    if result.stop_outcome is Outcome.UNCHECKED:
        steps.append(
            "Run the audit again and let it finish, or go on with --resume: what was not compared is unproven."
        )
    told = _TOLD_BY_STOP if result.stop_outcome is Outcome.UNCHECKED else frozenset()
    open_entries = [entry for entry in result.not_checked if not entry.by_design and entry.code not in told]
    steps += dict.fromkeys(entry.hint for entry in open_entries if entry.hint)
    if verdict is Verdict.UNCHECKED and not steps:
        steps.append("Mend what is listed as not checked, or leave it out with --exclude, and run the audit again.")
    if verdict is Verdict.INCONCLUSIVE and not result.stopped:
        steps.append("Run the audit again, at a quieter hour or with a longer audit.settle_budget.")
    return tuple(steps)


def joined(names: Sequence[str]) -> str:
    """Return names as a sentence has them.

    >>> joined(["db1"]), joined(["db1", "db2", "db3"])
    ('db1', 'db1, db2 and db3')
    """
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun.

    >>> counted(1, "row"), counted(12000, "row")
    ('1 row', '12,000 rows')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def _names(replicas: Sequence[ReplicaReport], verdict: Verdict) -> list[str]:
    return [replica.node.name for replica in replicas if replica.verdict is verdict]


def _consistent(result: AuditResult) -> str:
    names = [replica.node.name for replica in result.replicas]
    are = "is a consistent copy" if len(names) == 1 else "are consistent copies"
    databases = len({relation.database for relation in result.relations})
    return (
        f"{joined(names)} {are} of {result.primary.name}: every row of {counted(len(result.relations), 'relation')}"
        f" in {counted(databases, 'database')} was compared and matched{_of_filters(result)}"
        f" ({counted(result.rows, 'row')}, {format_size(result.size_bytes)})"
        f"{_sound_indexes(result)}"
    )


def _sound_indexes(result: AuditResult) -> str:
    if not result.scope.indexes:
        return ""
    match = "matches its table" if len(result.indexes) == 1 else "match their tables"
    return f"; {counted(len(result.indexes), 'index', 'indexes')} {match} on every node"


def _of_filters(result: AuditResult) -> str:
    filtered = sum(relation.filter_digest is not None for relation in result.relations)
    if not filtered:
        return ""
    rows = "the rows that its filter selects" if filtered == 1 else "the rows that the filters select"
    return f", but of {counted(filtered, 'relation')} only {rows}"


def _diverged(result: AuditResult) -> str:
    diverged = _names(result.replicas, Verdict.DIVERGED)
    relations = len({(found.database, found.relation) for found in result.divergences})
    rows = sum(found.count for found in result.divergences if found.sqlstate is None and not found.what)
    if not result.divergences and _broken_everywhere(result):
        return f"the rows are those of {result.primary.name}, but {'; '.join(_broken_everywhere(result))}"
    if not result.divergences:
        return _distrust(result)
    if not _of_rows(result):
        return _index_sentence(result)
    capped = "at least " if any(found.capped for found in result.divergences) else ""
    parts = [f"{capped}{counted(rows, 'row')} {'differs' if rows == 1 else 'differ'}"] if rows else []
    parts += ["data cannot be read"] if any(found.sqlstate for found in _of_rows(result)) else []
    parts += sorted({found.what for found in _of_rows(result) if found.what})
    parts += [_mismatch(indexes)] if (indexes := len(result.divergences) - len(_of_rows(result))) else []
    where = f"in {counted(relations, 'relation')}"
    if result.odd_node is not None and result.odd_node == result.primary.name:
        agreeing = joined([replica.node.name for replica in result.replicas])
        return (
            f"the primary {result.odd_node} stands alone: {agreeing} agree with each other and not with it"
            f" ({' and '.join(parts)} {where}), so the broken copy may be the original"
        )
    if _primary_in_doubt(result):
        return (
            f"{_names_to_rebuild(result)} and the primary {result.primary.name} do not match: {' and '.join(parts)}"
            f" {where}, {_doubt_of_primary(result)}, so the broken copy may be the original"
        )
    are = "is not a copy" if len(diverged) == 1 else "are not copies"
    alone = f", and {result.odd_node} stands alone against the others" if result.odd_node else ""
    return f"{joined(diverged)} {are} of {result.primary.name}: {' and '.join(parts)} {where}{alone}"


def _distrust(result: AuditResult) -> str:
    """Return what there is to say where no row differs, but the state of a node refutes it."""
    primary = result.primary.name
    found = _refuting(result)
    if _primary_in_doubt(result):
        what = next(finding.what for finding in found if finding.node == primary)
        return f"the primary {primary} itself cannot be trusted, so the broken copy may be the original: {what}"
    nodes = joined(list(dict.fromkeys(finding.node for finding in found if finding.node)))
    what = found[0].what if found else "its state refutes it"
    return f"{nodes or 'the replicas'} cannot be trusted as a copy of {primary}: {what}"


def _refuting(result: AuditResult) -> list[Finding]:
    return [found for found in result.findings if found.outcome is Outcome.REFUTED and found.code != INDEX_BROKEN]


def _primary_in_doubt(result: AuditResult) -> bool:
    """Return whether something that was found names the primary: a replica may hold the only good copy then."""
    named = {result.odd_node, *(found.node for found in _of_rows(result)), *(found.node for found in _refuting(result))}
    return result.primary.name in named


def _doubt_of_primary(result: AuditResult) -> str:
    nodes = {found.node for found in _of_rows(result)}
    if result.primary.name not in nodes:
        return f"and on the primary {next(f.what for f in _refuting(result) if f.node == result.primary.name)}"
    return "all of it on the primary" if len(nodes) == 1 else "some of it on the primary"


def _unknown_which(result: AuditResult) -> bool:
    """Return whether rows differ and nothing shows whose are right; what a node cannot read is that node's."""
    return result.odd_node is None and any(found.sqlstate is None for found in _of_rows(result))


def _index_sentence(result: AuditResult) -> str:
    """Return what there is to say where nothing but indexes differs."""
    nodes = joined(list(dict.fromkeys(found.node for found in result.divergences)))
    count = len(result.divergences)
    they = "it does" if count == 1 else "they do"
    return f"on {nodes} {_mismatch(count)}, although on another node {they}; no row was found to differ"


def _mismatch(indexes: int) -> str:
    return counted(indexes, "index does not match its table", "indexes do not match their tables")


def _of_rows(result: AuditResult) -> list[Divergence]:
    return [found for found in result.divergences if found.kind is not DifferenceKind.INDEX]


def _broken_everywhere(result: AuditResult) -> list[str]:
    return [found.what for found in result.findings if found.code == INDEX_BROKEN]


def _inconclusive(result: AuditResult) -> str:
    reasons = [
        f"{replica.node.name}: {replica.reason}"
        for replica in result.replicas
        if replica.verdict is not Verdict.CONSISTENT and replica.reason
    ]
    reasons += [finding.what for finding in result.findings if finding.outcome is Outcome.PARTIAL]
    if result.stopped:
        reasons = [result.stopped, *reasons]
    why = f" ({'; '.join(dict.fromkeys(reasons))})" if reasons else ""
    return f"no difference was proven, but not every row either{why}"


def _unchecked(result: AuditResult) -> str:
    missing = [entry for entry in result.not_checked if not entry.by_design]
    finding = next((found.what for found in result.findings if found.outcome is Outcome.UNCHECKED), "")
    if result.stopped:
        why = result.stopped
    elif missing:
        why = f"{counted(len(missing), 'thing was', 'things were')} not checked"
    else:
        why = finding or "nothing was compared"
    compared = [relation for relation in result.relations if relation.verdict is Verdict.CONSISTENT]
    rest = f"; {counted(len(compared), 'relation')} compared whole, without a difference" if compared else ""
    return f"the copies are not proven: {why}{rest}"


def _limits(result: AuditResult) -> str:
    scope = result.scope
    given = {
        "--database": scope.databases,
        "--table": scope.tables,
        "--exclude": scope.excludes,
        "--where": scope.filters,
        "--no-catalogs": not scope.catalogs,
    }
    flags = [flag for flag, is_given in given.items() if is_given]
    missing = sum(not entry.by_design for entry in result.not_checked)
    parts = [f"the audit was limited by {joined(flags)}"] if flags else []
    if missing and verdict_of(result) is not Verdict.UNCHECKED:
        parts.append(f"{counted(missing, 'thing was', 'things were')} not checked")
    if result.resumed is not None:
        rest = "rests" if result.resumed.relations == 1 else "rest"
        parts.append(
            f"{counted(result.resumed.relations, 'relation')} {rest} in part on an earlier run that ended early"
        )
    return "".join(f"; {part}" for part in parts)


def _after_divergence(result: AuditResult, *, alone: bool) -> list[str]:
    steps = [*_after_broken_index(result)]
    if steps and not _of_rows(result) and not _refuting(result):
        return steps
    steps.append(_hold(result))
    if any(found.query for found in result.divergences):
        queries = "of the whole report, which --quiet leaves out" if alone else "above"
        steps.append(f"Look at the rows with the queries {queries}, on each node, under your own role.")
    if any(found.sqlstate for found in _of_rows(result)):
        steps.append("Look for I/O errors in the kernel log of the node that cannot read its data.")
    steps += _rebuild(result)
    if any(found.code == CHECKSUM_FAILURES for found in result.findings):
        steps.append(
            "Counts of failed checksums outlive a repair. A standby that is copied anew starts at zero; elsewhere"
            " pg_stat_reset() in the database named above clears them, and its other statistics with them."
        )
    if any(
        relation.kind is RelationKind.CATALOG and relation.verdict is Verdict.DIVERGED for relation in result.relations
    ):
        steps.append("A system catalog differs: trust no query on that node, not even its error messages.")
    return steps


def _hold(result: AuditResult) -> str:
    """Return what must not be done, or be done at once, before anything is repaired."""
    primary, names = result.primary.name, _names_to_rebuild(result)
    if result.odd_node == primary:
        return f"Do not fail over or rebuild anything yet: compare {primary} with a backup first."
    if _primary_in_doubt(result):
        return (
            f"Do not rebuild {names} from {primary}, and do not fail over yet: what is told of {primary} above means"
            f" that {names} may hold the only good copy. Compare both with a backup first."
        )
    if _unknown_which(result):
        return (
            f"Do not rebuild {names} yet, but take {names} out of service for reads and failover: nothing shows whether"
            f" {primary} has the right rows. A backup can, or somebody who knows them."
        )
    return f"Take {names} out of service for reads and failover until it is rebuilt."


def _rebuild(result: AuditResult) -> list[str]:
    """Return how to repair the replicas; nothing where that could overwrite the only good copy."""
    if _primary_in_doubt(result):
        return []
    names = _names_to_rebuild(result)
    if _unknown_which(result):
        return [f"Once {result.primary.name} has proven right, rebuild {names} with pg_basebackup, then audit again."]
    return [f"Rebuild {names} with pg_basebackup, then audit again."]


def _names_to_rebuild(result: AuditResult) -> str:
    """Return the replicas that a repair would concern: those that diverged, else those a finding names, else all."""
    replicas = [replica.node.name for replica in result.replicas]
    named = {found.node for found in _refuting(result)}
    return joined(_names(result.replicas, Verdict.DIVERGED) or [n for n in replicas if n in named] or replicas)


def _after_broken_index(result: AuditResult) -> list[str]:
    if not _broken_everywhere(result) and len(_of_rows(result)) == len(result.divergences):
        return []
    return [
        "Trust no query through the indexes named above: on that node it may miss rows, or return wrong ones.",
        "Find the cause first (storage, memory); where a collation has another version, install the same library.",
        "Rebuild them on the primary with REINDEX INDEX CONCURRENTLY: standbys get the new files by replication.",
    ]
