"""WAL files, timelines, segments and logs: what is told of an archive follows the server's own rules."""

import struct
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from replcheck.drill.diagnosis import failure, read_log
from replcheck.drill.segments import CreationFinder, segment_facts
from replcheck.drill.wal import (
    Segment,
    Switch,
    is_wal_name,
    needed_segment,
    newest_timeline,
    parse_history,
    reach,
    timeline_at,
)
from replcheck.errors import BackupRefuted, DrillBlocked
from replcheck.model.wal import Lsn

SIZE = 16 * 1024**2
SIZES = st.sampled_from([1 << 20, 16 << 20, 1 << 30])


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, tuple[Switch, ...]]:
    """A timeline and the ones before it, each left at a later position."""
    ends = sorted(draw(st.sets(st.integers(1, 40 * SIZE), max_size=4)))
    switches = tuple(Switch(timeline=number, end=Lsn(end)) for number, end in enumerate(ends, start=1))
    return len(switches) + 1, switches


@given(number=st.integers(0, 1 << 30), timeline=st.integers(1, 0xFFFFFFFF), size=SIZES)
def test_names_of_segments_are_read_back(number: int, timeline: int, size: int):
    assume(number // (0x100000000 // size) <= 0xFFFFFFFF)
    segment = Segment(number=number, timeline=timeline)
    name = segment.name(size)
    assert is_wal_name(name)
    assert Segment.parse(name, size) == segment


@pytest.mark.parametrize("name", ["", "00000002.history.gz", "000000010000000000000001.partial", "archive_status"])
def test_other_files_are_no_wal(name: str):
    assert not is_wal_name(name)
    assert Segment.parse(name, SIZE) is None


@given(histories(), st.integers(0, 45 * SIZE))
def test_a_position_lies_on_the_timeline_that_wrote_it(line: tuple[int, tuple[Switch, ...]], at: int):
    timeline, history = line
    found = timeline_at(Lsn(at), timeline, history)
    begins = {switch.timeline + 1: switch.end for switch in history}
    ends = {switch.timeline: switch.end for switch in history}
    assert begins.get(found, 0) <= at
    assert found == timeline or at < ends[found]


@given(histories(), st.integers(0, 30), st.integers(1, 15), st.data())
def test_a_gap_is_the_first_file_that_recovery_needs_and_does_not_find(
    line: tuple[int, tuple[Switch, ...]], first: int, count: int, data: st.DataObject
):
    timeline, history = line
    needed = [
        needed_segment(number, timeline, history, segment_bytes=SIZE).name(SIZE)
        for number in range(first, first + count)
    ]
    gone = data.draw(st.none() | st.integers(0, count - 1))
    names = {name for index, name in enumerate(needed) if index != gone}
    others = {Segment(number=number, timeline=timeline + 1).name(SIZE) for number in range(first, first + count)}
    found = reach(names | others, Lsn(first * SIZE + 40), timeline, history, segment_bytes=SIZE)
    if gone is None:
        assert (found.files, found.later) == (count, None)
        assert found.end == (first + count) * SIZE
    else:
        assert found.missing == needed[gone]
        assert found.later == (needed[gone + 1] if gone + 1 < count else None)
        assert found.files == gone


def test_a_segment_in_which_a_timeline_ended_is_needed_from_the_next_one():
    history = (Switch(timeline=1, end=Lsn(3 * SIZE + 100)),)
    old = {Segment(number=number, timeline=1).name(SIZE) for number in range(6)}
    found = reach(old, Lsn(SIZE), 2, history, segment_bytes=SIZE)
    assert found.missing == Segment(number=3, timeline=2).name(SIZE)
    assert found.later is None


@given(histories())
def test_a_history_is_read_back(line: tuple[int, tuple[Switch, ...]]):
    _, history = line
    text = "# a comment\n" + "".join(f"{s.timeline}\t{s.end}\tno recovery target specified\n" for s in history)
    read = parse_history(text)
    assert [(s.timeline, s.end) for s in read] == [(s.timeline, s.end) for s in history]


@pytest.mark.parametrize("text", ["nonsense\n", "2\t0/1\tx\n1\t0/2\tx\n"])
def test_a_damaged_history_is_refused(text: str):
    with pytest.raises(ValueError, match="timeline"):
        parse_history(text)


@given(st.sets(st.integers(2, 9)), st.integers(1, 9))
def test_the_newest_timeline_is_the_last_without_a_gap(known: set[int], start: int):
    newest = newest_timeline(start, known)
    assert set(range(start + 1, newest + 1)) <= known
    assert newest + 1 not in known


PAGE = 8192


def segment(address: int, body: bytes, *, size: int = 1 << 20, system: int = 7) -> bytes:
    """Return a segment whose pages hold a stream of bytes after their headers."""
    pages, rest = [], body
    for number in range(size // PAGE):
        place = address + number * PAGE
        if number == 0:
            header = struct.pack("<HHIQI4xQII", 0xD118, 2, 1, place, 0, system, size, PAGE)
        else:
            header = struct.pack("<HHIQI4x", 0xD118, 0, 1, place, 0)
        room = PAGE - len(header)
        pages.append(header + rest[:room].ljust(room, b"\0"))
        rest = rest[room:]
    assert not rest
    return b"".join(pages)


def creation(oid: int, path: str) -> bytes:
    """Return a WAL record that creates a tablespace."""
    data = struct.pack("<I", oid) + path.encode() + b"\0"
    lead = b"\xff" + bytes([len(data)]) if len(data) < 256 else b"\xfe" + struct.pack("<I", len(data))
    return struct.pack("<IIQBBxxI", 24 + len(lead) + len(data), 5, 99, 0, 5, 0xABCD) + lead + data


@given(before=st.integers(0, (1 << 20) - 8192), length=st.integers(1, 400))
def test_a_creation_of_a_tablespace_is_found_wherever_it_lies(before: int, length: int):
    record = creation(16400, "/" + "x" * length)
    room = 40 + before + 24 * (before // PAGE + 2) + len(record)
    assume(room < 1 << 20)
    data = segment(0x100000, b"\x11" * before + record)
    facts = segment_facts(data)
    assert facts is not None
    [found] = CreationFinder().look(data, facts)
    assert (found.oid, found.path) == (16400, "/" + "x" * length)
    assert 0x100000 <= found.position < 0x200000


@given(st.integers(1, 60))
def test_a_creation_that_goes_on_in_the_next_segment_is_found(split: int):
    record = creation(16400, "/srv/space")
    assume(split < len(record))
    room = (1 << 20) - 40 - 24 * ((1 << 20) // PAGE - 1)
    first = segment(0x100000, b"\x11" * (room - split) + record[:split])
    second = segment(0x200000, record[split:])
    finder = CreationFinder()
    facts = [segment_facts(data) for data in (first, second)]
    assert facts[0] is not None
    assert facts[1] is not None
    assert finder.look(first, facts[0]) == []
    [found] = finder.look(second, facts[1])
    assert found.path == "/srv/space"


def test_a_creation_that_goes_on_is_found_though_earlier_segments_were_looked_at_in_between():
    record = creation(16400, "/srv/space")
    room = (1 << 20) - 40 - 24 * ((1 << 20) // PAGE - 1)
    ninth = segment(0x900000, b"\x11" * (room - 9) + record[:9])
    finder = CreationFinder()
    looked = [ninth, segment(0x400000, b"\x11"), segment(0x500000, b"\x11"), segment(0xA00000, record[9:])]
    found = [finder.look(data, facts) for data in looked if (facts := segment_facts(data)) is not None]
    assert found[:3] == [[], [], []]
    assert [one.path for one in found[3]] == ["/srv/space"]


@given(st.binary(max_size=20000))
def test_other_bytes_create_no_tablespace(body: bytes):
    assume(b"\x00\x05\x00\x00" not in body)
    data = segment(0x100000, body)
    facts = segment_facts(data)
    assert facts is not None
    assert CreationFinder().look(data, facts) == []


def test_what_never_was_a_segment_has_no_facts():
    assert segment_facts(bytes(8192)) is None
    assert segment_facts(b"short") is None


LOG = """\
2026-11-28 11:38:27.787 UTC [9366] startup LOG:  redo starts at 0/3000028
2026-11-28 11:38:28.024 UTC [9366] startup LOG:  record with incorrect prev-link 0/0 at 0/4011168
2026-11-28 11:38:28.024 UTC [9366] startup LOG:  redo done at 0/4011128 system usage: CPU: user: 0.00 s
2026-11-28 11:38:28.024 UTC [9366] startup LOG:  last completed transaction was at log time 2026-11-28 11:38:20.5+00
2026-11-28 11:38:28.025 UTC [9366] startup FATAL:  recovery ended before configured recovery target was reached
2026-11-28 11:38:28.030 UTC [9370] client backend FATAL:  the database system is shutting down
"""


def test_the_log_of_a_failed_recovery_tells_how_far_it_got():
    facts = read_log(LOG)
    assert (facts.redo_done, facts.bad_record) == (Lsn.parse("0/4011128"), Lsn.parse("0/4011168"))
    assert facts.last_commit_at is not None
    assert facts.last_commit_at.isoformat() == "2026-11-28T11:38:20.500000+00:00"
    assert failure(facts).code == "target_not_reached"
    assert isinstance(failure(facts), BackupRefuted)


@pytest.mark.parametrize(
    ("said", "code", "refutes"),
    [
        ('could not open file "base/5/16384": No such file or directory', "file_missing", True),
        ('could not open file "base/5/16384": Permission denied', "scratch_unreadable", False),
        ('could not read blocks 4..4 in file "base/5/16384": Input/output error', "scratch_unreadable", False),
        ('could not read block 4 in file "base/5/16384": read only 0 of 8192 bytes', "files_damaged", True),
        ('could not open file "pg_wal/000000010000000000000004": Too many open files', "scratch_unreadable", False),
        ('could not access file "pg_xact/0000": Read-only file system', "scratch_unreadable", False),
        ('could not write to file "pg_wal/xlogtemp.7": Disk quota exceeded', "no_space", False),
        ('could not extend file "base/5/16384": No space left on device', "no_space", False),
    ],
)
def test_what_a_disk_refuses_is_never_blamed_on_the_backup(said: str, code: str, refutes: bool):
    found = failure(read_log(f"2026-11-28 11:38:28.025 UTC [9366] startup FATAL:  {said}\n"))
    assert (found.code, isinstance(found, BackupRefuted)) == (code, refutes)


@given(st.text(alphabet=st.characters(blacklist_categories=("Cs", "Cc")), min_size=6))
def test_words_of_a_server_that_are_not_known_are_never_passed_on(words: str):
    line = f"2026-11-28 11:38:28.025 UTC [9366] startup FATAL:  zzz {words}\n"
    found = failure(read_log(line))
    assume(found.code == "recovery_failed")
    assert isinstance(found, DrillBlocked)
    assert words not in found.message + found.hint


def test_ends_of_switches_ascend():
    history = parse_history("1\t0/5000000\tx\n2\t0/6000000\ty\n")
    assert all(a.end < b.end for a, b in pairwise(history))
