"""Real MCP clients, unmodified: the SDK that we have in both eras always, all in their own as a soak."""

from __future__ import annotations

import copy
import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from http.server import ThreadingHTTPServer
from typing import Any

import pytest

from tests.contract.clients import environments, trying
from tests.contract.clients.roster import Client
from tests.contract.clients.trying import Judge, Served
from tests.contract.mcp.matrix import MATRIX
from tests.contract.mcp.roster import CHECKS, CLIENTS
from tests.contract.test_clients import Empty, faults

INSTALLED = [client for client in CLIENTS if client.script == "mcp2_py.py"]
EVERY = [pytest.param(client, id=client.name) for client in CLIENTS]
MUTE = {"command": sys.executable, "args": ["-c", ""], "env": {}}
NOBODY = "01890000-0000-7000-8000-000000000000"

Line = dict[str, Any]


class Keeping:
    """A judge that keeps what it was told, and what became of it."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.lines: dict[str, Line] = {}
        self.outcome: trying.Outcome = {}

    def __call__(self, line: Mapping[str, Any]) -> str:
        self.lines[line["check"]] = dict(line)
        return self.judge(line)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """The running bridge, and all that is behind it."""
    with MATRIX.serving() as found:
        yield found


@pytest.fixture(scope="module")
def nothing(served: Served) -> Iterator[Served]:
    """A server that answers and knows nothing, and a program that says nothing."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/mcp"
        yield Served(json.dumps({"url": url, "stdio": MUTE}), served.judge)
        server.shutdown()
        thread.join(10)


@pytest.fixture(scope="module")
def run(served: Served) -> Callable[[Client], Keeping]:
    """Run a client, once, and give what it saw."""

    @cache
    def found(client: Client) -> Keeping:
        keeping = Keeping(served.judge)
        keeping.outcome = trying.run(client, trying.own(client, served.told), keeping)
        return keeping

    return found


@pytest.mark.parametrize("client", INSTALLED, ids=lambda client: client.name)
def test_a_client_finds_all_it_looks_for(client: Client, run: Callable[[Client], Keeping]) -> None:
    outcome = run(client).outcome
    assert faults(outcome) == {}
    assert set(outcome) == set(client.checks)


@pytest.mark.parametrize("client", INSTALLED, ids=lambda client: client.name)
def test_no_check_passes_where_there_is_nothing(client: Client, nothing: Served) -> None:
    outcome = trying.run(client, trying.own(client, nothing.told), nothing.judge)
    assert set(faults(outcome)) == set(client.checks)


@pytest.fixture(scope="module")
def seen(run: Callable[[Client], Keeping]) -> Keeping:
    """What a client saw that speaks the newest version by HTTP."""
    return run(INSTALLED[0])


def other_words(answer: Line) -> None:
    answer["texts"] = ["something else", f"job_id={answer['structured']['job_id']}"]


def other_structure(answer: Line) -> None:
    answer["structured"]["text"] += "!"


def other_job(answer: Line) -> None:
    answer["structured"]["job_id"] = NOBODY


def no_error(answer: Line) -> None:
    answer["failed"] = False


