"""`GET /v1/jobs/{id}/ws`: the same as the stream, over a WebSocket, by which the client can cancel too.

Each frame is a text of JSON: `{"event": …, "id": "1:7" or null, "data": …}`, and `retry` where the stream has one. The
client may send `{"type": "cancel"}`; anything else is answered by a frame `error`, and nothing comes of it.
"""

from __future__ import annotations

import base64
import binascii
from selectors import PollSelector
from typing import Any
from uuid import UUID

import orjson
from flask import Blueprint, Response, g, request
from flask.blueprints import BlueprintSetupState
from flask_sock import Sock  # type: ignore[import-untyped] # ships no types
from simple_websocket import ConnectionClosed  # type: ignore[import-untyped] # as above
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

from llm_mcp import logs, strictjson
from llm_mcp.errors import InvalidInput, LlmMcpError

from .errors import body
from .ids import job_id
from .life import KEEP_ALIVE_S, Frame, starting_place, told
from .reply import answer, service
from .request_id import HEADER
from .streams import streams
from .wire import Bell, Reader, Wire

blueprint = Blueprint("socket", __name__, url_prefix="/v1/jobs")

_MAX_MESSAGE_BYTES = 4096
_FAREWELL_S = 2.0
_VERSION = "13"
_OPTIONS = {
    # A ping that is not answered until the next one ends the connection.
    "ping_interval": KEEP_ALIVE_S,
    "max_message_size": _MAX_MESSAGE_BYTES,
    "event_class": Bell,
    "thread_class": Reader,
    "selector_class": PollSelector,  # the usual one would take a file descriptor for each socket
}
_CODES = {"bye": CloseReason.GOING_AWAY, "error": CloseReason.INTERNAL_ERROR}
_sock = Sock()


@blueprint.record_once
def _set_up(state: BlueprintSetupState) -> None:
    state.app.config["SOCK_SERVER_OPTIONS"] = _OPTIONS


@blueprint.before_request
def _admit() -> Response | None:
    """Refuse what can be refused in HTTP; take a place for the others."""
    found = job_id((request.view_args or {})["text"])
    after = starting_place()
    if request.headers.get("Sec-WebSocket-Version") != _VERSION or request.endpoint == "socket.plain":
        headers = {"Upgrade": "websocket", "Sec-WebSocket-Version": _VERSION}
        return answer({"error": "upgrade_required", "message": "this is a WebSocket"}, 426, headers)
    if not _is_key(request.headers.get("Sec-WebSocket-Key", "")):
        raise InvalidInput("must be 16 bytes in base64", field="Sec-WebSocket-Key", code="bad_request")
    g.watch = service().watch(found, after, line=True)
    g.place = streams().enter()
    # Not compressed: that takes memory for each socket, and lets a small message grow.
    request.environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)
    g.wire = request.environ["gunicorn.socket"] = Wire(
        request.environ["gunicorn.socket"], header=f"{HEADER}: {logs.request_id()}"
    )
    return None


@blueprint.teardown_request
def _leave(_: BaseException | None) -> None:
    place = g.pop("place", None)
    if place is not None:
        place()


@blueprint.get("/<text>/ws")
def plain(text: str) -> Response:
    """Never called: what is no WebSocket is refused before."""
    raise AssertionError(text)


@_sock.route("/<text>/ws", bp=blueprint)  # type: ignore[untyped-decorator] # ships no types
def talk(ws: Any, text: str) -> None:
    """Tell a job's life until it ends, and do what the client asks for."""
    wire: Wire = g.wire
    wire.unread = ws.input_buffer
    ws.event.ring = g.watch.nudge
    g.place.watch(None, g.watch.nudge)  # the library's own thread notices when the client leaves
    last = "end"
    try:
        for frame in told(g.watch, g.place):
            if not ws.connected:
                raise ConnectionClosed
            while (message := ws.receive(timeout=0)) is not None:
                _obey(ws, UUID(text), message)
            if frame is not None:
                ws.send(_text(frame))
                last = frame.event
        ws.close(reason=_CODES.get(last, CloseReason.NORMAL_CLOSURE))
        ws.thread.join(_FAREWELL_S)  # until the client said goodbye too
    except (ConnectionClosed, LocalProtocolError):
        ws.thread.join(_FAREWELL_S)  # it says that the client left before it has answered its goodbye
    except OSError:
        pass
    finally:
        ws.connected = False
        wire.end()


def _obey(ws: Any, job: UUID, message: str | bytes) -> None:
    """Do what a message asks for; say why not."""
    try:
        _check(message)
        service().cancel(job)
    except LlmMcpError as error:
        ws.send(_text(Frame("error", orjson.dumps(body(error)))))


def _check(message: str | bytes) -> None:
    """Refuse what is not `{"type": "cancel"}`. Raises InvalidInput."""
    value = strictjson.loads(message.encode() if isinstance(message, str) else message, limit_bytes=_MAX_MESSAGE_BYTES)
    if not isinstance(value, dict):
        raise InvalidInput("a message must be a JSON object", code="invalid_message")
    if value.get("type") != "cancel":
        raise InvalidInput(
            'must be "cancel", the only thing that can be asked for', field="type", code="invalid_message"
        )


def _text(frame: Frame) -> str:
    shown: dict[str, object] = {"event": frame.event, "id": frame.id, "data": orjson.Fragment(frame.data)}
    if frame.retry is not None:
        shown["retry"] = frame.retry
    return orjson.dumps(shown).decode()


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
