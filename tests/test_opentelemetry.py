"""What stores do becomes spans in their callers' traces, and metrics: asked of OpenTelemetry's own SDK."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, cast

import pytest
from opentelemetry import trace
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, NoOpTracerProvider, SpanContext, StatusCode, TraceFlags

from factfold import AsyncStore, Projection, ProjectionContext, Stats, Store, Transaction
from factfold.observing import Execution
from factfold.otel import COUNTED, PRESENT, OpenTelemetry
from factfold.storage.base import AsyncEngine, AsyncLog, Storage
from factfold.storage.memory import Memory
from tests.conftest import MakeStore
from tests.faults import Faulty, once
from tests.ledger import Deposited, InsufficientFundsError, accounts, deposit, open_account, withdraw
from tests.racing import eventually, race, within
from tests.together import MakeTogether

ENGINES = ("memory",)

Attributes: TypeAlias = Mapping[str, object]


class Recorded:
    """An SDK that keeps the spans and metrics of `observer`, in memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self._traces = TracerProvider()
        self._traces.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._metrics = MeterProvider([self._reader])
        self.observer = OpenTelemetry(self._traces, self._metrics)
        self.tracer = self._traces.get_tracer("test")

    def close(self) -> None:
        self._traces.shutdown()
        self._metrics.shutdown()

    def forget(self) -> None:
        """Forgets the spans so far."""
        self._exporter.clear()

    def spans(self, begin: str = "") -> list[ReadableSpan]:
        """The spans that have ended, in that order: those whose names begin so."""
        return [span for span in self._exporter.get_finished_spans() if span.name.startswith(begin)]

    def span(self, begin: str) -> ReadableSpan:
        """The only span whose name begins so."""
        (span,) = self.spans(begin)
        return span

    def points(self, name: str) -> list[tuple[Attributes, Any]]:
        """What a metric says: attributes and value, or attributes and the data point of a histogram."""
        data = self._reader.get_metrics_data()
        found: list[tuple[Attributes, Any]] = []
        for resource in data.resource_metrics if data is not None else ():
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                if metric.name == name:
                    self.unit = metric.unit
                    found += [
                        (dict(point.attributes or {}), getattr(point, "value", point))
                        for point in metric.data.data_points
                    ]
        return found

    def value(self, name: str) -> Any:
        """The only value of a metric."""
        ((_, value),) = self.points(name)
        return value


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    """An SDK that keeps what it is told in memory."""
    recorded = Recorded()
    yield recorded
    recorded.close()


def context_of(span: ReadableSpan) -> SpanContext:
    found = span.get_span_context()
    assert found is not None
    return found


def is_child(child: ReadableSpan, parent: ReadableSpan) -> bool:
    """Whether a span belongs to another one, in the same trace."""
    return (
        child.parent is not None
        and child.parent.span_id == context_of(parent).span_id
        and context_of(child).trace_id == context_of(parent).trace_id
    )


def linked(span: ReadableSpan) -> set[int]:
    """The ids of the spans that a span is linked to."""
    return {link.context.span_id for link in span.links}


def ids(spans: list[ReadableSpan]) -> set[int]:
    return {context_of(span).span_id for span in spans}


# -- spans -------------------------------------------------------------------------------------------------------------


def test_an_execute_is_a_span_with_its_outcome(make_store: MakeStore, recorded: Recorded) -> None:
    make_store(observer=recorded.observer, namespace="books").execute(deposit, "ann", 10)
    span = recorded.span("execute")
    assert span.name == "execute tests.ledger.deposit"
    assert dict(span.attributes or {}) == {
        "factfold.operation": "execute",
        "factfold.command": "tests.ledger.deposit",
        "factfold.namespace": "books",
        "factfold.attempts": 1,
        "factfold.batch.size": 1,
        "factfold.events": 1,
        "factfold.position": 1,
    }
    assert span.status.status_code is StatusCode.UNSET
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "factfold"


