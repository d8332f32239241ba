r"""Cuts the SQL that pg_dump wrote into statements and data, as psql would, without running any of psql's commands.

psql itself would take the rows of a table that could not be made for statements, would run `\!`, and ends with status 0
where a dump was cut off in the middle of a table. The rules of the language follow the PostgreSQL manual, Lexical
Structure, and psql's own (PostgreSQL source, psqlscan.l) for what ends a statement.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import IO

_LABEL = re.compile(
    rb"^-- (?:Data for )?Name: (?P<name>.*); Type: (?P<type>[A-Z ]+); Schema: (?P<schema>.*); Owner: (?P<owner>.*)$"
)
_ENDS_OF_DUMPS = (b"-- PostgreSQL database dump complete", b"-- PostgreSQL database cluster dump complete")
_COPY_FROM_CLIENT = re.compile(rb"COPY .* FROM stdin;\s*", re.DOTALL)
_COPY_FROM_SERVER = re.compile(rb"COPY\b", re.IGNORECASE)
_ROUTINE = re.compile(rb"\s*CREATE\s+(OR\s+REPLACE\s+)?(FUNCTION|PROCEDURE)\b", re.IGNORECASE)
_ESCAPES_ON = re.compile(rb"\s*SET standard_conforming_strings = off;\s*", re.IGNORECASE)
_KNOWN_COMMANDS = (b"\\restrict ", b"\\unrestrict ", b"\\connect ")
_NAME = rb"[A-Za-z_\x80-\xff][A-Za-z_0-9$\x80-\xff]*"
_SPECIAL = re.compile(
    rb"--|/\*|[eE]'|'|\"|\$(?:[A-Za-z_\x80-\xff][A-Za-z_0-9\x80-\xff]*)?\$|[();]|" + _NAME,
)
_PLAIN_INSERT = (b'"', b"$", b"--", b"/*", b"E'", b"\\")
"""What an INSERT on one line must not hold to be taken as it is."""
_CHUNK_BYTES = 256 * 1024
_LINE_BYTES = 1024 * 1024


class PlainDumpError(ValueError):
    """The SQL is not what pg_dump writes, or ends too early; `code` is for machines, no message quotes it."""

    def __init__(self, what: str, *, code: str) -> None:
        super().__init__(what)
        self.code = code


@dataclass(frozen=True, slots=True)
class Label:
    """What pg_dump says in a comment of the statements that follow."""

    kind: str = ""
    schema: str = ""
    name: str = ""
    owner: str = ""


@dataclass(frozen=True, slots=True)
class SqlStatement:
    """One statement with its end; `copies` says that data follows, which `PlainDump.data` returns."""

    text: bytes
    line: int
    label: Label
    copies: bool = False


class _Inside(Enum):
    """What the reader is inside of."""

    STATEMENT = "statement"
    QUOTES = "quotes"
    ESCAPED_QUOTES = "escaped quotes"
    NAME = "name"
    DOLLARS = "dollars"
    COMMENT = "comment"


_ENDS = {
    _Inside.QUOTES: re.compile(rb"'"),
    _Inside.ESCAPED_QUOTES: re.compile(rb"\\.|'", re.DOTALL),
    _Inside.NAME: re.compile(rb'"'),
    _Inside.COMMENT: re.compile(rb"/\*|\*/"),
}


@dataclass(slots=True)
class _Lexer:
    """What is known of the statement that is being read."""

    inside: _Inside = _Inside.STATEMENT
    tag: bytes = b""
    comments: int = 0
    parentheses: int = 0
    blocks: int = 0
    """BEGIN ATOMIC and CASE that have not ended, in a routine's body."""
    escapes: bool = False
    """Whether backslashes escape in every string."""

    def end_in(self, line: bytes, start: int, *, routine: bool) -> int | None:
        """Read on and return where the statement ends, behind its semicolon; None where it goes on."""
        at = start
        while at < len(line):
            if self.inside is _Inside.STATEMENT:
                match = _SPECIAL.search(line, at)
                if match is None:
                    return None
                at = match.end()
                if match[0] == b"--":
                    return None
                if self._take(match[0], routine=routine):
                    return at
            else:
                at = self._leave(line, at)
        return None

    def _take(self, token: bytes, *, routine: bool) -> bool:
        match token:
            case b"'":
                self.inside = _Inside.ESCAPED_QUOTES if self.escapes else _Inside.QUOTES
            case b"e'" | b"E'":
                self.inside = _Inside.ESCAPED_QUOTES
            case b'"':
                self.inside = _Inside.NAME
            case b"/*":
                self.inside, self.comments = _Inside.COMMENT, 1
            case b"(":
                self.parentheses += 1
            case b")":
                self.parentheses = max(0, self.parentheses - 1)
            case b";":
                return self.parentheses == 0 and self.blocks == 0
            case _ if token.startswith(b"$"):
                self.inside, self.tag = _Inside.DOLLARS, token
            case _ if routine and self.parentheses == 0:
                self._count_blocks(token.lower())
        return False

    def _count_blocks(self, word: bytes) -> None:
        if word == b"begin" or (word == b"case" and self.blocks):
            self.blocks += 1
        elif word == b"end" and self.blocks:
            self.blocks -= 1

    def _leave(self, line: bytes, at: int) -> int:
        if self.inside is _Inside.DOLLARS:
            found = line.find(self.tag, at)
            if found < 0:
                return len(line)
            self.inside = _Inside.STATEMENT
            return found + len(self.tag)
        match = _ENDS[self.inside].search(line, at)
        if match is None:
            return len(line)
        if match[0] in (b"'", b'"'):
            self.inside = _Inside.STATEMENT
        elif match[0] == b"/*":
            self.comments += 1
        elif match[0] == b"*/":
            self.comments -= 1
            self.inside = _Inside.COMMENT if self.comments else _Inside.STATEMENT
        return match.end()


