"""What surrounds an actor's call: the run is entered before, and its outcome decided and written after.

The outcome is data until it is written, because Dramatiq swallows what a middleware raises: a failed write here
would otherwise be acknowledged as if it had happened.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import structlog
from dramatiq.middleware import Middleware, SkipMessage
from tenacity import retry, retry_if_exception_type, stop_never, wait_random_exponential

from . import backoff
from . import run as running
from .errors import Cut, InvalidInput, LeaseLost, NotFound, ProviderError, Unavailable
from .run import Run
from .store import jobs as rows
from .strictjson import dumps_lossy

log = logging.getLogger(__name__)

_MAX_ERROR_CHARS = 2000


class Attempts(Middleware):
    """Enters the run of a message before its actor is called and notes how it went after."""

    def before_process_message(self, broker: Any, message: Any) -> None:
        """Make the message's run this thread's; skip one that was cut while it waited."""
        run: Run = message.run
        structlog.contextvars.bind_contextvars(
            job_id=str(run.lease.job_id), kind=run.lease.kind, attempt=run.lease.attempt
        )
        run.started_at = time.monotonic()
        if run.was_cut:
            raise SkipMessage
        running.enter(run)

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Note the outcome; it is written when the message is settled."""
        message.run.exception = exception
        message.run.close()
        running.enter(None)

    def after_skip_message(self, broker: Any, message: Any) -> None:
        """A run that was cut before it began has no outcome."""
        message.run.close()
        running.enter(None)


def settle(run: Run) -> None:
    """Write what became of an attempt, under its lease. Never raises.

    While the database is away it is tried again until the lease can no longer be trusted; then the row is left to the
    reaper, and the result with it is lost: the attempt will be run again.
    """
    try:
        if run.was_cut or isinstance(run.exception, Cut):
            log.info("attempt cut", extra={"action": "job_cut", "why": run.was_cut})
        else:
            _write_until_fence(run)
    except (LeaseLost, NotFound):
        log.warning("late write refused", extra={"action": "lease_lost"})
    except Unavailable as error:
        log.error("outcome not written", extra={"action": "settle_failed", "error": str(error)})
    except Exception:
        log.exception("outcome not written", extra={"action": "settle_failed"})
    finally:
        run.runtime.announce(run.lease.job_id)
        structlog.contextvars.clear_contextvars()


def _write_until_fence(run: Run) -> None:
    def fenced(state: Any) -> bool:
        return time.monotonic() >= run.fence_at or stop_never(state)

    write = retry(
        retry=retry_if_exception_type(Unavailable),
        wait=wait_random_exponential(multiplier=0.05, max=1.0),
        stop=fenced,
        reraise=True,
    )(_write)
    write(run)


def _write(run: Run) -> None:
    run.flush()
    if run.was_cut:
        return
    metrics = dumps_lossy(run.timings())
    if run.exception is None:
        text = dumps_lossy(run.result)
        limit = run.runtime.settings.max_body_bytes
        if len(text) <= limit:
            rows.complete(run.runtime.db, *run.key, result=text, metrics=metrics)
            log.info("job done", extra={"action": "job_done", **run.timings()})
            return
        run.exception = InvalidInput(f"the result is over {limit} bytes", field="result")
    retryable, at_least_s = _retryable(run.exception)
    status = rows.fail(
        run.runtime.db,
        *run.key,
        error=_words(run.exception),
        retryable=retryable,
        delay_s=backoff.delay_s(run.lease.tries, at_least_s=at_least_s),
        metrics=metrics,
    )
    log.warning(
        "attempt failed",
        extra={"action": "job_failed", "error_type": type(run.exception).__name__, "status": status.value},
    )


def _retryable(error: BaseException) -> tuple[bool, float | None]:
    """Say whether another try may help, and after how many seconds at the least."""
    if isinstance(error, ProviderError):
        return error.retryable, error.retry_after_s
    return not isinstance(error, InvalidInput), None


def _words(error: BaseException) -> str:
    """Return an error as the job's `error` text: one that tells the submitter what to do, never a stack."""
    text = str(error) or type(error).__name__
    if isinstance(error, InvalidInput) and error.field:
        text = f"{error.field}: {text}"
    clean = text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
    return clean[:_MAX_ERROR_CHARS]