def test_a_load_and_an_append_are_parts_of_the_execute_that_they_serve(
    make_store: MakeStore, recorded: Recorded
) -> None:
    make_store(observer=recorded.observer).execute(deposit, "ann", 10)
    load, append, execute = recorded.spans()
    assert (load.name, append.name) == ("load default", "append default")
    for span in (load, append):
        assert is_child(span, execute)
        assert linked(span) == ids([execute])
    assert dict(append.attributes or {}) == {
        "factfold.namespace": "default",
        "factfold.storage.operation": "append",
        "factfold.batch.size": 1,
        "factfold.streams": 1,
        "factfold.events": 1,
    }
    assert (append.start_time or 0) <= (append.end_time or 0) <= (execute.end_time or 0)


def test_a_batch_is_one_append_that_is_linked_to_all_of_its_commands(
    make_together: MakeTogether, recorded: Recorded
) -> None:
    together = make_together(observer=recorded.observer)
    together.store.state(accounts("ann"))
    recorded.forget()
    together.execute((deposit, "ann", 1), (deposit, "ann", 2), (deposit, "ann", 3))
    append, executes = recorded.span("append"), recorded.spans("execute tests.ledger.deposit")
    assert linked(append) == ids(executes)
    assert len({context_of(span).trace_id for span in executes}) == 3
    assert [is_child(append, span) for span in executes].count(True) == 1
    assert [(span.attributes or {})["factfold.batch.size"] for span in (append, *executes)] == [3] * 4


def test_threads_that_share_appends_stay_in_their_own_traces(recorded: Recorded) -> None:
    with Store("memory:", observer=recorded.observer) as store:

        def call() -> None:
            with recorded.tracer.start_as_current_span("caller") as own:
                for _ in range(3):
                    store.execute(deposit, "ann", 1)
                    assert trace.get_current_span() is own

        assert race([call] * 8) == [None] * 8
    executes = recorded.spans("execute")
    assert len(executes) == 24
    for caller in recorded.spans("caller"):
        assert [is_child(execute, caller) for execute in executes].count(True) == 3
    served = set[int]().union(*[linked(append) for append in recorded.spans("append")])
    assert served == ids(executes)


async def test_tasks_that_share_appends_stay_in_their_own_traces(recorded: Recorded) -> None:
    async with AsyncStore("memory:", observer=recorded.observer) as store:

        async def call() -> None:
            with recorded.tracer.start_as_current_span("caller") as own:
                for _ in range(3):
                    await store.execute(deposit, "ann", 1)
                    assert trace.get_current_span() is own

        await within(asyncio.gather(*[call() for _ in range(8)]))
        assert not trace.get_current_span().get_span_context().is_valid
    executes = recorded.spans("execute")
    assert len(executes) == 24
    for caller in recorded.spans("caller"):
        assert [is_child(execute, caller) for execute in executes].count(True) == 3
    assert len(recorded.spans("append")) < 24
    served = set[int]().union(*[linked(append) for append in recorded.spans("append")])
    assert served == ids(executes)


def test_a_command_runs_in_the_span_of_its_execute(make_together: MakeTogether, recorded: Recorded) -> None:
    def traced(tx: Transaction, id: str) -> None:
        with recorded.tracer.start_as_current_span(f"inside {id}"):
            tx.read(accounts(id))

    def other(tx: Transaction) -> None:
        """Has nothing to do with it."""

    together = make_together(observer=recorded.observer)
    together.store.state(accounts("ann"))
    together.execute((other,), (traced, "ann"), (other,))
    (execute,) = [span for span in recorded.spans("execute") if span.name.endswith("traced")]
    assert is_child(recorded.span("inside"), execute)


