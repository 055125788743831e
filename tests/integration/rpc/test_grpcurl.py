"""grpcurl, which has never seen our proto: it asks the server what there is, and calls it."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.rpc.served import Served
from tests.integration.web.played import Player

# Ours lies beside the interpreter; the package that brings it is for one platform.
FOUND = shutil.which("grpcurl", path=str(Path(sys.executable).parent)) or shutil.which("grpcurl")
BROUGHT = sys.platform == "linux" and platform.machine() == "x86_64"
# It exits with this and the status code of the call.
_REFUSED = 64


@pytest.fixture
def grpcurl() -> str:
    if FOUND is None and not BROUGHT:
        pytest.skip("no grpcurl here, and no package brings it to this platform")
    assert FOUND is not None, "grpcurl is not installed: make setup"
    return FOUND


class Curl:
    """grpcurl against a door."""

    def __init__(self, program: str, target: str) -> None:
        self._program = program
        self._target = target

    def run(self, *words: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        command = [self._program, "-plaintext", "-max-time", "60", *flags, self._target, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)

    def said(self, *words: str, flags: tuple[str, ...] = ()) -> str:
        """Return what it printed; it must have ended well."""
        ran = self.run(*words, flags=flags)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def call(self, method: str, **fields: Any) -> list[Any]:
        """Call a method and return its answers."""
        text = self.said(f"llmmcp.v1.Core/{method}", flags=("-d", json.dumps(fields)))
        found, decoder = [], json.JSONDecoder()
        while text.strip():
            value, end = decoder.raw_decode(text.lstrip())
            found.append(value)
            text = text.lstrip()[end:]
        return found

    def refused(self, method: str, *flags: str, **fields: Any) -> tuple[int, str]:
        """Return with which status code a call was refused, and the words."""
        ran = self.run(f"llmmcp.v1.Core/{method}", flags=("-d", json.dumps(fields), *flags))
        return ran.returncode - _REFUSED, ran.stderr


@pytest.fixture
def curl(grpcurl: str, served: Served) -> Curl:
    return Curl(grpcurl, served.target)


def test_it_finds_out_what_there_is(curl: Curl) -> None:
    services = curl.said("list").split()
    assert {"llmmcp.v1.Core", "grpc.health.v1.Health"} <= set(services)
    methods = curl.said("list", "llmmcp.v1.Core").split()
    assert {f"llmmcp.v1.Core.{name}" for name in ("SubmitJob", "GetJob", "StreamJob", "ClaimJob")} <= set(methods)
    assert "rpc StreamJob ( .llmmcp.v1.StreamJobRequest ) returns ( stream .llmmcp.v1.JobEvent )" in curl.said(
        "describe", "llmmcp.v1.Core"
    )
    assert "string payload_json = 3;" in curl.said("describe", "llmmcp.v1.Job")


def test_it_runs_a_job(curl: Curl, player: Player, kind: str) -> None:
    [new] = curl.call("SubmitJob", kind=kind, payload_json='{"prompt":"hi"}')
    job_id = new["job_id"]
    attempt = player.claim(job_id, kind)
    attempt.say("h", "o")
    [told] = curl.call("GetJob", job_id=job_id, text=True)
    assert (told["job"]["status"], told["text"]) == ("running", "ho")
    attempt.done({"response": "ho!"})
    [told] = curl.call("GetJob", job_id=job_id, text=True)
    assert (told["job"]["status"], told["job"]["result_json"], told["text"]) == ("done", '{"response":"ho!"}', "ho!")
    events = curl.call("StreamJob", job_id=job_id, events=True)
    assert [(event["type"], event.get("message")) for event in events] == [
        ("delta", None),
        ("delta", None),
        ("status", "done"),
    ]
    assert [json.loads(event["data_json"])["text"] for event in events[:2]] == ["h", "o"]


def test_it_asks_in_a_name(curl: Curl, kind: str) -> None:
    [new] = curl.call("SubmitJob", kind=kind)
    code, words = curl.refused("GetJob", "-H", "llm-mcp-principal: ann", job_id=new["job_id"])
    assert code == 5
    assert f"no job {new['job_id']}" in words


def test_it_is_told_what_was_wrong(curl: Curl, kind: str) -> None:
    code, words = curl.refused("GetJob", job_id="00000000-0000-7000-8000-000000000007")
    assert code == 5
    assert "Code: NotFound" in words
    code, words = curl.refused("SubmitJob", kind=kind, payload_json="{")
    assert code == 3
    assert "Code: InvalidArgument" in words
    assert "payload_json: not JSON" in words
    code, words = curl.refused("RegisterWorker")
    assert code == 3
    assert "worker: is required" in words
    assert curl.call("ListJobs", limit=1), "and the next one is served"
