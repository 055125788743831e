"""One chaos run from beginning to end: clients ask, faults fall, all is made well, what is left is judged."""

from __future__ import annotations

import heapq
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.chaos import faults
from tests.chaos.checker import Verdict, judge, shown
from tests.chaos.evidence import Evidence, beside, gather
from tests.chaos.faults import Fault
from tests.chaos.load import Client
from tests.chaos.stage import LEASE_S, Stage
from tests.chaos.wire import Wire, Wires

_SETTLE_S = 60.0
_TICK_S = 0.05
_TELL_S = 5.0
_LOOK_S = 1.0
_LOST_SHARE = 0.3
# The first two clients are disturbed, the third is not.
_CLIENTS = 3
_DISTURBED = 2
_UNFINISHED = """
SELECT status || ' ' || kind || ' (attempt ' || attempts || ')' AS what FROM llm.jobs
 WHERE status IN ('queued', 'running')"""
_TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What kind of run.

    `seconds`: how long faults fall; `severable`: whether the network is ours, to be broken; `keep`, `code`: see Stage;
    `until_shown`: end once something wrong was accepted.
    """

    seconds: float
    seed: int
    workers: int = 4
    severable: bool = False
    keep: bool = False
    code: Path | None = None
    until_shown: bool = False


def run(plan: Plan, say: Say) -> Verdict:
    """Have one run, told by `say` line by line; from the main thread."""
    with ExitStack() as stack:
        wires = stack.enter_context(Wires())  # ends last: whoever stands on a wire is gone by then
        return _Storm(plan, say, stack.enter_context(Stage(keep=plan.keep, code=plan.code)), wires).run()


class _Storm:
    def __init__(self, plan: Plan, say: Say, stage: Stage, wires: Wires) -> None:
        self._plan = plan
        self._say = say
        self._stage = stage
        self._wires = [
            wires.to(stage.dsn, random.Random(f"{plan.seed} wire {i}"), f"127.0.1.{i + 1}" if plan.severable else "")
            for i in range(plan.workers + _DISTURBED)
        ]
        self._clients = [self._client(i) for i in range(_CLIENTS)]
        self._undo: list[tuple[float, int, Wire]] = []
        self._began_at = 0.0

    def _client(self, i: int) -> Client:
        dsn = self._wires[self._plan.workers + i].dsn if i < _DISTURBED else self._stage.dsn
        return Client(f"client{i}", dsn, random.Random(f"{self._plan.seed} client {i}"), pills=i == 0)

    def run(self) -> Verdict:
        """The run."""
        plan = self._plan
        for wire in self._wires[: plan.workers]:
            self._stage.add_worker(wire)
        self._stage.wait_ready()
        self._began_at = time.monotonic()
        self._tell(f"{plan.workers} workers, {_CLIENTS} clients, lease {LEASE_S:g} s, seed {plan.seed}")
        for client in self._clients:
            client.start()
        fallen = self._storm()
        self._heal()
        settled_s = self._settle()
        asked = [one for client in self._clients for one in client.asked]
        evidence = gather(self._stage, asked, self._faults())
        verdict = judge(evidence)
        self._sum_up(evidence, fallen, settled_s)
        for word, texts in verdict.found.items():
            for text in texts:
                self._say(f"{word}: {text}")
        return verdict

    # — faults —

    def _storm(self) -> Counter[str]:
        plan = self._plan
        fallen: Counter[str] = Counter()
        look_at = 0.0
        for fault in faults.draw(
            random.Random(plan.seed),
            plan.seconds,
            workers=plan.workers,
            wires=len(self._wires),
            lease_s=LEASE_S,
            severable=plan.severable,
        ):
            while (now := time.monotonic()) < self._began_at + fault.at_s:
                self._tend()
                time.sleep(_TICK_S)
            if plan.until_shown and now >= look_at:
                if self._shown():
                    self._tell("something wrong was accepted")
                    break
                look_at = now + _LOOK_S
            self._tell(f"{fault.kind} {self._name(fault)}")
            self._fall(fault)
            fallen[fault.kind] += 1
        return fallen

    def _fall(self, fault: Fault) -> None:
        if fault.kind in faults.OF_WIRES:
            wire = self._wires[fault.target]
            match fault.kind:
                case "hold":
                    wire.hold()
                case "cut":
                    wire.cut()
                case "sever":
                    wire.sever()
                case "lose":
                    wire.lose(_LOST_SHARE)
            heapq.heappush(self._undo, (time.monotonic() + fault.length_s, len(self._undo), wire))
            return
        worker = self._stage.workers[fault.target]
        match fault.kind:
            case "kill":
                worker.kill()
            case "freeze":
                worker.freeze(fault.length_s)
            case "drain":
                worker.drain()
            case "terminate":
                self._stage.ask(_TERMINATE)
            case "restart":
                self._stage.restart()

    def _tend(self) -> None:
        while self._undo and self._undo[0][0] <= time.monotonic():
            heapq.heappop(self._undo)[2].restore()
        self._stage.tend()

    def _name(self, fault: Fault) -> str:
        if fault.kind not in faults.OF_WIRES:
            whose = f"worker{fault.target}" if fault.kind in faults.OF_WORKERS else "postgres"
        elif fault.target < self._plan.workers:
            whose = f"the wire of worker{fault.target}"
        else:
            whose = f"the wire of client{fault.target - self._plan.workers}"
        return f"{whose} for {fault.length_s:.1f} s" if fault.length_s else whose

    # — what comes after —

    def _heal(self) -> None:
        for wire in self._wires:
            wire.restore()
        self._stage.tend(thaw=True)
        for client in self._clients:
            client.stop()
        self._tell("all is well again")

    def _settle(self) -> float:
        """Wait until clients have their answers, workers work and no job is left; return how long it took, s."""
        began_at = time.monotonic()
        tell_s = _TELL_S
        while (waited_s := time.monotonic() - began_at) < _SETTLE_S:
            self._stage.tend()
            waiting = sum(client.is_alive() for client in self._clients)
            left = self._stage.ask(_UNFINISHED)
            if not waiting and not left:
                break
            if waited_s > tell_s:
                tell_s += _TELL_S
                self._tell(f"left: {_counted(Counter(row['what'] for row in left))}; {waiting} clients wait")
            time.sleep(_TICK_S)
        return waited_s

    def _faults(self) -> Iterator[str]:
        for client in self._clients:
            if client.is_alive():
                yield f"{client.name} still waits for an answer"
            if client.fault:
                yield f"{client.name} was told {client.fault}"
        for worker in self._stage.workers:
            if worker.never_drained:
                yield f"{worker.name} did not drain"

    def _shown(self) -> bool:
        try:
            return shown(gather(self._stage))
        except psycopg.OperationalError:
            return False

    # — words —

    def _tell(self, text: str) -> None:
        self._say(f"{time.monotonic() - self._began_at:6.1f} s  {text}")

    def _sum_up(self, evidence: Evidence, fallen: Counter[str], settled_s: float) -> None:
        ends = Counter(job["reason"] or job["status"] for job in evidence.jobs.values())
        fates = Counter(row["reason"] or row["status"] for rows in evidence.attempts.values() for row in rows)
        calls = sum(one.calls for one in evidence.asked)
        lost = sum(wire.lost for wire in self._wires)
        died = Counter(f"with code {code}" for worker in self._stage.workers for code in worker.died)
        taken = {
            row["token"] for rows in evidence.attempts.values() for row in rows if row["reason"] == "lease_expired"
        }
        late = sum(note.ended and note.token in taken for notes in evidence.notes.values() for note in notes)
        self._say(f"faults: {_counted(fallen)}; replies lost: {lost}")
        self._say(f"jobs: {_counted(ends)}; submitted in {calls} calls")
        self._say(f"attempts: {_counted(fates)}; came to their end without their lease: {late}")
        frozen = {pid for worker in self._stage.workers for pid in worker.frozen}
        overlaps = sorted(beside(evidence, frozen))
        longest = f", {overlaps[-1]:.2f} s at most" if overlaps else ""
        self._say(f"went on beside their successor, though not frozen: {len(overlaps)}{longest}")
        if self._plan.keep:
            self._say(f"kept: {self._stage.folder}")
        self._say(f"workers that ended by themselves: {_counted(died)}; settled in {settled_s:.1f} s")


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{n} {word}" for word, n in counts.most_common()) or "none"
