"""Row filters: what may be written in one, decided before anything reaches a server.

A filter is parsed by sqlglot and refused unless it is one boolean expression made of what is listed here: node types,
functions and types are allowed by name, and whatever is not listed is refused. It is never pasted: what a statement
holds is rendered from the tree, and the rendering must parse to the same tree. `filter_checks` asks a server the rest.

No message quotes the filter, since it may hold values: not a literal, nor a name that is no function's, which could be
a value whose quotes were forgotten.
"""

import hashlib
import logging
import re
from collections.abc import Iterator

import sqlglot
from sqlglot import TokenType, exp
from sqlglot.errors import SqlglotError

from replcheck.errors import UsageError
from replcheck.model.filters import RowFilter

DIALECT = "postgres"
MAX_LENGTH = 10_000
"""Characters of a filter."""
DIGEST_LENGTH = 12

# The parser logs what it cannot read, with its text; without a handler Python would print that to standard error.
logging.getLogger("sqlglot").addHandler(logging.NullHandler())

_COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ, exp.NullSafeNEQ)
_MATCHES = (exp.Like, exp.ILike, exp.RegexpLike, exp.RegexpILike)
_ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Mod)
_PREDICATES = (*_COMPARISONS, *_MATCHES, exp.Between, exp.In, exp.Is, exp.And, exp.Or, exp.Not)
_PAIR = frozenset({"this", "expression"})
_ALONE = frozenset({"this"})

ALLOWED: dict[type[exp.Expr], frozenset[str]] = {
    **dict.fromkeys((exp.And, exp.Or, *_COMPARISONS, *_MATCHES, *_ARITHMETIC), _PAIR),
    **dict.fromkeys((exp.Not, exp.Paren, exp.Neg, exp.Column, exp.Boolean), _ALONE),
    **dict.fromkeys((exp.Abs, exp.Ceil, exp.Floor, exp.Length, exp.Lower, exp.Upper), _ALONE),
    **dict.fromkeys((exp.Left, exp.Right, exp.Collate), _PAIR),
    exp.Null: frozenset(),
    **dict.fromkeys((exp.Is, exp.Like, exp.ILike), _PAIR | {"negate"}),
    exp.Between: frozenset({"this", "low", "high"}),
    exp.In: frozenset({"this", "expressions"}),
    exp.Coalesce: frozenset({"this", "expressions"}),
    exp.Identifier: frozenset({"this", "quoted"}),
    exp.Literal: frozenset({"this", "is_string"}),
    exp.Cast: frozenset({"this", "to"}),
    exp.DataType: _ALONE,
}
"""Every node type that a filter may hold, with the arguments that may be set; a subclass of one is another type."""

FUNCTIONS: dict[str, type[exp.Expr]] = {
    "abs": exp.Abs,
    "ceil": exp.Ceil,
    "coalesce": exp.Coalesce,
    "floor": exp.Floor,
    "left": exp.Left,
    "length": exp.Length,
    "lower": exp.Lower,
    "mod": exp.Mod,
    "right": exp.Right,
    "upper": exp.Upper,
}
"""Functions that a filter may call, as written; immutable with as many arguments as the nodes have."""
_BEFORE_PARENTHESES = frozenset(
    {"and", "or", "not", "in", "between", "like", "ilike", "is", "distinct", "from", "cast"}
)
_NO_CALLS = {
    **dict.fromkeys(("exists", "values", "as", "select"), "reads other rows (a subquery)"),
    **dict.fromkeys(("any", "all", "some"), "compares with ANY or ALL"),
    "operator": "names an operator with its schema",
}
SYSTEM_COLUMNS = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})
_TYPE = exp.DataType.Type
DATETIMES = frozenset({_TYPE.DATE, _TYPE.TIME, _TYPE.TIMESTAMP, _TYPE.TIMESTAMPTZ})
_TYPES = DATETIMES | {
    _TYPE.BOOLEAN, _TYPE.SMALLINT, _TYPE.INT, _TYPE.BIGINT, _TYPE.DECIMAL, _TYPE.FLOAT, _TYPE.DOUBLE,
    _TYPE.TEXT, _TYPE.VARCHAR, _TYPE.UUID,
}  # fmt: skip
"""Types that a literal may be cast to: their input functions depend on nothing but the literal, given `_DATETIME`."""
_DATETIME = re.compile(
    r"\d{4,6}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?( ?(Z|[+-]\d\d(:?\d\d)?))?)?"
    r"|\d\d:\d\d(:\d\d(\.\d{1,6})?)?|-?infinity|epoch",
    re.ASCII,
)
"""Without the words `now` and `today`, which each node would take for its own, and without names of time zones, whose
rules come from each node's own files. A time stamp without offset is UTC: sessions are pinned to it."""
_NUMBER = re.compile(r"\d+(\.\d*)?([eE][+-]?\d{1,3})?|\.\d+([eE][+-]?\d{1,3})?", re.ASCII)
_PATTERN = re.compile(r"[^\s'\"=<>()$;,:]+")
_KEYWORD_COLUMNS = frozenset(
    {"user", "current_role", "current_catalog", "current_schema", "localtime", "localtimestamp", "current_time"}
)
"""Words that PostgreSQL reads as calls where they stand without quotes."""
_WORDS: tuple[tuple[type[exp.Expr], str], ...] = (
    (exp.Query, "reads other rows (a subquery)"),
    (exp.Exists, "reads other rows (a subquery)"),
    (exp.SubqueryPredicate, "compares with ANY or ALL"),
    (exp.Window, "holds a window function"),
    (exp.AggFunc, "holds an aggregate"),
    (exp.Parameter, "holds a parameter"),
    (exp.Placeholder, "holds a placeholder"),
    (exp.Tuple, "compares whole rows"),
    (exp.Alias, "does not end where its expression ends"),
    (exp.Func, "calls a function that filters may not call"),
)


