"""An https server on this machine whose addresses are mirrors, good ones and bad ones: `{url}/cut/file`."""

import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import trustme

FAR = "http://192.0.2.1/"  # an address that no machine has (RFC 5737)


class Mirrors:
    """A server that counts requests; `with` starts and ends it.

    Args:
        files: content by name.
        authority: whose certificates the downloads must be told to trust.
        barrier: what each request for the first file waits at before it is answered.
    """

    def __init__(
        self, files: dict[str, bytes], authority: trustme.CA, barrier: threading.Barrier | None = None
    ) -> None:
        self.files, self.barrier, self.requests = files, barrier, []
        self.hanging = threading.Semaphore(0)  # released each time a file is half sent
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self.server.socket = context.wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False
        )  # the handshake is the handler's, in a thread of its own
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> "Mirrors":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def url(self, kind: str = "good") -> str:
        return f"https://127.0.0.1:{self.server.server_port}/{kind}/"


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, mirrors: Mirrors, *args: object) -> None:
        self.mirrors = mirrors
        with suppress(OSError):  # the other side may go at any time
            super().__init__(*args)

    def do_GET(self) -> None:
        kind, name = self.path.removeprefix("/").split("/")
        self.mirrors.requests.append((kind, name))
        if self.mirrors.barrier is not None and name == next(iter(self.mirrors.files)):
            self.mirrors.barrier.wait(timeout=60)
        KINDS[kind](self, self.mirrors.files[name])

    def answer(self, body: bytes, *, status: int = 200, length: int | None = None, **headers: str) -> None:
        self.send_response(status, "\x1b[31mred" if status >= 400 else None)
        for key, value in {"Content-Length": str(len(body) if length is None else length), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def hang(self, body: bytes) -> None:
        self.answer(body[: len(body) // 2], length=len(body))
        self.mirrors.hanging.release()
        self.rfile.read(1)  # until the other side gives up

    def endless(self, body: bytes) -> None:
        self.answer(body, length=10**18)
        while True:
            self.wfile.write(bytes(2**16))

    def log_message(self, *_: object) -> None:
        pass


KINDS: dict[str, Callable[[_Handler, bytes], None]] = {
    "good": _Handler.answer,
    "wrong": lambda handler, body: handler.answer(body[:-1] + bytes([body[-1] ^ 1])),
    "empty": lambda handler, _: handler.answer(b""),
    "cut": lambda handler, body: handler.answer(body[: len(body) // 2], length=len(body)),
    "hanging": _Handler.hang,
    "endless": _Handler.endless,
    "missing": lambda handler, body: handler.answer(body, status=404),
    "to-http": lambda handler, _: handler.answer(b"", status=302, Location=FAR),
    "moved": lambda handler, _: handler.answer(b"", status=302, Location=handler.path.replace("moved", "good")),
}
# The reason that a download must give for not taking a file, a regular expression; `hanging` takes a time limit.
REASONS = {
    "wrong": r"must have the SHA-256 [0-9a-f]{64}, got \d+ bytes with [0-9a-f]{64}",
    "empty": r"must have the SHA-256 [0-9a-f]{64}, got 0 bytes",
    "cut": r".*IncompleteRead\(\d+ bytes read, \d+ more expected\)",
    "hanging": r".*[Rr]ead timed out",
    "endless": r"must have at most \d+ bytes, got more",
    "missing": r"404 Client Error: \?\[31mred for url",
    "to-http": f"must be https, got '{FAR}'",
}
