"""A worker in another language, as the test plays it: one call of the protocol at a time."""

from __future__ import annotations

from typing import Any

from tests.integration.web.client import Client
from tests.integration.web.test_submit import made


class Foreign:
    """Calls the worker protocol as one worker; `token` says whether it gives the lease's token, as our clients do."""

    def __init__(self, client: Client, worker_id: str, *, token: bool = True) -> None:
        self.client = client
        self.worker_id = worker_id
        self.token = token

    def post(self, verb: str, body: Any) -> tuple[int, Any]:
        """Return (status, JSON) of one call; `body` is any JSON value, or bytes."""
        raw = {"data": body} if isinstance(body, bytes | str) else {"json": body}
        answer = self.client.post(f"/v1/workers/{verb}", **raw)
        return answer.status_code, answer.json

    def claim(self, *kinds: str, **fields: Any) -> Any:
        """Return what a claim brought, {} when that is nothing."""
        status, told = self.post("claim", {"worker_id": self.worker_id, "kinds": list(kinds), **fields})
        assert status == 200, told
        return told

    def begin(self, kind: str, **fields: Any) -> Any:
        """Submit a job of this kind and claim it."""
        job_id = made(self.client, {"kind": kind, **fields})["id"]
        claimed = self.claim(kind)
        assert claimed["job"]["id"] == job_id
        return claimed

    def say(self, verb: str, claimed: Any, **fields: Any) -> tuple[int, Any]:
        """Say something of a claimed job."""
        token = {"lease_token": claimed["lease_token"]} if self.token else {}
        return self.post(verb, {"worker_id": self.worker_id, "job_id": claimed["job"]["id"], **token, **fields})

    def job(self, claimed: Any) -> Any:
        """Return the job as its submitter sees it."""
        return self.client.get(f"/v1/jobs/{claimed['job']['id']}").json
