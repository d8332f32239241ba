"""Connection strings as libpq reads them: URIs, key=value words and service names.

A connection string may hold a password, and so may any part of a malformed one. No function here puts one, or the
driver's complaint about one, into a message or a cause.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from psycopg import Error, pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from replcheck.errors import ReplcheckError, UsageError

_SERVICE_VARIABLE = "PGSERVICE"
_REASONS = {
    "missing": "a word has no =",
    "invalid connection option": "it names an option that libpq does not know",
    "invalid URI query": "it names an option that libpq does not know",
    "unterminated": "a quoted value does not end",
    "unexpected spaces": "a space in a URI must be written as %20",
    "invalid percent-encoded": "a percent sign in a URI must be written as %25",
    "forbidden value %00": "a URI may not hold %00",
    "zero byte": "it holds a zero byte, at which libpq would stop reading",
    "end of string reached": "an IPv6 address lacks its closing bracket",
}

_TELLABLE = frozenset(
    {
        "channel_binding",
        "connect_timeout",
        "dbname",
        "gssencmode",
        "host",
        "hostaddr",
        "passfile",
        "port",
        "require_auth",
    }
    | {"service", "sslcert", "sslcrl", "sslkey", "sslmode", "sslnegotiation", "sslrootcert", "target_session_attrs"}
    | {"user"}
)
"""Words that hold an address, a name, the path of a file or a choice."""


_OURS = frozenset(
    {
        "application_name",
        "client_encoding",
        "connect_timeout",
        "fallback_application_name",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "load_balance_hosts",
        "replication",
        "target_session_attrs",
    }
)
"""Words that a session sets itself, or that choose between several servers."""


def parse(dsn: str, *, origin: str = "connection string", failure: type[ReplcheckError] = UsageError) -> dict[str, str]:
    """Return the words of a connection string; raise `failure` where libpq cannot read it.

    `origin` tells the reader which string it is (a flag, a configuration key). Nothing is looked up in the
    environment, a service file or a password file: libpq does that when it connects.
    """
    try:
        if "\0" in dsn:
            raise ValueError("zero byte")
        return {word: str(value) for word, value in conninfo_to_dict(dsn).items() if value is not None}
    except (Error, UnicodeError, ValueError) as error:
        reason = next((told for sign, told in _REASONS.items() if str(error).startswith(sign)), "libpq cannot read it")
    # Outside the handler: the driver's error quotes parts of the string and must not become the cause of this one.
    raise failure(
        f"{origin} is malformed: {reason}",
        hint='Write it as libpq reads it, for instance "host=db1 dbname=app user=replcheck" or postgresql://db1/app.',
    )


def merge(dsn: str, **words: str) -> str:
    """Return the connection string with `words` put in, each replacing what the string said of it."""
    return make_conninfo("", **(parse(dsn) | words))


def words_of(dsn: str, environment: Mapping[str, str], *, origin: str = "connection string") -> dict[str, str]:
    """Return the words of a connection string with those that libpq would take from the environment's variables.

    Words that say nothing of the server or the role are left out: how a session is called and kept alive is ours, and a
    node is one server. Of a service only the name is told. Raises UsageError where libpq cannot read the string.
    """
    words = parse(dsn, origin=origin)
    given = {
        option.keyword.decode(): environment[option.envvar.decode()]
        for option in pq.Conninfo.get_defaults()
        if option.envvar and environment.get(option.envvar.decode()) and option.keyword != b"password"
    }
    if "service" in words or "service" in given:
        given = {word: value for word, value in given.items() if word == "service"}
    if {"host", "hostaddr"} & words.keys():
        given = {word: value for word, value in given.items() if word not in {"host", "hostaddr"}}
    return {word: value for word, value in (given | words).items() if word not in _OURS}


def single_hosts(words: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the words of each server where several hosts are named, in their order; a list libpq refuses stays one.

    >>> single_hosts({"host": "db1,db2", "port": "5432,5433"})
    [{'host': 'db1', 'port': '5432'}, {'host': 'db2', 'port': '5433'}]
    """
    lists = {word: words[word].split(",") for word in ("host", "hostaddr", "port") if word in words}
    count = max((len(lists[word]) for word in ("host", "hostaddr") if word in lists), default=1)
    each = [
        {word: values[number] if len(values) > 1 else values[0] for word, values in lists.items()}
        for number in range(count)
        if all(len(values) in {1, count} for values in lists.values())
    ]
    rest = {word: value for word, value in words.items() if word not in lists}
    return [rest | {word: value for word, value in address.items() if value} for address in each] or [dict(words)]


