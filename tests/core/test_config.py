"""The configuration file: found, read, checked, and told what is wrong with it."""

import os
from pathlib import Path

import pytest

from replcheck.config import find_file, load, lookup_places
from replcheck.errors import ConfigurationError

SAMPLES = sorted((Path(__file__).parents[2] / "sample_configs").glob("*.toml"))
NODES = 'cluster = "c"\n[nodes]\na = { dsn = "host=a" }\nb = { dsn = "host=b" }\n'


def waiver(keys: str) -> str:
    return f"{NODES}[waivers]\nfailover = {{ {keys}, until = 2027-01-31 }}"


def refused(tmp_path: Path, text: str | bytes) -> ConfigurationError:
    path = tmp_path / "replcheck.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    assert "\n" not in caught.value.message
    assert str(path) in caught.value.message
    return caught.value


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_sample_loads(path):
    assert load(path).nodes


def test_there_are_samples():
    assert len(SAMPLES) >= 3


def test_the_clinic_sample_says_what_the_design_says():
    clinic = load(next(path for path in SAMPLES if path.name == "clinic.toml"))
    assert clinic.audit.pause_if.lag == 64 << 20
    assert clinic.policy.recovery_point is not None
    assert clinic.policy.recovery_point.max_age == 300
    assert clinic.nodes["db2"].zone == "rack-b"
    assert clinic.output.time_zone == "Asia/Kolkata"


def test_units_are_read_into_seconds(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(NODES + '[audit]\nmax_snapshot_age = "2min"\nnode_timeout = "1500ms"\n')
    audit = load(path).audit
    assert (audit.max_snapshot_age, audit.node_timeout) == (120.0, 1.5)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (NODES + '[audit]\nlevl = "fast"', "unknown key audit.levl", 'Did you mean "level"?'),
        (NODES + "[audits]", "unknown key audits", 'Did you mean "audit"?'),
        (NODES + "[nodes.c]\nhost = 1\ndsn='x=y'", "unknown key nodes.c.host", ""),
        (NODES + "[nodes.c]\ndns = 'x=y'", "unknown key nodes.c.dns", 'Did you mean "dsn"?'),
        (NODES + "[audit]\njobs = 0\nlevle = 'exact'", "unknown key audit.levle (and 1 more)", 'Did you mean "level"?'),
        (NODES + "[backups.w]\nkind = 'base'\npaht = '/b'", "unknown key backups.w.paht", 'Did you mean "path"?'),
        (NODES + "[backups.w]\nkind = 'dump'", "backups.w.path is missing", ""),
        (NODES + "[backups.w]\nkind = 'bse'", "backups.w.kind must be 'base', ", ""),
        (NODES + "[backups.w]\npath = '/b'", "backups.w.kind is missing", ""),
        (NODES + "[drill]\nscratch = { dri = '/s' }", "unknown key drill.scratch.dri", 'Did you mean "dir"?'),
        (NODES + "[drill]\nscratch = 3", "drill.scratch must be a text in quotes", ""),
        (NODES + '[policy]\nrecovery_point = {max_age="1h"}', "unknown key policy.recovery_point", "recovery-point"),
        (NODES + "[policy.copies]\nprooven = 2", "unknown key policy.copies.prooven", 'Did you mean "proven"?'),
        (NODES + '[audit]\nlevel = "quick"', "audit.level must be 'fast', 'exact' or 'strong'", ""),
        (NODES + '[audit]\nmax_snapshot_age = "60"', "audit.max_snapshot_age must be a duration such as 5min", ""),
        (NODES + '[audit]\nmax_snapshot_age = "2d"', "audit.max_snapshot_age must be at most 1h", ""),
        (NODES + "[audit]\njobs = 0", "audit.jobs must be at least 1", ""),
        (NODES + '[audit.pause_if]\nlag = "64mb"', "audit.pause_if.lag must be a size such as 64MB", ""),
        (NODES + '[drill]\nbackup = "weekly"', 'drill.backup names "weekly"', ""),
        (NODES + '[waivers]\nfailovr = {reason="x", by="y", until=2027-01-31}', "waivers.failovr names no control", ""),
        (waiver('reason="", by="y"'), "waivers.failover.reason must not be empty", "A waiver needs a reason"),
        (waiver('reason=" \\t", by="y"'), "waivers.failover.reason must not be empty", "A waiver needs a reason"),
        (waiver('reason="x", by=""'), "waivers.failover.by must not be empty", "who decided it"),
        (waiver('by="y"'), "waivers.failover.reason is missing", "A waiver needs a reason"),
        (waiver('reason=7, by="y"'), "waivers.failover.reason must be a text in quotes", "A waiver needs"),
        (NODES + '[audit]\nexclude = [""]', "audit.exclude.0 must not be empty", ""),
        (NODES + '[output]\ntime_zone = "Mars/Olympus"', "output.time_zone is no zone", "IANA"),
        ("config_version = 2\n" + NODES, "config_version must be 1", ""),
        ('cluster = "c"\n[nodes]', "nodes must name at least the primary", ""),
        ('cluster = "../c"\n' + NODES.partition("\n")[2], "cluster must be a name of letters", ""),
        ("", "cluster is missing", ""),
    ],
)
def test_a_wrong_key_is_named_by_its_path(tmp_path, text, message, hint):
    error = refused(tmp_path, text)
    assert message in error.message
    assert hint in error.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nodes = 3", "nodes must be a table of keys"),
        ("[nodes]\na = 'host=a'", "nodes.a must be a table of keys"),
        (NODES + "[audit]\njobs = 1.5", "audit.jobs must be a whole number"),
        (NODES + "[audit]\ntables = 'x'", "audit.tables must be a list in square brackets"),
        (NODES + "[audit]\ncatalogs = 'maybe'", "audit.catalogs must be true or false"),
        (NODES + "[policy.copies]\nshare = 0", "policy.copies.share must be more than 0"),
        (NODES + "[policy.copies]\nshare = 'x'", "policy.copies.share must be a number"),
        (NODES + "[policy.placement]\ndistinct = []", "policy.placement.distinct must not be empty"),
        (NODES + "[waivers.copies]\nreason = 'x'\nby = 'y'\nuntil = 'x'", "waivers.copies.until must be a day such as"),
        (NODES + "[watch]\ninterval = '10ms'", "watch.interval must be at least 100ms"),
    ],
)
def test_what_a_key_must_be_is_said_in_plain_words(tmp_path, text, message):
    told = refused(tmp_path, text if "cluster" in text else f"cluster = 'c'\n{text}").message
    assert message in told
    assert "nput should" not in told


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('cluster = "c"\nnodes = = 1\n', "line 2, column 9"),
        ('cluster = "c"\n\n[nodes\n', "line 3"),
        ('cluster = "c', "line 1"),
        (b'cluster = "c"\nconnect = "\xff"\n', "line 2 is not UTF-8"),
    ],
)
def test_a_syntax_error_names_the_line(tmp_path, text, where):
    assert where in refused(tmp_path, text).message


