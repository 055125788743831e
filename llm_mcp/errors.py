"""Every error llm-mcp raises on purpose.

LlmMcpError
├── InvalidInput            the caller's mistake: HTTP 400, names the field
│   └── TooLarge            over a size limit: HTTP 413
├── NotFound                no such job: HTTP 404
│   └── ModelNotFound       no machine and no provider has a model of that name
├── Conflict                the job is not in a status that allows it: HTTP 409
│   ├── LeaseLost           the lease belongs to somebody else now, or to nobody
│   └── KeyReused           the idempotency key already named another request: HTTP 422
├── Unavailable             something we need is down: HTTP 503 with Retry-After
│   └── NoProvider          no key, or no machine that answers, for the model asked for
├── QueueFull               too many jobs wait already: HTTP 429 with Retry-After
├── SetupError              the installation or the settings are wrong; the text says what to do
├── WaitTimeout             the job did not finish in the time the caller gave
├── JobFailed               the job finished without a result
├── Cut                     the running call was cut on purpose (lease lost, cancelled, deadline, drain)
└── ProviderError           a model provider failed; `retryable` says whether another try may help
"""

from __future__ import annotations


class LlmMcpError(Exception):
    """Base of all errors here.

    `code` is the snake_case word clients see in `{"error": code}`.
    """

    code = "internal_error"


class InvalidInput(LlmMcpError):
    """The caller sent something we refuse.

    Parameters: `message` for people; `field`, the dotted path of the offending field, "" when it is the
    whole body; `code`, the word for machines.
    """

    code = "invalid_input"

    def __init__(self, message: str, *, field: str = "", code: str = "") -> None:
        super().__init__(message)
        self.field = field
        if code:
            self.code = code


class TooLarge(InvalidInput):
    """A body, payload or result is over its limit."""

    code = "too_large"


class NotFound(LlmMcpError):
    """Nothing by that id."""

    code = "not_found"


class ModelNotFound(NotFound):
    """Nothing we can reach has a model of that name."""

    code = "model_not_found"


class Conflict(LlmMcpError):
    """The job's status does not allow the move.

    Parameters: `message` for people; `code`, the word for machines.
    """

    code = "conflict"

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        if code:
            self.code = code


class LeaseLost(Conflict):
    """A late write by a worker whose lease ended; it changed nothing."""

    code = "lease_lost"


class KeyReused(Conflict):
    """The idempotency key was used before for a different request."""

    code = "idempotency_key_reused"


class Unavailable(LlmMcpError):
    """A part we depend on does not answer; `retry_after_s` (s) is when to ask again."""

    code = "unavailable"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NoProvider(Unavailable):
    """Nobody can take the call now.

    Parameters: `message` for people; `code`: `no_api_key`, the provider has no key here; `no_device`, no machine of
    ours answers; `not_local`, the call would go to the cloud, and must not.
    """

    def __init__(self, message: str, *, code: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.code = code


class QueueFull(LlmMcpError):
    """More jobs wait than may; nothing was written. `retry_after_s` (s) is when to ask again."""

    code = "queue_full"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SetupError(LlmMcpError):
    """The set-up is incomplete or contradictory; the message says what to do, in one line."""

    code = "setup_error"


class WaitTimeout(LlmMcpError, TimeoutError):
    """`wait` ran out of time; the job goes on."""

    code = "wait_timeout"


class JobFailed(LlmMcpError):
    """The job ended in status `error`; `reason` is its reason word."""

    code = "job_failed"

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Cut(LlmMcpError):
    """The running attempt was stopped from outside; nothing more of it may be written."""

    code = "cut"


class ProviderError(LlmMcpError):
    """A model provider refused, failed or vanished.

    Parameters: `message` for people (never a prompt, key or token); `retryable`; `retry_after_s` (s), the
    provider's own wish or None; `status`, its HTTP status or None; `code`, our word for the class of error:
    `bad_request unauthorized quota not_found rate_limited overloaded unreachable timeout broken_stream
    provider_failed`.
    """

    code = "provider_failed"

    def __init__(
        self,
        message: str,
        *,
        retryable: bool,
        code: str = "",
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.status = status
        self.retry_after_s = retry_after_s
        if code:
            self.code = code
