"""Going on after a break: the rest of a stream from any place, exactly once."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.web.client import Client
from tests.integration.web.frames import Frame, numbered, parse, text
from tests.integration.web.played import Attempt, Player
from tests.integration.web.test_stream import EVENTS, finished, ids, opened, whole
from tests.integration.web.test_submit import made


def test_the_rest_after_every_event_of_a_finished_job(client: Client, player: Player, kind: str) -> None:
    job_id = finished(client, player, kind)
    full = whole(client, job_id)
    for cut, place in enumerate(ids(full), 1):
        assert [(f.event, f.id, f.data) for f in whole(client, job_id, place)] == [
            (f.event, f.id, f.data) for f in full[cut:]
        ]
        by_query = client.get(f"/v1/jobs/{job_id}/stream?starting_after={place}")
        assert numbered(parse(by_query.iter_encoded())) == numbered(full[cut:])
    assert numbered(whole(client, job_id, "0:0")) == numbered(full)


def test_the_header_goes_before_the_parameter(client: Client, player: Player, kind: str) -> None:
    job_id = finished(client, player, kind)
    answer = client.get(f"/v1/jobs/{job_id}/stream?starting_after=1:1", headers={"Last-Event-ID": "1:7"})
    assert ids(list(parse(answer.iter_encoded()))) == ["1:8"]


def test_the_rest_after_every_event_of_a_running_job(client: Client, player: Player, kind: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    attempt = player.claim(job_id, kind)
    attempt.add(*EVENTS)
    said = list(EVENTS)
    for cut in range(len(EVENTS) + 1):
        with opened(client, job_id, f"1:{cut}") as frames:
            assert next(frames).data["status"] == "running"
            assert [(f.event, f.data) for f in (next(frames) for _ in said[cut:])] == said[cut:]
            attempt.say(f"live {cut}")
            said.append(("delta", {"text": f"live {cut}"}))
            assert next(frames) == Frame("delta", f"1:{len(said)}", {"text": f"live {cut}"})


def test_the_rest_over_two_attempts(client: Client, player: Player, kind: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    first = player.claim(job_id, kind)
    first.say("a", "b", "c")
    first.fail("broke")
    second = player.claim(job_id, kind)
    second.say("x", "y")
    second.done({"response": "xy"})
    reset = ("2:0", "reset", {"attempt": 2})
    told = [("2:1", "delta", {"text": "x"}), ("2:2", "delta", {"text": "y"})]
    assert numbered(whole(client, job_id)) == told
    for place in ("1:1", "1:2", "1:3", "1:99"):
        assert numbered(whole(client, job_id, place)) == [reset, *told]
    assert numbered(whole(client, job_id, "2:0")) == told
    assert numbered(whole(client, job_id, "2:1")) == told[1:]
    assert numbered(whole(client, job_id, "2:2")) == []


def test_more_than_a_page_of_events(client: Client, player: Player, kind: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    attempt = player.claim(job_id, kind)
    words = [f"w{n} " for n in range(1201)]
    attempt.say(*words)
    with opened(client, job_id) as frames:
        assert next(frames).data["status"] == "running"
        assert [next(frames).data["text"] for _ in words] == words
        attempt.done({"response": "".join(words)})
        assert [frame.event for frame in frames] == ["status", "end"]
    for place in (0, 1, 499, 500, 501, 999, 1000, 1001, 1200, 1201):
        rest = whole(client, job_id, f"1:{place}")
        assert [f.data["text"] for f in rest if f.event == "delta"] == words[place:]
        assert [f.event for f in rest[-2:]] == ["status", "end"]


@pytest.mark.parametrize("place", ["1:9", "1:2147483647", "2:1", "7:7", "2147483647:2147483647"])
def test_a_place_ahead_of_the_end(client: Client, player: Player, kind: str, place: str) -> None:
    job_id = finished(client, player, kind)
    frames = whole(client, job_id, place)
    assert [frame.event for frame in frames[-2:]] == ["status", "end"]
    known = [f"1:{n}" for n in range(1, len(EVENTS) + 1)]
    assert ids(frames) == ([] if place.startswith("1:") else known)


@pytest.mark.parametrize(
    "place",
    [
        *("1", "1:", ":1", "text", "-1:0", "1:-1", "1:2:3", "1.0:2", "0x1:2", "1;2", "1,2", "null", "1 : 2"),
        *("2147483648:1", "1:2147483648", "1:99999999999", "18446744073709551616:0", "0:18446744073709551616"),
        "a" * 5000,
    ],
)
def test_places_that_are_none(client: Client, kind: str, place: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    by_header = client.get(f"/v1/jobs/{job_id}/stream", headers={"Last-Event-ID": place})
    by_query = client.get(f"/v1/jobs/{job_id}/stream", query_string={"starting_after": place})
    for answer, field in ((by_header, "Last-Event-ID"), (by_query, "starting_after")):
        assert (answer.status_code, answer.content_type) == (400, "application/json")
        assert (answer.json["error"], answer.json["field"]) == ("invalid_event_id", field)


@pytest.mark.parametrize("place", ["\u0661:\u0662", "\x00", "é", "１:２"])
def test_places_in_other_letters(client: Client, kind: str, place: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    assert client.get(f"/v1/jobs/{job_id}/stream", query_string={"starting_after": place}).status_code == 400


def test_an_empty_place_is_the_beginning(client: Client, player: Player, kind: str) -> None:
    job_id = finished(client, player, kind)
    answer = client.get(f"/v1/jobs/{job_id}/stream?starting_after=", headers={"Last-Event-ID": ""})
    assert len(ids(list(parse(answer.iter_encoded())))) == len(EVENTS)


# — readers that come and go while the words do —


def write(attempt: Attempt, batches: list[int], stop: threading.Event) -> str:
    """Say numbered words in batches of these sizes, then finish; return all of them."""
    said = ""
    for size in batches:
        words = [f"word{len(said)}-{n} " for n in range(size)]
        attempt.say(*words)
        said += "".join(words)
        stop.wait(0.002)
    attempt.done({"response": said})
    return said


def patient(client: Client, job_id: str, breaks: Iterator[int]) -> list[Frame]:
    """Read a stream to its end, breaking off after so many numbered events again and again; go on after the last."""
    told: list[Frame] = []
    last = ""
    while True:
        left = next(breaks)
        with opened(client, job_id, last) as frames:
            for frame in frames:
                if frame.id:
                    last = frame.id
                    told.append(frame)
                    left -= 1
                if frame.event == "end":
                    return told
                if left <= 0:
                    break


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.integers(1, 12), min_size=1, max_size=40), seed=st.integers(0, 2**32))
def test_readers_that_break_off_anywhere_miss_and_repeat_nothing(
    client: Client, player: Player, batches: list[int], seed: int
) -> None:
    kind = f"test.{uuid4().hex}"
    job_id = str(made(client, {"kind": kind})["id"])
    attempt = player.claim(job_id, kind)
    stop = threading.Event()
    told: dict[int, list[Frame]] = {}

    def reader(number: int) -> None:
        dice = random.Random(seed + number)
        own = client.another()
        told[number] = patient(own, job_id, iter(lambda: dice.randint(1, 9), 0))

    threads = [threading.Thread(target=reader, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        said = write(attempt, batches, stop)
    finally:
        for thread in threads:
            thread.join(60)
    for number in range(2):
        assert text(told[number]) == said
        assert ids(told[number]) == [f"1:{n}" for n in range(1, sum(batches) + 1)]
