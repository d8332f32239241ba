"""The paper of one seal: what was fixed, at which restore point, and what was left out."""

from replcheck.model.seal import NotSealed
from replcheck.report.paper import (
    Block,
    Code,
    Mark,
    Moment,
    Pairs,
    Paper,
    Prose,
    Section,
    Verbatim,
    Words,
    columns,
    table,
    words,
)
from replcheck.report.seal_stored import PastSeal


def seal_paper(seal: PastSeal) -> Paper:
    """Lay out one seal as its document tells it."""
    return Paper(
        title=f"Seal of {seal.cluster}",
        mark=Mark(outcome=seal.verdict.outcome, word=seal.verdict.value),
        summary=words(seal.summary),
        facts=(
            ("Run", words(Code(seal.run_id))),
            ("Ended", words(Moment(seal.finished_at))),
            ("Primary", words(seal.primary)),
        ),
        sections=(_point(seal), _left_out(seal.not_sealed), _meaning(seal)),
        made_by="replcheck",
    )


def _point(seal: PastSeal) -> Section:
    point, server = seal.restore_point, seal.server
    pairs: tuple[tuple[str, Words], ...] = (
        ("Restore point", words(Code(point.name), " at ", Code(str(point.lsn)), f", timeline {point.timeline}")),
        ("Made", words(Moment(point.created_at))),
        ("Holds for", words(f"PostgreSQL {server.major} on {server.architecture}")),
        ("System identifier", words(Code(server.system_identifier))),
        ("Kept in", words(Code(seal.file))),
        ("SHA-256", words(Code(seal.sha256))),
        ("Signed", words("by key ", Code(seal.key_id)) if seal.key_id else words("no")),
    )
    return Section(anchor="point", title="What was fixed", blocks=(Pairs(pairs=pairs),))


def _left_out(notes: tuple[NotSealed, ...]) -> Section:
    shown: Block = Prose(words("Everything in scope was sealed."))
    if notes:
        shown = table(
            "What the seal says nothing of",
            columns("What", "Why", "Kind"),
            (
                (
                    words(Code(f"{note.database}.{note.relation}" if note.relation else f"database {note.database}")),
                    words(note.reason),
                    words("by design" if note.by_design else "not sealed"),
                )
                for note in notes
            ),
        )
    return Section(anchor="not-sealed", title="What was not sealed", blocks=(shown,))


def _meaning(seal: PastSeal) -> Section:
    told = (
        "A seal fixes the digests of every row that the primary held at its restore point. By itself it proves nothing"
        " of a backup: a drill to it does."
    )
    command = f"replcheck drill --target seal:{seal.seal_id}"
    return Section(anchor="meaning", title="What it is for", blocks=(Prose(words(told)), Verbatim((command,))))
