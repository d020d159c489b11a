"""The attempts of a task, with its cache, retries and timeouts: of a task node, or of an item of an array node."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from flyteidl.core.catalog_pb2 import (
    CACHE_HIT,
    CACHE_LOOKUP_FAILURE,
    CACHE_MISS,
    CACHE_POPULATED,
    CACHE_PUT_FAILURE,
    CACHE_SKIPPED,
)
from flyteidl.core.dynamic_job_pb2 import DynamicJobSpec
from flyteidl.core.execution_pb2 import ExecutionError
from flyteidl.core.literals_pb2 import LiteralMap

from deploy.sandbox.engine.graph.attempt_reports import CacheResult, Place, Reports
from deploy.sandbox.engine.graph.events import go_duration
from deploy.sandbox.engine.graph.inputs import CacheLookedUp, CacheStored, TaskFinished, TaskStarted, TaskWaiting
from deploy.sandbox.engine.graph.interface import CancelTask, LookUpCache, ReleaseCache, StartTask, StoreCache, TaskKey
from deploy.sandbox.engine.graph.library import ACTIVE_TIMEOUTS, SYSTEM_RETRIES, TaskPolicy
from deploy.sandbox.engine.graph.retries import exhausted, timeout_error
from deploy.sandbox.engine.graph.runtime import Runtime, Timer


class Attempts:
    """Runs a task: cache first, then one attempt after the other."""

    def __init__(
        self, runtime: Runtime, policy: TaskPolicy, place: Place, inputs: LiteralMap, reports: Reports
    ) -> None:
        self._runtime = runtime
        self._policy = policy
        self._place = place
        self._inputs = inputs
        self._reports = reports
        self._attempt = 0
        self._system_failures = 0
        self._reserved = False
        self._deck = False
        self._cache = CacheResult()
        self._attempt_timer: Timer | None = None
        self._active_timer: Timer | None = None
        self._active = timedelta(0)
        """How long the processes of earlier attempts ran; waiting for the machine does not count."""
        self._running_since: datetime | None = None

    @property
    def attempt(self) -> int:
        """The number of the current attempt, from 0."""
        return self._attempt

    @property
    def _key(self) -> TaskKey:
        return self._place.key(self._attempt)

    def begin(self) -> None:
        """Look the outputs up in the cache, or run the task."""
        if self._policy.cacheable and not self._policy.overwrites_cache:
            self._look_up(serialize=False, handle=self._looked_up)
        else:
            if self._policy.cacheable:
                self._cache = CacheResult(CACHE_SKIPPED)
            self._reports.queued()
            self._start()

    def _look_up(self, *, serialize: bool, handle: Callable[[CacheLookedUp], None]) -> None:
        action = LookUpCache(self._key, self._policy.cache_key(self._inputs), serialize)
        self._runtime.expect(action, self._key, handle)

    def _looked_up(self, result: CacheLookedUp) -> None:
        if self._hit(result):
            return
        self._reports.queued()
        if self._policy.serializes_cache:
            self._look_up(serialize=True, handle=self._reserved_or_found)
        else:
            self._start()

    def _reserved_or_found(self, result: CacheLookedUp) -> None:
        if not self._hit(result):
            self._reserved = True
            self._start()

    def _hit(self, result: CacheLookedUp) -> bool:
        self._runtime.forget(LookUpCache, result.key)
        self._cache = CacheResult(CACHE_LOOKUP_FAILURE if result.failed else CACHE_MISS)
        if result.outputs is None:
            return False
        cache = CacheResult(CACHE_HIT, result.metadata)
        self._reports.succeeded(self._attempt, result.outputs, cache, deck=False, stored=False)
        return True

    def _start(self) -> None:
        place, attempt = self._place, self._attempt
        interruptible = self._policy.may_be_interrupted(self._system_failures)
        action = StartTask(
            key=self._key,
            template=self._policy.template,
            inputs=self._inputs,
            input_uri=place.input_uri,
            output_prefix=place.output_prefix(attempt),
            raw_output_prefix=place.raw_output_prefix(attempt),
            checkpoint_prefix=place.checkpoint_prefix(attempt),
            previous_checkpoint_prefix=place.checkpoint_prefix(attempt - 1),
            interruptible=interruptible,
            array=place.array,
        )
        self._runtime.expect(action, self._key, self._result)
        self._reports.started(attempt, interruptible)

    def resume_futures(self, spec: DynamicJobSpec) -> None:
        """Go on after the task of the reference execution, which returned `spec`."""
        self._reports.futures(self._attempt, spec)

    def _result(self, result: TaskWaiting | TaskStarted | TaskFinished) -> None:
        if isinstance(result, TaskWaiting):
            self._reports.waiting(self._attempt, result.reason)
        elif isinstance(result, TaskStarted):
            self._start_timers()
            self._reports.running(self._attempt, result.logs, result.reason)
        else:
            self._runtime.forget(StartTask, self._key)
            self._finished(result)

    def _finished(self, result: TaskFinished) -> None:
        self._stop_timers()
        self._deck = result.deck
        if result.error is not None:
            self._reports.attempt_failed(self._attempt, result.error, result.logs)
            self._after_failure(result.error, recoverable=result.recoverable)
            return
        self._reports.attempt_succeeded(self._attempt, result.logs)
        if result.futures is not None:
            self._reports.futures(self._attempt, result.futures)
        else:
            self.complete(result.outputs or LiteralMap())

    def complete(self, outputs: LiteralMap, *, stored: bool = True) -> None:
        """End with `outputs`, after the cache has them."""

        def end(result: CacheStored) -> None:
            self._runtime.forget(StoreCache, result.key)
            self._reserved = False
            self._end()
            status = CACHE_POPULATED if result.metadata is not None else CACHE_PUT_FAILURE
            cache = CacheResult(status, result.metadata)
            self._reports.succeeded(self._attempt, outputs, cache, deck=self._deck, stored=stored)

        if self._policy.cacheable and self._policy.has_outputs:
            key = self._policy.cache_key(self._inputs)
            action = StoreCache(self._key, key, outputs, self._policy.overwrites_cache)
            self._runtime.expect(action, self._key, end)
        else:
            self._end()
            self._reports.succeeded(self._attempt, outputs, CacheResult(), deck=self._deck, stored=stored)

    def give_up(self, error: ExecutionError) -> None:
        """Fail for good."""
        self._end()
        self._reports.failed(self._attempt, error, deck=self._deck)

    def _after_failure(self, error: ExecutionError, *, recoverable: bool) -> None:
        if not recoverable:
            self.give_up(error)
            return
        if error.kind == ExecutionError.SYSTEM:
            current, most = self._system_failures, SYSTEM_RETRIES
            self._system_failures += 1
        else:
            current, most = self._attempt + 1 - self._system_failures, self._policy.most_attempts
        if current < most:
            self._attempt += 1
            self._start()
            return
        self.give_up(exhausted(error, current, most))

    def _start_timers(self) -> None:
        timeout = self._policy.timeout
        if timeout is None or self._running_since is not None:
            return
        now = self._running_since = self._runtime.at
        active = ACTIVE_TIMEOUTS * timeout
        self._attempt_timer = self._runtime.call_at(now + timeout, partial(self._attempt_expired, timeout))
        self._active_timer = self._runtime.call_at(now + active - self._active, partial(self._active_expired, active))

    def _attempt_expired(self, timeout: timedelta) -> None:
        error = timeout_error(timeout)
        self._end_attempt(error.message)
        self._after_failure(error, recoverable=True)

    def _active_expired(self, timeout: timedelta) -> None:
        self.abort(f"task active timeout [{go_duration(timeout)}] expired")
        self._reports.timed_out(self._attempt)

    def abort(self, reason: str) -> None:
        """End the task and its current attempt."""
        self._end_attempt(reason)
        self._end()

    def _end_attempt(self, reason: str) -> None:
        self._stop_timers()
        self._runtime.forget(LookUpCache, self._key)
        self._runtime.forget(StoreCache, self._key)
        if self._runtime.forget(StartTask, self._key):
            self._runtime.do(CancelTask(self._key))
            self._reports.attempt_aborted(self._attempt, reason)

    def _stop_timers(self) -> None:
        """End the time of an attempt; that of the next one begins with its process."""
        for timer in (self._attempt_timer, self._active_timer):
            if timer is not None:
                timer.cancel()
        if self._running_since is not None:
            self._active += self._runtime.at - self._running_since
        self._running_since = None

    def _end(self) -> None:
        if self._reserved:
            self._reserved = False
            self._runtime.do(ReleaseCache(self._key, self._policy.cache_key(self._inputs)))
