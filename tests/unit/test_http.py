"""The wire: what it gives, what it bounds, and that it can be cut wherever it waits."""

from __future__ import annotations

import gc
import gzip
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llm_mcp import http
from llm_mcp.errors import Cut, ProviderError
from llm_mcp.http import Wire, get_json
from tests.contract.provider_peer import Line, Peer, answer, drip, endless, hang_up, hold, stream
from tests.waiting import until

SOON_S = 1.0
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
MEGABYTE = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire(read_timeout_s=20, connect_timeout_s=5)
    yield made
    made.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


def fetch(wire: Wire, url: str, **more: Any) -> bytes:
    with wire.request("GET", url, **more) as got:
        return got.read()


def lines(wire: Wire, url: str) -> list[bytes]:
    with wire.request("GET", url) as got:
        return list(got.lines())


def failure(call: Callable[[], object]) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        call()
    return caught.value


# — what it gives —


def test_status_headers_and_body(wire: Wire) -> None:
    with Peer(answer(418, b"short and stout", X_Pot="yes")) as peer, wire.request("GET", peer.url) as got:
        assert (got.status, got.headers["x-pot"], got.read()) == (418, "yes", b"short and stout")


def test_a_body_is_sent_as_json_and_no_encoding_is_asked_for(wire: Wire) -> None:
    with Peer(answer(200)) as peer:
        with wire.request("POST", f"{peer.url}/there?a=1", body=b'{"x":1}', headers={"X-Own": "1"}) as got:
            got.read()
        request = peer.requests[0]
    assert request.head.startswith("POST /there?a=1 HTTP/1.1")
    assert request.json == {"x": 1}
    for line in (
        "content-type: application/json",
        "accept-encoding: identity",
        "x-own: 1",
        f"host: 127.0.0.1:{peer.port}",
    ):
        assert line in request.head.split("\n")


def test_connections_are_kept(wire: Wire) -> None:
    with Peer(answer(200, b"one"), stream(b"tw", b"o")) as peer:
        assert (fetch(wire, peer.url), fetch(wire, peer.url)) == (b"one", b"two")
        assert peer.connections == 1


def test_a_body_that_was_left_unread_tells_the_peer_to_stop(wire: Wire) -> None:
    with Peer(stream(b"first\n", hold)) as peer:
        with wire.request("GET", peer.url) as got:
            assert next(iter(got.lines())) == b"first"
        assert peer.hung_up.wait(SOON_S)


def test_lines_end_where_the_peer_ends_them_however_they_are_cut(wire: Wire) -> None:
    pieces = (b"o", b"ne\r", b"\ntwo\n\nfo", b"ur\xe2\x80\xa8still\x85\x0bfour\n", b"last")
    with Peer(stream(*pieces)) as peer:
        assert lines(wire, peer.url) == [b"one", b"two", b"", b"four\xe2\x80\xa8still\x85\x0bfour", b"last"]


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    wire = Wire(read_timeout_s=5)
    with Peer(answer(200, b"direct")) as peer:
        assert fetch(wire, peer.url) == b"direct"
    wire.close()


def test_redirects_are_not_followed(wire: Wire) -> None:
    with Peer(answer(200, b"elsewhere")) as other, Peer(answer(307, b"", Location=other.url)) as peer:
        with wire.request("GET", peer.url) as got:
            assert got.status == 307
        assert other.connections == 0


def test_a_wire_nobody_holds_any_more_closes_its_connections() -> None:
    with Peer(answer(200, b"x")) as peer:
        fetch(Wire(read_timeout_s=5), peer.url)
        gc.collect()
        assert peer.hung_up.wait(SOON_S)


# — cutting —


def first_line(wire: Wire, url: str, seen: threading.Event) -> None:
    with wire.request("GET", url) as got:
        for _ in got.lines():
            seen.set()


