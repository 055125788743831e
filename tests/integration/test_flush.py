"""Many streams are written in one statement, and each as if it were alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from llm_mcp import config
from llm_mcp.events import Cursor
from llm_mcp.flush import flush
from llm_mcp.run import Run
from llm_mcp.runtime import Runtime
from llm_mcp.store import events
from llm_mcp.store import jobs as verbs
from llm_mcp.store.pool import Database
from tests.integration.proxy import Proxy
from tests.integration.rows import lease


def some(db: Database, runtime: Runtime, count: int) -> list[Run]:
    """Return runs that have said their first word already: what they say from now on waits."""
    runs = [Run(lease(db), runtime, fence_at=float("inf")) for _ in range(count)]
    for number, run in enumerate(runs):
        run.text(f"{number}:")
    return runs


def told(db: Database, run: Run) -> list[tuple[int, str]]:
    found = events.follow(db, run.lease.job_id, Cursor()).events
    return [(event.seq, event.data.get("text", event.type)) for event in found]


@pytest.fixture
def asked(db: Database, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that were run since."""
    names: list[str] = []
    run = Database.run

    def noted(self: Database, name: str, *args: Any, **options: Any) -> Any:
        names.append(name)
        return run(self, name, *args, **options)

    monkeypatch.setattr(Database, "run", noted)
    return names


@pytest.fixture
def far(proxy: Proxy, dsn: str) -> Iterator[Runtime]:
    """A runtime that reaches its tables through the proxy only, by one connection."""
    made = Runtime(config.load(db_dsn=proxy.dsn, db_direct_dsn=dsn, db_pool_size=1))
    yield made
    made.close()


def test_many_streams_are_one_statement(runtime: Runtime, db: Database, asked: list[str]) -> None:
    runs = some(db, runtime, 60)
    for run in runs:
        run.text("a")
        run.text("b")
        run.progress(0.5)
    asked.clear()
    assert flush(runtime, runs) == []
    assert asked == ["append_many"]
    for number, run in enumerate(runs):
        assert told(db, run) == [(1, f"{number}:"), (2, "ab"), (3, "progress")]
    assert flush(runtime, runs) == []
    assert asked.count("append_many") == 1


def test_a_statement_has_its_bounds(runtime: Runtime, db: Database, asked: list[str]) -> None:
    runs = some(db, runtime, 5)
    for run in runs:
        run.text("x" * 600_000)
    asked.clear()
    assert flush(runtime, runs) == []
    assert asked == ["append_many"] * 3
    assert [len(events.follow(db, run.lease.job_id, Cursor(1, 1)).events) for run in runs] == [1] * 5


def test_a_lost_lease_cuts_its_own_run_only(runtime: Runtime, db: Database) -> None:
    one, lost, other = some(db, runtime, 3)
    verbs.cancel(db, lost.lease.job_id)
    for run in (one, lost, other):
        run.text("a")
    assert flush(runtime, [one, lost, other]) == []
    assert [run.was_cut for run in (one, lost, other)] == [None, "lease_lost", None]
    assert [len(told(db, run)) for run in (one, lost, other)] == [2, 1, 2]


def test_the_same_numbers_again_after_an_answer_that_was_lost(
    far: Runtime, proxy: Proxy, runtime: Runtime, db: Database
) -> None:
    runs = some(db, far, 3)
    for run in runs:
        run.text("a")
    far.notifier.close()  # the next to speak is the streams
    proxy.lose_a_reply()
    assert flush(far, runs) == runs
    assert proxy.lost.is_set()
    for run in runs:
        run.text("b")
    assert flush(far, runs) == runs
    proxy.restore()
    assert flush(far, runs) == runs  # what came meanwhile is next
    assert flush(far, runs) == []
    for number, run in enumerate(runs):
        assert told(db, run) == [(1, f"{number}:"), (2, "a"), (3, "b")]
        assert run.was_cut is None


@pytest.mark.parametrize("refuses", ["the database", "the run"])
def test_a_stream_that_cannot_be_written_holds_up_no_other(
    runtime: Runtime, db: Database, refuses: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, bad, other = some(db, runtime, 3)
    one.text("a")
    bad._waiting.append(("no\x00text", {}))
    other.text("b")
    if refuses == "the run":
        monkeypatch.setattr(bad, "_number", lambda: 1 / 0)  # fails where nobody foresaw it
    assert flush(runtime, [one, bad, other]) == []
    assert [run.was_cut for run in (one, bad, other)] == [None, "stream_failed", None]
    assert [len(told(db, run)) for run in (one, bad, other)] == [2, 1, 2]


def test_who_writes_its_own_stream_is_not_waited_for(runtime: Runtime, db: Database) -> None:
    busy, other = some(db, runtime, 2)
    busy.text("a")
    other.text("b")
    holding, go_on = threading.Event(), threading.Event()
    write = busy._write

    def slowly(batch: list[tuple[int, str, str]]) -> None:
        holding.set()
        assert go_on.wait(20)
        write(batch)

    busy._write = slowly  # type: ignore[method-assign] # stands still where the database would
    thread = threading.Thread(target=busy.flush)
    thread.start()
    assert holding.wait(20)
    busy.text("more")
    assert flush(runtime, [busy, other]) == [busy]
    assert told(db, other) == [(1, "1:"), (2, "b")]
    go_on.set()
    thread.join(20)
    assert flush(runtime, [busy]) == []
    assert told(db, busy) == [(1, "0:"), (2, "a"), (3, "more")]
