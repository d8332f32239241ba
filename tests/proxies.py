"""A proxy before a server's socket: it records what clients send, or stands for what lies between them and a node.

It speaks just enough of the protocol to find the messages (PostgreSQL manual, Message Formats). No encryption is asked
for over a Unix socket, so everything passes in the clear.
"""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock, Thread

from replcheck.postgres.server import LocalServer

_PORT = 5432
_CANCEL = 80877102


class Proxy:
    """Listens on a socket of its own and forwards each connection to the server that `route` names for its number."""

    def __init__(self, folder: Path, route: Callable[[int], LocalServer], *, pooler: bool = False) -> None:
        self.folder = folder
        self.statements: list[str] = []
        """Text of every Query and Parse message, in the order of arrival."""
        self.connections = 0
        self._route = route
        self._pooler = pooler
        self._lock = Lock()
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / f".s.PGSQL.{_PORT}"))
        self._listener.listen(64)
        Thread(target=self._accept, daemon=True).start()

    def dsn(self, dsn: str) -> str:
        """Return a connection string with the proxy's address instead of the server's."""
        return f"{dsn} host={self.folder} port={_PORT}"

    def close(self) -> None:
        self._end([self._listener])
        self.cut()

    def cut(self) -> None:
        """End every connection; new ones are let in."""
        with self._lock:
            ends, self._open = self._open, []
        self._end(ends)

    def _end(self, ends: list[socket.socket]) -> None:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = self._route(self.connections)
                self.connections += 1
                upstream = socket.socket(socket.AF_UNIX)
                with self._lock:
                    self._open += [client, upstream]
                try:
                    upstream.connect(str(server.socket_dir / f".s.PGSQL.{server.port}"))
                except OSError:
                    client.close()
                    continue
                Thread(target=self._pump, args=(client, upstream, self._from_client), daemon=True).start()
                Thread(target=self._pump, args=(upstream, client, self._from_server), daemon=True).start()

    def _pump(
        self, source: socket.socket, target: socket.socket, read: Callable[[socket.socket], Iterator[bytes]]
    ) -> None:
        with suppress(OSError):
            for message in read(source):
                target.sendall(message)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _from_client(self, source: socket.socket) -> Iterator[bytes]:
        head = _exactly(source, 8)
        length, code = struct.unpack("!II", head)
        yield head + _exactly(source, length - 8)
        if code == _CANCEL:
            return
        while True:
            kind, message = _message(source)
            if kind in (b"Q", b"P"):
                body = message[5:] if kind == b"Q" else message[message.index(b"\0", 5) + 1 :]
                self.statements.append(body[: body.index(b"\0")].decode())
            yield message

    def _from_server(self, source: socket.socket) -> Iterator[bytes]:
        while True:
            kind, message = _message(source)
            if kind == b"K" and self._pooler:
                pid, key = struct.unpack("!I", message[5:9])[0], message[9:]
                message = message[:5] + struct.pack("!I", pid + 1) + key
            yield message


def _message(source: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(source, 5)
    (length,) = struct.unpack("!I", head[1:])
    return head[:1], head + _exactly(source, length - 4)


def _exactly(source: socket.socket, length: int) -> bytes:
    """Read that many bytes; raise OSError where the other end is gone."""
    parts = bytearray()
    while len(parts) < length:
        part = source.recv(length - len(parts))
        if not part:
            raise ConnectionResetError
        parts += part
    return bytes(parts)


@contextmanager
def proxied(route: Callable[[int], LocalServer] | LocalServer, *, pooler: bool = False) -> Iterator[Proxy]:
    """Put a proxy before a server, or before the servers that `route` names connection by connection.

    `pooler` makes it tell its clients a backend pid of its own, as a transaction pooler does.
    """
    choose = route if callable(route) else lambda _: route
    with TemporaryDirectory(prefix="rc-proxy-") as folder:
        proxy = Proxy(Path(folder), choose, pooler=pooler)
        try:
            yield proxy
        finally:
            proxy.close()
