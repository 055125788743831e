"""Fixtures over a real gRPC door."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import grpc
import pytest

from llm_mcp import config
from llm_mcp.client import Client
from llm_mcp.config import Settings
from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.rpc.llm_pb2_grpc import CoreStub
from llm_mcp.runtime import Runtime
from tests.conftest import _database
from tests.integration.rpc.served import Served
from tests.integration.web.played import Player


@pytest.fixture(scope="module")
def dsn(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """DSN of a database for all tests of a module: they tell their own jobs from others' by the kind."""
    yield from _database(postgres, template)


@pytest.fixture(scope="module")
def rpc_settings(dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of the door."""
    folder = tmp_path_factory.mktemp("rpc")
    return config.load(
        db_dsn=dsn, data_dir=folder, grpc_addr="127.0.0.1:0", local_ollama=False, max_body_bytes=2**20, poll_s=0.2
    )


@pytest.fixture(scope="module")
def served(rpc_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One door for the tests of a module that leave it as they found it."""
    with Served(rpc_settings, tmp_path_factory.mktemp("log") / "rpc.log") as door:
        assert door.line.startswith("ready grpc://127.0.0.1:"), door.log.read_text()
        yield door


@pytest.fixture(scope="module")
def core(served: Served) -> Iterator[CoreStub]:
    """The service, as the stubs give it."""
    with grpc.insecure_channel(served.target, options=[("grpc.max_send_message_length", -1)]) as channel:
        yield CoreStub(channel)


@pytest.fixture
def remote(served: Served) -> Iterator[Client]:
    """Our own client."""
    with Client(served.target) as client:
        yield client


@pytest.fixture
def player(runtime: Runtime) -> Player:
    """A worker played by the test."""
    return Player(runtime)


@pytest.fixture
def kind() -> str:
    """A kind nobody registered and no other test uses."""
    return f"test.{uuid4().hex}"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    made, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-nodes", "-days", "2"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command = ["openssl", "req", "-x509", *curve, *subject, "-keyout", str(key), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where a door of a test's own logs to."""
    return tmp_path / "rpc.log"
