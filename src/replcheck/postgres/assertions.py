"""Assertions: what may be written in one, decided before anything is fetched.

An assertion is one boolean expression; unlike a filter it may hold subqueries. It is parsed by sqlglot, which knows no
function here, so that none is rewritten; what runs is rendered from the tree. `assertion_checks` asks a copy the rest.
No message quotes an assertion, nor what it reads.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import sqlglot
from sqlglot import TokenType, exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import SqlglotError
from sqlglot.parsers.postgres import PostgresParser

from replcheck.errors import ConfigurationError

MAX_LENGTH = 100_000
"""Characters of an assertion."""

# The parser logs what it cannot read, with its text; without a handler Python would print that to standard error.
logging.getLogger("sqlglot").addHandler(logging.NullHandler())


class _Unrewritten(Postgres):
    """PostgreSQL's grammar in which every function stays the call that was written."""

    class Parser(PostgresParser):
        """Knows no function by name; only what the grammar spells in a way of its own."""

        FUNCTIONS: ClassVar[dict[str, Any]] = {}
        NO_PAREN_FUNCTIONS: ClassVar[dict[Any, Any]] = {}


_GRAMMAR = frozenset(
    {
        "all", "and", "any", "array", "as", "between", "both", "by", "case", "cast", "coalesce", "cross",
        "cube", "distinct", "else", "except", "exists", "extract", "filter", "from", "full", "greatest",
        "group", "grouping", "having", "ilike", "in", "inner", "intersect", "interval", "is", "isnull",
        "join", "lateral", "least", "like", "limit", "materialized", "natural", "normalize", "not",
        "notnull", "nullif", "offset", "on", "only", "or", "order", "outer", "over", "overlaps", "overlay",
        "partition", "position", "rollup", "row", "select", "sets", "similar", "some", "substring",
        "tablesample", "then", "trim", "union", "using", "values", "when", "where", "window", "with",
        "within", "xmlelement", "xmlexists", "xmlforest"
    }
)  # fmt: skip
"""Words that stand before parentheses without calling what somebody could have made."""
_RUN_TEXT = re.compile(r"(query|cursor|table|schema|database)_to_xml\w*|ts_stat|ts_rewrite")
"""Functions of the server's own that run the SQL they are given, although they are not volatile."""
_REFUSED: tuple[tuple[type[exp.Expr], str], ...] = (
    (exp.DML, "changes rows"),
    (exp.Merge, "changes rows"),
    (exp.Into, "makes a table (INTO)"),
    (exp.Lock, "locks rows"),
    (exp.Create, "is a statement"),
    (exp.Drop, "is a statement"),
    (exp.Alter, "is a statement"),
    (exp.Command, "is a statement"),
    (exp.Set, "is a statement"),
    (exp.Copy, "is a statement"),
    (exp.Parameter, "holds a parameter"),
    (exp.SessionParameter, "holds a parameter"),
    (exp.Placeholder, "holds a placeholder"),
    (exp.Alias, "does not end where its expression ends"),
)