class Traced(Memory):
    """A storage whose driver records what it does, in the task that asks."""

    def __init__(self, tracer: trace.Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    async def open_async(self) -> AsyncEngine:
        return TracedEngine(await super().open_async(), self._tracer)


class TracedEngine:
    def __init__(self, engine: AsyncEngine, tracer: trace.Tracer) -> None:
        self.capabilities = engine.capabilities
        self.close = engine.close
        self._engine = engine
        self._tracer = tracer

    async def log(self, namespace: str) -> AsyncLog:
        return cast("AsyncLog", TracedLog(await self._engine.log(namespace), self._tracer))  # by __getattr__


class TracedLog:
    def __init__(self, log: AsyncLog, tracer: trace.Tracer) -> None:
        self._log = log
        self._tracer = tracer

    def __getattr__(self, name: str) -> Any:
        if name in ("append", "load"):
            self._tracer.start_span(f"driver: {name}").end()
        return getattr(self._log, name)


def test_what_the_driver_records_belongs_to_the_request(storage: Storage, recorded: Recorded) -> None:
    faulty = Faulty(storage)
    faulty.before["append"] = lambda _: recorded.tracer.start_span("driver: append").end()
    faulty.before["load"] = lambda _: recorded.tracer.start_span("driver: load").end()
    with Store(faulty, observer=recorded.observer) as store, recorded.tracer.start_as_current_span("caller"):
        store.execute(deposit, "ann", 1)
    assert is_child(recorded.span("driver: append"), recorded.span("append"))
    assert is_child(recorded.span("driver: load"), recorded.span("load"))


async def test_what_an_asynchronous_driver_records_belongs_to_the_request(recorded: Recorded) -> None:
    async with AsyncStore(Traced(recorded.tracer), observer=recorded.observer) as store:
        with recorded.tracer.start_as_current_span("caller"):
            await store.execute(deposit, "ann", 1)
    assert is_child(recorded.span("driver: append"), recorded.span("append"))
    assert is_child(recorded.span("driver: load"), recorded.span("load"))


def test_what_a_command_raises_is_named_and_not_told_in_full(make_store: MakeStore, recorded: Recorded) -> None:
    store = make_store(observer=recorded.observer)
    with pytest.raises(InsufficientFundsError):
        store.execute(withdraw, "ann", 10)
    span = recorded.span("execute")
    assert (span.attributes or {})["error.type"] == "tests.ledger.InsufficientFundsError"
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "('ann', 0, 10)")
    assert span.events == ()
    ((attributes, point),) = recorded.points("factfold.execute.duration")
    assert attributes["error.type"] == "tests.ledger.InsufficientFundsError"
    assert point.count == 1


