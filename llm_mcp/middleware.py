"""What surrounds an actor's call: the run is entered before, and its outcome decided and written after.

The outcome is data until it is written, because Dramatiq swallows what a middleware raises: a failed write here
would otherwise be acknowledged as if it had happened.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from dramatiq.middleware import Middleware, SkipMessage

from . import backoff, logs, needs
from . import run as running
from .claimer import Claimer
from .errors import InvalidInput, LeaseLost, LlmMcpError, NotFound, ProviderError, QueueFull, SetupError, Unavailable
from .job import Status
from .keeper import Keeper
from .run import Run
from .store import leases as rows
from .strictjson import dumps_lossy

log = logging.getLogger(__name__)

_MAX_ERROR_CHARS = 2000
# A machine that does not answer is being started again: all tries within a second would find it away, s.
_UNREACHABLE_S = 3.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


class Attempts(Middleware):
    """Enters the run of a message before its actor is called and notes how it went after."""

    def before_process_message(self, broker: Any, message: Any) -> None:
        """Make the message's run this thread's; skip one that was cut while it waited."""
        run: Run = message.run
        if not run.begin():
            raise SkipMessage
        logs.bind(run.lease)
        running.enter(run)

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Note the outcome; it is written when the message is settled."""
        message.run.ended = True
        message.run.exception = exception
        running.enter(None)

    def after_skip_message(self, broker: Any, message: Any) -> None:
        """An actor that skips its message is through with it; one that was not called for a cut run has no outcome."""
        message.run.ended = not message.run.was_cut
        running.enter(None)


class Roll(Middleware):
    """Counts Dramatiq's threads in: one told to stop before it ran would overhear it and run for ever."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        """Released once by every thread that runs."""

    def after_worker_thread_boot(self, broker: Any, thread: Any) -> None:
        """A worker thread runs."""
        self.begun.release()

    def after_consumer_thread_boot(self, broker: Any, thread: Any) -> None:
        """The consumer thread runs."""
        self.begun.release()


def settle(run: Run, claimer: Claimer, keeper: Keeper) -> None:
    """See to it that what became of an attempt is written under its lease. Never raises.

    A result is handed in with the claimer's next turn; a failure is written here and now. While the database is away
    either is tried again until the lease can no longer be trusted; then the row is left to the reaper, and the result
    with it is lost: the attempt will be run again. A run whose work never began is given back.
    """
    run.close()
    try:
        if run.was_cut:
            log.info("attempt cut", extra={"action": "job_cut", "why": run.was_cut})
        elif not run.ended:
            rows.release(run.runtime.db, [run.key])
            log.warning("attempt given back", extra={"action": "job_released"})
        else:
            if _hand_in(run, claimer):
                return
            claimer.failed(run)
            _until_fence(run, run.flush)
            _until_fence(run, lambda: _write_failure(run))
    except (LeaseLost, NotFound):
        log.warning("late write refused", extra={"action": "lease_lost"})
    except Unavailable as error:
        log.error("outcome not written", extra={"action": "settle_failed", "error": str(error)})
    except Exception:
        log.exception("outcome not written", extra={"action": "settle_failed"})
    finally:
        logs.bind(None)
    keeper.drop([run])
    run.runtime.announce(run.lease.job_id)


def _hand_in(run: Run, claimer: Claimer) -> bool:
    """Give the claimer the run's result and the rest of its stream.

    False when there is no result, or one that is too large, which is a failure.
    """
    if run.exception is not None or run.was_cut:
        return False
    text = dumps_lossy(run.result)
    limit = run.runtime.settings.max_body_bytes
    if len(text) > limit // 4 and len(text.encode()) > limit:
        run.exception = InvalidInput(f"the result is over {limit} bytes", field="result")
        return False
    claimer.finish(run, result=text, metrics=dumps_lossy(run.timings()), events=run.last_words())
    if log.isEnabledFor(logging.INFO):
        log.info("job done", extra={"action": "job_done", "figures": run.timings()})
    return True


def _until_fence(run: Run, write: Callable[[], None]) -> None:
    """Write, again and again while the database is away and the lease can be trusted."""
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return write()
        except Unavailable:
            if time.monotonic() + pause_s >= run.fence_at:
                raise
            time.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _write_failure(run: Run) -> None:
    if run.was_cut or run.exception is None:
        return
    retryable, at_least_s = _retryable(run.exception)
    status = rows.fail(
        run.runtime.db,
        *run.key,
        error=_words(run.exception),
        retryable=retryable,
        delay_s=backoff.delay_s(run.lease.tries, at_least_s=at_least_s),
        metrics=dumps_lossy(run.timings()),
    )
    log.warning(
        "attempt failed",
        extra={"action": "job_failed", "error_type": type(run.exception).__name__, "status": status.value},
    )
    if status is Status.ERROR:
        needs.advance(run.runtime, [run.lease.job_id])


def _retryable(error: BaseException) -> tuple[bool, float | None]:
    """Say whether another try may help, and after how many seconds at the least."""
    if isinstance(error, ProviderError):
        return error.retryable, _UNREACHABLE_S if error.code == "unreachable" else error.retry_after_s
    if isinstance(error, QueueFull):
        return True, error.retry_after_s
    return not isinstance(error, InvalidInput | SetupError), None


def _words(error: BaseException) -> str:
    """Return an error as the job's `error` text: one that tells the submitter what to do, never a stack."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a stranger's __str__ may raise anything; its failure is told all the same
        text = ""
    if isinstance(error, InvalidInput) and error.field:
        text = f"{error.field}: {text}"
    elif not (isinstance(error, LlmMcpError) and text):
        text = f"{type(error).__name__}: {text}".removesuffix(": ")
    clean = text.replace("\x00", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return clean[:_MAX_ERROR_CHARS]
