"""Jobs asked for in somebody's name: theirs to see, with keys of their own, whichever way they were written."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from llm_mcp.errors import InvalidInput, KeyReused, NotFound
from llm_mcp.job import Submission
from llm_mcp.jobs import Jobs
from llm_mcp.store.pool import Connection
from tests.integration.rows import count


def new(principal: str | None, n: int = 1, **more: Any) -> Submission:
    return Submission(kind="acme.any", payload=n, principal=principal, **more)


def owner(sql: Connection, job_id: UUID) -> Any:
    row = sql.execute("SELECT principal FROM llm.jobs WHERE id = %s", (job_id,)).fetchone()
    assert row is not None
    return row["principal"]


def test_whose_it_is_is_noted_by_every_way_in(jobs: Jobs, sql: Connection) -> None:
    assert owner(sql, jobs.submit(new("ann"))) == "ann"
    assert owner(sql, jobs.submit(new(None))) is None
    assert [owner(sql, job_id) for job_id in jobs.submit_many([new("ann"), new(None), new("bob")])] == [
        "ann",
        None,
        "bob",
    ]
    by_sql = sql.execute("SELECT llm.submit('echo', '{}') AS id").fetchone()
    assert by_sql is not None
    assert owner(sql, by_sql["id"]) is None


def test_it_is_seen_by_its_owner_and_by_who_names_nobody(jobs: Jobs) -> None:
    job_id = jobs.submit(new("ann"))
    for seer in ("ann", None):
        assert jobs.get(job_id, principal=seer).id == job_id
        jobs.check_owner(job_id, seer)
        assert [job.id for job in jobs.page(principal=seer)] == [job_id]
    for look in (jobs.get, jobs.check_owner):
        with pytest.raises(NotFound):
            look(job_id, principal="Ann")
    assert jobs.page(principal="Ann") == []


def test_nobodys_job_is_not_everybodys(jobs: Jobs) -> None:
    job_id = jobs.submit(new(None))
    with pytest.raises(NotFound):
        jobs.get(job_id, principal="ann")
    assert jobs.page(principal="ann") == []


@pytest.mark.parametrize("many", [False, True])
def test_each_has_keys_of_their_own(jobs: Jobs, sql: Connection, many: bool) -> None:
    asked = [new(name, idempotency_key="k") for name in ("ann", "bob", None)]
    first = jobs.submit_many(asked) if many else [jobs.submit(one) for one in asked]
    again = jobs.submit_many(asked) if many else [jobs.submit(one) for one in asked]
    assert len(set(first)) == 3
    assert again == first
    with pytest.raises(KeyReused):
        jobs.submit(new("bob", 2, idempotency_key="k"))
    assert count(sql) == 3


def test_no_key_can_be_made_that_is_anothers(jobs: Jobs, sql: Connection) -> None:
    """Neither by giving a key as it is stored, nor by moving the border between name and key."""
    mine = jobs.submit(new("a", idempotency_key="bk"))
    assert jobs.submit(new("ab", idempotency_key="k")) != mine
    stored = new("a", idempotency_key="bk").unique_key
    with pytest.raises(InvalidInput) as caught:
        jobs.submit(new(None, idempotency_key=stored))
    assert caught.value.field == "idempotency_key"
    with pytest.raises(Exception, match="idempotency_key: holds a control character"):
        sql.execute("SELECT llm.submit('echo', '{}', idempotency_key => %s)", (stored,))


def test_the_longest_key_of_the_longest_name_fits(jobs: Jobs) -> None:
    asked = new("p" * 128, idempotency_key="k" * 255)
    assert jobs.submit(asked) == jobs.submit(asked)


def test_a_key_for_a_time_is_free_again(jobs: Jobs, sql: Connection) -> None:
    asked = new("ann", idempotency_key="k", unique_s=60.0)
    first = jobs.submit(asked)
    sql.execute("UPDATE llm.jobs SET key_until = clock_timestamp()")
    second = jobs.submit(asked)
    assert second != first
    assert owner(sql, second) == "ann"


@pytest.mark.parametrize("name", ["", " ", "x" * 129, "añn", "a\nb", "\x7f"])
def test_what_is_no_name_is_refused(jobs: Jobs, sql: Connection, name: str) -> None:
    with pytest.raises(InvalidInput, match="must be 1 to 128 printable ASCII characters") as caught:
        jobs.submit(new(name))
    assert caught.value.field == "principal"
    assert count(sql) == 0
