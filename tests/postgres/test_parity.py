"""What lets copies drift apart beside their rows is seen on real nodes: settings, checksums, timelines, identity."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from replcheck.errors import NodeUnfit, StatementFailed
from replcheck.lab.cluster import LabCluster
from replcheck.lab.faults import apply_fault
from replcheck.model.audit import AuditResult
from replcheck.model.outcome import Outcome, Verdict
from replcheck.postgres.local import connect
from replcheck.postgres.session import Session
from replcheck.postgres.software import Software, read_software
from tests import labs
from tests.auditing import divergences_of, relation_of, run_audit_of, targets_of
from tests.conftest import MakeCluster

LITTLE: dict[str, Any] = {"databases": ("postgres",), "tables": ("pg_catalog.pg_class",)}
newest_only = pytest.mark.parametrize("major", labs.majors()[:1], ids="pg{}".format, indirect=True)


@pytest.fixture(scope="module")
def unlike(clusters_root: Path, newest_major: int) -> Iterator[LabCluster]:
    """A cluster without checksums whose standby1 has settings of its own."""
    name = f"unlike_{os.getpid()}"
    settings = {"full_page_writes": "on"}
    with LabCluster.create(clusters_root, name=name, major=newest_major, checksums=False, settings=settings) as made:
        standby = made.node("standby1")
        standby.configure(
            full_page_writes="off",
            zero_damaged_pages="on",
            ignore_checksum_failure="on",
            shared_preload_libraries="auto_explain",
            max_wal_senders="11",
        )
        standby.restart()
        made.wait_streaming()
        yield made


def codes_by_node(result: AuditResult) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for finding in result.findings:
        assert finding.what
        found.setdefault(finding.node or "", set()).add(finding.code)
    return found


def test_settings_unlike_the_primarys_are_told_and_change_no_outcome(unlike: LabCluster) -> None:
    result, _ = run_audit_of(unlike, **LITTLE)
    everywhere = {"setting_data_checksums", "setting_fsync"}
    assert codes_by_node(result) == {
        "primary": everywhere,
        "standby1": everywhere
        | {
            "setting_full_page_writes",
            "setting_zero_damaged_pages",
            "setting_ignore_checksum_failure",
            "setting_shared_preload_libraries",
        },
        "standby2": everywhere,
    }
    assert {finding.outcome for finding in result.findings} == {Outcome.PROVEN}
    assert result.verdict is Verdict.CONSISTENT


@newest_only
def test_a_standby_of_another_cluster_is_refused_by_its_system_identifier(
    cluster: LabCluster, unlike: LabCluster
) -> None:
    primary, _, _ = targets_of(cluster)
    _, stranger, _ = targets_of(unlike)
    with pytest.raises(NodeUnfit, match="is no physical replica") as refused:
        run_audit_of(cluster, targets=[primary, stranger])
    assert refused.value.node == stranger.name
    assert "system identifier" in refused.value.message


@newest_only
def test_checksum_failures_refute_even_where_the_rows_in_question_are_not_read(fresh_cluster: LabCluster) -> None:
    fresh_cluster.primary.execute("create table visit as select n, md5(n::text) from generate_series(1, 1000) as n")
    planted = apply_fault(fresh_cluster, "flip-page-bytes", relation="public.visit")
    result, _ = run_audit_of(fresh_cluster, databases=("postgres",), tables=("visit",))
    [found] = divergences_of(result, "visit")
    assert (found.node, found.sqlstate, found.block) == (planted.node, planted.sqlstate, planted.block)
    result, _ = run_audit_of(fresh_cluster, **LITTLE)
    [failures] = [finding for finding in result.findings if finding.code == "checksum_failures"]
    assert (failures.node, failures.outcome) == (planted.node, Outcome.REFUTED)
    assert "database postgres, last at 2" in failures.what
    assert "(the count was never reset)" in failures.what
    assert result.verdict is Verdict.DIVERGED


@newest_only
def test_a_standby_left_on_the_old_timeline_is_not_proven_until_it_follows(fresh_cluster: LabCluster) -> None:
    fresh_cluster.node("primary").stop()
    fresh_cluster.node("standby2").promote()
    result, _ = run_audit_of(fresh_cluster, replay_wait_s=1.0, settle_budget_s=2.0, **LITTLE)
    assert (result.primary.name, result.primary.timeline) == ("standby2", 2)
    [left] = result.replicas
    assert left.node.timeline in (None, 1)
    assert left.verdict is Verdict.INCONCLUSIVE
    assert left.reason
    fresh_cluster.node("standby1").follow(fresh_cluster.node("standby2"))
    fresh_cluster.node("standby1").restart()
    fresh_cluster.wait_streaming()
    result, _ = run_audit_of(fresh_cluster, **LITTLE)
    assert (result.verdict, result.replicas[0].node.timeline) == (Verdict.CONSISTENT, 2)


@newest_only
def test_lag_position_version_and_upstream_of_each_node_are_reported(make_cluster: MakeCluster, major: int) -> None:
    made = make_cluster(major=major, standbys=1)
    made.add_standby("leaf", upstream="standby1")
    made.catch_up()
    result, _ = run_audit_of(made, **LITTLE)
    nodes = {node.name: node for node in (result.primary, *(replica.node for replica in result.replicas))}
    assert {name: node.upstream for name, node in nodes.items()} == {
        "primary": None,
        "standby1": "primary",
        "leaf": "standby1",
    }
    assert {node.server_version_num // 10000 for node in nodes.values()} == {major}
    assert len({node.system_identifier for node in nodes.values()}) == 1
    assert (nodes["primary"].lag_bytes, nodes["leaf"].timeline) == (None, 1)
    assert all(node.lag_bytes is not None for name, node in nodes.items() if name != "primary")


@newest_only
def test_a_collation_that_the_servers_do_not_know_is_told_and_the_others_are_compared_all_the_same(
    cluster: LabCluster, major: int, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if major < 17:
        pytest.skip("no collation of this major can be unknown on a machine that knows the others")
    with connect(cluster.primary.dsn(database), node="primary", autocommit=True) as connection:
        connection.execute("create collation known (provider = builtin, locale = 'C.UTF-8')")
        connection.execute("create collation lost (provider = builtin, locale = 'C.UTF-8')")
        connection.execute("set allow_system_table_mods = on")
        connection.execute("update pg_collation set colllocale = 'Atlantis' where collname = 'lost'")
    cluster.catch_up()
    read: dict[str, Software] = {}

    async def with_an_older_library_on_standby2(session: Session) -> Software:
        read[session.node] = found = await read_software(session)
        older = {"public.known": "0"} if session.node == "standby2" else {}
        return replace(found, collations={**found.collations, **older})

    monkeypatch.setattr("replcheck.audit.unaligned.read_software", with_an_older_library_on_standby2)
    result, _ = run_audit_of(cluster, databases=(database,), catalogs=False)
    for software in read.values():
        assert software.collations["public.lost"] is None
        assert {software.collations[name] for name in ("public.known", "pg_c_utf8")} == {"1"}
    told = [finding for finding in result.findings if finding.code == "collation_version"]
    assert {(finding.node, finding.what.split()[3], finding.outcome) for finding in told} == {
        ("standby1", "public.lost", Outcome.PARTIAL),
        ("standby2", "public.lost", Outcome.PARTIAL),
        ("standby2", "public.known", Outcome.PARTIAL),
    }
    assert result.verdict is Verdict.INCONCLUSIVE
    assert {replica.verdict for replica in result.replicas} == {Verdict.CONSISTENT}


@newest_only
def test_versions_that_cannot_be_compared_are_a_finding_and_keep_no_row_from_being_proven(
    cluster: LabCluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.primary.execute("create table visit as select 1 as id", dbname=database)
    cluster.catch_up()

    async def refused_by_standby1(session: Session) -> Software:
        if session.node == "standby1":
            raise StatementFailed("refused a statement (SQLSTATE 42501)", node="standby1", sqlstate="42501")
        return await read_software(session)

    monkeypatch.setattr("replcheck.audit.unaligned.read_software", refused_by_standby1)
    result, _ = run_audit_of(cluster, databases=(database,), catalogs=False)
    told = [finding for finding in result.findings if finding.code == "software"]
    assert [(finding.node, finding.outcome) for finding in told] == [("standby1", Outcome.PARTIAL)]
    assert "versions of extensions and collations not compared" in told[0].what
    assert relation_of(result, "visit").verdict is Verdict.CONSISTENT
    assert {replica.verdict for replica in result.replicas} == {Verdict.CONSISTENT}
    assert (result.verdict, result.not_checked) == (Verdict.INCONCLUSIVE, ())