class FilterRefusedError(ValueError):
    """Why a text is no filter, as the end of a sentence that begins with "the filter"; quotes nothing of it."""


def row_filter(text: str, *, origin: str) -> RowFilter:
    """Read `PATTERN: EXPRESSION`; `origin` names it in messages. Raises UsageError, which quotes nothing but names."""
    pattern, colon, condition = text.partition(":")
    if not colon:
        raise _no_filter(origin)
    return filter_for(pattern.strip(), condition, origin=origin)


def filter_for(pattern: str, condition: str, *, origin: str) -> RowFilter:
    """Return the filter of the relations that a pattern matches; raise UsageError where its condition is refused."""
    if not _PATTERN.fullmatch(pattern):
        raise _no_filter(origin)
    try:
        rendered = rendered_condition(parse_condition(condition))
    except FilterRefusedError as refused:
        message = f"{origin}: the filter of {pattern} is refused: it {refused}"
    else:
        digest = hashlib.sha256(rendered.encode("utf-8", "surrogateescape")).hexdigest()[:DIGEST_LENGTH]
        return RowFilter(pattern=pattern, condition=rendered, digest=digest)
    # Outside the handler: nothing of the parser's own may hang on what is raised.
    raise UsageError(
        message,
        hint="A filter is one boolean expression over the relation's columns, see README.md, Filters.",
    )


def _no_filter(origin: str) -> UsageError:
    return UsageError(
        f"{origin}: a filter names relations by a pattern without blanks, and then the rows",
        hint="Write for instance --where 'public.visits: clinic_id = 7'; a ? in the pattern matches any character.",
    )


def parse_condition(text: str) -> exp.Expr:
    """Return a filter's tree, with plain column names; raise FilterRefusedError where it is anything else."""
    if len(text) > MAX_LENGTH:
        raise FilterRefusedError(f"is longer than {MAX_LENGTH:,} characters")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise FilterRefusedError("holds a character that no text in a database can hold")
    tree = _parsed(text)
    for node in tree.walk():
        _check_node(node)
    _check_whole(tree)
    if _parsed(rendered_condition(tree)) != tree:
        raise FilterRefusedError("cannot be rendered without a change")
    return tree


def rendered_condition(tree: exp.Expr, *, alias: str | None = None) -> str:
    """Return the SQL of a tree, its columns quoted and, if asked, those of `alias`."""
    if alias is not None:
        tree = tree.copy()
        for column in list(tree.find_all(exp.Column)):
            column.set("table", exp.to_identifier(alias, quoted=True))
    return tree.sql(dialect=DIALECT, identify=True, comments=False)


def columns_of(tree: exp.Expr) -> frozenset[str]:
    """Return the names of the columns that a filter reads."""
    return frozenset(column.name for column in tree.find_all(exp.Column))


def is_datetime(literal: str) -> bool:
    """Return whether a text reads as the same moment on every node.

    >>> [is_datetime(text) for text in ("2026-01-01", "2026-01-01 10:00+05:30", "now", "2026-01-01 Asia/Kolkata")]
    [True, True, False, False]
    """
    return _DATETIME.fullmatch(literal) is not None


def unwrapped(node: exp.Expr) -> exp.Expr:
    """Return what stands inside of parentheses."""
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def _parsed(text: str) -> exp.Expr:
    try:
        _check_tokens(text)
        trees = sqlglot.parse(text, dialect=DIALECT)
    except (SqlglotError, RecursionError, ValueError, TypeError, AttributeError, LookupError) as error:
        if isinstance(error, FilterRefusedError):
            raise
        trees = []
    if len(trees) != 1 or trees[0] is None:
        raise FilterRefusedError("cannot be read as an expression")
    tree = trees[0]
    for identifier in tree.find_all(exp.Identifier):
        if not identifier.args.get("quoted"):
            _fold(identifier)
    return tree


