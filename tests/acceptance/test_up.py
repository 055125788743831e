"""`llm-mcp up`: one line when it serves, everything kept alive, and a clean end."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
from contextlib import suppress
from uuid import UUID

import psycopg

from llm_mcp import config
from tests.acceptance.running import COMMAND, Frame, Scratch, Up, call, kill, living, wait_gone
from tests.waiting import until


def test_a_real_model_answers_through_the_queue(shared: Up) -> None:
    job_id = shared.post("ollama.generate", {"prompt": "hello", "options": {"num_predict": 16, "seed": 1}})
    told = list(shared.follow(job_id))
    job = shared.job(job_id)
    result = job["result"]
    assert job["status"] == "done"
    text = "".join(frame.data["text"] for frame in told if frame.event == "delta")
    assert text == result["response"] == result["data"]["response"] != ""
    assert result["provider"] == "ollama"
    assert result["tokens_out"] == result["data"]["eval_count"] <= 16
    assert result["tokens_in"] > 0
    assert result["cost"] == "0.00000$"
    assert [frame.data["status"] for frame in told if frame.event == "status"][-1] == "done"
    assert told[-1] == Frame("end", "", {"status": "done"})


def test_every_local_kind_works_on_the_embedded_model(shared: Up) -> None:
    chat = shared.finished(
        shared.post("ollama.chat", {"messages": [{"role": "user", "content": "hi"}], "options": {"num_predict": 4}})
    )
    assert chat["result"]["data"]["message"]["content"] == chat["result"]["response"]
    echo = shared.finished(shared.post("echo", {"say": ["ünï", None, 1.5]}))
    assert echo["result"] == {"ok": True, "echo": {"say": ["ünï", None, 1.5]}}
    unknown = shared.finished(shared.post("ollama.generate", {"prompt": "x", "model": "nope"}, max_attempts=1))
    assert (unknown["status"], unknown["reason"]) == ("error", "failed")
    assert "nope" in unknown["error"]


def test_it_serves_at_once_after_its_line_and_ends_cleanly(scratch: Scratch) -> None:
    up = scratch.up()
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(call("POST", f"{up.url}/v1/jobs", {"kind": "echo"})[0]))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [202] * 20
    pids = list(up.children())
    assert len(pids) == 5  # Postgres, the model, a worker, the HTTP door, the gRPC door
    assert up.stop() == 0
    assert up.lines == [f"ready {up.url}"]
    wait_gone(lambda command, _: str(scratch.path) in command)
    again = scratch.up()  # nothing holds the data directory, and what was there still is
    status, listed = call("GET", f"{again.url}/v1/jobs?kind=echo")
    assert (status, len(listed["items"])) == (200, 20)


def test_a_second_one_on_the_same_folder_or_port_says_so_in_one_line(scratch: Scratch) -> None:
    up = scratch.up("--workers", "0", "--no-model")
    for second in (
        scratch.up(wait=False, data_dir=up.settings.data_dir),
        scratch.up(wait=False, data_dir=scratch.path / "other", http_addr=up.url.removeprefix("http://")),
    ):
        assert second.process.wait(timeout=30) == 1
    assert up.job(up.post("echo"))["status"] == "queued"


def test_without_workers_a_job_waits_and_says_why(scratch: Scratch) -> None:
    up = scratch.up("--workers", "0", "--no-model")
    job_id = up.post("echo")
    assert "no live worker serves" in up.job(job_id)["warnings"][0]
    up.stop()
    up = scratch.up("--workers", "1", "--no-model")
    assert up.finished(job_id)["status"] == "done"


def test_the_setting_says_how_many_workers_and_none_of_them_is_a_master(scratch: Scratch) -> None:
    up = scratch.up("--no-model", worker_processes=2)
    workers = [pid for pid, command in up.children().items() if " worker" in command]
    assert len(workers) == 2
    assert not living(lambda _, parent: parent in workers)
    up.stop()
    assert sum(" worker" in command for command in scratch.up("--no-model", "--workers", "1").children().values()) == 1


def test_what_dies_is_started_again(scratch: Scratch) -> None:
    up = scratch.up()
    for word in (" worker", " web ", "llm_mcp.embedded.ollama", "postgres -D"):
        victim = up.child(word)
        kill(victim)
        until(lambda word=word, victim=victim: up.child(word) != victim)  # type: ignore[misc] # a lambda with defaults
        job_id = until(lambda: _try_post(up), timeout_s=30)
        assert up.finished(job_id)["status"] == "done", word


BRIEF = {"prompt": "a", "options": {"num_predict": 4}}


def _try_post(up: Up, kind: str = "ollama.generate") -> str:
    status, told = call("POST", f"{up.url}/v1/jobs", {"kind": kind, "payload": BRIEF})
    return str(told["job_id"]) if status == 202 else ""


def test_postgres_comes_back_once_its_old_backends_are_gone(scratch: Scratch) -> None:
    """A backend that computes outlives its killed postmaster for a while, and no new server may start beside it."""
    up = scratch.up("--no-model")
    jobs = up.jobs()

    def compute() -> None:
        with suppress(psycopg.Error), psycopg.connect(jobs.runtime.dsn) as conn:
            conn.execute("SELECT sum(sqrt(i)) FROM generate_series(1, 40000000) i")

    computing = threading.Thread(target=compute)
    computing.start()
    try:
        until(lambda: _busy_backends(up) > 0)
        kill(up.child("postgres -D"))
        assert up.finished(until(lambda: _try_post(up, "echo"), timeout_s=60))["status"] == "done"
    finally:
        computing.join()
        jobs.runtime.close()


def _busy_backends(up: Up) -> int:
    jobs = up.jobs()
    try:
        with psycopg.connect(jobs.runtime.dsn) as conn:
            row = conn.execute("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT sum(sqrt%'").fetchone()
        return 0 if row is None else int(row[0])
    finally:
        jobs.runtime.close()


def test_a_kind_that_prints_stands_in_nobodys_way(scratch: Scratch) -> None:
    up = scratch.up("--no-model", modules="tests.acceptance.chatty")
    for _ in range(3):
        assert up.finished(up.post("test.chatty", {"lines": 3000}), timeout_s=30)["status"] == "done"
    assert up.stop() == 0
    assert up.lines == [f"ready {up.url}"]


def test_a_closed_terminal_drains_too(scratch: Scratch) -> None:
    up = scratch.up("--no-model")
    job_id = up.post("test.slow_words", {"count": 20, "pause_s": 0.1})
    until(lambda: up.job(job_id)["status"] == "running")
    up.process.send_signal(signal.SIGHUP)
    assert up.process.wait(timeout=30) == 0
    assert scratch.up("--workers", "0", "--no-model").job(job_id)["status"] == "done"


def test_it_can_be_stopped_while_postgres_starts(scratch: Scratch) -> None:
    up = scratch.up("--workers", "0", "--no-model")
    up.stop()
    with (next(up.settings.data_dir.glob("pg[0-9]*")) / "postgresql.conf").open("a") as settings:
        settings.write("\nrestart_after_crash = off\nrecovery_target_action = shutdown\n")
    (next(up.settings.data_dir.glob("pg[0-9]*")) / "standby.signal").touch()  # it will wait for a primary for ever
    up = scratch.up("--workers", "0", "--no-model", wait=False)
    until(lambda: any("postgres -D" in line for line in up.children().values()))
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(timeout=20) == 0


def test_a_dotenv_of_the_folder_is_read_once_and_by_nobody_below(scratch: Scratch) -> None:
    """The children get their settings from `up`, which got them from its options first."""
    folder = scratch.path / "here"
    folder.mkdir()
    (folder / ".env").write_text("DB_DSN=postgresql://127.0.0.1:1/nowhere\nLLM_MCP_WORKER_THREADS=3\n")
    addresses = {"http_addr": "127.0.0.1:0", "grpc_addr": "127.0.0.1:0"}
    settings = config.load(data_dir=scratch.path / "data", local_ollama=False, **addresses)
    environment = config.child_environment(settings)
    for name in ("LLM_MCP_ENV_FILE", "LLM_MCP_WORKER_THREADS"):
        del environment[name]
    words = ["up", "--no-mcp", "--no-model"]
    made = subprocess.run(
        [*COMMAND, *words], env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert made.returncode == 1  # it takes the database that the file names
    assert "127.0.0.1" in made.stderr
    demo = subprocess.run(
        [*COMMAND, "demo"],
        env={**environment, "TMPDIR": str(folder.parent)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert demo.returncode == 0, demo.stderr  # and the demo takes its own


def test_no_connection_is_refused_while_the_web_process_is_started_again(scratch: Scratch) -> None:
    up = scratch.up("--workers", "0", "--no-model")
    master = up.child(" web ")
    for pid in (*living(lambda _, parent: parent == master), master):
        kill(pid)
    assert call("GET", f"{up.url}/health")[0] == 200


def test_nothing_outlives_a_killed_supervisor(scratch: Scratch) -> None:
    up = scratch.up()
    assert len(up.children()) == 5
    known = set(up.children())
    kill(up.process.pid)
    wait_gone(lambda command, parent: str(scratch.path) in command or parent in known, pids=known)


def test_running_jobs_finish_before_it_ends(scratch: Scratch) -> None:
    up = scratch.up()
    job_id = up.post("test.slow_words", {"count": 20, "pause_s": 0.1})
    until(lambda: up.job(job_id)["status"] == "running")
    assert up.stop() == 0
    up = scratch.up("--workers", "0")
    job = up.job(job_id)
    assert (job["status"], job["attempts"]) == ("done", 1)


def test_a_second_signal_gives_running_jobs_back_at_once(scratch: Scratch) -> None:
    up = scratch.up()
    job_id = up.post("test.slow_words", {"count": 3000, "pause_s": 0.02})
    until(lambda: up.job(job_id)["status"] == "running")
    up.process.send_signal(signal.SIGINT)
    until(lambda: not up.process.poll() and _refuses(up))
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(timeout=20) == 0
    up = scratch.up("--workers", "0")
    job = up.job(job_id)
    assert (job["status"], job["attempts"]) == ("queued", 1)
    tries = up.jobs()
    try:
        assert [(t.status, t.reason) for t in tries.attempts(UUID(job_id))] == [("error", "released")]
    finally:
        tries.runtime.close()


def _refuses(up: Up) -> bool:
    """Whether its workers have stopped claiming: a job submitted now stays queued while a place is free."""
    probe = up.post("echo")
    try:
        until(lambda: up.job(probe)["status"] == "done", timeout_s=1.0)
    except AssertionError:
        return True
    return False


def test_a_port_that_is_no_port_is_one_line(scratch: Scratch) -> None:
    for addr in ("nonsense", "127.0.0.1:99999", "127.0.0.1:"):
        words = ["up", "--data-dir", str(scratch.path / "none"), "--http", addr]
        made = subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False, timeout=30)
        assert made.returncode == 1
        assert len(made.stderr.strip().splitlines()) == 1
        assert "HTTP_ADDR" in made.stderr


def test_it_listens_on_loopback_unless_told_otherwise(shared: Up) -> None:
    host, port = shared.url.removeprefix("http://").split(":")
    assert host == "127.0.0.1"
    others = [a[4][0] for a in socket.getaddrinfo(socket.gethostname(), None) if not str(a[4][0]).startswith("127.")]
    for other in others:
        with socket.socket(socket.AF_INET6 if ":" in str(other) else socket.AF_INET) as probe:
            probe.settimeout(1)
            assert probe.connect_ex((str(other), int(port))) != 0
