"""A session that is kept: opened again whenever it is lost, quiet at its end, whatever comes in between."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from llm_mcp.store.listen import JOB_QUEUED, Listener
from llm_mcp.store.pool import Connection
from llm_mcp.store.session import Session
from tests.integration.proxy import Proxy
from tests.waiting import until


@pytest.fixture
def proxy(own: str) -> Iterator[Proxy]:
    with Proxy(own) as made:
        yield made


class Log:
    """What a session called, in order."""

    def __init__(self, dsn: str, *, begin: Callable[[Connection], None] = lambda _: None) -> None:
        self.said: list[Any] = []
        self._then = begin
        self.session = Session(
            dsn,
            name="llm-mcp-kept",
            begin=self._begin,
            heard=lambda notice: self.said.append(notice.payload),
            lost=self.said.append,
        )

    def _begin(self, conn: Connection) -> None:
        self.said.append("begun")
        self._then(conn)

    def count(self, what: str) -> int:
        return self.said.count(what)


@pytest.fixture
def kept(proxy: Proxy) -> Iterator[Callable[..., Log]]:
    made: list[Log] = []

    def start(**more: Any) -> Log:
        made.append(Log(proxy.dsn, **more))
        made[-1].session.start()
        return made[-1]

    yield start
    proxy.restore()
    for one in made:
        one.session.close()


def listen(conn: Connection) -> None:
    conn.execute("LISTEN here")


def tell(dsn: str, payload: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("SELECT pg_notify('here', %s)", (payload,))


def test_it_begins_and_hears(kept: Callable[..., Log], own: str) -> None:
    log = kept(begin=listen)
    until(lambda: log.count("begun"))
    tell(own, "a")
    tell(own, "b")
    until(lambda: log.count("b"))
    assert log.said == ["begun", "a", "b"]


def test_a_lost_session_is_told_once_and_begun_again(kept: Callable[..., Log], own: str, proxy: Proxy) -> None:
    log = kept(begin=listen)
    until(lambda: log.count("begun"))
    proxy.cut()
    until(lambda: log.count("begun") == 2)
    assert isinstance(log.said[1], psycopg.OperationalError)
    tell(own, "after")
    until(lambda: log.count("after"))
    assert [type(item) for item in log.said if isinstance(item, Exception)] == [psycopg.OperationalError]


def test_while_the_server_is_away_it_tries_in_peace(kept: Callable[..., Log], proxy: Proxy) -> None:
    log = kept()
    until(lambda: log.count("begun"))
    proxy.refuse()
    until(lambda: len(log.said) >= 4)  # begun, and three times lost
    began_at = time.monotonic()
    n = len(log.said)
    until(lambda: len(log.said) >= n + 2)
    assert time.monotonic() - began_at > 0.2
    proxy.restore()
    until(lambda: log.count("begun") == 2)


def test_a_call_is_made_at_once_on_the_sessions_own_thread(kept: Callable[..., Log]) -> None:
    log = kept()
    until(lambda: log.count("begun"))
    ran: list[str] = []
    done = threading.Event()

    def action(conn: Connection) -> None:
        conn.execute("SELECT 1")
        ran.append(threading.current_thread().name)
        done.set()

    log.session.call(action)
    assert done.wait(5)
    assert ran == ["llm-mcp-kept"]


def test_a_notice_that_comes_with_a_calls_answer_is_heard(kept: Callable[..., Log], own: str) -> None:
    log = kept(begin=listen)
    until(lambda: log.count("begun"))

    def action(conn: Connection) -> None:
        tell(own, "meanwhile")
        conn.execute("SELECT 1")  # its answer brings the notice along

    log.session.call(action)
    until(lambda: log.count("meanwhile"), timeout_s=5)


def test_calls_before_it_began_are_for_begin_to_make(own: str) -> None:
    """A later connection begins with `begin` only: what was asked before is not made twice."""
    made: list[str] = []
    log = Log(own)
    log.session.call(lambda _: made.append("early"))
    log.session.start()
    try:
        until(lambda: log.count("begun"))
        done = threading.Event()
        log.session.call(lambda _: done.set())
        assert done.wait(5)
        assert made == []
    finally:
        log.session.close()


def test_a_channel_asked_for_at_any_moment_is_listened_to(own: str, proxy: Proxy) -> None:
    """Before the first connection, during it, after a loss: whoever asked hears."""
    for ask_after_s in (0.0, 0.002, 0.01, 0.05):
        listener = Listener(proxy.dsn)
        try:
            listener.add("first", "", threading.Event())
            time.sleep(ask_after_s)
            listener.add(JOB_QUEUED, "", threading.Event())
            until(lambda: listener.hears(JOB_QUEUED) and listener.hears("first"))  # noqa: B023 - asked at once
            proxy.cut()
            listener.add("third", "", threading.Event())
            until(lambda: all(map(listener.hears, ("first", JOB_QUEUED, "third"))))  # noqa: B023 - as above
        finally:
            listener.close()


def test_what_raises_in_it_costs_the_connection_and_not_the_thread(kept: Callable[..., Log]) -> None:
    log = kept()
    until(lambda: log.count("begun"))

    def bad(_: Connection) -> None:
        raise RuntimeError("mine")

    log.session.call(bad)
    until(lambda: log.count("begun") == 2)
    assert [str(item) for item in log.said if isinstance(item, Exception)] == ["mine"]


def test_it_closes_at_every_moment(proxy: Proxy) -> None:
    """Never started, while it connects, while nobody answers, while it serves, twice: at once, and nothing is left."""
    never = Log(proxy.dsn)
    never.session.close()
    never.session.close()
    for pause_s in (0.0, 0.003, 0.05):
        log = Log(proxy.dsn)
        log.session.start()
        time.sleep(pause_s)
        began_at = time.monotonic()
        log.session.close()
        log.session.close()
        assert time.monotonic() - began_at < 2
    proxy.refuse()
    away = Log(proxy.dsn)
    away.session.start()
    until(lambda: away.said)
    away.session.close()
    assert "llm-mcp-kept" not in {thread.name for thread in threading.enumerate()}


def test_after_its_end_it_touches_no_descriptor_of_others(own: str) -> None:
    log = Log(own)
    log.session.start()
    until(lambda: log.count("begun"))
    log.session.close()
    reader, writer = os.pipe()  # takes the numbers that became free
    others = [os.dup(reader) for _ in range(8)]
    try:
        log.session.call(lambda _: None)
        log.session.close()
        os.set_blocking(reader, False)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
    finally:
        for number in (reader, writer, *others):
            os.close(number)


def test_it_works_among_thousands_of_descriptors(own: str) -> None:
    """A web process with as many streams has them; `select` takes none over 1023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    log = Log(own, begin=listen)
    try:
        log.session.start()
        until(lambda: log.count("begun"))
        tell(own, "a")
        until(lambda: log.count("a"))
        assert log.said == ["begun", "a"]
    finally:
        log.session.close()
        for number in taken:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
