"""What commands give back, and what they raise, reaches the parent of a worker process."""

from __future__ import annotations

import copy
import pickle
from uuid import UUID

import pytest

from factfold import ConflictError, DecodingError, FactfoldError, Metadata, Store, errors, metadata
from tests.ledger import accounts, deposit

RAISED: list[FactfoldError] = [
    errors.InvalidStreamIdError("no id", ("a", 1)),
    errors.KeyReusedError("key", "one", "another"),
    ConflictError(["a:1", "a:2"], 3),
    DecodingError("no event", position=3, type="Opened", stream="a:1", version=2),
    errors.LogDivergedError("sqlite:///x", 7, UUID(int=1), None),
    errors.NotReplicatedError("valkey://x", 7, 9, 2),
    errors.ConsumerStoppedError("projection balances", 7, "an event failed."),
    errors.MissingDriverError("pip install it"),
    errors.EncodingError("no JSON"),
]


def test_every_error_that_carries_facts_is_among_them() -> None:
    with_facts = {cls for cls in vars(errors).values() if isinstance(cls, type) and "__init__" in vars(cls)}
    assert with_facts <= {type(error) for error in RAISED}


@pytest.mark.parametrize("error", RAISED)
def test_an_error_is_the_same_in_another_process(error: FactfoldError) -> None:
    error.add_note("in a worker")
    for there in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(there) is type(error)
        assert str(there) == str(error)
        assert vars(there) == vars(error)


def test_metadata_and_recorded_events_can_be_pickled_and_copied(store: Store) -> None:
    with metadata(actor="ann", correlation_id=UUID(int=5), extra={"a": {"b": [1, None]}}):
        (recorded,) = store.execute(deposit, "ann", 1).events
    (read,) = store.log()
    for one in (recorded, read, recorded.metadata, Metadata()):
        for there in (pickle.loads(pickle.dumps(one)), copy.copy(one), copy.deepcopy(one)):
            assert there == one
    with pytest.raises(TypeError):
        pickle.loads(pickle.dumps(recorded.metadata)).extra["a"] = 1


def test_a_receipt_can_be_pickled_and_copied(store: Store) -> None:
    receipt = store.execute(deposit, "ann", 1)
    for there in (pickle.loads(pickle.dumps(receipt)), copy.copy(receipt), copy.deepcopy(receipt)):
        assert (there.result, there.position, there.events) == (receipt.result, receipt.position, receipt.events)
        assert (there.attempts, there.repeated) == (1, False)


def test_a_copy_of_a_stream_is_the_same_stream() -> None:
    ann = accounts("ann")
    assert {copy.copy(ann), copy.deepcopy(ann)} == {ann}
    assert copy.deepcopy(accounts)("ann") == ann
