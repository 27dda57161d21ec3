"""A mirror that misbehaves as its address asks for: `{url}cut/0.25/file` is cut off after a quarter of the file."""

import gzip
import select
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

FAR = "http://192.0.2.1/"  # an address that no machine has (RFC 5737)
BOMB = gzip.compress(bytes(50_000_000))  # 50 kB
DRIP_SECONDS = 0.02


class Talk:
    """One request, and the socket that its answer goes to."""

    def __init__(self, sock: socket.socket, request: str, place: float, body: bytes, url: str) -> None:
        self.sock, self.request, self.place, self.body, self.url = sock, request, place, body, url
        self.cut = int(place * len(body))  # before the body's end

    def send(self, content: bytes | str) -> None:
        self.sock.sendall(content.encode("latin-1") if isinstance(content, str) else content)

    def head(self, *headers: str, status: str = "200 OK") -> str:
        return "\r\n".join([f"HTTP/1.1 {status}", "Connection: close", *headers, "", ""])

    def answer(self, body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> None:
        announced = len(body) if length is None else length
        self.send(self.head(f"Content-Length: {announced}", *headers, status=status).encode() + body)

    def redirect(self, address: str) -> None:
        self.answer(b"moved", f"Location: {address}", status="302 Found")

    def hang(self) -> None:
        """Say nothing until the other side gives up."""
        self.sock.recv(1)

    def drip(self, content: bytes) -> None:
        """Send these bytes for ever, now and then one."""
        while True:
            for each in content:
                if select.select([self.sock], [], [], DRIP_SECONDS)[0]:
                    return  # the other side has given up
                self.send(bytes([each]))

    def flood(self, content: bytes) -> None:
        """Send these bytes for ever, as fast as they go."""
        while True:
            self.send(content)


def flipped(talk: Talk) -> None:
    body = bytearray(talk.body)
    body[talk.cut] ^= 1
    talk.answer(bytes(body))


def cut_in_chunks(talk: Talk) -> None:
    talk.send(talk.head("Transfer-Encoding: chunked") + f"{len(talk.body):x}\r\n")
    talk.send(talk.body[: talk.cut])


def reset(talk: Talk) -> None:
    talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ends without a farewell
    talk.answer(talk.body[: talk.cut], length=len(talk.body))


def hang_in_headers(talk: Talk) -> None:
    head = talk.head(f"Content-Length: {len(talk.body)}")
    talk.send(head[: int(talk.place * len(head))])
    talk.hang()


def hang_in_body(talk: Talk) -> None:
    talk.answer(talk.body[: talk.cut], length=len(talk.body))
    talk.hang()


def hang_in_body_unannounced(talk: Talk) -> None:
    talk.send(talk.head().encode() + talk.body[: talk.cut])
    talk.hang()


def drip_headers(talk: Talk) -> None:
    talk.send("HTTP/1.1 200 OK\r\nX: ")
    talk.drip(b"x")


def drip_body(talk: Talk) -> None:
    talk.answer(talk.body[: talk.cut], length=10**6)
    talk.drip(b"x")


def flood_after(*parts: str, content: bytes) -> Callable[[Talk], None]:
    def flood(talk: Talk) -> None:
        talk.send("".join(parts))
        talk.flood(content)

    return flood


class Kind(NamedTuple):
    """How a mirror answers, and the reason that xpnn must give for not taking it."""

    answer: Callable[[Talk], None]
    reason: str  # a regular expression
    slow: bool = False  # ends by a time limit


OTHER = r"got another file of \d+ bytes, with the SHA-256 [0-9a-f]{64}"
CUT = r"cut off after \d+ of \d+ bytes"
GONE = r"(Connection reset by peer|Remote end closed connection without response)"
WAITED = r"nothing came for 0\.\d+ s"
LARGE = r"sends more than \d+ bytes"
HEAD = "HTTP/1.1 200 OK\r\n"
KINDS = {
    "flipped": Kind(flipped, OTHER),
    "longer": Kind(lambda talk: talk.answer(talk.body + b"\0"), OTHER),
    "empty": Kind(lambda talk: talk.answer(b""), "got another file of 0 bytes"),
    "bomb": Kind(lambda talk: talk.answer(BOMB, "Content-Encoding: gzip"), f"got another file of {len(BOMB)} bytes"),
    "cut": Kind(lambda talk: talk.answer(talk.body[: talk.cut], length=len(talk.body)), CUT),
    "cut-unannounced": Kind(lambda talk: talk.send(talk.head().encode() + talk.body[: talk.cut]), OTHER),
    "cut-in-chunks": Kind(cut_in_chunks, r"cut off after \d+ bytes"),
    "reset": Kind(reset, f"({CUT}|{GONE})"),
    "closed": Kind(lambda talk: talk.send(b""), GONE),
    "404": Kind(lambda talk: talk.answer(talk.body, status="404 \x1b[31mred"), "404 Not Found"),
    "500": Kind(lambda talk: talk.answer(talk.body, status="500 no"), "500 Internal Server Error"),
    "partial": Kind(lambda talk: talk.answer(talk.body, status="206 ok"), "206 Partial Content"),
    "garbage": Kind(
        lambda talk: talk.send(b"\x1b[31mhello\n"), r"its answer is not HTTP \(BadStatusLine: \?\[31mhello"
    ),
    "hanging": Kind(lambda talk: talk.hang(), WAITED, slow=True),
    "hanging-in-headers": Kind(hang_in_headers, WAITED, slow=True),
    "hanging-in-body": Kind(hang_in_body, WAITED, slow=True),
    "hanging-in-body-unannounced": Kind(hang_in_body_unannounced, WAITED, slow=True),
    "dripping-headers": Kind(drip_headers, r"not complete after 0\.\d+ s", slow=True),
    "dripping-body": Kind(drip_body, r"not complete after 0\.\d+ s", slow=True),
    "announcing": Kind(lambda talk: talk.answer(b"", length=10**18), f"announces {10**18} bytes, more than"),
    "endless": Kind(flood_after(HEAD, "\r\n", content=bytes(2**16)), LARGE),
    "endless-chunks": Kind(
        flood_after(HEAD, "Transfer-Encoding: chunked\r\n\r\n", content=b"1\r\nx\r\n" * 1000), LARGE
    ),
    "endless-trailers": Kind(
        flood_after(HEAD, "Transfer-Encoding: chunked\r\n\r\n0\r\n", content=b"A: b\r\n" * 1000), LARGE
    ),
    "endless-headers": Kind(flood_after(HEAD, content=b"A: b\r\n" * 1000), "its answer is not HTTP"),
    "endless-interim": Kind(flood_after(content=b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), LARGE),
    "circle": Kind(lambda talk: talk.redirect(talk.url), "more than 5 redirects"),
    "to-http": Kind(lambda talk: talk.redirect(FAR), "must be https, got a redirect to 'http://192.0.2.1/'"),
    "to-file": Kind(lambda talk: talk.redirect("file:///etc/hosts"), "must be https, got a redirect to 'file:///etc"),
}


def good(talk: Talk) -> None:
    talk.answer(talk.body)


class Mirrors:
    """A server on this machine whose addresses are mirrors of every kind.

    Args:
        body: what each file holds.
        certificate: of `make_certificate`; with it the addresses are https.
        others: more kinds, by name.
    """

    def __init__(
        self, body: bytes, *, certificate: Path | None = None, others: dict[str, Callable[[Talk], None]] | None = None
    ) -> None:
        self.body, self.requests = body, []  # requests as they came
        self.answers = {name: kind.answer for name, kind in KINDS.items()} | {"good": good} | (others or {})
        self.over, self.context = False, None
        if certificate is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificate)
        self.expect(0)

    def __enter__(self) -> "Mirrors":
        self.server = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.root = f"http{'s' if self.context else ''}://127.0.0.1:{self.server.getsockname()[1]}/"
        self.thread = threading.Thread(target=self._accept)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over = True
        socket.create_connection(self.server.getsockname()).close()  # ends `accept`
        self.thread.join()
        self.server.close()

    def url(self, kind: str, place: float = 0.5) -> str:
        return f"{self.root}{kind}/{place}/"

    def expect(self, count: int) -> None:
        """Answer, from now on, when so many requests are there."""
        self.missing, self.all_here = threading.Semaphore(max(count - 1, 0)), threading.Event()
        if count == 0:
            self.all_here.set()

    def _accept(self) -> None:
        while True:
            sock, _ = self.server.accept()
            if self.over:
                sock.close()
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(60)
        with suppress(OSError), sock:  # the other side may go at any time
            if self.context is not None:
                sock = self.context.wrap_socket(sock, server_side=True)
            with sock:
                request = ""
                while not request.endswith("\r\n\r\n"):
                    part = sock.recv(2**16).decode("latin-1")
                    if not part:
                        return
                    request += part
                self._answer(sock, request)

    def _answer(self, sock: socket.socket, request: str) -> None:
        self.requests.append(request)
        if not self.missing.acquire(blocking=False):
            self.all_here.set()
        self.all_here.wait(60)
        kind, place, _ = request.split()[1].removeprefix("/").split("/")
        self.answers[kind](Talk(sock, request, float(place), self.body, self.url(kind, float(place))))


def make_certificate(folder: Path) -> Path | None:
    """Make a key and a certificate for 127.0.0.1, None where there is no openssl."""
    if shutil.which("openssl") is None:
        return None
    path = folder / "certificate.pem"
    what = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    where = ["-subj", "/CN=mirror", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "-", "-out", "-"]
    made = subprocess.run(["openssl", "req", *what, *where], capture_output=True, check=True)
    path.write_bytes(made.stdout)
    return path