def _fold(identifier: exp.Identifier) -> None:
    """Spell a name as PostgreSQL understands it without quotes."""
    name = "".join(chr(ord(letter) | 32) if "A" <= letter <= "Z" else letter for letter in identifier.name)
    if name in _KEYWORD_COLUMNS:
        raise FilterRefusedError(f"holds {name}, which PostgreSQL reads as a call unless it stands in double quotes")
    identifier.set("this", name)
    identifier.set(arg_key="quoted", value=True)


def _check_tokens(text: str) -> None:
    """Refuse comments, statement ends and calls of what is not listed; what lies between tokens must be blank."""
    tokens = sqlglot.tokenize(text, dialect=DIALECT)
    ends = 0
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.comments or text[ends : token.start].strip(" \t\r\n"):
            raise FilterRefusedError("holds a comment")
        if token.token_type is TokenType.SEMICOLON:
            raise FilterRefusedError("ends the statement that it stands in")
        ends = token.end + 1
        word = token.text.lower()
        called = following is not None and following.text == "(" and re.fullmatch(r"[^\W\d]\w*", token.text)
        quoted = text[token.start : token.start + 1] in ("'", '"')
        if called and word in _NO_CALLS:
            raise FilterRefusedError(_NO_CALLS[word])
        if called and (quoted or word not in FUNCTIONS) and word not in _BEFORE_PARENTHESES:
            name = f"{word}, which is" if not quoted and re.fullmatch(r"[a-z_]\w{0,62}", word, re.ASCII) else "what is"
            raise FilterRefusedError(f"calls {name} none of the functions that it may call ({', '.join(FUNCTIONS)})")
    if text[ends:].strip(" \t\r\n"):
        raise FilterRefusedError("holds a comment")


def _check_node(node: exp.Expr) -> None:
    arguments = ALLOWED.get(type(node))
    if arguments is None:
        word = next((word for kind, word in _WORDS if isinstance(node, kind)), None)
        raise FilterRefusedError(word or f"holds what filters may not hold ({type(node).__name__})")
    if isinstance(node, exp.Column) and node.args.get("table"):
        raise FilterRefusedError("names a column with a prefix; a filter's columns stand alone and are its relation's")
    if isinstance(node, exp.Column) and node.name in SYSTEM_COLUMNS:
        raise FilterRefusedError(f"reads the system column {node.name}, which is no part of what a row holds")
    extra = [name for name, value in node.args.items() if value and name not in arguments]
    if extra:
        raise FilterRefusedError(f"holds what filters may not hold ({type(node).__name__}, {extra[0]})")
    _check_parts(node)
    if isinstance(node, _PREDICATES) and not isinstance(node, exp.And | exp.Or | exp.Not):
        for operand in _operands(node):
            if isinstance(operand, _PREDICATES):
                raise FilterRefusedError("compares a comparison; put the inner one in parentheses")


def _check_parts(node: exp.Expr) -> None:
    match node:
        case exp.Literal():
            _check_literal(node)
        case exp.Cast():
            _check_cast(node)
        case exp.Collate():
            if not isinstance(node.expression, exp.Identifier) or node.expression.name != "C":
                raise FilterRefusedError('names a collation other than "C", whose order no library of a node decides')
        case exp.Is():
            if not isinstance(node.expression, exp.Null | exp.Boolean):
                raise FilterRefusedError("holds IS before something else than NULL, TRUE, FALSE or DISTINCT FROM")
        case exp.ILike() | exp.RegexpLike() | exp.RegexpILike() | exp.Lower() | exp.Upper():
            if not any(isinstance(unwrapped(operand), exp.Collate) for operand in _operands(node)):
                raise FilterRefusedError(
                    'looks at letters by a collation, which each node\'s own library decides; write column COLLATE "C"'
                )


def _operands(node: exp.Expr) -> Iterator[exp.Expr]:
    yield from node.iter_expressions()


def _check_literal(node: exp.Literal) -> None:
    if not node.is_string and not _NUMBER.fullmatch(node.this):
        raise FilterRefusedError("holds a number that is not written in decimal digits")


def _check_cast(node: exp.Cast) -> None:
    kind = node.to.this
    if kind not in _TYPES:
        raise FilterRefusedError("casts to a type that filters may not cast to")
    if not isinstance(unwrapped(node.this), exp.Literal):
        raise FilterRefusedError("casts what is not a literal")
    if kind in DATETIMES and not is_datetime(unwrapped(node.this).name):
        raise FilterRefusedError("holds a date or time that is not written as 2026-01-31 or 2026-01-31 10:00:00+00")


def _check_whole(tree: exp.Expr) -> None:
    top = unwrapped(tree)
    if not isinstance(top, (*_PREDICATES, exp.Column)):
        raise FilterRefusedError("is no condition")
    if next(tree.find_all(exp.Column), None) is None:
        raise FilterRefusedError("names no column")
