"""A cable that can be pulled: it passes bytes to a node's socket until it is cut, and then swallows them.

Nothing is refused or reset while it is cut: whoever speaks through it hears nothing any more, as behind a firewall that
drops packets. New connections are taken and stay silent as well.
"""

import socket
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Self

from replcheck.postgres.server import LocalServer, libpq_quoted

_PORT = 5432
_CHUNK = 65_536


class Relay:
    """Stands before one node from entering the context until its end."""

    def __init__(self, server: LocalServer) -> None:
        self._target = str(server.socket_dir / f".s.PGSQL.{server.port}")
        self._folder = Path(mkdtemp(prefix="rcr-"))
        self._open: list[socket.socket] = []
        self._lock = Lock()
        self._whole = Event()
        self._whole.set()
        self._listener = socket.socket(socket.AF_UNIX)
        path = self._folder / f".s.PGSQL.{_PORT}"
        self._listener.bind(str(path))
        # Servers of another account go through it too.
        self._folder.chmod(0o711)
        path.chmod(0o666)
        self._listener.listen(64)
        Thread(target=self._accept, daemon=True).start()

    def words(self, dsn: str) -> str:
        """Return a connection string that leads through the relay instead of straight to the node."""
        return f"{dsn} host={libpq_quoted(str(self._folder))} port={_PORT}"

    def cut(self) -> None:
        """Swallow everything from now on."""
        self._whole.clear()

    def mend(self) -> None:
        """Pass on again; connections from before are ended, since bytes of theirs may be lost."""
        self._whole.set()
        self._end_connections()

    def close(self) -> None:
        """End all connections and remove the socket."""
        self._end_connections()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        (self._folder / f".s.PGSQL.{_PORT}").unlink(missing_ok=True)
        self._folder.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                with self._lock:
                    self._open += [client, server]
                if not self._whole.is_set():
                    continue
                try:
                    server.connect(self._target)
                except OSError:
                    client.close()
                    continue
                Thread(target=self._pass, args=(client, server), daemon=True).start()
                Thread(target=self._pass, args=(server, client), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(_CHUNK):
                if not self._whole.is_set():
                    return  # swallowed; both ends stay open until the relay is mended
                target.sendall(chunk)
        if self._whole.is_set():
            for end in (source, target):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _end_connections(self) -> None:
        with self._lock:
            for end in self._open:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
            self._open.clear()
