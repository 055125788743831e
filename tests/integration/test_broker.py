"""Dramatiq's broker over our table: what is sent becomes a row, what is claimed is leased, and nothing raises."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import dramatiq
import pytest

from llm_mcp import config
from llm_mcp.broker import QUEUE, LeaseBroker, LeaseConsumer, LeasedMessage
from llm_mcp.errors import InvalidInput, KeyReused, SetupError
from llm_mcp.job import Status, Submission
from llm_mcp.jobs import Jobs
from llm_mcp.keeper import Keeper
from llm_mcp.runtime import Runtime
from llm_mcp.store.listen import JOB_QUEUED
from llm_mcp.store.pool import Database, connect
from tests.integration.proxy import Proxy
from tests.integration.rows import add, whole
from tests.waiting import until


@pytest.fixture
def broker() -> LeaseBroker:
    """A broker of our own, with one actor."""
    made = LeaseBroker()

    def echo() -> None: ...

    dramatiq.actor(actor_name="echo", queue_name=QUEUE, broker=made)(echo)
    return made


class Desk:
    """A consumer with a keeper behind it, claiming by way of the proxy."""

    def __init__(self, broker: LeaseBroker, runtime: Runtime, threads: int) -> None:
        self.runtime = runtime
        self.keeper = Keeper(
            runtime,
            worker_id="w",
            name="w",
            threads=threads,
            kinds=lambda: sorted(broker.actors),
            on_free=broker.wake.freed,
        )
        self.keeper.start()
        broker.keeper = self.keeper
        consumer = broker.consume(QUEUE, prefetch=16, timeout=50)
        assert isinstance(consumer, LeaseConsumer)
        self.consumer = consumer

    def next(self) -> LeasedMessage | None:
        message = next(self.consumer)
        assert message is None or isinstance(message, LeasedMessage)
        return message

    def take(self) -> LeasedMessage:
        """Wait for a message."""
        found = until(self.next)
        assert found is not None
        return found

    def quiet(self, turns: int = 5) -> bool:
        return all(self.next() is None for _ in range(turns))


@pytest.fixture
def desk(broker: LeaseBroker, proxy: Proxy, tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def open_desk(threads: int = 4, **settings: Any) -> Desk:
        # One connection and no session of its own: a lost reply is to be the claim's, not that of what prepares it.
        asked = {"db_dsn": proxy.dsn, "data_dir": tmp_path, "poll_s": 0.1, "liveness": False, "db_pool_size": 1}
        runtime = Runtime(config.load(**{**asked, **settings}))
        made.append(Desk(broker, runtime, threads))
        return made[-1]

    yield open_desk
    proxy.restore()
    for one in made:
        one.consumer.close()
        one.keeper.stop()
        one.runtime.close()


def done(message: LeasedMessage, result: Any = None) -> LeasedMessage:
    message.run.ended, message.run.result = True, result
    return message


# — sending —


def send(broker: LeaseBroker, *args: Any, delay: int | None = None, kind: str = "echo", **more: Any) -> Any:
    kwargs, options = more.pop("kwargs", {}), more
    message: dramatiq.Message[Any] = dramatiq.Message(QUEUE, kind, args, kwargs, options)
    return broker.enqueue(message, delay=delay)


def test_a_message_that_is_sent_is_a_row(broker: LeaseBroker, jobs: Jobs) -> None:
    deadline = datetime.now(UTC) + timedelta(hours=1)
    sent = send(
        broker, kwargs={"text": "hi"}, priority=4, source="s", max_attempts=9, deadline_at=deadline, delay=90_000
    )
    job = jobs.get(UUID(sent.message_id))
    assert (job.kind, job.payload, job.priority, job.source, job.max_attempts) == ("echo", '{"text":"hi"}', 4, "s", 9)
    assert job.deadline_at == deadline
    assert timedelta(seconds=89) < job.run_at - job.queued_at < timedelta(seconds=91)
    assert jobs.get(UUID(send(broker).message_id)).source == "python"


def test_one_object_is_the_payload_itself(broker: LeaseBroker, jobs: Jobs) -> None:
    for payload, stored in (([1, 2], "[1,2]"), (None, "null"), ({"a": 1}, '{"a":1}')):
        assert jobs.get(UUID(send(broker, payload).message_id)).payload == stored
    assert jobs.get(UUID(send(broker).message_id)).payload == "{}"


def test_the_same_key_sent_twice_is_one_job(broker: LeaseBroker, jobs: Jobs) -> None:
    first = send(broker, 1, idempotency_key="k")
    assert send(broker, 1, idempotency_key="k").message_id == first.message_id
    with pytest.raises(KeyReused):
        send(broker, 2, idempotency_key="k")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"max_retries": 3}, "max_retries"),
        ({"time_limit": 1000}, "time_limit"),
        ({"on_success": "other"}, "on_success"),
        ({"delay": -1}, "delay_s"),
        ({"priority": "high"}, "priority"),
        ({"kwargs": {"a": {1, 2}}}, "payload.a"),
    ],
)
def test_what_a_row_cannot_carry_is_refused_not_dropped(
    broker: LeaseBroker, jobs: Jobs, more: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        send(broker, **more)
    assert caught.value.field == field
    assert jobs.page() == []


def test_arguments_that_are_no_object_are_refused(broker: LeaseBroker, runtime: Runtime) -> None:
    with pytest.raises(InvalidInput, match="keyword arguments, or one object"):
        send(broker, 1, 2)
    with pytest.raises(InvalidInput, match="keyword arguments, or one object"):
        send(broker, 1, kwargs={"a": 1})


def test_a_broker_needs_nothing_until_it_is_used_and_is_never_flushed(broker: LeaseBroker) -> None:
    assert broker.get_declared_queues() == {QUEUE}
    assert broker.get_declared_delay_queues() == set()
    with pytest.raises(SetupError, match="keeper"):
        broker.consume(QUEUE)
    with pytest.raises(SetupError, match="cancel jobs instead"):
        broker.flush_all()


# — claiming —


def test_claims_are_for_free_places_only(desk: Callable[..., Desk], db: Database, dsn: str) -> None:
    for _ in range(5):
        add(db)
    at = desk(threads=2)
    first, second = at.take(), at.take()
    assert at.quiet()
    assert _running(dsn) == 2
    at.consumer.ack(done(first))
    third = at.take()
    assert _running(dsn) == 2
    assert len({first.run.lease.job_id, second.run.lease.job_id, third.run.lease.job_id}) == 3


def _running(dsn: str) -> int:
    with connect(dsn) as conn:
        return conn.execute("SELECT FROM llm.jobs WHERE status = 'running'").rowcount


def test_only_kinds_with_an_actor_are_claimed(desk: Callable[..., Desk], db: Database) -> None:
    add(db, kind="nobody.does.this")
    mine = add(db)
    at = desk()
    assert at.take().run.lease.job_id == mine
    assert at.quiet()


def test_a_notice_spares_the_poll(desk: Callable[..., Desk], runtime: Runtime, jobs: Jobs) -> None:
    at = desk(poll_s=60.0)
    assert at.quiet(2)
    until(lambda: at.runtime.listener.hears(JOB_QUEUED))
    until(lambda: at.quiet(1) and at.consumer._claimer.due_s() > 10)
    began_at = time.monotonic()
    jobs.submit(Submission(kind="echo"))
    at.take()
    assert time.monotonic() - began_at < 5


def test_without_a_notice_the_poll_finds_it(desk: Callable[..., Desk], dsn: str) -> None:
    at = desk(poll_s=0.5)
    assert at.quiet()
    with connect(dsn) as conn:
        conn.execute("SELECT llm.submit('echo')")
    began_at = time.monotonic()
    at.take()
    assert time.monotonic() - began_at < 5


def test_an_idle_worker_looks_no_more_often_than_it_was_told(desk: Callable[..., Desk], dsn: str) -> None:
    at = desk(poll_s=60.0)
    until(lambda: at.runtime.listener.hears(JOB_QUEUED))
    until(lambda: at.quiet(1) and at.consumer._claimer.due_s() > 10)
    with connect(dsn) as conn:
        conn.execute("SELECT llm.submit('echo')")  # nobody is told
    assert at.quiet(10)


def test_whoever_drains_claims_nothing(desk: Callable[..., Desk], db: Database) -> None:
    at = desk()
    at.keeper.draining = True
    add(db)
    assert at.quiet()


# — a lost reply —


def test_a_claim_whose_reply_was_lost_is_found_again(
    desk: Callable[..., Desk], db: Database, proxy: Proxy, dsn: str
) -> None:
    at = desk()
    assert at.quiet()
    at.runtime.listener.close()  # the next to speak is the claim
    job_id = add(db)
    proxy.lose_a_reply()
    until(lambda: at.next() is None and proxy.lost.is_set())
    assert whole(dsn, job_id)["job"]["status"] == "running"
    assert at.next() is None
    proxy.restore()
    message = at.take()
    assert (message.run.lease.job_id, message.run.lease.attempt) == (job_id, 1)
    at.consumer.ack(done(message))
    until(lambda: at.next() is None and whole(dsn, job_id)["job"]["status"] == "done")
    later = add(db)
    assert at.take().run.lease.job_id == later


def test_a_lost_claim_that_was_reaped_meanwhile_is_not_run(
    desk: Callable[..., Desk], db: Database, proxy: Proxy, dsn: str
) -> None:
    at = desk(threads=1)
    assert at.quiet()
    at.runtime.listener.close()
    job_id = add(db)
    proxy.lose_a_reply()
    until(lambda: at.next() is None and proxy.lost.is_set())
    with connect(dsn) as conn:
        conn.execute(
            "UPDATE llm.jobs SET status = 'queued', lease_token = NULL, lease_until = NULL, worker_id = NULL,"
            " claim_id = NULL"
        )
    proxy.restore()
    message = at.take()
    assert (message.run.lease.job_id, message.run.lease.attempt) == (job_id, 2)


# — a database that is away —


def test_nothing_raises_while_the_database_is_away(
    desk: Callable[..., Desk], db: Database, proxy: Proxy, dsn: str
) -> None:
    """What came out of here would stop Dramatiq's consumer for seconds, or for good."""
    add(db), add(db)
    at = desk()
    running, waiting = at.take(), at.take()
    proxy.refuse()
    assert at.next() is None
    at.consumer.requeue([waiting])
    at.consumer.close()
    assert at.keeper.held == 1
    proxy.restore()
    at.consumer.ack(done(running))
    until(lambda: at.next() is None and whole(dsn, running.run.lease.job_id)["job"]["status"] == "done")
    assert whole(dsn, waiting.run.lease.job_id)["job"]["status"] == "running"  # ends with its lease