def words_without_secrets(words: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the words that may be written to a file, and the names of those that libpq keeps from being shown."""
    secret = {option.keyword.decode() for option in pq.Conninfo.get_defaults() if option.dispchar}
    kept = {word: value for word, value in words.items() if word not in secret}
    return kept, tuple(sorted(words.keys() & secret))


def written(words: Mapping[str, str]) -> str:
    """Return words as a connection string."""
    return make_conninfo("", **words)


def inherit(dsn: Mapping[str, str], common: Mapping[str, str]) -> str:
    """Return a connection string of a node's own words and, where it says nothing, of those common to all nodes.

    A node that names its own host or service does not inherit a common `host` or `hostaddr`, and one that names its
    own service no `port` either: each of these would win over what the service says.
    """
    replaced = {"host", "hostaddr"} if {"host", "hostaddr", "service"} & dsn.keys() else set()
    replaced |= {"port"} if "service" in dsn else set()
    inherited = {word: value for word, value in common.items() if word not in replaced}
    return make_conninfo("", **(inherited | dict(dsn)))


def located(dsn: str) -> str:
    """Return the connection string with the address in it that libpq would take from a service or the environment.

    The driver looks up hosts by itself before libpq sees them, and knows no services: it would take PGHOST where the
    service names another host (psycopg, conninfo_attempts).
    """
    words = parse(dsn)
    return make_conninfo("", **(_found_elsewhere(words) | words))


def public_address(dsn: str) -> str:
    """Return host or socket directory with the port, as it may be shown to anybody.

    Takes what libpq would take from a service or the environment; the service is named beside it.

    >>> public_address("postgresql://auditor:secret@db1.internal:6432/app")
    'db1.internal:6432'
    >>> public_address("host=/run/postgresql port=5433 password=secret")
    '/run/postgresql:5433'
    """
    given = parse(dsn)
    words = _found_elsewhere(given) | given
    service = words.get("service")
    hosts = words.get("host") or words.get("hostaddr")
    if not hosts and service:
        return f"service {service}"
    names = (hosts or "local socket").split(",")
    ports = words.get("port", "").split(",")
    if len(ports) != len(names):
        ports = ports[:1] * len(names)
    address = ",".join(f"{_bracketed(name)}:{port or '5432'}" for name, port in zip(names, ports, strict=True))
    return f"{address} (service {service})" if service else address


def tellable(dsn: str) -> tuple[str, tuple[str, ...]]:
    """Return the connection string with nothing in it that could be secret, and the names of the words left out.

    >>> tellable("postgresql://auditor:hush@db1/app?sslmode=verify-full")
    ('user=auditor dbname=app host=db1 sslmode=verify-full', ('password',))
    """
    words = parse(dsn)
    told = {word: value for word, value in words.items() if word in _TELLABLE}
    return make_conninfo("", **told), tuple(sorted(words.keys() - told.keys()))


def hosts(dsn: str) -> tuple[str, ...]:
    """Return the host names, addresses and socket directories that a connection string leads to."""
    given = parse(dsn)
    words = _found_elsewhere(given) | given
    named = [*words.get("host", "").split(","), *words.get("hostaddr", "").split(",")]
    return tuple(host for host in named if host)


def client_library() -> str:
    """Return the version of libpq, which reads connection strings and speaks to the servers."""
    version = pq.version()
    return f"{version // 10000}.{version % 10000}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith(("/", "@")) else host


def _found_elsewhere(words: Mapping[str, str]) -> dict[str, str]:
    """Return the address and the service that libpq finds for words that do not say them: service, then environment."""
    with _named_service(words.get("service")):
        defaults = pq.Conninfo.get_defaults()
    return {
        option.keyword.decode(): option.val.decode()
        for option in defaults
        if option.val and option.keyword.decode() in {"host", "hostaddr", "port", "service"} - words.keys()
    }


@contextmanager
def _named_service(service: str | None) -> Iterator[None]:
    # libpq tells what a service holds only of the one that the environment names.
    before = os.environ.get(_SERVICE_VARIABLE)
    if service is None or service == before:
        yield
        return
    os.environ[_SERVICE_VARIABLE] = service
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SERVICE_VARIABLE]
        else:
            os.environ[_SERVICE_VARIABLE] = before