def test_no_message_quotes_a_value(tmp_path):
    for text in (
        NODES.replace('"host=a"', "['password=canary']"),
        NODES + "connect = 'password=canary'\n[audit]\nlevel = 'canary'",
        "connect = 'password=canary\n" + NODES,
        NODES + "[audit]\nmax_snapshot_age = 'canary'",
    ):
        error = refused(tmp_path, text)
        assert "canary" not in error.message + error.hint + str(error.__cause__) + str(error.__context__)


def test_a_missing_file_is_one_clear_line(tmp_path):
    with pytest.raises(ConfigurationError, match=r"cannot read configuration .*: no such file or directory") as caught:
        load(tmp_path / "none.toml")
    assert "--config" in caught.value.hint


def test_a_configuration_that_never_ends_is_refused():
    with pytest.raises(ConfigurationError, match="cannot read configuration /dev/zero: file too large"):
        load(Path("/dev/zero"))


def test_a_configuration_may_come_through_a_pipe():
    read_from, write_to = os.pipe()
    os.write(write_to, NODES.encode())
    os.close(write_to)
    assert load(Path(f"/dev/fd/{read_from}")).cluster == "c"
    os.close(read_from)


def test_a_byte_order_mark_does_no_harm(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("\ufeff" + NODES, encoding="utf-8")
    assert load(path).cluster == "c"


def test_a_named_file_beats_the_environment_and_every_folder(tmp_path):
    assert find_file(Path("a.toml"), {"REPLCHECK_CONFIG": "b.toml"}) == Path("a.toml")
    assert find_file(None, {"REPLCHECK_CONFIG": "b.toml"}) == Path("b.toml")


def test_folders_are_searched_from_the_nearest_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "user"), "XDG_CONFIG_DIRS": str(tmp_path / "system")}
    found = []
    for place in reversed(lookup_places(environment)[:3]):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("")
        found.append(find_file(None, environment) == place)
    assert found == [True, True, True]


def test_no_home_is_needed():
    assert lookup_places({}) == (Path("replcheck.toml"), Path("/etc/replcheck/replcheck.toml"))
