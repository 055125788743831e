"""Serving gRPC: one process of threads, with health, reflection, TLS where it is set up, and a drain."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from llm_mcp import logs
from llm_mcp import runtime as runtimes
from llm_mcp.callers import is_loopback
from llm_mcp.config import Settings
from llm_mcp.errors import SetupError
from llm_mcp.jobs import Jobs
from llm_mcp.kinds import load_modules
from llm_mcp.remote import Remote
from llm_mcp.rpc import llm_pb2, llm_pb2_grpc
from llm_mcp.runtime import Runtime
from llm_mcp.signals import Signals

from ..streams import Streams
from .asking import Asking
from .attending import PATIENCE_S, Attending
from .working import Working

_SERVICE = llm_pb2.DESCRIPTOR.services_by_name["Core"].full_name
_SPARE_THREADS = 64
_GRACE_S = 4.0
# What a message holds beside the payload or result it carries, bytes.
_AROUND = 64 * 2**10


class Core(Asking, Attending, Working, llm_pb2_grpc.CoreServicer):
    """All methods of the service. Parameter: `patience_s`, as of `Attending`."""

    def __init__(self, runtime: Runtime, streams: Streams, *, patience_s: float = PATIENCE_S) -> None:
        jobs = Jobs(runtime)
        Asking.__init__(self, jobs, streams)
        Attending.__init__(self, jobs, streams, patience_s=patience_s)
        Working.__init__(self, Remote.of(runtime), streams, limit_bytes=runtime.settings.max_body_bytes)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then let calls finish and tell watchers to come again.

    Prints one line `ready grpc://HOST:PORT` to standard output once calls are answered. Raises SetupError.
    """
    logs.configure(settings)
    load_modules(settings.user_modules())
    with Signals(signal.SIGTERM, signal.SIGINT) as signals:
        runtime = Runtime(settings)
        runtimes.use(runtime)
        streams = Streams(settings.max_streams)
        threads = settings.max_streams + _SPARE_THREADS
        pool = ThreadPoolExecutor(threads, thread_name_prefix="llm-mcp-rpc")
        server = grpc.server(pool, options=_options(settings), maximum_concurrent_rpcs=threads)
        core = Core(runtime, streams)
        llm_pb2_grpc.add_CoreServicer_to_server(core, server)
        alive = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(alive, server)
        reflection.enable_server_reflection((_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        port = _bind(server, settings)
        for name in ("", _SERVICE):
            alive.set(name, health_pb2.HealthCheckResponse.SERVING)
        server.start()
        host = settings.grpc_host_port[0]
        print(f"ready grpc://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
        try:
            signals.wait()
        finally:
            alive.enter_graceful_shutdown()
            core.attended.close()
            streams.draining.set()
            server.stop(_GRACE_S).wait()
            pool.shutdown(wait=False, cancel_futures=True)
            runtime.close()


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.max_body_bytes + _AROUND),
        ("grpc.max_send_message_length", -1),
        # Two servers on one port would share its calls, and nobody would notice.
        ("grpc.so_reuseport", 0),
        # A client that vanished is noticed, and one that asks for signs of life every ten seconds is not sent away.
        ("grpc.keepalive_time_ms", 15_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def _bind(server: grpc.Server, settings: Settings) -> int:
    """Bind the server's port and return it."""
    host, port = settings.grpc_host_port
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    certificate, key = settings.grpc_certificate, settings.grpc_key
    if (certificate is None) != (key is None):
        raise SetupError("LLM_MCP_GRPC_CERTIFICATE and LLM_MCP_GRPC_KEY are set together or not at all")
    if not is_loopback(host) and certificate is None and not settings.grpc_insecure:
        raise SetupError(
            f"CORE_GRPC_ADDR: {settings.grpc_addr} is beyond loopback, where anybody may call, and in plain text:"
            " set LLM_MCP_GRPC_CERTIFICATE and LLM_MCP_GRPC_KEY, or LLM_MCP_GRPC_INSECURE=yes"
        )
    try:
        if certificate is not None and key is not None:
            pair = (_read(key, "LLM_MCP_GRPC_KEY"), _read(certificate, "LLM_MCP_GRPC_CERTIFICATE"))
            return server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
        return server.add_insecure_port(address)
    except RuntimeError:
        raise SetupError(f"CORE_GRPC_ADDR: cannot listen on {settings.grpc_addr}") from None


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SetupError(f"{name}: cannot read {path}: {error.strerror}") from None
