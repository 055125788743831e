"""The gRPC door as a process: health, reflection, TLS, where it may listen, and how it ends."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from llm_mcp.client import Client
from llm_mcp.config import Settings
from llm_mcp.errors import Unavailable
from llm_mcp.events import Event
from llm_mcp.rpc import llm_pb2 as pb
from llm_mcp.rpc.llm_pb2_grpc import CoreStub
from llm_mcp.runtime import Runtime
from tests.integration.rpc.served import Served
from tests.integration.web.played import Player
from tests.waiting import until

ROOT = Path(__file__).parents[3]


def test_it_says_how_it_is_and_what_it_can(served: Served) -> None:
    with grpc.insecure_channel(served.target) as channel:
        for name in ("", "llmmcp.v1.Core"):
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        (listed,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([asked]))
        assert "llmmcp.v1.Core" in {one.name for one in listed.list_services_response.service}


def test_the_stubs_are_those_of_the_proto(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-Illm_mcp/rpc={ROOT / 'proto'}", f"--python_out={out}"]
    command += [f"--pyi_out={out}", f"--grpc_python_out={out}", "llm_mcp/rpc/llm.proto"]
    subprocess.run(command, check=True, cwd=ROOT)
    for name in ("llm_pb2.py", "llm_pb2.pyi", "llm_pb2_grpc.py"):
        made, kept = (out / "llm_mcp/rpc" / name).read_text(), (ROOT / "llm_mcp/rpc" / name).read_text()
        assert made == kept, f"{name} is stale: make stubs"


def test_a_stop_tells_watchers_to_come_again(rpc_settings: Settings, runtime: Runtime, log: Path, kind: str) -> None:
    player = Player(runtime)
    with Served(rpc_settings, log) as first:
        port = int(first.target.rpartition(":")[2])
        with Client(first.target, patience_s=60) as client:
            handle = client.submit(kind)
            attempt = player.claim(None, kind)
            attempt.say("a")
            told: list[Event] = []
            watching = threading.Thread(target=lambda: told.extend(handle.stream()))
            watching.start()
            until(lambda: any(event.type == "delta" for event in told))
            code, seconds = first.stop()
            assert code == 0, log.read_text()
            assert seconds < 6
            attempt.say("b")
            attempt.done({})
            with Served(rpc_settings.model_copy(update={"grpc_addr": f"127.0.0.1:{port}"}), log):
                watching.join(timeout=60)
            assert [event.data["text"] for event in told if event.type == "delta"] == ["a", "b"]


def test_a_stop_is_told_to_watchers_and_is_no_fault(rpc_settings: Settings, log: Path, kind: str) -> None:
    with Served(rpc_settings, log) as served, grpc.insecure_channel(served.target) as channel:
        core = CoreStub(channel)
        watch = core.StreamJob(pb.StreamJobRequest(job_id=core.SubmitJob(pb.SubmitJobRequest(kind=kind)).job_id))
        assert next(watch).message == "queued"
        assert served.stop()[0] == 0
        with pytest.raises(grpc.RpcError) as caught:
            next(watch)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "come again" in error.details()
    assert '"level": "error"' not in log.read_text()


def test_without_a_server_there_is_a_clear_error(tmp_path: Path) -> None:
    with Client("127.0.0.1:1", timeout_s=2) as client, pytest.raises(Unavailable, match="the core does not answer"):
        client.submit("echo")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"grpc_addr": "0.0.0.0:0"}, "beyond loopback"),
        ({"grpc_addr": "here"}, "CORE_GRPC_ADDR"),
        ({"grpc_certificate": Path("/none.pem")}, "set together"),
        ({"grpc_certificate": Path("/none.pem"), "grpc_key": Path("/none.key")}, "cannot read"),
    ],
)
def test_it_refuses_to_serve(rpc_settings: Settings, log: Path, changed: dict[str, Any], words: str) -> None:
    with Served(rpc_settings.model_copy(update=changed), log) as door:
        assert door.line == ""
        assert door.ended == 1
    said = log.read_text()
    assert words in said
    assert said.count("\n") == 1, said


def test_a_port_that_is_taken(served: Served, rpc_settings: Settings, log: Path) -> None:
    with Served(rpc_settings.model_copy(update={"grpc_addr": served.target}), log) as door:
        assert door.ended == 1
    assert "cannot listen" in log.read_text()


def test_calls_can_be_encrypted(rpc_settings: Settings, log: Path, certificate: tuple[Path, Path], kind: str) -> None:
    trusted, key = certificate
    changed = {"grpc_certificate": trusted, "grpc_key": key}
    with Served(rpc_settings.model_copy(update=changed), log) as door:
        with Client(door.target, certificate=trusted) as client:
            assert client.submit(kind).job().kind == kind
        with Client(door.target, timeout_s=2) as plain, pytest.raises(Unavailable):
            plain.submit(kind)