class AssertionRefusedError(ValueError):
    """Why a text is no assertion, as the end of a sentence that begins with "it"; quotes nothing but functions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """One read-only boolean expression that must hold on a restored copy."""

    name: str
    database: str | None
    """In which database it is asked; None where its name does not say."""
    expression: str
    """As it was rendered from its tree."""
    functions: tuple[str, ...]
    """Names of what it calls."""
    relations: tuple[str, ...]
    """Names of what it reads, as the server resolves them."""


def parse_assertion(name: str, text: str) -> Assertion:
    """Return an assertion of the configuration; raise ConfigurationError where it is anything else.

    A name `database.name` says in which database it is asked.
    """
    database, _, _ = name.rpartition(".")
    try:
        tree = parse_expression(text)
        rendered = _rendered(tree)
        functions = _functions(rendered)
    except AssertionRefusedError as refused:
        message = f"assertion {name} is refused: it {refused}"
    else:
        return Assertion(
            name=name,
            database=database or None,
            expression=rendered,
            functions=functions,
            relations=tuple(sorted(set(_relations(tree)))),
        )
    # Outside the handler: nothing of the parser's own may hang on what is raised.
    raise ConfigurationError(
        message,
        hint="An assertion is one boolean expression that only reads, for instance: exists (select from visit).",
    )


def parse_expression(text: str) -> exp.Expr:
    """Return the tree of an assertion; raise AssertionRefusedError where it is not one expression that only reads."""
    if len(text) > MAX_LENGTH:
        raise AssertionRefusedError(f"is longer than {MAX_LENGTH:,} characters")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise AssertionRefusedError("holds a character that no text in a database can hold")
    tree = _parsed(text)
    for node in tree.walk():
        word = next((word for kind, word in _REFUSED if isinstance(node, kind) and not _is_column_alias(node)), None)
        if word:
            raise AssertionRefusedError(word)
    if isinstance(tree, exp.Query) and not isinstance(tree, exp.Subquery):
        raise AssertionRefusedError("is a statement; put it in parentheses to make it an expression")
    if not isinstance(tree, exp.Condition | exp.Subquery):
        raise AssertionRefusedError("is no expression")
    try:
        same = _parsed(_rendered(tree)) == tree
    except AssertionRefusedError:
        same = False
    if not same:
        raise AssertionRefusedError("cannot be rendered without a change")
    return tree


def _parsed(text: str) -> exp.Expr:
    try:
        _check_tokens(text)
        trees = sqlglot.parse(text, dialect=_Unrewritten)
    except (SqlglotError, RecursionError, ValueError, TypeError, AttributeError, LookupError) as error:
        if isinstance(error, AssertionRefusedError):
            raise
        trees = []
    if len(trees) != 1 or trees[0] is None:
        raise AssertionRefusedError("cannot be read as an expression")
    return trees[0]


def _check_tokens(text: str) -> None:
    """Refuse comments and statement ends; what lies between tokens must be blank."""
    ends = 0
    for token in sqlglot.tokenize(text, dialect=_Unrewritten):
        if token.comments or text[ends : token.start].strip(" \t\r\n"):
            raise AssertionRefusedError("holds a comment")
        if token.token_type is TokenType.SEMICOLON:
            raise AssertionRefusedError("ends the statement that it stands in")
        ends = token.end + 1
    if text[ends:].strip(" \t\r\n"):
        raise AssertionRefusedError("holds a comment")


def _rendered(tree: exp.Expr) -> str:
    try:
        return tree.sql(dialect=_Unrewritten, comments=False, normalize_functions=False)
    except (SqlglotError, RecursionError, ValueError, TypeError, AttributeError, LookupError):
        pass
    raise AssertionRefusedError("cannot be rendered without a change")


def _is_column_alias(node: exp.Expr) -> bool:
    return isinstance(node, exp.Alias) and node.parent is not None


def _functions(rendered: str) -> tuple[str, ...]:
    """Return the names of the functions that a rendered expression calls, as the server folds them."""
    found = set()
    tokens = sqlglot.tokenize(rendered, dialect=_Unrewritten)
    for number, token in enumerate(tokens[:-1]):
        if tokens[number + 1].token_type is not TokenType.L_PAREN or not _is_name(rendered, token):
            continue
        quoted = rendered[token.start] == '"'
        name = token.text if quoted else token.text.lower()
        before = tokens[number - 1] if number else None
        if before is not None and before.token_type is TokenType.DOT:
            schema = tokens[number - 2].text if number > 1 else ""
            deeper = number > 2 and tokens[number - 3].token_type is TokenType.DOT
            if schema.lower() != "pg_catalog" or deeper:
                raise AssertionRefusedError("calls a function of a schema other than pg_catalog")
        elif before is not None and before.text.lower() in ("as", "::") and name not in _GRAMMAR:
            continue  # an alias with its columns, or a type with its length
        elif not quoted and name in _GRAMMAR:
            continue
        if name == "operator":
            raise AssertionRefusedError("names an operator with its schema")
        if _RUN_TEXT.fullmatch(name):
            raise AssertionRefusedError(f"calls {name}, which runs the statement that it is given")
        found.add(name)
    return tuple(sorted(found))


def _is_name(rendered: str, token: sqlglot.Token) -> bool:
    quoted = rendered[token.start : token.start + 1] == '"'
    return quoted or (bool(re.fullmatch(r"[^\W\d]\w*", token.text)) and rendered[token.start] != "'")


def _relations(tree: exp.Expr) -> Iterator[str]:
    """Yield the names of relations as `to_regclass` reads them.

    Names of CTEs among them resolve to nothing, or to relations of the same name that are then looked at in vain.
    """
    for table in tree.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier):
            continue
        parts = [part for part in (table.args.get("catalog"), table.args.get("db"), table.this) if part is not None]
        yield ".".join(part.sql(dialect=_Unrewritten) for part in parts if isinstance(part, exp.Identifier))
