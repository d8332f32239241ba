"""What a record repeats of a run's result: verdicts, alignments, servers, counts. The result itself is in its digest.

Read from the result's JSON, which holds no row and no secret. What an unknown kind of run found is not repeated.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from replcheck.model.canonical import canonical_digest
from replcheck.model.plain import Plain
from replcheck.store.proof_rows import ALIGNMENT_KEYS

Object = dict[str, Plain]
_SERVER = ("name", "role", "server_version", "system_identifier", "timeline", "address")
_MOST_NAMED = 20
"""Differences and problems that are named; all are counted."""


def findings_of(document: Plain) -> Object | None:
    """Return what a record tells of a result, by the result's kind; None where there is no result.

    >>> findings_of({"kind": "tea", "schema": "tea/1"})
    {'schema': 'tea/1'}
    """
    if not isinstance(document, dict):
        return None
    repeated = _BY_KIND.get(str(document.get("kind")))
    return {"schema": document.get("schema"), **(repeated(document) if repeated is not None else {})}


def replicas_told(found: Any) -> tuple[tuple[Any, ...], ...] | None:
    """Return what was found of each replica by an audit, as a history keeps it; nothing for other runs.

    None for a record of before it told since when its proofs hold: there is nothing to compare with.
    Name, verdict, whether all was audited, system identifier, timeline, name of the primary, level, since when it holds
    and when the audit ended.
    """
    if not isinstance(found, dict) or "replicas" not in found:
        return ()
    try:
        replicas, (primary, *servers) = found["replicas"], found["servers"]
        whole = bool(found["whole"]) and not found["stopped"]
        of_all = primary["name"], found["level"], found["proven_at"], found["finished_at"]
        return tuple(
            (one["name"], one["verdict"], whole, node["system_identifier"], node["timeline"], *of_all)
            for one, node in zip(replicas, servers, strict=True)
        )
    except (KeyError, TypeError, ValueError):
        return None


def alignments_told(found: Any) -> tuple[tuple[str, str], ...] | None:
    """Return the SHA-256 over an audit's alignments with each replica, as `alignments_digest` makes it, by its name.

    None where that is not told: for other runs, and in a record of before it was.
    """
    if not isinstance(found, dict) or "replicas" not in found:
        return None
    try:
        return tuple((one["name"], one["alignments"]["sha256"]) for one in found["replicas"])
    except (KeyError, TypeError):
        return None


def alignments_digest(alignments: Iterable[Sequence[Any]]) -> str:
    """Return the SHA-256 over alignments as a history keeps them, whatever it holds in their place."""
    return canonical_digest([[str(value) for value in alignment] for alignment in alignments])


def _audit(document: Object) -> Object:
    relations = _objects(document.get("relations"))
    differences = _objects(document.get("divergences"))
    return {
        **_taken(document, "level", "encoding", "stopped", "stop_code", "rows", "size_bytes", "odd_node"),
        **_taken(document, "finished_at"),
        "proven_at": _proven_at(document, relations),
        "whole": _object(document.get("scope")).get("whole"),
        "servers": [_taken(node, *_SERVER) for node in _nodes(document)],
        "replicas": [_replica(replica) for replica in _objects(document.get("replicas"))],
        "relations": _counted(relations, "verdict"),
        "divergences": len(differences),
        "diverged": [
            _taken(each, "database", "relation", "node", "kind", "count") for each in differences[:_MOST_NAMED]
        ],
        "not_checked": sum(not each.get("by_design") for each in _objects(document.get("not_checked"))),
        "findings": _counted(_objects(document.get("findings")), "code"),
    }


def _proven_at(document: Object, relations: Sequence[Object]) -> Plain:
    """Return since when all that an audit proved holds: what it took over was proven before it began."""
    taken_over = [str(each["proven_since"]) for each in relations if each.get("proven_since")]
    began = document.get("started_at")
    return min([str(began), *taken_over]) if began else None


def _nodes(document: Object) -> list[Object]:
    return [_object(document.get("primary")), *_objects(document.get("replicas"))]


def _replica(replica: Object) -> Object:
    alignments = _objects(replica.get("alignments"))
    taken = sorted(alignments, key=lambda each: str(each.get("taken_at")))
    return {
        **_taken(replica, "name", "verdict", "lsn", "lag_bytes", "upstream"),
        "alignments": {
            "taken": len(taken),
            "exact": sum(bool(each.get("exact")) for each in taken),
            "most_unsettled": max((_number(each.get("unsettled")) for each in taken), default=0),
            "most_attempts": max((_number(each.get("attempts")) for each in taken), default=0),
            "first": _taken(taken[0], "taken_at", "lsn") if taken else None,
            "last": _taken(taken[-1], "taken_at", "lsn") if taken else None,
            "sha256": alignments_digest([each.get(key) for key in ALIGNMENT_KEYS] for each in alignments),
        },
    }


def _drill(document: Object) -> Object:
    problems = _objects(document.get("problems"))
    return {
        **_taken(document, "backup", "recovery_time_s", "recovery_point_age_s", "limits"),
        "copy": _taken(
            _object(document.get("copy")),
            *("label", "kind", "format", "taken_at", "major", "size_bytes", "system_identifier"),
        ),
        "target": _taken(_object(document.get("target")), "kind", "text", "seal_id"),
        "recovery": _taken(
            _object(document.get("recovery")), "reached", "timeline", "replayed", "last_commit_at", "wal_files"
        ),
        "layers": [
            _taken(layer, "name", "state", "checked", "rows", "relations") for layer in _objects(document.get("layers"))
        ],
        "problems": [_taken(problem, "code", "blame") for problem in problems[:_MOST_NAMED]],
        "removed": _object(document.get("scratch")).get("removed"),
    }


def _seal(document: Object) -> Object:
    return {
        **_taken(document, "seal_id", "primary", "encoding", "rows", "relations", "unsettled"),
        "seal_sha256": document.get("sha256"),
        "seal_key_id": document.get("key_id"),
        "restore_point": _taken(_object(document.get("restore_point")), "name", "lsn", "timeline", "created_at"),
        "servers": [_taken(_object(document.get("server")), "major", "architecture", "system_identifier")],
        "not_sealed": sum(not each.get("by_design") for each in _objects(document.get("not_sealed"))),
    }


def _check(document: Object) -> Object:
    controls = _objects(document.get("controls"))
    return {"controls": [_taken(each, "name", "standing", "outcome", "measured", "limit") for each in controls]}


_BY_KIND: Mapping[str, Callable[[Object], Object]] = {
    "audit": _audit,
    "drill": _drill,
    "seal": _seal,
    "check": _check,
}


def _taken(held: Object, *keys: str) -> Object:
    """Return what is there under these keys."""
    return {key: held[key] for key in keys if key in held}


def _counted(objects: Sequence[Object], key: str) -> Object:
    return dict(sorted(Counter(str(each.get(key)) for each in objects).items()))


def _objects(value: Plain) -> list[Object]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _object(value: Plain) -> Object:
    return value if isinstance(value, dict) else {}


def _number(value: Plain) -> int:
    return value if isinstance(value, int) else 0
