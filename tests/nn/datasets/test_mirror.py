"""One file from one mirror: every way to misbehave has its reason, and takes no more than it may."""

import gzip
import hashlib
import re
import socket
from types import SimpleNamespace

import pytest
from xpnn.backends.errors import DataError
from xpnn.nn.datasets import mirror
from xpnn.nn.datasets.mirror import download

from ...trust.mirrors import FAR, KINDS, Mirrors, make_certificate

BODY = gzip.compress(bytes(range(256)) * 20)
SUM = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def settings(monkeypatch):
    """No proxy but those of a test, and less than is usual of all that is limited."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setattr(mirror, "DOWNLOAD_BYTES", 2**20)


@pytest.fixture
def mirrors():
    with Mirrors(BODY, others=OTHERS) as running:
        yield running


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    made = make_certificate(tmp_path_factory.mktemp("tls"))
    if made is None:
        pytest.skip("needs openssl")
    return made


def in_chunks(talk):
    parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (talk.body[:100], talk.body[100:]))
    talk.send(talk.head("Transfer-Encoding: chunked").encode() + parts + b"0\r\n\r\n")


def moved_for_ever(talk):
    talk.send(talk.head("Location: ../../good/0.5/file", status="301 Moved"))
    talk.flood(bytes(2**16))


def long_chunk_header(talk):
    talk.send(talk.head("Transfer-Encoding: chunked").encode() + b"1;" + b"x" * 60_000)


OTHERS = {
    "long-chunk-header": long_chunk_header,
    "in-chunks": in_chunks,
    "unannounced": lambda talk: talk.send(talk.head().encode() + talk.body),
    "called-packed": lambda talk: talk.answer(talk.body, "Content-Encoding: gzip"),
    "wrongly-announced": lambda talk: talk.answer(talk.body, "Content-Length: 3", length=-1),
    "moved": lambda talk: talk.redirect(talk.url.replace("moved", "good") + "file"),
    "moved-here": lambda talk: talk.redirect("../../good/0.5/file"),
    "moved-for-ever": moved_for_ever,
    "moved-nowhere": lambda talk: talk.answer(b"", status="302 Found"),
    "moved-long": lambda talk: talk.redirect("ftp://" + "x" * 5000),
    "moved-oddly": lambda talk: talk.redirect("http://[::1/"),
}


def reason(url):
    with pytest.raises(DataError) as caught:
        download(url + "file", SUM)
    return str(caught.value)


@pytest.mark.parametrize(
    "kind", ["good", "in-chunks", "unannounced", "called-packed", "moved", "moved-here", "moved-for-ever"]
)
def test_a_good_file_is_given(mirrors, kind):
    assert download(mirrors.url(kind) + "file", SUM) == BODY


def test_the_file_is_asked_for_as_it_is(mirrors):
    download(mirrors.url("good") + "file", SUM)
    assert re.match(r"GET /good/0\.5/file HTTP/1\.1\r\n", mirrors.requests[0])
    assert "\r\nAccept-Encoding: identity\r\n" in mirrors.requests[0]
    assert "\r\nUser-Agent: xpnn\r\n" in mirrors.requests[0]


@pytest.mark.parametrize("place", [0.0, 0.3, 0.999])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_misbehaviour_has_its_reason(mirrors, monkeypatch, kind, place):
    if KINDS[kind].slow:
        name = "FILE_SECONDS" if "dripping" in kind else "TIMEOUT_SECONDS"
        monkeypatch.setattr(mirror, name, 0.12)
    assert re.match(KINDS[kind].reason, reason(mirrors.url(kind, place)))


def test_reasons_are_short_lines_of_printable_characters(mirrors):
    for kind in ("garbage", "404", "moved-long"):
        text = reason(mirrors.url(kind))
        assert text.isprintable()
        assert len(text) <= 200
    assert "Invalid IPv6 URL" in reason(mirrors.url("moved-oddly"))


def test_five_redirects_are_followed(mirrors):
    for kind in ("moved-nowhere", "circle"):
        mirrors.requests.clear()
        assert reason(mirrors.url(kind)) == "more than 5 redirects"
        assert [request.split("/")[1] for request in mirrors.requests] == [kind] * 6


def test_an_announced_length_that_is_no_number_is_passed_over(mirrors):
    assert download(mirrors.url("wrongly-announced") + "file", SUM) == BODY


def test_a_mirror_that_is_not_there():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert reason(f"http://127.0.0.1:{port}/") == "no connection (Connection refused)"


def test_the_time_limit_holds_for_all_redirects_together(mirrors, monkeypatch):
    clock = iter(range(1000))  # a second passes between any two looks at it: at least two for each redirect
    monkeypatch.setattr(mirror, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(mirror, "FILE_SECONDS", 9)
    assert reason(mirrors.url("circle")) == "not complete after 9 s"
    assert 1 < len(mirrors.requests) < 6


def test_the_size_limit_is_exact(mirrors, monkeypatch):
    head = len(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    monkeypatch.setattr(mirror, "DOWNLOAD_BYTES", head + len(BODY))
    assert download(mirrors.url("unannounced") + "file", SUM) == BODY
    monkeypatch.setattr(mirror, "DOWNLOAD_BYTES", head + len(BODY) - 1)
    assert reason(mirrors.url("unannounced")) == f"sends more than {head + len(BODY) - 1} bytes"
    monkeypatch.setattr(mirror, "DOWNLOAD_BYTES", 20_000)
    assert reason(mirrors.url("long-chunk-header")) == "sends more than 20000 bytes"


@pytest.mark.parametrize(
    "address",
    [FAR, "http://example.com/", "http://localhost.example.com/", "ftp://127.0.0.1/", "file:///etc/", "127.0.0.1/", ""],
)
def test_what_is_not_https_is_not_even_asked(monkeypatch, address):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("asked"))
    assert reason(address) == f"must be https, got {address + 'file'!r}"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST", "[::1]"])
def test_this_machine_may_be_asked_over_http(host):
    mirror._check_address(f"http://{host}:8000/file", None)
    mirror._check_address(f"http://{host}:8000/file", "http://127.0.0.1/file")
    with pytest.raises(DataError, match="got a redirect to 'http"):
        mirror._check_address(f"http://{host}:8000/file", "https://example.com/file")


def test_https_with_a_certificate_that_is_trusted(mirrors, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Mirrors(BODY, certificate=certificate, others={"to-http": lambda talk: talk.redirect(there)}) as safe:
        assert download(safe.url("good") + "file", SUM) == BODY
        there = mirrors.url("good") + "file"
        assert reason(safe.url("to-http")) == f"must be https, got a redirect to {there!r}"
        assert mirrors.requests == []
        other = safe.url("good").replace("127.0.0.1", "localhost")
        assert "certificate is not valid for 'localhost'" in reason(other)


def test_https_with_a_certificate_that_is_not_trusted(certificate):
    with Mirrors(BODY, certificate=certificate) as safe:
        assert "no connection ([SSL: CERTIFICATE_VERIFY_FAILED]" in reason(safe.url("good"))
        assert safe.requests == []


@pytest.mark.parametrize(("kind", "limit"), [("hanging-in-body", "TIMEOUT_SECONDS"), ("dripping-body", "FILE_SECONDS")])
def test_time_limits_hold_under_https(certificate, monkeypatch, kind, limit):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Mirrors(BODY, certificate=certificate) as safe:
        assert download(safe.url("good") + "file", SUM) == BODY
        monkeypatch.setattr(mirror, limit, 0.3)
        assert re.match(KINDS[kind].reason, reason(safe.url(kind)))


def test_a_proxy_is_asked_for_others_and_never_for_this_machine(monkeypatch, mirrors):
    tunnels = []

    class Proxy(Mirrors):
        def _answer(self, sock, request):
            tunnels.append(request.split()[:2])
            if "hanging" in request:
                sock.recv(1)
            sock.sendall(b"HTTP/1.0 403 not\x1b you\r\n\r\n")

    with Proxy(BODY) as proxy:
        monkeypatch.setenv("http_proxy", proxy.root)
        monkeypatch.setenv("https_proxy", proxy.root)
        assert download(mirrors.url("good") + "file", SUM) == BODY
        assert tunnels == []
        assert reason("https://mirror.invalid/") == "no connection (Tunnel connection failed: 403 not? you)"
        assert tunnels == [["CONNECT", "mirror.invalid:443"]]
        monkeypatch.setattr(mirror, "TIMEOUT_SECONDS", 0.1)
        assert reason("https://hanging.invalid/") == "no connection (nothing came for 0.1 s)"
