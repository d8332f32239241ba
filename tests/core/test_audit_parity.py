"""What lets copies drift apart beside their rows, and what it does to the outcome."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.audit.parity import compare_nodes, compare_software
from replcheck.model.audit import Finding
from replcheck.model.outcome import Outcome
from replcheck.postgres.nodes import ChecksumFailures
from replcheck.postgres.software import Software
from tests.core.nodes import SETTINGS, facts

PRIMARY = facts()


def found(settings: dict[str, str] | None = None, **changes) -> list[Finding]:
    """Compare a sound primary with one replica."""
    return compare_nodes(PRIMARY, [facts("db2", in_recovery=True, settings=settings, **changes)])


def told(findings: list[Finding]) -> set[tuple[str, str | None, Outcome]]:
    return {(finding.code, finding.node, finding.outcome) for finding in findings}


def test_nodes_that_are_alike_give_no_finding():
    assert found() == []


@pytest.mark.parametrize("name", ["block_size", "server_encoding"])
def test_a_difference_that_touches_bytes_makes_the_outcome_partial(name):
    assert (f"setting_{name}", "db2", Outcome.PARTIAL) in told(found({name: "other"}))


@pytest.mark.parametrize("name", ["shared_preload_libraries", "wal_level"])
def test_another_setting_is_a_finding_only(name):
    assert told(found({name: "other"})) == {(f"setting_{name}", "db2", Outcome.PROVEN)}


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("fsync", "off"),
        ("full_page_writes", "off"),
        ("zero_damaged_pages", "on"),
        ("ignore_checksum_failure", "on"),
        ("data_checksums", "off"),
    ],
)
def test_a_dangerous_setting_is_told_of_every_node_that_has_it(name, bad):
    nodes = [facts(settings={name: bad}), facts("db2", settings={name: bad}), facts("db3")]
    findings = compare_nodes(nodes[0], nodes[1:])
    dangerous = {finding.node for finding in findings if finding.what == f"{name} is {bad}"}
    assert dangerous == {"db1", "db2"}
    assert {finding.outcome for finding in findings} == {Outcome.PROVEN}


@pytest.mark.parametrize(
    "name",
    [
        "max_connections",
        "max_locks_per_transaction",
        "max_prepared_transactions",
        "max_wal_senders",
        "max_worker_processes",
    ],
)
def test_a_limit_below_the_primarys_is_told_and_one_above_is_not(name):
    primary = facts(settings={name: "50"})
    below, above = facts("db2", settings={name: "49"}), facts("db3", settings={name: "51"})
    assert told(compare_nodes(primary, [below, above])) == {(f"setting_{name}", "db2", Outcome.PROVEN)}


def test_checksum_failures_refute_wherever_they_were_seen():
    last, since = datetime(2026, 3, 2, 1, 2, 3, 4, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    old = ChecksumFailures(count=3, last_at=last, since=since)
    failing = facts(checksum_failures={"clinic": old, "": ChecksumFailures(count=1)})
    findings = compare_nodes(failing, [facts("db2", checksum_failures={"clinic": ChecksumFailures(count=1)})])
    assert {(finding.node, finding.code, finding.outcome) for finding in findings} == {
        ("db1", "checksum_failures", Outcome.REFUTED),
        ("db2", "checksum_failures", Outcome.REFUTED),
    }
    assert [finding.what for finding in findings] == [
        "1 page checksum failure was seen in the shared catalogs (the count was never reset)",
        (
            "3 page checksum failures were seen in database clinic, last at 2026-03-02 01:02:03+00:00"
            " (counted since 2026-02-01 00:00:00+00:00)"
        ),
        "1 page checksum failure was seen in database clinic (the count was never reset)",
    ]


def test_another_timeline_makes_the_outcome_partial_and_an_unknown_one_does_not():
    assert told(found(timeline=2)) == {("timeline", "db2", Outcome.PARTIAL)}
    assert found(timeline=None) == []
    assert compare_nodes(facts(timeline=None), [facts("db2", timeline=2)]) == []


def test_another_minor_version_is_a_finding_only():
    assert told(found(version_num=180002, version="18.2")) == {("server_version", "db2", Outcome.PROVEN)}


VERSIONS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1.0", "1.1", ""]))
KNOWN_OR_NOT = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1.0", "1.1", "", None]))


@given(VERSIONS, VERSIONS, KNOWN_OR_NOT, KNOWN_OR_NOT)
def test_versions_of_what_both_have_are_compared_and_differences_make_the_outcome_partial(ext1, ext2, col1, col2):
    there, here = Software(extensions=ext1, collations=col1), Software(extensions=ext2, collations=col2)
    findings = compare_software("clinic", there, here, node="db2")
    expected = {("extension_version", name) for name in ext1.keys() & ext2.keys() if ext1[name] != ext2[name]}
    expected |= {
        ("collation_version", name)
        for name in col1.keys() & col2.keys()
        if col1[name] != col2[name] or None in (col1[name], col2[name])
    }
    assert {(finding.code, finding.what.split()[3]) for finding in findings} == expected
    assert {(finding.node, finding.outcome) for finding in findings} <= {("db2", Outcome.PARTIAL)}


def test_a_version_that_is_empty_is_told_in_words():
    there, here = Software(extensions={"x": "1.0"}, collations={}), Software(extensions={"x": ""}, collations={})
    (finding,) = compare_software("clinic", there, here, node="db2")
    assert finding.what == "database clinic: extension x is without a version here and 1.0 on the primary"


def test_a_collation_that_a_server_does_not_know_is_told_in_words():
    there, here = (Software(extensions={}, collations={"mine": version, "other": "1"}) for version in ("2.36", None))
    (finding,) = compare_software("clinic", there, here, node="db2")
    assert finding.what == (
        "database clinic: collation mine is unknown to the server's libraries here and 2.36 on the primary"
    )
    assert finding.outcome is Outcome.PARTIAL


@given(st.sampled_from(sorted(SETTINGS)), st.sampled_from(["0", "1", "on", "off"]))
def test_no_setting_refutes_or_leaves_anything_unchecked(name, value):
    if name.startswith("max_") and not value.isdigit():
        return
    assert {finding.outcome for finding in found({name: value})} <= {Outcome.PROVEN, Outcome.PARTIAL}
