"""Settings: the only reader of the environment.

Order: explicit argument, then environment, then `.env` in the working directory, then the default here. Another file
than `.env` is named in LLM_MCP_ENV_FILE; empty, none is read, which is so in child processes: they get all from us.
Names without a prefix are the ones existing deployments already set; all others start with LLM_MCP_.
"""

from __future__ import annotations

import os
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import platformdirs
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from .errors import SetupError

LONGEST_LEASE_S = 3600.0
"""The longest lease anybody may ask for, s."""
_ENV_FILE = "LLM_MCP_ENV_FILE"
_OLLAMA_PORT = 11434
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9.])?|\[[0-9A-Fa-f:.]+\]")


def installed_version() -> str:
    """Return the version of the installed package, `YYYY.M.N`."""
    try:
        return version("llm-mcp")
    except PackageNotFoundError:
        return "0+unknown"


def default_data_dir() -> Path:
    """Return where the embedded parts keep their data: /var/lib/llm-mcp as root, else the user's data folder."""
    if os.geteuid() == 0:
        return Path("/var/lib/llm-mcp")
    return Path(platformdirs.user_data_dir("llm-mcp", appauthor=False))


def _env(*names: str) -> AliasChoices:
    return AliasChoices(*names)


class Settings(BaseSettings):
    """Everything that can be set; each field's description says its unit and meaning."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", populate_by_name=True, frozen=True)

    # Where things are
    data_dir: Path = Field(default_factory=default_data_dir, validation_alias=_env("LLM_MCP_DATA_DIR"))
    """Folder of the embedded Postgres and its state."""
    db_dsn: SecretStr | None = Field(None, validation_alias=_env("DB_DSN", "DATABASE_URL"))
    """Postgres to use instead of the embedded one."""
    db_direct_dsn: SecretStr | None = Field(None, validation_alias=_env("LLM_MCP_DB_DIRECT_DSN"))
    """Postgres past any pooler, for LISTEN and session locks; the main one when unset."""
    db_pooler: bool | None = Field(None, validation_alias=_env("LLM_MCP_DB_POOLER"))
    """Whether the main one is a pooler that may hand a session to many; unset: each connection finds out."""
    db_schema: str = Field("llm", validation_alias=_env("LLM_MCP_DB_SCHEMA"))
    """Schema of our tables."""
    db_pool_size: int = Field(16, ge=1, le=500, validation_alias=_env("LLM_MCP_DB_POOL_SIZE"))
    """Connections a process may open."""
    http_addr: str = Field("127.0.0.1:8080", validation_alias=_env("CORE_HTTP_ADDR"))
    """HOST:PORT of the HTTP door; ":8080" means loopback here."""
    grpc_addr: str = Field("127.0.0.1:9090", validation_alias=_env("CORE_GRPC_ADDR"))
    """HOST:PORT of the gRPC door; the same."""
    grpc_certificate: Path | None = Field(None, validation_alias=_env("LLM_MCP_GRPC_CERTIFICATE"))
    """PEM file with the certificate chain of the gRPC door; with it calls are encrypted."""
    grpc_key: Path | None = Field(None, validation_alias=_env("LLM_MCP_GRPC_KEY"))
    """PEM file with its private key."""
    grpc_insecure: bool = Field(False, validation_alias=_env("LLM_MCP_GRPC_INSECURE"))
    """Whether the gRPC door may listen beyond loopback without a certificate: in a network of your own."""
    mcp_addr: str = Field("127.0.0.1:3333", validation_alias=_env("MCP_HTTP_ADDR"))
    """HOST:PORT of the MCP bridge; the same. Beyond loopback it needs `mcp_tokens`."""
    mcp_tokens: Path | None = Field(None, validation_alias=_env("LLM_MCP_TOKENS"))
    """File with the tokens of the bridge's callers, `sha256 name scopes` a line; unset: whoever reaches it may call."""
    mcp_calls_per_minute: int = Field(6000, ge=1, le=10**6, validation_alias=_env("LLM_MCP_CALLS_PER_MINUTE"))
    """Requests a principal of the bridge may make in a minute; as many at once when it was quiet."""
    mcp_toolsets: str = Field("core", validation_alias=_env("LLM_MCP_TOOLSETS"))
    """Comma-separated sets of tools that models are shown: core, ops."""
    mcp_read_only: bool = Field(False, validation_alias=_env("LLM_MCP_READ_ONLY"))
    """Whether models are shown only tools that change nothing."""
    mcp_max_wait_s: float = Field(50.0, ge=1, le=600, validation_alias=_env("LLM_MCP_MAX_WAIT_S"))
    """Longest wait of a tool for a job, s; then it tells how to ask again. Many clients give up after 60."""
    mcp_abandon_grace_s: float = Field(30.0, ge=0, le=600, validation_alias=_env("LLM_MCP_ABANDON_GRACE_S"))
    """How long the job of a caller who vanished goes on before it is cancelled, s: the caller may come again for it."""
    mcp_deadline_s: float = Field(3600.0, ge=60, le=7 * 86400, validation_alias=_env("LLM_MCP_JOB_DEADLINE_S"))
    """Seconds after which nobody wants the answer to a job that a tool asked for, its time in the queue included."""
    core_certificate: Path | None = Field(None, validation_alias=_env("LLM_MCP_CORE_CERTIFICATE"))
    """PEM file with the authority that the bridge trusts to name the core; unset: `grpc_certificate`, if any."""
    core_http_url: str | None = Field(None, validation_alias=_env("CORE_HTTP_URL"))
    """Where the bridge finds the core's HTTP door; unset: at `http_addr`."""

    # Providers
    ollama_base_url: str | None = Field(None, validation_alias=_env("OLLAMA_BASE_URL"))
    """Ollama to use; unset: 127.0.0.1:11434 when it answers, else the embedded device."""
    ollama_extra_endpoints: str = Field("", validation_alias=_env("OLLAMA_EXTRA_ENDPOINTS"))
    """Comma-separated HOST[:PORT] of further machines that serve Ollama's API."""
    local_ollama: bool = Field(True, validation_alias=_env("LLM_MCP_LOCAL_OLLAMA"))
    """Whether an Ollama on 127.0.0.1:11434 is used when it is there."""
    ollama_model: str | None = Field(None, validation_alias=_env("OLLAMA_MODEL"))
    """Model of a generate or chat job that names none; unset: the first loaded, else the first listed."""
    ollama_embed_model: str | None = Field(None, validation_alias=_env("OLLAMA_EMBED_MODEL"))
    """The same for embeddings."""
    openai_api_key: SecretStr | None = Field(None, validation_alias=_env("OPENAI_API_KEY"))
    openai_base_url: str = Field("https://api.openai.com/v1", validation_alias=_env("OPENAI_BASE_URL"))
    """API base, or the full …/chat/completions address that older deployments set."""
    openai_model: str = Field("gpt-4o-mini", validation_alias=_env("OPENAI_MODEL"))
    openai_embed_model: str = Field("text-embedding-3-small", validation_alias=_env("OPENAI_EMBED_MODEL"))
    openrouter_api_key: SecretStr | None = Field(None, validation_alias=_env("OPENROUTER_API_KEY"))
    openrouter_base_url: str = Field("https://openrouter.ai/api/v1", validation_alias=_env("OPENROUTER_BASE_URL"))
    openrouter_model: str = Field("google/gemini-2.5-flash", validation_alias=_env("OPENROUTER_MODEL"))
    cloud_embed_dimensions: int = Field(0, ge=0, le=65536, validation_alias=_env("CLOUD_EMBED_DIMENSIONS"))
    """Numbers of a cloud vector where the request names no dimensions; 0: as many as the model has."""
    provider_timeout_s: float = Field(600.0, gt=0, le=86400, validation_alias=_env("LLM_MCP_PROVIDER_TIMEOUT_S"))
    """Longest silence of a provider before the call counts as dead, s."""

    call_timeout_s: float = Field(120.0, gt=0, le=86400, validation_alias=_env("LLM_MCP_CALL_TIMEOUT_S"))
    """How long a synchronous call waits for its job before it answers 504, s; the job goes on."""

    # Embedded model
    embedded_model: Path | None = Field(None, validation_alias=_env("LLM_MCP_EMBEDDED_MODEL"))
    """GGUF file for the embedded device instead of the packaged one."""
    embedded_context: int = Field(2048, ge=64, le=1_048_576, validation_alias=_env("LLM_MCP_EMBEDDED_CONTEXT"))
    """Context of the embedded device, tokens."""

    # Work
    worker_name: str | None = Field(None, validation_alias=_env("WORKER_NAME"))
    worker_threads: int = Field(8, ge=1, le=512, validation_alias=_env("LLM_MCP_WORKER_THREADS"))
    """Jobs one worker process runs at once."""
    worker_processes: int = Field(1, ge=1, le=64, validation_alias=_env("LLM_MCP_WORKER_PROCESSES"))
    """Worker processes that one `llm-mcp worker`, or `llm-mcp up`, keeps alive."""
    lease_s: float = Field(
        30.0, ge=1, le=LONGEST_LEASE_S, validation_alias=_env("LLM_MCP_LEASE_S", "WORKER_LEASE_SECONDS")
    )
    """Length of a lease, s; it is renewed every third of it."""
    liveness: bool = Field(True, validation_alias=_env("LLM_MCP_LIVENESS"))
    """Whether a worker's death is noticed by its session's end; else only by its leases'."""
    drain_s: float = Field(20.0, ge=0, le=3600, validation_alias=_env("LLM_MCP_DRAIN_S"))
    """How long running jobs may finish after SIGTERM before they are released, s."""
    poll_s: float = Field(1.0, ge=0.05, le=60, validation_alias=_env("LLM_MCP_POLL_S"))
    """How often an idle worker looks without being woken, s (jittered)."""
    ageing_s: float = Field(600.0, ge=1, le=86400, validation_alias=_env("LLM_MCP_AGEING_S"))
    """A job that waited this long goes before any priority, s."""
    reap_s: float = Field(1.0, ge=0.1, le=60, validation_alias=_env("LLM_MCP_REAP_S"))
    """How often ended leases and passed deadlines are looked for, s."""
    modules: str = Field("", validation_alias=_env("LLM_MCP_MODULES"))
    """Comma-separated Python modules with kinds of your own, imported by worker and web."""

    web_processes: int = Field(2, ge=1, le=64, validation_alias=_env("LLM_MCP_WEB_PROCESSES"))
    """Serving processes of the HTTP door; each has its own limits and its own connections to the database."""

    # Limits
    max_body_bytes: int = Field(16 * 2**20, ge=1024, validation_alias=_env("LLM_MCP_MAX_BODY_BYTES"))
    """Largest request body, payload or result, bytes (plain SQL: always 16 MiB)."""
    max_files_bytes: int = Field(2**31, ge=1024, validation_alias=_env("LLM_MCP_MAX_FILES_BYTES"))
    """All files that clients handed in or get back, together, bytes; more are refused."""
    max_queued: int = Field(100_000, ge=0, le=10**9, validation_alias=_env("LLM_MCP_MAX_QUEUED"))
    """Jobs that may wait; more are refused. 0: any number."""
    max_stream_bytes: int = Field(4 * 2**20, ge=1024, validation_alias=_env("LLM_MCP_MAX_STREAM_BYTES"))
    """Largest stream of one attempt, bytes; past it the stream ends, and the work goes on."""
    max_stream_events: int = Field(100_000, ge=10, validation_alias=_env("LLM_MCP_MAX_STREAM_EVENTS"))
    """Events of one attempt's stream at the most."""
    allowed_hosts: str = Field("", validation_alias=_env("LLM_MCP_ALLOWED_HOSTS"))
    """Comma-separated host names that requests and browsers may call us by, besides loopback's own."""
    max_streams: int = Field(1000, ge=1, le=20000, validation_alias=_env("LLM_MCP_MAX_STREAMS"))
    """Open streams a web process carries; more are told 503."""
    max_connections: int = Field(4000, ge=16, le=100_000, validation_alias=_env("LLM_MCP_MAX_CONNECTIONS"))
    """Connections a web process keeps, at least a few more than streams; at the limit idle ones make room, else 503."""
    result_ttl_s: float | None = Field(None, gt=0, le=100 * 365 * 86400, validation_alias=_env("LLM_MCP_RESULT_TTL_S"))
    """How long a result is kept unless its submission says (not of plain SQL and schedules), s; unset: with the job."""
    event_retention_days: int = Field(7, ge=1, le=3650, validation_alias=_env("LLM_MCP_EVENT_RETENTION_DAYS"))
    """Days the events of a stream are kept."""
    job_retention_days: int = Field(7, ge=1, le=3650, validation_alias=_env("JOB_CLEANUP_RETENTION_DAYS"))
    """Days finished jobs are kept."""

    # Speech
    log_level: str = Field("INFO", validation_alias=_env("LLM_MCP_LOG_LEVEL"))
    log_format: str = Field("auto", pattern="^(auto|json|console)$", validation_alias=_env("LLM_MCP_LOG_FORMAT"))
    """json, console, or auto: console on a terminal."""

    @field_validator("db_schema")
    @classmethod
    def _plain_identifier(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", value):
            raise ValueError("must be a plain lower-case identifier")
        return value

    @field_validator("ollama_extra_endpoints")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        for place in _split(value):
            host, port = split_endpoint(place)
            if not _HOST.fullmatch(host) or not 0 < port <= 65535:
                raise ValueError("must be HOST or HOST:PORT, comma-separated")
        return value

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}:
            raise ValueError("must be DEBUG, INFO, WARNING, ERROR or CRITICAL")
        return value.upper()

    @field_validator("db_dsn", "db_direct_dsn", "openai_api_key", "openrouter_api_key", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return None if value in ("", "not-used") else value

    @property
    def http_host_port(self) -> tuple[str, int]:
        """Return (host, port) of the HTTP door; an empty host is loopback."""
        return split_addr(self.http_addr, "CORE_HTTP_ADDR")

    @property
    def extra_devices(self) -> dict[str, str]:
        """The machines of `ollama_extra_endpoints`: base URLs by device id, `extra:HOST` or `extra:HOST:PORT`."""
        found = {}
        for place in _split(self.ollama_extra_endpoints):
            host, port = split_endpoint(place)
            found[f"extra:{place}"] = f"http://{host}:{port}"
        return found

    @property
    def grpc_host_port(self) -> tuple[str, int]:
        """Return (host, port) of the gRPC door; an empty host is loopback."""
        return split_addr(self.grpc_addr, "CORE_GRPC_ADDR")

    @property
    def mcp_host_port(self) -> tuple[str, int]:
        """Return (host, port) of the MCP bridge; an empty host is loopback."""
        return split_addr(self.mcp_addr, "MCP_HTTP_ADDR")

    def user_modules(self) -> list[str]:
        """Return the names of the user's modules to import."""
        return _split(self.modules)

    @property
    def host_names(self) -> frozenset[str]:
        """The names of `allowed_hosts`, in lower case."""
        return frozenset(name.lower() for name in _split(self.allowed_hosts))


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def split_endpoint(place: str) -> tuple[str, int]:
    """Return (host, port) of `HOST` or `HOST:PORT`, where HOST may be `[V6]` and keeps its brackets.

    Without a port it is Ollama's, 11434; what is no number is port 0.
    """
    host, colon, port = place.rpartition(":")
    if not colon or place.endswith("]"):
        return place, _OLLAMA_PORT
    return host, int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0


def split_addr(addr: str, name: str) -> tuple[str, int]:
    """Return (host, port) of `HOST:PORT`, `:PORT` or `[V6]:PORT`.

    Raises SetupError naming `name` when it is none of these.
    """
    host, colon, port = addr.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise SetupError(f"{name}: {addr!r} is not HOST:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def load(**overrides: object) -> Settings:
    """Read the settings; `overrides` (None means "not given") win over the environment.

    Raises SetupError, one line naming each bad field.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        env_file = os.environ.get(_ENV_FILE, ".env") or None
        return Settings(_env_file=env_file, **given)  # type: ignore[arg-type] # pydantic checks values, callers names
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise SetupError(f"settings: {faults}") from None


def child_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of a child process that is to see exactly these settings.

    A setting without a value is absent from it, whatever our own environment or a `.env` says.
    """
    environment = {**os.environ, _ENV_FILE: ""}
    for name, field in Settings.model_fields.items():
        names = [str(choice) for choice in getattr(field.validation_alias, "choices", [])]
        for known in names:
            environment.pop(known, None)
        value = getattr(settings, name)
        if value is not None and value != "":
            environment[names[0]] = str(value.get_secret_value() if isinstance(value, SecretStr) else value)
    return environment


@cache
def settings() -> Settings:
    """Return this process's settings, read once."""
    return load()