LIES: list[tuple[str, str, Callable[[Line], object]]] = [
    ("era", "protocol", lambda saw: saw.update(version="2025-11-25")),
    ("tools", "no llm_jobs", lambda saw: saw["names"].remove("llm_jobs")),
    ("tools", "llm_chat's parameters: no 'prompt'", lambda saw: saw["chat"]["parameters"]["properties"].pop("prompt")),
    ("chat", "the text", other_words),
    ("chat", "structured text", other_structure),
    ("chat", "job ids", other_job),
    ("chat", "failed", lambda saw: saw.update(failed=True)),
    ("job", "job ids", lambda saw: other_job(saw["finished"])),
    ("task", "task", lambda saw: saw.update(task_id="")),
    ("task", "the last status", lambda saw: saw["told"].append("working")),
    ("progress", "steps", lambda saw: saw["told"].reverse()),
    ("progress", "steps", lambda saw: saw["told"].clear()),
    ("progress", "progress", lambda saw: saw["told"][0].__setitem__(1, "soon")),
    ("cancelled", "job ids", lambda saw: other_job(saw["cancelled"])),
    ("errors", "missing: no error", lambda saw: no_error(saw["missing"])),
    ("errors", "wrong: no 'max_tokens'", lambda saw: saw["wrong"].update(texts=["bad"])),
    ("unknown", "code", lambda saw: saw.update(code=-32603)),
    ("resources", "the result", lambda saw: saw.update(result="else")),
    ("resources", "llm://models", lambda saw: saw.update(models="{}")),
    ("prompts", "the prompt", lambda saw: saw.update(text="")),
    ("left", "answered", lambda saw: saw.update(ended="answered: {}")),
    ("left", "0 jobs", lambda saw: saw.update(mark=NOBODY)),
    ("task_left", "task", lambda saw: saw.update(task_id=NOBODY)),
]


@pytest.mark.parametrize(("check", "wrong", "lie"), LIES, ids=[f"{check}-{wrong}" for check, wrong, _ in LIES])
def test_what_a_client_did_not_see_is_not_believed(
    check: str, wrong: str, lie: Callable[[Line], object], seen: Keeping
) -> None:
    line = copy.deepcopy(seen.lines[check])
    assert seen.judge(line) == ""
    lie(line["saw"])
    assert seen.judge(line).startswith(wrong)


def test_a_job_that_was_not_cancelled_is_found_out(seen: Keeping) -> None:
    finished = copy.deepcopy(seen.lines["chat"])["saw"]
    line = {"check": "cancelled", "ok": True, "told": "", "saw": {"submitted": finished, "cancelled": finished}}
    assert seen.judge(line).startswith("status: ('done'")


def agent_line(seen: Keeping, **other: Any) -> Line:
    saw = {"offered": seen.lines["tools"]["saw"]["names"], "output": "\n".join(seen.lines["chat"]["saw"]["texts"])}
    return {"check": "agent", "ok": True, "told": "", "saw": saw | other}


def test_an_agent_that_was_not_served_is_not_believed(seen: Keeping) -> None:
    assert seen.judge(agent_line(seen)) == ""
    assert seen.judge(agent_line(seen, loose=[])) == ""
    assert seen.judge(agent_line(seen, offered=["llm_chat"])).startswith("not offered: llm_embed")
    assert seen.judge(agent_line(seen, loose=["llm_submit"])) == "cannot be strict: llm_submit"
    assert seen.judge(agent_line(seen, output="nothing")).startswith("what came back: no 'tiny'")
    assert seen.judge(agent_line(seen, output=f"job_id={NOBODY}")).startswith(f"job {NOBODY}: 404")


@pytest.mark.parametrize("other", [{"code": 6}, {"told": "1 warning"}, {"listed": 2}])
def test_a_strict_reader_that_complains_is_heard(other: Line, seen: Keeping) -> None:
    saw = {"code": 0, "told": "", "listed": 9}
    assert seen.judge({"check": "strict", "ok": True, "told": "", "saw": saw}) == ""
    assert seen.judge({"check": "strict", "ok": True, "told": "", "saw": saw | other}) != ""


def test_the_page_tells_of_every_client_and_the_versions_that_are_pinned() -> None:
    page = (trying.ROOT / MATRIX.page).read_text()
    for client in CLIENTS:
        assert set(client.checks) <= set(CHECKS)
        assert f"| {client.label} | {environments.versions(client)} |" in page


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("client", EVERY)
def test_a_client_of_its_own_environment_finds_all_it_looks_for(client: Client, served: Served) -> None:
    assert faults(trying.tried(client, served)) == {}


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("client", EVERY)
def test_no_check_of_any_client_passes_where_there_is_nothing(client: Client, nothing: Served) -> None:
    assert set(faults(trying.tried(client, nothing))) == set(client.checks)
