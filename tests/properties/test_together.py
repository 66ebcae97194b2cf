"""Several stores on one database, with threads and with tasks: what came of it is one order of the commands."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from factfold import Store
from factfold.storage.base import StoredEvent
from tests.properties.boxes import LENSES, BrokenError
from tests.properties.callers import Answer, NewStorage, Run, callers, whole_log
from tests.properties.laws import Call, check_calls, check_log, check_runs
from tests.properties.limits import Limits, cache_sizes, examples, limits
from tests.properties.model import AnyStream, facts_of, state_of
from tests.properties.programs import IDS, Program, programs

keys = st.lists(st.sampled_from([None, None, None, "k", "l"]), min_size=12, max_size=12)


@callers
@examples(1)
@given(programs=programs(max_size=12), sizes=cache_sizes, keys=keys, limits=limits)
def test_commands_are_run_one_after_another(
    new_storage: NewStorage,
    execute_all: Run,
    programs: list[Program],
    sizes: list[int],
    keys: list[str | None],
    limits: Limits,
) -> None:
    with new_storage() as storage, limits.apply():
        answers = execute_all(storage, sizes, programs, keys)

        stored = whole_log(storage)
        check_log(stored)
        check_runs(programs, stored)
        check_calls([_call(*each) for each in zip(programs, answers, keys, strict=False)], stored)
        with Store(storage) as store:
            streams = [lens.at(str(id)) for lens in LENSES for id in range(IDS)]
            assert [_state(store, at) for at in streams] == [_expected_state(at, stored) for at in streams]
            assert store.verify().ok


def _call(program: Program, answer: Answer, key: str | None) -> Call:
    call = Call(program, answer.since, key, answer.until)
    if isinstance(answer.outcome, Exception):
        call.error = answer.outcome
    else:
        receipt = answer.outcome
        call.result, call.events, call.repeated = receipt.result, receipt.events, receipt.repeated
    return call


def _state(store: Store, stream: AnyStream) -> object:
    try:
        return store.state(stream)
    except BrokenError:
        return BrokenError


def _expected_state(stream: AnyStream, stored: Sequence[StoredEvent]) -> object:
    try:
        return state_of(stream, facts_of(stored))
    except BrokenError:
        return BrokenError
