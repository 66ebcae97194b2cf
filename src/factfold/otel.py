"""OpenTelemetry: an observer that makes spans and metrics of what stores do. Needs the extra `otel`.

It needs the API alone, as libraries should; what becomes of the spans and metrics is for the application to say, which
sets up an SDK. Without one nothing is recorded. Names, units and `error.type` follow the semantic conventions of
OpenTelemetry; what they have no name for begins with `factfold.`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from factfold import __version__
from factfold.errors import MissingDriverError
from factfold.observing import Execution, Observer, StorageCall
from factfold.stats import Stats
from factfold.storage import _fork

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.context import Context
    from opentelemetry.metrics import CallbackOptions, Observation
except ModuleNotFoundError as error:
    raise MissingDriverError(
        f"factfold.otel needs OpenTelemetry ({error}): pip install 'factfold[otel]', and an SDK with an exporter"
    ) from error

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds of the buckets of durations, unless a view sets others: an append takes anything from 0.1 ms on."""

COMMANDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Bounds of the buckets of batch sizes."""


class Figure(NamedTuple):
    """A metric that a store counts anyway: `field` is that of `Stats`."""

    field: str
    name: str
    unit: str
    description: str


COUNTED = (
    Figure("commands", "factfold.commands", "{command}", "Commands that were answered."),
    Figure("batches", "factfold.batches", "{batch}", "Groups of commands that were decided together."),
    Figure("attempts", "factfold.attempts", "{attempt}", "How often a batch was decided."),
    Figure("conflicts", "factfold.conflicts", "{conflict}", "How often others were faster, or a guess was wrong."),
    Figure("loads", "factfold.loads", "{request}", "Requests to load states."),
    Figure("guesses", "factfold.guesses", "{stream}", "Streams that were taken for empty, and not loaded."),
    Figure("wrong_guesses", "factfold.guesses.wrong", "{stream}", "Streams that were not empty then."),
    Figure("hits", "factfold.cache.hits", "{read}", "Reads of a state that was in the cache."),
    Figure("misses", "factfold.cache.misses", "{read}", "Reads of a state that was not in the cache."),
    Figure("refreshes", "factfold.cache.refreshes", "{state}", "Cached states that others' events moved on."),
    Figure("evictions", "factfold.cache.evictions", "{stream}", "Streams dropped because the cache was full."),
    Figure("snapshots_used", "factfold.snapshots.used", "{snapshot}", "Loads that went on from a snapshot."),
    Figure("snapshots_refused", "factfold.snapshots.refused", "{snapshot}", "Snapshots that did not fit."),
    Figure("snapshots_saved", "factfold.snapshots.saved", "{snapshot}", "Snapshots that were written."),
    Figure("snapshots_failed", "factfold.snapshots.failed", "{snapshot}", "Snapshots that could not be written."),
    Figure("snapshots_dropped", "factfold.snapshots.dropped", "{snapshot}", "Snapshots that were not tried."),
)
PRESENT = Figure("cached", "factfold.cache.streams", "{stream}", "Streams in the caches of open stores.")


class _Request(NamedTuple):
    """What is kept of a request to the storage while it runs: its span, and how to leave it."""

    span: trace.Span
    leave: Callable[[], None]


class OpenTelemetry(Observer):
    """Makes spans and metrics of what stores do: `Store(..., observer=OpenTelemetry())`. Make one for all stores.

    Each call of `execute` has a span in its caller's trace, in which the command runs. A request to the storage has one
    span, however many commands it serves: it is linked to the spans of all of them, and a child of the first of them
    that is sampled. Exceptions are named (`error.type`) and not recorded with their tracebacks: their callers get them.

    Args:
        tracer_provider: of the spans; the global one if it is not given.
        meter_provider: of the metrics; the global one if it is not given.

    Raises:
        MissingDriverError: when the module is imported and `opentelemetry-api` is not installed.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer("factfold", __version__, tracer_provider)
        self._figures = _Figures()
        meter = metrics.get_meter("factfold", __version__, meter_provider)
        self._executing = meter.create_histogram(
            "factfold.execute.duration",
            "s",
            "Time from the call of a command to its outcome.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._asking = meter.create_histogram(
            "factfold.storage.duration",
            "s",
            "Time of a request to the storage.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._batch_size = meter.create_histogram(
            "factfold.batch.size",
            "{command}",
            "Commands that shared an append.",
            explicit_bucket_boundaries_advisory=COMMANDS,
        )
        self._events = meter.create_counter("factfold.events", "{event}", "Events that commands wrote.")
        self._consuming = meter.create_histogram(
            "factfold.consumer.duration",
            "s",
            "Time in which a consumer handled a batch of events.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._consumed = meter.create_counter("factfold.consumer.events", "{event}", "Events that a consumer handled.")
        self._lag = meter.create_gauge("factfold.consumer.lag", "{event}", "Events that a consumer is behind.")
        self._age = meter.create_gauge("factfold.consumer.lag.duration", "s", "Age of the next event for a consumer.")
        for figure in COUNTED:
            meter.create_observable_counter(
                figure.name, [self._figures.observer(figure.field)], figure.unit, figure.description
            )
        meter.create_observable_up_down_counter(
            PRESENT.name, [self._figures.observer(PRESENT.field)], PRESENT.unit, PRESENT.description
        )

    def opened(self, namespace: str, stats: Callable[[], Stats]) -> None:
        """See `Observer`."""
        self._figures.add(namespace, stats)

    def closed(self, namespace: str, stats: Callable[[], Stats]) -> None:
        """See `Observer`."""
        self._figures.remove(stats)

    def executing(self, execution: Execution) -> None:
        """See `Observer`."""
        # In a context of the execution's own: the caller's span is the parent, and what is attached goes with it.
        span = self._tracer.start_span(f"{execution.operation} {execution.name}", attributes=_described(execution))
        context.attach(trace.set_span_in_context(span))
        execution.kept = span

    def executed(self, execution: Execution, error: BaseException | None) -> None:
        """See `Observer`."""
        described = _described(execution)
        if error is not None:
            described["error.type"] = _name_of(type(error))
        self._executing.record(execution.seconds, described)
        if execution.events:
            self._events.add(execution.events, described)
        span = _span_of(execution)
        if span is None:
            return
        try:
            if span.is_recording():
                span.set_attribute("factfold.attempts", execution.attempts)
                span.set_attribute("factfold.batch.size", execution.batch_size)
                span.set_attribute("factfold.events", execution.events)
                if execution.position is not None:
                    span.set_attribute("factfold.position", execution.position)
                if execution.repeated:
                    span.set_attribute("factfold.repeated", True)
                _set_error(span, error)
        finally:
            span.end()

    def asking(self, call: StorageCall) -> None:
        """See `Observer`."""
        served = [span for execution in call.executions if (span := _span_of(execution)) is not None]
        sampled = [span for span in served if span.get_span_context().trace_flags.sampled]
        # An empty context: this runs in that of whoever leads or loads, who may have nothing to do with it.
        own = trace.set_span_in_context((sampled or served)[0], Context()) if served else Context()
        span = self._tracer.start_span(
            f"{call.operation} {call.namespace}",
            own,
            attributes={"factfold.namespace": call.namespace, "factfold.storage.operation": call.operation},
            links=[trace.Link(each.get_span_context()) for each in served] if sampled else None,
        )
        token = context.attach(trace.set_span_in_context(span, own))  # for what the driver records
        call.kept = _Request(span, lambda: context.detach(token))

    def answered(self, call: StorageCall, error: BaseException | None) -> None:
        """See `Observer`."""
        if not isinstance(call.kept, _Request):
            return  # `asking` has failed
        span, leave = call.kept
        leave()
        described = {"factfold.namespace": call.namespace, "factfold.storage.operation": call.operation}
        if error is not None:
            described["error.type"] = _name_of(type(error))
        self._asking.record(call.seconds, described)
        if call.operation == "append" and error is None and not call.conflict:
            self._batch_size.record(len(call.executions), {"factfold.namespace": call.namespace})
        try:
            if span.is_recording():
                span.set_attribute("factfold.batch.size", len(call.executions))
                span.set_attribute("factfold.streams", call.streams)
                span.set_attribute("factfold.events", call.events)
                if call.conflict:
                    span.set_attribute("factfold.conflict", True)
                _set_error(span, error)
        finally:
            span.end()

    def consumed(self, namespace: str, name: str, events: int, seconds: float) -> None:
        """See `Observer`."""
        described = {"factfold.namespace": namespace, "factfold.consumer": name}
        self._consuming.record(seconds, described)
        self._consumed.add(events, described)
        ended = time.time_ns()
        span = self._tracer.start_span(
            f"consume {name}",
            Context(),
            attributes={**described, "factfold.events": events},
            start_time=ended - int(seconds * 1e9),
        )
        span.end(ended)

    def lag(self, namespace: str, name: str, events: int, seconds: float) -> None:
        """See `Observer`."""
        described = {"factfold.namespace": namespace, "factfold.consumer": name}
        self._lag.set(events, described)
        self._age.set(seconds, described)


class _Figures:
    """What stores have done, added up by namespace. What closed ones have done stays in, or counters would go back."""

    def __init__(self) -> None:
        self._open: dict[Callable[[], Stats], str] = {}
        self._closed: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        _fork.register(self)

    def before_fork(self) -> None:
        """Nothing to do: the child begins anew."""

    def after_fork_in_parent(self) -> None:
        """Nothing to do."""

    def after_fork_in_child(self) -> None:
        """What the parent's stores have done is for the parent to tell; its lock may be held by a thread of it."""
        self._lock = threading.Lock()
        self._open.clear()
        self._closed.clear()

    def add(self, namespace: str, stats: Callable[[], Stats]) -> None:
        """Counts a store that was opened."""
        with self._lock:
            self._open[stats] = namespace

    def remove(self, stats: Callable[[], Stats]) -> None:
        """Counts a store no further."""
        with self._lock:
            if (namespace := self._open.pop(stats, None)) is None:
                return
            done = stats()
            for figure in COUNTED:
                self._closed[namespace, figure.field] += _value_of(done, figure.field)
            self._closed[namespace, PRESENT.field] = 0

    def observer(self, field: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        """Tells one of the numbers whenever it is asked for, by namespace."""

        def observe(options: CallbackOptions) -> Iterable[Observation]:
            return [
                Observation(value, {"factfold.namespace": namespace}) for namespace, value in self._sums(field).items()
            ]

        return observe

    def _sums(self, field: str) -> Counter[str]:
        sums: Counter[str] = Counter()
        with self._lock:
            for (namespace, closed), value in self._closed.items():
                if closed == field:
                    sums[namespace] += value
            for stats, namespace in self._open.items():
                sums[namespace] += _value_of(stats(), field)
        return sums


def _value_of(stats: Stats, field: str) -> int:
    value: int = getattr(stats, field)
    return value


def _described(execution: Execution) -> dict[str, str]:
    """The attributes of an execution that have few values, for its span and for metrics."""
    named = "factfold.command" if execution.operation in ("execute", "execute_once") else "factfold.category"
    return {
        "factfold.operation": execution.operation,
        named: execution.name,
        "factfold.namespace": execution.namespace,
    }


def _span_of(execution: Execution) -> trace.Span | None:
    """The span of an execution; None when `executing` has failed."""
    return execution.kept if isinstance(execution.kept, trace.Span) else None


def _set_error(span: trace.Span, error: BaseException | None) -> None:
    if error is not None:
        span.set_attribute("error.type", _name_of(type(error)))
        span.set_status(trace.StatusCode.ERROR, str(error))


def _name_of(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
