"""Results and words that no reader would take: a finished job is not lost over them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.web.workers.calls import Foreign


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (b'{"t": "a\\u0000b"}', {"t": "a\ufffdb"}),
        (b'{"t": "\\ud83d"}', {"t": "\ufffd"}),
        (b'{"t": "\\ud83d\\ude00"}', {"t": "\U0001f600"}),
        (b'{"t": "\xff\xfe"}', {"t": "\ufffd\ufffd"}),
        (b'{"t": "a\x00\x01b"}', {"t": "a\ufffd\x01b"}),
        (b'{"n": NaN, "i": [Infinity, -Infinity, 1e999]}', {"n": None, "i": [None, None, None]}),
        (b'{"n": 18446744073709551616}', {"n": "18446744073709551616"}),
        (b'{"n": ' + b"9" * 6000 + b"}", {"n": "9" * 6000}),
        (b'{"\\u0000": 1}', {"\ufffd": 1}),
        (b"[" * 100 + b"]" * 100, None),
    ],
)
def test_a_finished_job_is_not_lost_over_a_character(one: Foreign, kind: str, raw: bytes, kept: Any) -> None:
    claimed = one.begin(kind)
    named = f'"worker_id": "{one.worker_id}", "job_id": "{claimed["job"]["id"]}"'.encode()
    status, told = one.post("complete", b"{" + named + b', "result": ' + raw + b', "metrics": {"x": NaN}}')
    assert status == 200, told
    job = one.job(claimed)
    assert job["status"] == "done"
    if kept is not None:
        assert job["result"] == kept
    assert any("result" in warning or "metrics" in warning for warning in told["warnings"])


def test_words_of_a_failure_that_no_column_takes(one: Foreign, kind: str) -> None:
    claimed = one.begin(kind, max_attempts=1)
    named = f'"worker_id": "{one.worker_id}", "job_id": "{claimed["job"]["id"]}"'.encode()
    assert one.post("fail", b"{" + named + b', "error": "a\\u0000b\\ud800' + b"x" * 9000 + b'"}')[0] == 200
    error = one.job(claimed)["error"]
    assert error.startswith("a\ufffdb\ufffdxxx")
    assert len(error) == 2000
