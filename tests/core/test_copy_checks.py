"""An index of a copy is blamed on the backup only where this machine's collations cannot explain its order."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, cast

import pytest

from replcheck.drill.layers.amcheck import AmcheckLayer, _Findings, _note
from replcheck.errors import StatementFailed
from replcheck.model.drill import LayerState
from replcheck.postgres.copies import CopyConnection
from replcheck.postgres.copy_checks import Checkable, CheckedKind, CheckFault, check

INDEX = Checkable(oid=1, kind=CheckedKind.INDEX, label="public.i", table="t", size_bytes=1)


class Copy:
    """Refuses the check and answers what is asked of collations."""

    version_num = 160000

    def __init__(self, refusal: StatementFailed, *answers: list[tuple[Any, ...]] | StatementFailed) -> None:
        self._answers = [refusal, *answers]

    def fetch(self, _statement: object, _parameters: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        answer = self._answers.pop(0)
        if isinstance(answer, StatementFailed):
            raise answer
        return answer


def refused(sqlstate: str, block: int | None = None) -> StatementFailed:
    return StatementFailed("refused", node="copy", sqlstate=sqlstate, block=block)


def found(copy: Copy) -> CheckFault:
    fault = check(cast(CopyConnection, copy), "public", INDEX, every_row=True)
    assert fault is not None
    return fault


def judged(fault: CheckFault) -> LayerState:
    findings, future = _Findings(heaps=1), Future[CheckFault | None]()
    future.set_result(fault)
    _note(INDEX, future, "app", findings)
    return AmcheckLayer()._report(findings).state


@pytest.mark.parametrize(
    ("answers", "state"),
    [
        (([], [(False,)]), LayerState.FAILED),
        (([(b"public", b"german")], [(False,)]), LayerState.INCONCLUSIVE),
        (([], [(True,)]), LayerState.INCONCLUSIVE),
        ((refused("22023"),), LayerState.INCONCLUSIVE),
    ],
)
def test_a_wrong_order_is_this_machines_where_its_collations_differ(
    answers: tuple[list[tuple[Any, ...]] | StatementFailed, ...], state: LayerState
) -> None:
    assert judged(found(Copy(refused("XX002"), *answers))) is state


def test_a_broken_page_and_a_missing_entry_owe_nothing_to_a_collation() -> None:
    for refusal in (refused("XX002", block=3), refused("XX001")):
        assert judged(found(Copy(refusal))) is LayerState.FAILED


def test_a_disk_that_fails_leaves_a_relation_unchecked_and_accuses_nothing() -> None:
    failing = StatementFailed(
        "refused", node="copy", sqlstate="58030", detail='could not read blocks 9..9 in file "base/5/1": I/O error'
    )
    with pytest.raises(StatementFailed):
        check(cast(CopyConnection, Copy(failing)), "public", INDEX, every_row=True)
    findings, future = _Findings(), Future[CheckFault | None]()
    future.set_exception(failing)
    _note(INDEX, future, "clinic", findings)
    assert findings.problems == []
    assert "SQLSTATE 58030" in findings.unchecked[0]