def test_an_error_that_cannot_be_shown_still_ends_its_span(make_store: MakeStore, recorded: Recorded) -> None:
    class UnshownError(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    def fail(tx: Transaction) -> None:
        raise UnshownError

    with pytest.raises(UnshownError):
        make_store(observer=recorded.observer).execute(fail)
    assert str((recorded.span("execute").attributes or {})["error.type"]).endswith("UnshownError")


def test_a_conflict_is_seen_in_spans_and_counted(
    storage: Storage, make_store: MakeStore, rival: Store, recorded: Recorded
) -> None:
    faulty = Faulty(storage)
    store = make_store(faulty, observer=recorded.observer)
    store.execute(open_account, "ann", "Ann")
    recorded.forget()
    faulty.before["append"] = once(lambda _: rival.execute(deposit, "ann", 5))
    store.execute(deposit, "ann", 5)
    lost, lock, append, execute = recorded.spans()
    assert [span.name for span in (lost, lock, append)] == ["append default", "lock default", "append default"]
    assert (lost.attributes or {})["factfold.conflict"] is True
    assert lost.status.status_code is StatusCode.UNSET
    assert "factfold.conflict" not in (append.attributes or {})
    assert (execute.attributes or {})["factfold.attempts"] == 2
    assert recorded.value("factfold.conflicts") == 1


def test_what_a_command_discovers_is_loaded_in_its_trace(make_store: MakeStore, recorded: Recorded) -> None:
    def follow(tx: Transaction) -> None:
        for id in ("ann", "ben"):
            tx.read(accounts(id))

    make_store(observer=recorded.observer).execute(follow)
    assert [span.name for span in recorded.spans()][:3] == ["load default", "load default", "check default"]
    execute = recorded.span("execute")
    assert all(is_child(span, execute) for span in recorded.spans()[:3])


def test_a_repetition_of_a_key_is_marked(make_store: MakeStore, recorded: Recorded) -> None:
    store = make_store(observer=recorded.observer)
    for _ in range(2):
        store.execute_once("payment 7", deposit, "ann", 10)
    first, second = recorded.spans("execute_once tests.ledger.deposit")
    assert "factfold.repeated" not in (first.attributes or {})
    assert (second.attributes or {})["factfold.repeated"] is True
    assert recorded.value("factfold.events") == 1


def unsampled() -> trace.Span:
    """A span of another process, whose trace is not recorded."""
    return NonRecordingSpan(SpanContext(7, 7, is_remote=True, trace_flags=TraceFlags(TraceFlags.DEFAULT)))


def test_nothing_is_recorded_of_callers_who_are_not_sampled(make_store: MakeStore, recorded: Recorded) -> None:
    store = make_store(observer=recorded.observer)
    with trace.use_span(unsampled()):
        store.execute(deposit, "ann", 10)
    assert recorded.spans() == []
    assert recorded.value("factfold.events") == 1


async def test_an_append_is_recorded_if_one_of_its_callers_is_sampled(recorded: Recorded) -> None:
    async with AsyncStore("memory:", observer=recorded.observer) as store:
        await store.state(accounts("ann"))
        recorded.forget()

        async def call(sampled: bool) -> None:
            with recorded.tracer.start_as_current_span("caller") if sampled else trace.use_span(unsampled()):
                await store.execute(deposit, "ann", 1)

        await within(asyncio.gather(call(False), call(True), call(False)))
    append, execute, _ = recorded.spans()
    assert is_child(append, execute)
    assert len(linked(append)) == 3


# -- metrics -----------------------------------------------------------------------------------------------------------


def test_durations_are_histograms_in_seconds(make_store: MakeStore, recorded: Recorded) -> None:
    store = make_store(observer=recorded.observer)
    for _ in range(3):
        store.execute(deposit, "ann", 1)
    store.version(accounts("ann"))
    points = {point[0]["factfold.operation"]: point for point in recorded.points("factfold.execute.duration")}
    assert recorded.unit == "s"
    attributes, point = points["execute"]
    assert attributes == {
        "factfold.operation": "execute",
        "factfold.command": "tests.ledger.deposit",
        "factfold.namespace": "default",
    }
    assert point.count == 3
    assert 0 < point.sum < 60
    assert point.explicit_bounds[:2] == (0.0005, 0.001)
    assert points["version"][0]["factfold.category"] == "ledger"
    asked = {each["factfold.storage.operation"]: p.count for each, p in recorded.points("factfold.storage.duration")}
    assert asked == {"load": 1, "append": 3, "check": 1}
    assert recorded.value("factfold.batch.size").sum == 3


def test_events_and_the_cache_are_counted_by_namespace(make_store: MakeStore, recorded: Recorded) -> None:
    store = make_store(observer=recorded.observer)
    sibling = store.namespace("other")
    store.execute(deposit, "ann", 1)
    store.execute(deposit, "ann", 1)
    sibling.execute(deposit, "ann", 1)
    events = {each["factfold.namespace"]: value for each, value in recorded.points("factfold.events")}
    assert events == {"default": 2, "other": 1}
    for figure in (*COUNTED, PRESENT):
        told = {each["factfold.namespace"]: value for each, value in recorded.points(figure.name)}
        expected = {"default": store.stats(), "other": sibling.stats()}
        assert told == {namespace: getattr(stats, figure.field) for namespace, stats in expected.items()}


def test_every_number_of_a_store_has_a_metric() -> None:
    fields = [figure.field for figure in (*COUNTED, PRESENT)]
    assert sorted(fields) == sorted(Stats.__struct_fields__)


def test_counters_do_not_go_back_when_a_store_is_closed(make_store: MakeStore, recorded: Recorded) -> None:
    first = make_store(observer=recorded.observer)
    first.execute(deposit, "ann", 1)
    assert recorded.value("factfold.cache.streams") == 1
    first.close()
    assert recorded.value("factfold.cache.streams") == 0
    second = make_store(observer=recorded.observer)
    second.execute(deposit, "ann", 1)
    commands = first.stats().commands + second.stats().commands
    assert recorded.value("factfold.commands") == commands
    second.close()
    assert recorded.value("factfold.commands") == first.stats().commands + second.stats().commands


FORKING = """
import os
from factfold import Store
from factfold.otel import OpenTelemetry
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from tests.ledger import deposit
from tests.test_opentelemetry import commands_told

reader = InMemoryMetricReader()
store = Store("memory:", observer=OpenTelemetry(None, MeterProvider([reader])))
for _ in range(5):
    store.execute(deposit, "ann", 1)
if (child := os.fork()) == 0:
    store.execute(deposit, "ann", 1)
    print(commands_told(reader), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(commands_told(reader))
"""


def commands_told(reader: InMemoryMetricReader) -> list[int]:
    """What the metrics say of how many commands there were."""
    found = reader.get_metrics_data()
    assert found is not None
    metrics = json.loads(found.to_json())["resource_metrics"][0]["scope_metrics"][0]["metrics"]
    return [metric["data"]["data_points"][0]["value"] for metric in metrics if metric["name"] == "factfold.commands"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_does_not_count_what_its_parent_did() -> None:
    said, error = run(FORKING)
    assert (said.split(), error) == (["[1]", "[5]"], "")


def test_consumers_have_spans_and_metrics(recorded: Recorded) -> None:
    recorded.observer.consumed("default", "balances", 200, 0.5)
    recorded.observer.lag("default", "balances", 40, 1.5)
    span = recorded.span("consume balances")
    assert (span.attributes or {})["factfold.events"] == 200
    assert (span.end_time or 0) - (span.start_time or 0) == 500_000_000
    described = {"factfold.namespace": "default", "factfold.consumer": "balances"}
    assert recorded.points("factfold.consumer.events") == [(described, 200)]
    assert recorded.value("factfold.consumer.duration").sum == 0.5
    assert recorded.value("factfold.consumer.lag") == 40
    assert recorded.value("factfold.consumer.lag.duration") == 1.5


def test_a_projection_tells_what_it_has_handled_and_how_far_it_is_behind(recorded: Recorded) -> None:
    balances = Projection("balances")
    handled: list[int] = []

    @balances.on
    def _(event: Deposited, context: ProjectionContext[object]) -> None:
        handled.append(event.amount)

    with Store("memory:", observer=recorded.observer) as store:
        receipt = store.execute(deposit, "ann", 10)
        store.start(balances)
        store.wait_for(balances, receipt)
        eventually(lambda: recorded.points("factfold.consumer.lag"))
    assert handled == [10]
    assert recorded.span("consume balances").attributes is not None
    assert recorded.value("factfold.consumer.lag") == 0


# -- what is not there -------------------------------------------------------------------------------------------------


def test_without_an_sdk_commands_run_as_ever(make_store: MakeStore) -> None:
    store = make_store(observer=OpenTelemetry(NoOpTracerProvider(), NoOpMeterProvider()))
    assert store.execute(deposit, "ann", 10).position == 1


def test_an_outcome_whose_beginning_was_not_heard_has_no_span(recorded: Recorded) -> None:
    recorded.observer.executed(Execution("execute", "tests.lost", "default"), None)
    assert recorded.spans() == []
    assert recorded.value("factfold.execute.duration").count == 1


def run(script: str) -> tuple[str, str]:
    """Runs a script in a process of its own; gives what it printed, and its last words."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment, timeout=60
    )
    return ran.stdout.strip(), ran.stderr.strip().rpartition("\n")[2]


def test_opentelemetry_is_imported_only_by_who_asks_for_it() -> None:
    said, _ = run("import factfold, sys; print({'opentelemetry', 'logging'} & set(sys.modules))")
    assert said == "set()"


def test_who_asks_for_it_without_having_it_is_told_what_to_do() -> None:
    _, error = run("import sys; sys.modules['opentelemetry'] = None; import factfold.otel")
    assert error.startswith("factfold.errors.MissingDriverError: factfold.otel needs OpenTelemetry")
    assert "pip install 'factfold[otel]'" in error
