"""`/readyz`: whether this process can do its work, and why it cannot, within a second or so."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from llm_mcp import config
from llm_mcp.config import Settings
from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from tests.integration.web.client import Client
from tests.integration.web.door import Door
from tests.waiting import until


def client_of(settings: Settings, dsn: str) -> Client:
    """The application over another database."""
    return Client(create_app(Runtime(settings.model_copy(update={"db_dsn": SecretStr(dsn)}))))


def refused(client: Client) -> list[str]:
    """Return the reasons of a `/readyz` that says no, which names no database to anybody."""
    began = time.monotonic()
    answer = client.get("/readyz")
    assert time.monotonic() - began < 5.0
    assert (answer.status_code, answer.json["error"], answer.headers["Retry-After"]) == (503, "not_ready", "1")
    assert "127.0.0.1" not in answer.text
    assert answer.json["message"]
    return list(answer.json["reasons"])


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
def test_ready(client: Client, method: str) -> None:
    answer = client.open("/readyz", method=method)
    assert answer.status_code == 200
    if method != "HEAD":
        assert answer.json == {"status": "ready", "version": config.installed_version()}


def test_alive_needs_nothing(settings: Settings) -> None:
    client = client_of(settings, "postgresql://127.0.0.1:1/x")
    assert client.get("/livez").json == {"status": "ok", "version": config.installed_version()}


def test_nobody_listens(settings: Settings) -> None:
    assert refused(client_of(settings, "postgresql://127.0.0.1:1/x")) == ["database_away"]


def test_a_database_that_says_nothing_is_waited_for_a_second_by_all_who_ask(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = client_of(settings, f"postgresql://127.0.0.1:{silent.getsockname()[1]}/x")
        before = threading.active_count()
        for _ in range(5):
            assert refused(client.another()) == ["database_away"]
        assert threading.active_count() <= before + 1
    until(lambda: threading.active_count() <= before, timeout_s=20)


def test_a_database_that_was_not_migrated(settings: Settings, dsn: str) -> None:
    name = "not_migrated"
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            client = client_of(settings, make_conninfo(dsn, dbname=name))
            assert refused(client) == ["schema_behind"]
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_no_database_at_all(settings: Settings, tmp_path: Path) -> None:
    bare = settings.model_copy(update={"db_dsn": None, "data_dir": tmp_path})
    assert refused(Client(create_app(Runtime(bare)))) == ["setup_error"]


def test_about_to_stop(client: Client) -> None:
    client.application.extensions["streams"].draining.set()
    assert refused(client) == ["draining"]
    assert client.get("/livez").status_code == 200


def test_it_comes_back(open_door: Callable[..., Door], dsn: str) -> None:
    door = open_door()
    assert door.call("GET", "/readyz")[0] == 200
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    until(lambda: door.call("GET", "/readyz")[0] == 200)


def test_health_answers_while_every_thread_is_busy(open_door: Callable[..., Door], dsn: str) -> None:
    door = open_door(max_streams=1, db_pool_size=1)
    job_id = door.submit("test.unserved")
    with psycopg.connect(dsn) as holder:
        # Every reader waits for this lock, or for the one connection.
        holder.execute("LOCK TABLE llm.jobs IN ACCESS EXCLUSIVE MODE")
        clients = []
        try:
            for _ in range(80):
                connection = socket.create_connection((door.host, door.port), timeout=20)
                connection.sendall(f"GET /v1/jobs/{job_id} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                clients.append(connection)
            for _ in range(20):
                assert door.call("GET", "/health", timeout_s=3.0)[0] == 200
                assert door.call("GET", "/livez", timeout_s=3.0)[0] == 200
            assert door.call("GET", "/readyz", timeout_s=3.0)[1]["reasons"] == ["database_away"]
        finally:
            for connection in clients:
                connection.close()
