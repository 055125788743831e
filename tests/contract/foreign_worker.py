"""A worker written from the wire contract alone, with nothing but the standard library: what an existing one does.

It registers until that succeeds, claims for ever, beats from a thread of its own every half lease (at least
`--beat-s`), completes or fails, one job at a time. It knows of no lease tokens, and tests an answer only for success.

    python foreign_worker.py URL WORKER_ID KIND[,KIND…] --lease-s 60 --idle-s 1.5 --beat-s 5 --work-s 0.1 --log FILE

Each job it ran to its end is a line of the log. `fail` in a payload has it fail.
"""

from __future__ import annotations

import argparse
import json
import platform
import socket
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any


class Core:
    """The calls, as the contract has them. Each raises OSError for anything but success."""

    def __init__(self, url: str, worker_id: str) -> None:
        self._url = url
        self._worker_id = worker_id

    def register(self) -> None:
        """Say who we are."""
        worker = {
            "id": self._worker_id,
            "name": "worker",
            "platform": platform.system(),
            "arch": platform.machine(),
            "host": socket.gethostname(),
            "tags": {},
        }
        self._post("register", {"worker": worker})

    def claim(self, kinds: list[str], lease_s: int) -> Any:
        """Return a job, None when there is none."""
        asked = {"worker_id": self._worker_id, "kinds": kinds, "lease_seconds": lease_s}
        return self._post("claim", asked).get("job")

    def heartbeat(self, job_id: str, extend_s: int) -> None:
        """Prolong our lease on a job."""
        self._post("heartbeat", {"worker_id": self._worker_id, "job_id": job_id, "extend_seconds": extend_s})

    def complete(self, job_id: str, result: Any, metrics: Any) -> None:
        """Hand in a result."""
        told = {"worker_id": self._worker_id, "job_id": job_id, "result": result, "metrics": metrics}
        self._post("complete", told)

    def fail(self, job_id: str, error: str) -> None:
        """Report a failure."""
        self._post("fail", {"worker_id": self._worker_id, "job_id": job_id, "error": error, "metrics": {}})

    def _post(self, verb: str, body: Any) -> Any:
        request = urllib.request.Request(f"{self._url}/v1/workers/{verb}", data=json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


def run(job: Any, work_s: float) -> tuple[Any, Any]:
    """Do a job and return its result and figures."""
    began = time.monotonic()
    payload = job["payload"]
    time.sleep(payload.get("work_s", work_s))
    if payload.get("fail"):
        raise RuntimeError("missing OPENAI_API_KEY")
    return {"ok": True, "echo": payload}, {"ms": round((time.monotonic() - began) * 1000)}


def work(core: Core, job: Any, options: argparse.Namespace) -> None:
    """Do one job under a beating lease, and say how it went."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(max(options.beat_s, options.lease_s // 2)):
            with suppress(OSError):  # it goes on working, as they do
                core.heartbeat(job["id"], options.lease_s)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        result, metrics = run(job, options.work_s)
        with options.log.open("a") as log:
            log.write(f"{job['id']} {job['attempts']}\n")
        core.complete(job["id"], result, metrics)
    except Exception as error:  # noqa: BLE001 - the contract's worker reports whatever it was
        core.fail(job["id"], str(error))
        time.sleep(options.pause_s)
    finally:
        over.set()
        thread.join()


def main() -> None:
    """Work until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("worker_id")
    parser.add_argument("kinds", type=lambda text: [kind for kind in text.split(",") if kind])
    parser.add_argument("--lease-s", type=int, default=60)
    parser.add_argument("--idle-s", type=float, default=1.5)
    parser.add_argument("--beat-s", type=float, default=5.0)
    parser.add_argument("--work-s", type=float, default=0.0)
    parser.add_argument("--pause-s", type=float, default=2.0)
    parser.add_argument("--log", type=Path, required=True)
    options = parser.parse_args()
    core = Core(options.url, options.worker_id)
    while True:
        try:
            core.register()
            break
        except OSError:
            time.sleep(2)
    while True:
        job = core.claim(options.kinds, options.lease_s)
        if job is None:
            time.sleep(options.idle_s)
        else:
            work(core, job, options)


if __name__ == "__main__":
    main()