@pytest.mark.parametrize("reused", [False, True], ids=["new", "reused"])
@pytest.mark.parametrize("says", [hold, stream(hold)], ids=["headers", "body"])
def test_a_cut_ends_the_wait_at_once(
    wire: Wire, pool: ThreadPoolExecutor, says: Callable[[Line], None], reused: bool
) -> None:
    first = [answer(200, b"before")] if reused else []
    with Peer(*first, says, answer(200, b"after")) as peer:
        if reused:
            fetch(wire, peer.url)
        cut = wire.arm()
        running = pool.submit(fetch, wire, peer.url)
        until(lambda: len(peer.requests) == len(first) + 1)
        assert peer.connections == 1
        assert_cut(running, cut)
        assert peer.hung_up.wait(SOON_S)
        wire.arm()
        assert fetch(wire, peer.url) == b"after"


@pytest.mark.parametrize("reused", [False, True], ids=["new", "reused"])
@pytest.mark.parametrize(
    "says",
    [stream(b"line\n", hold), lambda line: (line.send(b"HTTP/1.1 200 OK\r\n\r\nline\n"), line.hold())],
    ids=["chunked", "until closed"],
)
def test_a_cut_ends_the_wait_for_the_next_line(
    wire: Wire, pool: ThreadPoolExecutor, says: Callable[[Line], None], reused: bool
) -> None:
    first = [answer(200, b"before")] if reused else []
    seen = threading.Event()
    with Peer(*first, says, answer(200, b"after")) as peer:
        if reused:
            fetch(wire, peer.url)
        cut = wire.arm()
        running = pool.submit(first_line, wire, peer.url, seen)
        assert seen.wait(SOON_S)
        assert peer.connections == 1
        assert_cut(running, cut)
        assert peer.hung_up.wait(SOON_S)
        wire.arm()
        assert fetch(wire, peer.url) == b"after"


def assert_cut(running: Future[Any], cut: Callable[[], None]) -> None:
    cut()
    started = time.monotonic()
    with pytest.raises(Cut):
        running.result(10)
    assert time.monotonic() - started < SOON_S


