"""Wake-ups: heard at once when all is well, and nobody waits for ever when it is not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from llm_mcp.store.listen import JOB_ENDED, JOB_QUEUED, JOB_UPDATE, Listener, Notifier
from tests.integration.proxy import Proxy
from tests.waiting import until


@pytest.fixture
def proxy(own: str) -> Iterator[Proxy]:
    with Proxy(own) as made:
        yield made


@pytest.fixture
def listener(own: str) -> Iterator[Listener]:
    made = Listener(own)
    yield made
    made.close()


@pytest.fixture
def notifier(own: str) -> Iterator[Notifier]:
    made = Notifier(own)
    yield made
    made.close()


def ear(listener: Listener, channel: str, payload: str = "") -> threading.Event:
    """Subscribe first of all, wait until the listener listens, and forget the wake-up that came with it."""
    event, heard = threading.Event(), listener.hears(channel)
    listener.add(channel, payload, event)
    if not heard:
        until(event.is_set)
        event.clear()
    return event


def broken(dsn: str, like: str) -> None:
    """Have the server end the sessions whose last statement looks like this."""
    with psycopg.connect(dsn, autocommit=True) as admin:
        ended = admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE %s AND pid <> pg_backend_pid() AND datname = current_database()",
            (like,),
        )
        assert ended.rowcount >= 1


_others: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _remember_others() -> None:
    """Threads that tests before these left are not ours to judge."""
    _others.clear()
    _others.update(threading.enumerate())


def names() -> set[str]:
    """Return the names of the threads that began in this test."""
    return {thread.name for thread in threading.enumerate() if thread not in _others}


def test_nothing_runs_before_it_is_needed(own: str) -> None:
    Listener(own).close()
    Notifier(own).close()
    assert not names() & {"llm-mcp-listen", "llm-mcp-notify"}


@pytest.mark.parametrize("job", ["01a219c4-f819-7021-9f0b-003d3bf15338", 'it\'s \\ "quoted" €'])
def test_a_notice_wakes_those_who_asked_for_it_and_nobody_else(
    listener: Listener, notifier: Notifier, job: str
) -> None:
    mine = ear(listener, JOB_QUEUED)
    same, other_job = ear(listener, JOB_UPDATE, job), ear(listener, JOB_UPDATE, str(uuid4()))
    other_channel = ear(listener, JOB_ENDED, job)
    payloads: list[str] = []
    listener.hear(JOB_UPDATE, payloads.append)
    notifier.notify(JOB_UPDATE, job)
    assert same.wait(5)
    notifier.notify(JOB_QUEUED)
    assert mine.wait(5)
    assert not other_job.is_set()
    assert not other_channel.is_set()
    assert payloads == [job]


def test_schemas_of_one_database_do_not_hear_each_other(own: str, listener: Listener, notifier: Notifier) -> None:
    other_listener, other_notifier = Listener(own, schema="Other"), Notifier(own, schema="Other")
    try:
        mine, others = ear(listener, JOB_UPDATE, "job"), ear(other_listener, JOB_UPDATE, "job")
        other_notifier.notify(JOB_UPDATE, "job")
        assert others.wait(5)
        assert not mine.is_set()
        others.clear()
        notifier.notify(JOB_UPDATE, "job")
        assert mine.wait(5)
        assert not others.is_set()
    finally:
        other_notifier.close()
        other_listener.close()


def test_a_quiet_sender_is_heard_within_milliseconds(listener: Listener, notifier: Notifier) -> None:
    event = ear(listener, JOB_QUEUED)
    notifier.notify(JOB_QUEUED)
    assert event.wait(5)
    took = []
    for _ in range(20):
        event.clear()
        began_at = time.monotonic()
        notifier.notify(JOB_QUEUED)
        assert event.wait(5)
        took.append(time.monotonic() - began_at)
    assert sorted(took)[10] < 0.1  # a poll would take several times that


def test_under_load_repeats_are_one_notice(own: str, notifier: Notifier) -> None:
    with psycopg.connect(own, autocommit=True) as conn:
        conn.execute("LISTEN job_update")
        for n in range(5000):
            notifier.notify(JOB_UPDATE, f"job-{n % 5}")
        notifier.notify(JOB_UPDATE, "last")
        heard = 0
        for notice in conn.notifies(timeout=10):
            heard += 1
            if notice.payload == "last":
                break
    assert heard < 1000


def test_who_closes_sends_what_is_waiting(own: str, listener: Listener) -> None:
    event = ear(listener, JOB_UPDATE, "last words")
    notifier = Notifier(own)
    notifier.notify(JOB_QUEUED)
    notifier.notify(JOB_UPDATE, "last words")
    notifier.close()
    assert event.wait(5)
    assert "llm-mcp-notify" not in names()
    notifier.notify(JOB_QUEUED)
    assert "llm-mcp-notify" not in names()


def test_a_sender_whose_connection_broke_is_heard_all_the_same(
    own: str, listener: Listener, notifier: Notifier
) -> None:
    event = ear(listener, JOB_UPDATE, "after")
    notifier.notify(JOB_QUEUED)
    until(lambda: sessions(own, "NOTIFY %"))
    broken(own, "NOTIFY %")
    notifier.notify(JOB_UPDATE, "after")
    assert event.wait(5)


def sessions(dsn: str, like: str) -> int:
    with psycopg.connect(dsn, autocommit=True) as admin:
        return admin.execute(
            "SELECT FROM pg_stat_activity WHERE query LIKE %s AND pid <> pg_backend_pid()"
            " AND datname = current_database() AND state = 'idle'",
            (like,),
        ).rowcount


def test_who_notifies_never_waits_and_is_heard_when_the_server_is_back(proxy: Proxy, listener: Listener) -> None:
    event = ear(listener, JOB_UPDATE, "kept")
    notifier = Notifier(proxy.dsn)
    proxy.refuse()
    try:
        began_at = time.monotonic()
        notifier.notify(JOB_UPDATE, "kept")
        for n in range(20_000):
            notifier.notify(JOB_UPDATE, f"job-{n}")
        assert time.monotonic() - began_at < 2
        assert len(notifier._pending) <= 20_000
        assert not event.is_set()
        proxy.restore()
        assert event.wait(10)
    finally:
        notifier.close()


def test_a_sender_can_be_closed_while_the_server_is_away(proxy: Proxy) -> None:
    notifier = Notifier(proxy.dsn)
    proxy.refuse()
    notifier.notify(JOB_QUEUED)
    began_at = time.monotonic()
    notifier.close()
    assert time.monotonic() - began_at < 3
    until(lambda: "llm-mcp-notify" not in names())


def test_whoever_waits_is_woken_when_notices_may_have_been_missed(proxy: Proxy, notifier: Notifier) -> None:
    far = Listener(proxy.dsn)
    try:
        event = ear(far, JOB_UPDATE, "job")
        proxy.refuse()
        assert event.wait(10)
        until(lambda: not far.hears(JOB_UPDATE))
        notifier.notify(JOB_UPDATE, "job")  # heard by nobody
        event.clear()
        proxy.restore()
        until(lambda: far.hears(JOB_UPDATE))
        assert event.wait(5)
        event.clear()
        notifier.notify(JOB_UPDATE, "job")
        assert event.wait(5)
    finally:
        far.close()


def test_subscriptions_leave_nothing_behind(listener: Listener) -> None:
    with listener.subscribe(JOB_UPDATE, "job"), listener.subscribe(JOB_UPDATE, "job"):
        assert len(listener._waiting[JOB_UPDATE, "job"]) == 2
    with pytest.raises(ZeroDivisionError), listener.subscribe(JOB_QUEUED, ""):
        raise ZeroDivisionError
    listener.discard(JOB_UPDATE, "never asked for", threading.Event())
    assert listener._waiting == {}


def test_closing_wakes_everybody_and_ends_the_thread(own: str) -> None:
    listener = Listener(own)
    event = ear(listener, JOB_QUEUED)
    listener.close()
    assert event.is_set()
    assert "llm-mcp-listen" not in names()