@dataclass(slots=True)
class PlainDump:
    """Reads a stream once, from its begin to its end."""

    stream: IO[bytes]
    line: int = 0
    read_bytes: int = 0
    complete: bool = False
    """Whether pg_dump's last line was seen, outside of any statement."""
    _label: Label = field(default_factory=Label)
    _escapes: bool = False
    _data_left: bool = False

    def statements(self) -> Iterator[SqlStatement]:
        """Yield the statements; data that nobody asked for is passed over.

        Raises PlainDumpError where the dump ends too early or holds what pg_dump does not write, and what the stream
        raises.
        """
        lexer, begun, parts = _Lexer(escapes=self._escapes), 0, list[bytes]()
        while line := self._next(-1):
            at, blank = 0, not parts
            if blank and lexer.inside is _Inside.STATEMENT and self._passed_over(line):
                continue
            if blank and self._is_plain_insert(line):
                yield SqlStatement(line, self.line, self._label)
                continue
            while at < len(line):
                routine = (_ROUTINE.match(parts[0]) if parts else _ROUTINE.match(line, at)) is not None
                end = lexer.end_in(line, at, routine=routine)
                if not parts:
                    begun = self.line
                parts.append(line[at:end] if end is not None else line[at:])
                if end is None:
                    break
                at = end
                text, parts = b"".join(parts), []
                yield from self._told(text, begun)
                lexer = _Lexer(escapes=self._escapes)
                if not line[at:].strip():
                    break
        if parts and b"".join(parts).strip():
            raise PlainDumpError(f"is cut off in the statement of line {begun}", code="dump_truncated")
        if not self.complete:
            raise PlainDumpError(
                'is cut off: the line "PostgreSQL database dump complete" is missing', code="dump_truncated"
            )

    def data(self) -> Iterator[bytes]:
        r"""Yield the data that follows the last statement, without its end `\.`."""
        chunk = bytearray()
        whole = True  # whether the last line that was read had its end
        while self._data_left:
            line = self._next(_LINE_BYTES)
            if not line:
                raise PlainDumpError(f"is cut off in the data before line {self.line + 1}", code="dump_truncated")
            if whole and line in (b"\\.\n", b"\\.\r\n"):
                self._data_left = False
                break
            whole = line.endswith(b"\n")
            chunk += line
            if len(chunk) >= _CHUNK_BYTES:
                yield bytes(chunk)
                chunk.clear()
        if chunk:
            yield bytes(chunk)

    def _told(self, text: bytes, begun: int) -> Iterator[SqlStatement]:
        if _ESCAPES_ON.fullmatch(text):
            self._escapes = True
        copies = _COPY_FROM_CLIENT.fullmatch(text.lstrip()) is not None
        if not copies and _COPY_FROM_SERVER.match(text.lstrip()):
            raise PlainDumpError(f"reads or writes files of the server in line {begun}", code="dump_corrupt")
        self._data_left = copies
        yield SqlStatement(text.strip(), begun, self._label, copies)
        if self._data_left:
            for _ in self.data():
                pass

    def _next(self, limit: int) -> bytes:
        # Statements are read by whole lines, so that no token is torn; data may come in lines of any length.
        line = self.stream.readline(limit)
        self.read_bytes += len(line)
        self.line += line.endswith(b"\n")
        return line

    def _passed_over(self, line: bytes) -> bool:
        """Return whether a line between statements is blank, a comment or a command of psql's that pg_dump writes."""
        if not line.strip():
            return True
        if line.startswith(b"--"):
            if line.rstrip() in _ENDS_OF_DUMPS:
                self.complete = True
            elif label := _LABEL.match(line.rstrip()):
                parts = [label[part].decode("utf-8", "replace") for part in ("type", "schema", "name", "owner")]
                self._label = Label(*parts)
            return True
        if line.startswith(b"\\"):
            if not line.startswith(_KNOWN_COMMANDS):
                raise PlainDumpError(f"holds a command of psql's in line {self.line}", code="dump_corrupt")
            return True
        return False

    def _is_plain_insert(self, line: bytes) -> bool:
        return (
            line.startswith(b"INSERT INTO ")
            and line.endswith(b");\n")
            and line.count(b"'") % 2 == 0
            and not self._escapes
            and not any(sign in line for sign in _PLAIN_INSERT)
        )
