"""Clients tried one after another: a script for each, what it says is judged, and a page keeps it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llm_mcp.config import Settings

from . import environments
from .roster import Client

ROOT = Path(__file__).parents[3]
_RUN_S = 400.0

Outcome = Mapping[str, str]
"""By check: "" when it passed, else what went wrong."""
Judge = Callable[[Mapping[str, Any]], str]
"""Says of one line of a script's, an object with `check`, `ok` and `told`, what is wrong: "" for nothing."""


def own_word(line: Mapping[str, Any]) -> str:
    """Take a script at its own word."""
    return "" if line["ok"] else line["told"] or "failed"


@dataclass(frozen=True)
class Served:
    """A running server: what a script is `told` of where it is, and who judges what the script says."""

    told: str
    judge: Judge = own_word


@dataclass(frozen=True)
class Matrix:
    """Clients, and how they are tried.

    Parameters: `module`, whose command it is; `clients`; `checks`, what may be checked, in the words of the page;
    `page`, its file; `words`, the page with gaps; `serving`, runs the server.
    """

    module: str
    clients: Sequence[Client]
    checks: Mapping[str, str]
    page: str
    words: str
    serving: Callable[[], AbstractContextManager[Served]]

    def main(self, doc: str | None) -> int:
        """Run what the command line asks for; 1 when something failed."""
        parser = argparse.ArgumentParser(
            prog=f"python -m {self.module}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        known = [client.name for client in self.clients]
        parser.add_argument("--only", default="", help=f"comma-separated: {','.join(known)}")
        names = [name for name in parser.parse_args().only.split(",") if name]
        if unknown := set(names) - set(known):
            parser.error(f"--only: unknown {', '.join(unknown)}")
        found: dict[str, Outcome] = {}
        with self.serving() as served:
            for client in self.clients:
                if not names or client.name in names:
                    found[client.name] = tried(client, served)
                    print(_line(client, found[client.name]), flush=True)
        print(self._sum(found))
        if not names:
            (ROOT / self.page).write_text(self.told(found))
            print(f"wrote {self.page}")
        return int(any(told for outcome in found.values() for told in outcome.values()))

    def told(self, found: Mapping[str, Outcome]) -> str:
        """Return the page."""
        names = [name for name in self.checks if any(name in client.checks for client in self.clients)]
        head = f"| client | versions | {' | '.join(names)} |"
        rule = f"|---|---|{':-:|' * len(names)}"
        marks = {one.name: " | ".join(_mark(found[one.name], name) for name in names) for one in self.clients}
        rows = [f"| {one.label} | {environments.versions(one)} | {marks[one.name]} |" for one in self.clients]
        faults = [
            f"* {client.label}, {name}: {told}"
            for client in self.clients
            for name, told in found[client.name].items()
            if told
        ]
        uses: dict[str, list[str]] = {}
        for client in self.clients:
            uses.setdefault(client.use, []).append(client.label)
        return self.words.format(
            when=f"{datetime.now(UTC):%Y-%m-%d}",
            python=platform.python_version(),
            node=environments.node_version(),
            table="\n".join([head, rule, *rows]),
            checks="\n".join(f"* **{name}**: {self.checks[name]}" for name in names),
            uses="\n".join(f"* {', '.join(labels)}: {use}" for use, labels in uses.items()),
            faults="\n## What does not work\n\n" + "\n".join(faults) + "\n" if faults else "",
        )

    def _sum(self, found: Mapping[str, Outcome]) -> str:
        checks = [told for outcome in found.values() for told in outcome.values()]
        whole = sum(not any(outcome.values()) for outcome in found.values())
        return f"{whole}/{len(found)} clients, {sum(not told for told in checks)}/{len(checks)} checks"


def tried(client: Client, served: Served) -> Outcome:
    """Run a client in its own environment; when that cannot be made, no check was passed."""
    try:
        return run(client, environments.command(client, served.told), served.judge)
    except environments.Unmade as why:
        return dict.fromkeys(client.checks, f"not run: {why}")


def run(client: Client, words: Sequence[str], judge: Judge = own_word) -> Outcome:
    """Run a client's script, `words`, to its end, and return what became of each of the client's checks.

    A check of which it said nothing, or of which we know nothing, has failed.
    """
    with (
        tempfile.TemporaryDirectory(prefix="llm-mcp-client-") as home,
        subprocess.Popen(
            list(words),
            env=_environment(home),
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        ) as process,
    ):
        try:
            said, complained = process.communicate(timeout=_RUN_S)
            complained = f"ended with {process.returncode}: {complained.strip()[-300:]}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # what it started, too
            said, complained = process.communicate()[0], f"took over {_RUN_S:g} s"
    found = {line["check"]: judge(line) for line in _lines(said)}
    return {name: found.get(name, f"not told: {complained}") for name in (*client.checks, *found)} | {
        name: "is not to be checked" for name in found if name not in client.checks
    }


def own(client: Client, told: str) -> list[str]:
    """Return how a Python client's script is run in our own environment, which has the client too."""
    return [sys.executable, environments.script(client), told, *client.words]


def _lines(said: str) -> Iterator[Mapping[str, Any]]:
    for line in said.splitlines():
        if line.startswith('{"check"'):
            yield json.loads(line)


def _line(client: Client, outcome: Outcome) -> str:
    passed = [name for name, told in outcome.items() if not told]
    failed = [f"\n  {name}: {told}" for name, told in outcome.items() if told]
    return f"{client.label:<28} {environments.versions(client)}: {' '.join(passed)}{''.join(failed)}"


def _mark(found: Outcome, name: str) -> str:
    return "–" if name not in found else "✗" if found[name] else "✓"


def _environment(home: str) -> dict[str, str]:
    """Return an environment without any setting of this machine's that a client would heed."""
    ours = {
        str(name) for one in Settings.model_fields.values() for name in getattr(one.validation_alias, "choices", [])
    }
    heeded = ("OPENAI_", "OLLAMA_", "LANGCHAIN_", "LANGSMITH_", "LLM_", "NODE_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if name not in ours and not name.startswith(heeded)}
    return {**kept, "HOME": home, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONDONTWRITEBYTECODE": "1"}
