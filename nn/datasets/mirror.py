"""One file from one mirror: over https, checked, and within limits of time and size, whatever the mirror does.

It stands on the standard library, because there every read from the socket can be watched: the libraries above it read
headers, and the bodies of redirects, for as long as bytes come, and unpack what claims to be packed.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead, responses
from io import BufferedReader, RawIOBase
from ipaddress import ip_address
from typing import Any
from urllib.error import URLError
from urllib.parse import urljoin, urlsplit
from urllib.request import AbstractHTTPHandler, OpenerDirector, ProxyHandler, Request

from ...backends.errors import DataError
from ..files.limits import DOWNLOAD_BYTES

CONNECT_SECONDS = 10.0  # for the connection to each of a mirror's addresses
TIMEOUT_SECONDS = 30.0  # for each wait on the next bytes
FILE_SECONDS = 600.0  # for the whole of a file, with all headers and redirects: 45 kB/s for the largest
REDIRECTS = 5
CHUNK_BYTES = 2**16

MOVED = {
    HTTPStatus.MOVED_PERMANENTLY,
    HTTPStatus.FOUND,
    HTTPStatus.SEE_OTHER,
    HTTPStatus.TEMPORARY_REDIRECT,
    HTTPStatus.PERMANENT_REDIRECT,
}


def download(url: str, sha256: str) -> bytes:
    """Return the content of a file, which has been checked.

    Plain http is for mirrors on this very machine (`localhost` and the loopback addresses, which no proxy is asked
    for). Any other address must be https, those of redirects too; and from https no redirect leads back to http.

    Args:
        url: where the file is.
        sha256: its sum, in lower-case hexadecimal digits.

    Raises:
        DataError: the mirror did not give the file; the message is the reason alone, in one line.
    """
    try:
        content = _receive(url)
    except (OSError, ValueError, HTTPException) as error:
        raise DataError(_reason(error)) from error
    if (got := hashlib.sha256(content).hexdigest()) != sha256:
        raise DataError(f"got another file of {len(content)} bytes, with the SHA-256 {got}")
    return content


class _Allowance:
    """The time and the bytes that a mirror has for one file."""

    def __init__(self) -> None:
        self.end = time.monotonic() + FILE_SECONDS
        self.bytes = DOWNLOAD_BYTES

    def seconds(self) -> float:
        """Return how long to wait for the next bytes."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"not complete after {FILE_SECONDS:g} s")
        return min(left, TIMEOUT_SECONDS)

    def spend(self, count: int) -> None:
        self.bytes -= count
        if self.bytes < 0:
            raise OSError(f"sends more than {DOWNLOAD_BYTES} bytes")  # http.client takes a ValueError for a bad chunk


class _WatchedSocket(RawIOBase):
    """All that comes from a mirror passes here: status, headers, body."""

    def __init__(self, sock: socket.socket, allowance: _Allowance) -> None:
        self.sock, self.allowance = sock, allowance
        self.raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self.sock.settimeout(self.allowance.seconds())
        try:
            count = self.raw.readinto(buffer)
        except TimeoutError:
            self.allowance.seconds()  # raises if that was the end of the whole time
            raise TimeoutError(f"nothing came for {TIMEOUT_SECONDS:g} s") from None
        self.allowance.spend(count or 0)
        return count

    def close(self) -> None:
        self.raw.close()
        super().close()


class _WatchedResponse(HTTPResponse):
    def __init__(self, *args: Any, allowance: _Allowance, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fp.close()
        self.fp = BufferedReader(_WatchedSocket(args[0], allowance))


class _Handler(AbstractHTTPHandler):
    """Opens http and https, and does nothing about redirects and bad statuses."""

    http_request = https_request = AbstractHTTPHandler.do_request_

    def __init__(self, allowance: _Allowance) -> None:
        super().__init__()
        self.allowance = allowance

    def http_open(self, request: Request) -> HTTPResponse:
        return self.do_open(self._watched(HTTPConnection), request)

    def https_open(self, request: Request) -> HTTPResponse:
        return self.do_open(self._watched(partial(HTTPSConnection, context=_certificates())), request)

    def _watched(self, connection_type: Callable[..., HTTPConnection]) -> Any:
        def connection(host: str, **options: Any) -> HTTPConnection:
            made = connection_type(host, **options)
            made.response_class = partial(_WatchedResponse, allowance=self.allowance)  # type: ignore[assignment]
            return made

        return connection


def _certificates() -> ssl.SSLContext:
    """Return a context that trusts the system's authorities; those of certifi too, for systems that have none."""
    context = ssl.create_default_context()
    with suppress(ImportError):
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _receive(url: str) -> bytes:
    allowance = _Allowance()
    before = None
    for _ in range(1 + REDIRECTS):
        _check_address(url, before)
        with _open(url, allowance) as response:
            if response.status == HTTPStatus.OK:
                return _body(response)
            if response.status not in MOVED:  # in the standard's words: the mirror's may be anything
                raise DataError(f"{response.status} {responses.get(response.status, '')}".rstrip())
            before, url = url, urljoin(url, response.headers.get("Location", ""))  # its body is left unread
    raise DataError(f"more than {REDIRECTS} redirects")


def _open(url: str, allowance: _Allowance) -> HTTPResponse:
    opener = OpenerDirector()
    opener.add_handler(ProxyHandler({} if _is_loopback(url) else None))
    opener.add_handler(_Handler(allowance))
    request = Request(url, headers={"Accept-Encoding": "identity", "User-Agent": "xpnn"})
    response: HTTPResponse = opener.open(request, timeout=min(CONNECT_SECONDS, allowance.seconds()))
    return response


def _body(response: HTTPResponse) -> bytes:
    """Return the bytes as they come: what calls itself compressed is not unpacked, so nothing can grow."""
    announced = response.length
    if announced is not None and announced > DOWNLOAD_BYTES:
        raise DataError(f"announces {announced} bytes, more than {DOWNLOAD_BYTES}")
    content = bytearray()
    try:
        while chunk := response.read(CHUNK_BYTES):
            content += chunk
    except IncompleteRead as error:
        raise DataError(f"cut off after {len(content) + len(error.partial)} bytes") from error
    if announced is not None and len(content) < announced:
        raise DataError(f"cut off after {len(content)} of {announced} bytes")
    return bytes(content)


def _check_address(url: str, before: str | None) -> None:
    scheme = urlsplit(url).scheme
    if scheme == "https" or (scheme == "http" and _is_loopback(url) and urlsplit(before or "").scheme != "https"):
        return
    raise DataError(f"must be https, got {'' if before is None else 'a redirect to '}{url!r:.100}")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):  # a name
        return ip_address(host).is_loopback
    return host == "localhost"


def _reason(error: Exception) -> str:
    """Say in one short line of printable characters what went wrong; some of the text may be the mirror's."""
    text = str(getattr(error, "strerror", None) or error)
    if isinstance(error, URLError):
        text = f"no connection ({_reason(error.reason) if isinstance(error.reason, Exception) else error.reason})"
    elif isinstance(error, HTTPException) and not isinstance(error, OSError):
        text = f"its answer is not HTTP ({type(error).__name__}: {text})"
    return "".join(each if each.isprintable() else "?" for each in " ".join(text.split()))[:200]
