"""Whether what an MCP client saw is right: compared with what the core says of the same job, by its own API."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from tests.acceptance.running import call
from tests.waiting import until

CORE_TOOLS = {
    "llm_chat",
    "llm_embed",
    "llm_submit",
    "llm_job_status",
    "llm_job_cancel",
    "llm_jobs",
    "llm_models",
}
TASK = "count the cats"
_TOKENS = 12
_LEFT_S = 20.0

Saw = Mapping[str, Any]


class Wrong(Exception):
    """What a client saw is not what it should have seen; the message says what is wrong."""


class Judge:
    """Judges one line of a script's at a time. Parameters: `core`, the URL of the core's HTTP door."""

    def __init__(self, core: str) -> None:
        self._core = core

    def __call__(self, line: Mapping[str, Any]) -> str:
        """Return what is wrong with what was seen, "" for nothing."""
        if not line["ok"]:
            return str(line["told"] or "failed")
        judged: Callable[[Saw], None] | None = getattr(self, f"judge_{line['check']}", None)
        if judged is None:
            return "there is no judge of it"
        try:
            judged(line["saw"])
        except Wrong as wrong:
            return str(wrong)
        except (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError) as odd:
            return f"{type(odd).__name__}: {odd}, of {json.dumps(line['saw'])[:300]}"
        return ""

    def judge_era(self, saw: Saw) -> None:
        """The newest version of the protocol for those who choose it themselves, else the older era."""
        _same("protocol", saw["version"], "2026-07-28" if saw["asked"] == "auto" else "2025-11-25")

    def judge_tools(self, saw: Saw) -> None:
        """All core tools are there, and what the main one takes is told."""
        if missing := CORE_TOOLS - set(saw["names"]):
            raise Wrong(f"no {', '.join(sorted(missing))} among {saw['names']}")
        _holds("llm_chat's parameters", saw["chat"]["parameters"]["properties"], "prompt")
        if not saw["chat"]["description"]:
            raise Wrong("llm_chat has no description")

    def judge_chat(self, saw: Saw) -> None:
        """The words are those of the job, as many as were asked for."""
        job = self._answered(saw)
        _same("tokens", job["result"]["tokens_out"], _TOKENS)

    def judge_job(self, saw: Saw) -> None:
        """The job that was submitted is the one that was finished, and its words are its own."""
        _same("job", _job_id(saw["finished"]), _job_id(saw["submitted"]))
        self._answered(saw["finished"])

    def judge_agent(self, saw: Saw) -> None:
        """An agent's model was offered the tools, and what one of them answered came back to it."""
        if missing := CORE_TOOLS - set(saw["offered"]):
            raise Wrong(f"not offered: {', '.join(sorted(missing))}")
        if saw.get("loose"):
            raise Wrong(f"cannot be strict: {', '.join(saw['loose'])}")
        if found := re.search(_JOB_ID, saw["output"]):
            _same("status", self._job(found[1])["status"], "done")
        else:
            _holds("what came back", saw["output"], "tiny")

    def judge_progress(self, saw: Saw) -> None:
        """Progress was told more than once, always further, and names the job."""
        job = self._answered(saw["chat"])
        steps = [step for step, _ in saw["told"]]
        if len(steps) < 2 or any(later <= step for step, later in pairwise(steps)):
            raise Wrong(f"steps {steps[:9]}")
        for _, message in saw["told"]:
            _holds("progress", message or "", f"job {job['id'][:8]}")

    def judge_cancelled(self, saw: Saw) -> None:
        """The job that was submitted ended because it was cancelled."""
        _same("job", _job_id(saw["cancelled"]), _job_id(saw["submitted"]))
        self._cancelled(_job_id(saw["submitted"]))

    def judge_errors(self, saw: Saw) -> None:
        """What is wrong is said in words that a model can read, as an error."""
        for name, word in (("missing", "nope"), ("wrong", "max_tokens")):
            if saw[name]["failed"] is False:
                raise Wrong(f"{name}: no error")
            _holds(name, "\n".join(saw[name]["texts"]), word)

    def judge_unknown(self, saw: Saw) -> None:
        """A tool that is not there is an error of the protocol."""
        _same("code", saw.get("code"), -32602)

    def judge_resources(self, saw: Saw) -> None:
        """The models and a job's result can be read."""
        _holds("llm://models", saw["models"], "tiny")
        job = self._answered(saw["chat"])
        _same("the result", _spoken(saw["result"]), _spoken(job["result"]["response"]))

    def judge_prompts(self, saw: Saw) -> None:
        """The prompt holds what it was filled with."""
        _holds("the prompt", saw["text"], TASK)

    def judge_left(self, saw: Saw) -> None:
        """The job of a caller that gave up was cancelled."""
        if saw["ended"].startswith("answered"):
            raise Wrong(saw["ended"][:200])
        self._cancelled(self._marked(saw["mark"]))

    judge_late = judge_left

    def judge_task(self, saw: Saw) -> None:
        """It was a task, whose id is the job's, asked after until it was completed."""
        job = self._answered(saw["chat"])
        _same("task", saw["task_id"], job["id"])
        _same("the last status", saw["told"][-1], "completed")

    def judge_task_left(self, saw: Saw) -> None:
        """The task of a caller that gave up was cancelled."""
        _same("task", saw["task_id"], self._marked(saw["mark"]))
        self.judge_left(saw)

    def judge_strict(self, saw: Saw) -> None:
        """A strict reader lists the tools and complains of nothing."""
        _same("code", saw["code"], 0)
        _same("complaints", saw["told"].strip(), "")
        if saw["listed"] < len(CORE_TOOLS):
            raise Wrong(f"{saw['listed']} tools")

    def _answered(self, saw: Saw) -> Mapping[str, Any]:
        """Return the job that an answer is of, after comparing the two."""
        job = self._job(_job_id(saw))
        _same("status", job["status"], "done")
        spoken = _spoken(job["result"]["response"])
        if not spoken:
            raise Wrong("the model said nothing")
        if saw["failed"]:
            raise Wrong(f"failed: {saw['texts']}")
        if saw["texts"]:
            _holds("the text", _spoken("\n".join(saw["texts"])), spoken)
        if saw["structured"] is not None:
            _same("structured text", _spoken(saw["structured"]["text"]), spoken)
            _same("structured status", saw["structured"]["status"], "done")
        return job

    def _cancelled(self, job_id: str) -> None:
        """Wait for the job's end; fail unless it was cancelled."""
        until(lambda: self._job(job_id)["status"] in ("done", "error"), timeout_s=_LEFT_S, every_s=0.1)
        job = self._job(job_id)
        _same("status", (job["status"], job.get("reason")), ("error", "cancelled"))

    def _marked(self, mark: str) -> str:
        """Return the id of the one job with this mark in what it was asked."""
        found = [job["id"] for job in self._newest() if mark in json.dumps(self._job(job["id"])["payload"])]
        if len(found) != 1:
            raise Wrong(f"{len(found)} jobs have the mark")
        return str(found[0])

    def _newest(self) -> Iterator[Mapping[str, Any]]:
        status, page = call("GET", f"{self._core}/v1/jobs?limit=100")
        _same("the core's answer", status, 200)
        yield from page["items"]

    def _job(self, job_id: str) -> Mapping[str, Any]:
        status, job = call("GET", f"{self._core}/v1/jobs/{job_id}")
        _same(f"job {job_id}", status, 200)
        return dict(job)


_JOB_ID = re.compile(r"job_id\W+([0-9a-f-]{36})")


def _job_id(saw: Saw) -> str:
    """Return the id of the job that an answer tells of; structured and in words it is the same."""
    structured = saw["structured"] or {}
    found = re.search(_JOB_ID, "\n".join(saw["texts"]))
    ids = {one for one in (structured.get("job_id"), found and found[1]) if one}
    if len(ids) != 1:
        raise Wrong(f"job ids {sorted(ids)} in {json.dumps(saw)[:300]}")
    return str(ids.pop())


def _spoken(text: str) -> str:
    """Return what a text says: without white space, and what no host is to be shown."""
    return "".join(letter for letter in text if letter.isprintable() and not letter.isspace())


def _same(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise Wrong(f"{what}: {found!r}, not {wanted!r}")


def _holds(what: str, found: Any, wanted: str) -> None:
    if wanted not in found:
        raise Wrong(f"{what}: no {wanted!r} in {str(found)[:300]!r}")