def test_a_schema_that_is_not_there_yet_is_waited_for(
    desk: Callable[..., Desk], db: Database, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    at = desk()
    add(db)
    with connect(dsn) as conn:
        conn.execute("ALTER TABLE llm.jobs RENAME TO elsewhere")
        try:
            assert at.quiet(3)
        finally:
            conn.execute("ALTER TABLE llm.elsewhere RENAME TO jobs")
    assert "no turn" in caplog.text
    at.take()


# — giving back —


def test_what_was_claimed_and_not_handed_out_is_given_back(desk: Callable[..., Desk], db: Database, dsn: str) -> None:
    ids = [add(db) for _ in range(3)]
    at = desk()
    first = at.take()
    assert _running(dsn) == 3
    at.consumer.close()
    assert _running(dsn) == 1
    rows = {job_id: whole(dsn, job_id)["job"] for job_id in ids if job_id != first.run.lease.job_id}
    assert {(row["status"], row["releases"]) for row in rows.values()} == {("queued", 1)}
    assert at.keeper.held == 1


def test_a_message_whose_actor_is_gone_is_given_back(desk: Callable[..., Desk], db: Database, dsn: str) -> None:
    """Dramatiq rejects it without calling anybody: that is no outcome."""
    job_id = add(db)
    at = desk()
    message = at.take()
    message.fail()
    at.consumer.nack(message)
    row = whole(dsn, job_id)["job"]
    assert (row["status"], row["releases"], row["result"]) == ("queued", 1, None)
    assert at.keeper.held == 0


def test_a_message_of_another_broker_is_refused(desk: Callable[..., Desk]) -> None:
    message: dramatiq.Message[Any] = dramatiq.Message(QUEUE, "echo", (), {}, {})
    with pytest.raises(TypeError):
        desk().consumer.ack(dramatiq.MessageProxy(message))


def test_the_status_is_seen_at_once_by_who_watches(desk: Callable[..., Desk], jobs: Jobs, db: Database) -> None:
    job_id = add(db)
    items = jobs.follow(job_id)
    next(items)
    desk().take()
    item = next(items)
    assert getattr(item, "status", None) is Status.RUNNING
    items.close()
