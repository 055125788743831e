"""The words for a job, and that the schema knows the same ones."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from uuid import uuid4

from llm_mcp.job import Job, Lease, Reason, Status, Submission
from llm_mcp.store.migrate import migrations

_SCHEMA = migrations()[0].text
_LATER = "\n".join(migration.text for migration in migrations()[1:])


def _words(table: str, column: str) -> set[str]:
    body = re.search(rf"CREATE TABLE llm\.{table} \((.*?)\n\)", _SCHEMA, re.DOTALL)
    assert body is not None
    replaced = re.findall(rf"ADD CONSTRAINT {table}_{column}_check CHECK \({column} IN \(([^)]*)\)", _LATER)
    check = ["", replaced[-1]] if replaced else re.search(rf"CHECK \({column} IN \(([^)]*)\)", body[1])
    assert check is not None
    return set(re.findall(r"'(\w+)'", check[1]))


def test_the_schema_knows_our_statuses_and_reasons() -> None:
    assert _words("jobs", "status") == set(Status)
    assert _words("jobs", "reason") == set(Reason)
    assert _words("job_attempts", "status") == set(Status) - {"queued"}


def test_only_two_statuses_are_final() -> None:
    assert {status for status in Status if status.final} == {Status.DONE, Status.ERROR}


def test_payloads_and_results_stay_out_of_logs() -> None:
    now, secret = datetime.now(UTC), '{"prompt": "secret"}'
    shown = [
        Submission(kind="echo", payload={"prompt": "secret"}),
        Lease(
            job_id=uuid4(),
            token=1,
            kind="echo",
            payload=secret,
            attempt=1,
            max_attempts=3,
            tries=1,
            seconds_left=None,
        ),
        Job(
            id=uuid4(),
            kind="echo",
            queue="default",
            status=Status.DONE,
            reason=None,
            attempts=1,
            max_attempts=3,
            priority=0,
            source="",
            queued_at=now,
            updated_at=now,
            run_at=now,
            payload=secret,
            result=secret,
        ),
    ]
    assert not [thing for thing in shown if "secret" in repr(thing)]
