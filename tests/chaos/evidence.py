"""What a chaos run left: told by the clients, by the witness, by the actors' own notes, and by the product's tables."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.chaos.load import Asked
from tests.chaos.stage import Stage

_JOBS = """
SELECT id, kind, payload, source, status, reason, attempts, releases, max_attempts, result, idempotency_key AS key,
       deadline_at, queued_at, finished_at
  FROM llm.jobs ORDER BY id"""
_ATTEMPTS = """
SELECT job_id, attempt, lease_token AS token, status, reason, started_at, finished_at
  FROM llm.job_attempts ORDER BY job_id, attempt"""
_MOVES = "SELECT job_id, was, became, attempt, held, holds, result FROM chaos.moves ORDER BY n"
_SAID = "SELECT job_id, attempt, data FROM llm.job_events WHERE type = 'delta' ORDER BY job_id, attempt, seq"

Row = dict[str, Any]


@dataclass(frozen=True)
class Note:
    """One run of an actor, as it noted it itself."""

    job_id: UUID
    attempt: int
    token: int
    nonce: str
    ended: bool
    """Whether it returned a result."""
    failed: bool = False
    """Whether it raised an error."""
    pid: int = 0
    began_at: float = 0.0
    """Monotonic, the same for all processes, s."""
    cut_at: float | None = None
    """When it learnt that it must not go on, if it asked in time."""


@dataclass
class Evidence:
    """All of it, by job."""

    asked: list[Asked] = field(default_factory=list)
    jobs: dict[UUID, Row] = field(default_factory=dict)
    attempts: dict[UUID, list[Row]] = field(default_factory=lambda: defaultdict(list))
    moves: dict[UUID, list[Row]] = field(default_factory=lambda: defaultdict(list))
    """In the order they happened."""
    notes: dict[UUID, list[Note]] = field(default_factory=lambda: defaultdict(list))
    said: dict[UUID, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    """Of the streams: (attempt, text)."""
    faults: list[str] = field(default_factory=list)
    """What clients and workers did that they must never do."""


def gather(stage: Stage, asked: Iterable[Asked] = (), faults: Iterable[str] = ()) -> Evidence:
    """Collect it."""
    found = Evidence(asked=list(asked), faults=list(faults))
    found.jobs = {row["id"]: row for row in stage.ask(_JOBS)}
    for row in stage.ask(_ATTEMPTS):
        found.attempts[row["job_id"]].append(row)
    for row in stage.ask(_MOVES):
        found.moves[row["job_id"]].append(row)
    for row in stage.ask(_SAID):
        found.said[row["job_id"]].append((row["attempt"], json.loads(row["data"])["text"]))
    # Last: who says a word has noted his beginning before.
    for note in read_notes(stage.notes):
        found.notes[note.job_id].append(note)
    return found


def read_notes(folder: Path) -> list[Note]:
    """Return what the actors noted."""
    begun: dict[str, Row] = {}
    later: dict[str, Row] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            (begun if row["what"] == "begin" else later)[row["nonce"]] = row
    notes = []
    for nonce, row in begun.items():
        last = later.get(nonce, row)
        cut_at = last["at"] if last["what"] == "cut" else None
        lease = UUID(row["job"]), row["attempt"], row["token"]
        ended, failed = last["what"] == "end", last["what"] == "fail"
        notes.append(Note(*lease, nonce, ended, failed, row["pid"], row["at"], cut_at))
    return notes


def beside(evidence: Evidence, but: Collection[int]) -> list[float]:
    """Return for how long runs went on after the next owner of their job had begun, s; without the processes `but`."""
    found = []
    for notes in evidence.notes.values():
        for note in notes:
            successor = min((one.began_at for one in notes if one.attempt > note.attempt), default=math.inf)
            if note.cut_at is not None and note.cut_at > successor and note.pid not in but:
                found.append(note.cut_at - successor)
    return found
