"""Files: in by a form, out byte for byte, listed, bounded, deleted."""

from __future__ import annotations

import hashlib
import io
import random
from typing import Any

import psycopg
import pytest

from llm_mcp.store.files import PIECE_BYTES
from tests.integration.web.batches.conftest import Play, line


@pytest.mark.parametrize("size", [1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 7])
def test_a_file_comes_back_as_it_was(play: Play, size: int) -> None:
    stage = play(works=False)
    data = random.Random(size).randbytes(size)
    told = stage.upload(data, name="my file.jsonl")
    assert told.status_code == 200, told.json
    file = told.json
    assert (file["object"], file["bytes"], file["purpose"]) == ("file", size, "batch")
    assert (file["filename"], file["status"], file["expires_at"]) == ("my file.jsonl", "processed", None)
    assert stage.client.get(f"/v1/files/{file['id']}").json == file
    back = stage.client.get(f"/v1/files/{file['id']}/content")
    assert back.headers["Content-Length"] == str(size)
    assert hashlib.sha256(back.data).digest() == hashlib.sha256(data).digest()


def test_files_are_listed_page_by_page(play: Play) -> None:
    stage = play(works=False)
    made = [stage.upload(b"{}", name=f"{n}.jsonl").json["id"] for n in range(5)]
    first = stage.client.get("/v1/files?limit=2").json
    assert [file["id"] for file in first["data"]] == [made[4], made[3]]
    assert (first["has_more"], first["last_id"]) == (True, made[3])
    rest = stage.client.get(f"/v1/files?after={first['last_id']}&purpose=batch").json
    assert [file["id"] for file in rest["data"]] == [made[2], made[1], made[0]]
    assert rest["has_more"] is False
    ahead = stage.client.get(f"/v1/files?order=asc&after={made[1]}&limit=2").json
    assert [file["id"] for file in ahead["data"]] == made[2:4]
    assert stage.client.get("/v1/files?purpose=batch_output").json["data"] == []


def test_a_deleted_file_is_gone_with_its_pieces(play: Play, dsn: str) -> None:
    stage = play(works=False)
    file = stage.upload(b"{}").json["id"]
    answer = stage.client.open(f"/v1/files/{file}", method="DELETE")
    assert answer.json == {"id": file, "object": "file", "deleted": True}
    for path in (f"/v1/files/{file}", f"/v1/files/{file}/content"):
        assert stage.client.get(path).json["error"]["code"] == "not_found"
    with psycopg.connect(dsn) as conn:
        assert conn.execute("SELECT count(*) FROM llm.file_pieces").fetchone() == (0,)


def test_a_file_that_a_batch_reads_stays(play: Play) -> None:
    stage = play(works=False)
    file = stage.create([line("a")])["input_file_id"]
    answer = stage.client.open(f"/v1/files/{file}", method="DELETE")
    assert (answer.status_code, answer.json["error"]["code"]) == (409, "file_in_use")
    assert stage.client.get(f"/v1/files/{file}").status_code == 200


def test_a_file_goes_when_its_time_is_over(play: Play, dsn: str) -> None:
    stage = play(works=False)
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file = stage.upload(b"{}", **fields).json
    assert file["expires_at"] - file["created_at"] == 3600
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("UPDATE llm.files SET expires_at = now()")
        assert stage.client.get(f"/v1/files/{file['id']}").status_code == 404
        assert stage.client.get("/v1/files").json["data"] == []
        stage.upload(b"{}")  # sweeps
        assert conn.execute("SELECT count(*) FROM llm.files").fetchone() == (1,)


def test_one_that_is_half_written_is_not_seen(play: Play, dsn: str) -> None:
    stage = play(works=False)
    file = stage.upload(b"{}").json["id"]
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("UPDATE llm.files SET bytes = NULL")
    assert stage.client.get(f"/v1/files/{file}").status_code == 404


def test_files_are_bounded_one_and_all(play: Play) -> None:
    stage = play(works=False, max_body_bytes=100_000, max_files_bytes=150_000)
    assert stage.upload(b"x" * 90_000).status_code == 200
    large = stage.upload(b"x" * 100_001)
    assert (large.status_code, large.json["error"]["code"]) == (413, "body_too_large")
    full = stage.upload(b"x" * 90_000)
    assert (full.status_code, full.json["error"]["type"]) == (413, "invalid_request_error")
    assert "all files together" in full.json["error"]["message"]


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"purpose": "batch"}, "file"),
        ({"purpose": "batch", "file": "text"}, "file"),
        ({"purpose": "vision", "file": (b"x", "a")}, "purpose"),
        ({"file": (b"x", "a")}, "purpose"),
        ({"purpose": "batch", "file": (b"", "a")}, "file"),
        ({"purpose": "batch", "file": (b"x", "a" * 300)}, "file"),
        ({"purpose": "batch", "file": (b"x", "a"), "expires_after[seconds]": "1"}, "expires_after.seconds"),
        ({"purpose": "batch", "file": (b"x", "a"), "expires_after[anchor]": "x"}, "expires_after.anchor"),
    ],
)
def test_bad_uploads_name_their_field(play: Play, form: dict[str, Any], param: str) -> None:
    sent = {
        name: (io.BytesIO(value[0]), value[1]) if isinstance(value, tuple) else value for name, value in form.items()
    }
    answer = play(works=False).client.post("/v1/files", data=sent, content_type="multipart/form-data")
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param)


def test_an_upload_that_is_no_form(play: Play) -> None:
    client = play(works=False).client
    for kind in ("application/json", "multipart/form-data", "multipart/form-data; boundary=x"):
        answer = client.post("/v1/files", data=b'{"purpose": "batch"}', content_type=kind)
        assert (answer.status_code, answer.json["error"]["param"]) == (400, "purpose")


@pytest.mark.parametrize("name", ["file-x", "x", "file-" + "0" * 32, "file-" + "A" * 32, "file-é"])
def test_ids_that_name_no_file(play: Play, name: str) -> None:
    assert play(works=False).client.get(f"/v1/files/{name}").status_code == 404