def test_a_cut_reaches_a_tls_handshake_that_hangs(wire: Wire, pool: ThreadPoolExecutor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        cut = wire.arm()
        running = pool.submit(fetch, wire, f"https://127.0.0.1:{silent.getsockname()[1]}")
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(1) == b"\x16"  # its hello is here: the handshake runs
            assert_cut(running, cut)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 and its key, in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "certificate.pem", folder / "key.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-noenc",
        "-keyout",
        str(key),
        "-out",
        str(made),
        *subject,
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    made.write_bytes(made.read_bytes() + key.read_bytes())
    return made


@pytest.mark.parametrize("reused", [False, True], ids=["new", "reused"])
def test_a_cut_reaches_an_encrypted_stream(
    monkeypatch: pytest.MonkeyPatch, pool: ThreadPoolExecutor, certificate: Path, reused: bool
) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(http, "_tls", lambda: trusting)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    wire = Wire(read_timeout_s=20)
    first = [answer(200, b"before")] if reused else []
    with Peer(*first, stream(b"line\n", hold), tls=server) as peer:
        if reused:
            assert fetch(wire, peer.url) == b"before"
        cut, seen = wire.arm(), threading.Event()
        running = pool.submit(first_line, wire, peer.url, seen)
        assert seen.wait(SOON_S)
        assert peer.connections == 1
        assert_cut(running, cut)
    wire.close()


def test_a_certificate_nobody_vouches_for_is_refused(wire: Wire, certificate: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    with Peer(answer(200), tls=server) as peer:
        assert failure(lambda: fetch(wire, peer.url)).code == "unreachable"


def test_a_cut_that_comes_while_connecting_takes_effect(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.create_connection

    def cut_meanwhile(*args: Any, **more: Any) -> socket.socket:
        connected = connect(*args, **more)
        wire.cut()
        return connected

    with Peer(answer(200, b"too late")) as peer:
        monkeypatch.setattr(socket, "create_connection", cut_meanwhile)
        with pytest.raises(Cut):
            fetch(wire, peer.url)
        assert peer.requests == []


def test_a_cut_lasts_until_the_wire_is_armed(wire: Wire) -> None:
    with Peer(answer(200, b"x")) as peer:
        wire.cut()
        for _ in range(2):
            with pytest.raises(Cut):
                fetch(wire, peer.url)
        wire.arm()
        assert fetch(wire, peer.url) == b"x"
        assert peer.connections == 1  # connections are accepted in their order: there was none before


def test_a_cut_of_the_last_job_does_not_hurt_the_next(wire: Wire, pool: ThreadPoolExecutor) -> None:
    late = wire.arm()
    wire.arm()
    go_on = threading.Event()

    def wait(line: Line) -> None:
        assert go_on.wait(10)

    with Peer(stream(b"half ", wait, b"whole")) as peer:
        running = pool.submit(fetch, wire, peer.url)
        until(lambda: peer.requests)
        late()
        go_on.set()
        assert running.result(10) == b"half whole"


def test_a_cut_after_the_call_costs_the_next_job_nothing_but_a_connection(wire: Wire) -> None:
    with Peer(answer(200, b"x")) as peer:
        cut = wire.arm()
        fetch(wire, peer.url)
        cut()
        wire.arm()
        assert fetch(wire, peer.url) == b"x"


def test_lines_already_received_are_not_given_after_a_cut(wire: Wire) -> None:
    with Peer(stream(b"one\ntwo\nthree\n")) as peer, wire.request("GET", peer.url) as got:
        given = got.lines()
        assert next(given) == b"one"
        wire.cut()
        with pytest.raises(Cut):
            next(given)


def test_somebody_may_wait_for_the_cut(wire: Wire, pool: ThreadPoolExecutor) -> None:
    assert not wire.wait_cut(0.0)
    waiting = pool.submit(wire.wait_cut, 10)
    wire.cut()
    assert waiting.result(SOON_S)


# — what goes wrong, in our words —


def test_nobody_listens(wire: Wire) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = failure(lambda: fetch(wire, f"http://127.0.0.1:{port}/secret-path"))
    assert (error.code, error.retryable) == ("unreachable", True)
    assert str(error) == f"127.0.0.1:{port}: cannot connect: Connection refused"


@pytest.mark.parametrize("says", [hold, stream(b"half", hold)], ids=["headers", "body"])
def test_silence_has_an_end(says: Callable[[Line], None]) -> None:
    wire = Wire(read_timeout_s=0.2)
    with Peer(says) as peer:
        error = failure(lambda: fetch(wire, peer.url))
    assert (error.code, error.retryable) == ("timeout", True)
    wire.close()


@pytest.mark.parametrize(
    "says",
    [hang_up, stream(b"half", end=False), lambda line: (line.send(b"not HTTP at all\r\n\r\n"), line.close())],
    ids=["no answer", "half an answer", "nonsense"],
)
def test_an_answer_that_breaks(wire: Wire, says: Callable[[Line], None]) -> None:
    with Peer(says) as peer:
        error = failure(lambda: fetch(wire, peer.url))
    assert (error.code, error.retryable) == ("broken_stream", True)


@pytest.mark.parametrize(
    "url",
    ["no-scheme", "ftp://127.0.0.1/x", "http://", "http://[::1", "http://127.0.0.1:port", "http://" + "a" * 70 + ".b"],
)
def test_an_address_that_is_none(wire: Wire, url: str) -> None:
    error = failure(lambda: fetch(wire, url))
    assert (error.code, error.retryable) == ("bad_request", False)


@pytest.mark.parametrize("length", ["content-length: 1073741824", "transfer-encoding: chunked"])
def test_a_gigabyte_is_not_taken_in(length: str) -> None:
    wire = Wire(read_timeout_s=5, max_bytes=3_000_000)
    head = f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode()
    with Peer(endless(head, MEGABYTE, at_most=2**30)) as peer:
        error = failure(lambda: fetch(wire, peer.url))
        assert peer.sent < 50_000_000
    assert not error.retryable
    assert "over 3000000 bytes" in str(error)
    wire.close()


def test_a_line_without_end_is_not_taken_in() -> None:
    wire = Wire(read_timeout_s=5, max_line_bytes=3_000_000)
    with Peer(endless(CHUNKED, MEGABYTE, at_most=2**30)) as peer:
        error = failure(lambda: lines(wire, peer.url))
        assert peer.sent < 50_000_000
    assert "a line is over 3000000 bytes" in str(error)
    wire.close()


def test_a_compressed_answer_is_refused_unread(wire: Wire) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    with Peer(answer(200, bomb, Content_Encoding="gzip"), answer(502, bomb, Content_Encoding="gzip")) as peer:
        error = failure(lambda: fetch(wire, peer.url))
        assert (error.code, error.retryable) == ("provider_failed", False)
        with wire.request("GET", peer.url) as got:
            assert (got.status, got.read()) == (502, b"")


def test_secrets_stay_out_of_errors_and_logs(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Peer(answer(200, b"in"), hang_up) as peer:
        url = f"http://somebody:s3cret@127.0.0.1:{peer.port}/p4th?k=t0ken"
        key = {"x-key": "k3y"}
        assert fetch(wire, url, headers=key) == b"in"
        assert "authorization: Basic c29tZWJvZHk6czNjcmV0" in peer.requests[0].head
        texts = [str(failure(lambda: fetch(wire, url, headers=key)))]
    texts.append(str(failure(lambda: fetch(wire, url, headers={"x-key": "k3y\nline"}))))
    texts.append(str(failure(lambda: fetch(wire, url, headers={"x-key": "k3y\u2028"}))))
    texts.append(str(failure(lambda: fetch(wire, "http://s3cret:p4th@[bad?t0ken", headers=key))))
    for text in [*texts, caplog.text, repr(wire)]:
        assert not any(secret in text for secret in ("s3cret", "p4th", "t0ken", "k3y"))


# — get_json —


def test_a_small_document() -> None:
    with Peer(answer(200, {"version": "1"})) as peer:
        assert get_json(peer.url, timeout_s=5, max_bytes=100) == {"version": "1"}


@pytest.mark.parametrize(
    ("says", "code", "retryable"),
    [
        (answer(404, {"error": "no"}), "provider_failed", False),
        (answer(503, {"error": "no"}), "provider_failed", True),
        (answer(302, b"", Location="http://127.0.0.1:1/"), "provider_failed", False),
        (answer(200, b"<html>"), "provider_failed", False),
        (answer(200, b"1" * 101), "provider_failed", False),
        (hang_up, "broken_stream", True),
    ],
)
def test_what_is_no_small_document(says: Callable[[Line], None], code: str, retryable: bool) -> None:
    with Peer(says) as peer:
        error = failure(lambda: get_json(peer.url, timeout_s=5, max_bytes=100))
    assert (error.code, error.retryable) == (code, retryable)


@pytest.mark.parametrize(
    "says",
    [
        hold,
        drip(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", 0.1),
        lambda line: (line.send(CHUNKED), drip(b"1\r\n1\r\n" * 50, 0.1)(line)),
    ],
    ids=["silent", "headers", "body"],
)
def test_a_peer_that_drips_holds_nobody(says: Callable[[Line], None]) -> None:
    with Peer(says) as peer:
        started = time.monotonic()
        error = failure(lambda: get_json(peer.url, timeout_s=0.5, max_bytes=65536))
        took_s = time.monotonic() - started
    assert error.code == "timeout"
    assert 0.4 < took_s < 1.0
