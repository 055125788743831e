"""Tokens: what their file may say, who may do what, and that nobody uses another's session or sees another's jobs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from llm_mcp.config import Settings
from llm_mcp.errors import InvalidInput, SetupError
from llm_mcp.mcp_bridge.tokens import Tokens, digest_of, new
from tests.integration.mcp.served import Bridge
from tests.waiting import until

_HEX = "0" * 64
_INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}},
}
_BOTH = "application/json, text/event-stream"
Ask = Callable[..., Any]


class Keys:
    """A file of tokens, and the tokens by their names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tokens: dict[str, str] = {}

    def add(self, name: str, *scopes: str) -> str:
        """Add one and return it."""
        token, line = cast("tuple[str, str]", new(name, scopes))
        with self.path.open("a") as file:
            file.write(f"# of {name}\n{line}\n\n")
        self.path.chmod(0o600)
        self.tokens[name] = token
        return token

    def of(self, name: str) -> str:
        """Return the header's value of one."""
        return f"Bearer {self.tokens[name]}"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Three callers."""
    made = Keys(tmp_path_factory.mktemp("keys") / "tokens")
    made.add("ann", "llm:read", "llm:submit", "llm:cloud")
    made.add("bob", "llm:read", "llm:submit")
    made.add("eve", "llm:read")
    return made


@pytest.fixture(scope="module")
def kept(bridge_settings: Settings, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """A bridge that asks for tokens."""
    chosen = bridge_settings.model_copy(update={"mcp_tokens": keys.path})
    with Bridge(chosen, tmp_path_factory.mktemp("log") / "mcp.log") as bridge:
        assert bridge.url, bridge.log.read_text()
        yield bridge


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("x", "must be `sha256 name scope,scope`"),
        (f"{_HEX} ann", "must be `sha256 name scope,scope`"),
        (f"{_HEX} ann llm:read llm:submit", "must be `sha256 name scope,scope`"),
        (f"{_HEX[:-1]} ann llm:read", "must be a SHA-256"),
        (f"{'A' * 64} ann llm:read", "must be a SHA-256"),
        (f"{_HEX} ann llm:everything", "scope must be some of"),
        (f"{_HEX} ann llm:read,", "scope must be some of"),
        (f"{_HEX} local llm:read", "name is the name of this machine's own user"),
        (f"{_HEX} änn llm:read", "name must be 1 to 128"),
        (f"{_HEX} {'n' * 129} llm:read", "name must be 1 to 128"),
        (f"{'1' * 64} one llm:read\n{'1' * 64} two llm:read", "the token stands there twice"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# ours\n\n{line}\n")
    with pytest.raises(SetupError, match=words) as caught:
        Tokens(path)
    assert f"line {3 + line.count(chr(10))}" in str(caught.value)
    assert _HEX not in str(caught.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="LLM_MCP_TOKENS: cannot read"):
        Tokens(tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\n")
    with pytest.raises(SetupError, match="not UTF-8"):
        Tokens(tmp_path / "bytes")


def test_a_file_others_can_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = Keys(tmp_path / "tokens")
    token = keys.add("ann", "llm:read")
    Tokens(keys.path)
    assert not caplog.records
    keys.path.chmod(0o644)
    assert Tokens(keys.path).find(token) is not None
    assert [record.__dict__["action"] for record in caplog.records] == ["tokens_open_to_others"]


def test_a_token_is_found_by_itself_only(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "tokens")
    token = keys.add("ann", "llm:read", "llm:submit")
    keys.add("bob", "llm:admin")
    known = Tokens(keys.path)
    found = known.find(token)
    assert found is not None
    assert (found.name, found.scopes) == ("ann", {"llm:read", "llm:submit"})
    assert [known.find(other) for other in ("", token[:-1], token + "x", digest_of(token), "ä")] == [None] * 5
    assert token not in keys.path.read_text()
    for name, scopes in (
        ("", ["llm:read"]),
        ("local", ["llm:read"]),
        ("a b", ["llm:read"]),
        ("ann", []),
        ("ann", ["x"]),
    ):
        with pytest.raises(InvalidInput):
            new(name, scopes)


def test_the_command_makes_a_line_that_works(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "llm_mcp", "mcp", "token"]
    made = subprocess.run([*command, "ann", "--scope", "llm:read"], capture_output=True, text=True, check=True)
    token = made.stdout.splitlines()[0].removeprefix("token: ")
    path = tmp_path / "tokens"
    path.write_text(made.stdout.splitlines()[-1] + "\n")
    found = Tokens(path).find(token)
    assert found is not None
    assert found.name == "ann"
    wrong = subprocess.run([*command, "ann", "--scope", "all"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("llm-mcp: scope: must be some of")


@pytest.mark.parametrize("path", ["/submit", "/jobs/x", "/jobs/x/stream", "/dashboard", "/mcp", "/nothing"])
def test_without_a_token_nothing_is_said(kept: Bridge, path: str) -> None:
    for header in (None, "Bearer", "Bearer  ", "Bearer nonsense", "Basic YTpi"):
        said = {} if header is None else {"Authorization": header}
        told = kept.ask("GET", path, **said)
        assert told.status == 401, header
        assert told.headers["www-authenticate"].startswith('Bearer realm="llm-mcp"')
    assert 'error="invalid_token"' in kept.ask("GET", path, Authorization="Bearer nonsense").headers["www-authenticate"]
    assert kept.ask("GET", "/health").json == {"status": "ok"}


def test_a_scope_is_asked_for_where_it_is_needed(kept: Bridge, keys: Keys, kind: str) -> None:
    assert kept.ask("POST", "/submit", {"kind": kind}, Authorization=keys.of("bob")).status == 202
    told = kept.ask("POST", "/submit", {"kind": kind}, Authorization=keys.of("eve"))
    assert (told.status, told.json["error"]) == (403, "insufficient_scope")
    assert told.headers["www-authenticate"] == 'Bearer realm="llm-mcp", error="insufficient_scope", scope="llm:submit"'
    for body in ({"kind": "openai.chat", "payload": {"prompt": "x"}}, {"model": "some/model", "prompt": "x"}):
        told = kept.ask("POST", "/submit", body, Authorization=keys.of("bob"))
        assert (told.status, told.json["message"]) == (403, "the token is not allowed llm:cloud"), body
    assert kept.ask("POST", "/llm/request", {}, Authorization=keys.of("bob")).status == 403
    assert kept.ask("POST", "/models/sync", {}, Authorization=keys.of("ann")).status == 403


def test_jobs_are_seen_by_whose_they_are(kept: Bridge, keys: Keys, kind: str) -> None:
    made = kept.ask("POST", "/submit", {"kind": kind}, Authorization=keys.of("ann"), Idempotency_Key="same")
    job_id = made.json["job_id"]
    assert kept.ask("GET", f"/jobs/{job_id}", Authorization=keys.of("ann")).json["kind"] == kind
    other = kept.ask("GET", f"/jobs/{job_id}", Authorization=keys.of("bob"))
    assert (other.status, other.json["error"]) == (404, "not_found")
    with kept.watch(f"/jobs/{job_id}/stream", Authorization=keys.of("bob")) as watch:
        assert [(frame.event, frame.data["error"]) for frame in watch.frames()] == [("error", "not_found")]
    again = kept.ask("POST", "/submit", {"kind": kind}, Authorization=keys.of("bob"), Idempotency_Key="same")
    assert again.json["job_id"] != job_id


def test_a_session_is_its_openers_only(kept: Bridge, keys: Keys) -> None:
    ann, bob = ({"Authorization": keys.of(name), "Accept": _BOTH} for name in ("ann", "bob"))
    opened = kept.ask("POST", "/mcp", _INITIALIZE, **ann)
    assert opened.status == 200, opened
    session = opened.headers["mcp-session-id"]
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    assert kept.ask("POST", "/mcp", ping, Mcp_Session_Id=session, **bob).status == 404
    assert kept.ask("DELETE", "/mcp", Mcp_Session_Id=session, **bob).status == 404
    assert kept.ask("POST", "/mcp", ping, Mcp_Session_Id=session, **ann).status == 200
    assert kept.ask("POST", "/mcp", ping, Mcp_Session_Id=session, Accept=_BOTH).status == 401


def test_the_file_is_followed(bridge_settings: Settings, tmp_path: Path, log: Path) -> None:
    keys = Keys(tmp_path / "tokens")
    keys.add("ann", "llm:read")
    with Bridge(bridge_settings.model_copy(update={"mcp_tokens": keys.path}), log) as bridge:
        keys.add("bob", "llm:read")
        until(lambda: bridge.ask("GET", "/nothing", Authorization=keys.of("bob")).status == 404, every_s=0.1)
        keys.path.write_text("nonsense\n")
        until(lambda: "tokens_wrong" in log.read_text(), every_s=0.1)
        assert bridge.ask("GET", "/nothing", Authorization=keys.of("ann")).status == 404
        keys.path.write_text("# nobody\n")
        until(lambda: bridge.ask("GET", "/nothing", Authorization=keys.of("ann")).status == 401, every_s=0.1)
    assert not any(token in log.read_text() for token in keys.tokens.values())


def test_beyond_loopback_tokens_are_needed(bridge_settings: Settings, log: Path) -> None:
    with Bridge(bridge_settings.model_copy(update={"mcp_addr": "0.0.0.0:0"}), log) as bridge:
        assert bridge.ended == 1
    said = log.read_text()
    assert said.startswith("llm-mcp: MCP_HTTP_ADDR: 0.0.0.0:0 is beyond loopback")
    assert said.count("\n") == 1
