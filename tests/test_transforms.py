"""What goes with events: metadata and context from the caller, and the transform between codec and storage."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

import pytest

from factfold import (
    DecodingError,
    EncodingError,
    Store,
    Transaction,
    metadata,
)
from tests.conftest import MakeStore
from tests.ledger import Deposited, accounts, deposit

# -- Metadata and context ----------------------------------------------------------------------------------------------


def test_metadata_stands_in_receipts_and_in_the_log(make_store: MakeStore) -> None:
    store = make_store()
    with metadata(actor="ann", correlation_id="c-1", extra={"ip": "::1"}):
        with metadata(causation_id="m-1"):
            receipt = store.execute(deposit, "ann", 1)
        store.execute_once("key", deposit, "ann", 1)
    store.execute(deposit, "ann", 1)

    found = [recorded.metadata for recorded in make_store().log()]
    assert receipt.events[0].metadata == found[0]
    assert [(each.actor, each.correlation_id, each.causation_id, dict(each.extra)) for each in found] == [
        ("ann", "c-1", "m-1", {"ip": "::1"}),
        ("ann", "c-1", None, {"ip": "::1"}),
        (None, None, None, {}),
    ]


def test_what_a_command_sets_in_its_context_is_not_seen_outside(store: Store) -> None:
    variable: ContextVar[int] = ContextVar("variable", default=0)

    def command(tx: Transaction) -> int:
        variable.set(variable.get() + 1)
        tx.read(accounts("ann"))  # the first run ends here
        return variable.get()

    variable.set(10)
    assert store.execute(command).result == 11
    assert variable.get() == 10


# -- Transforms --------------------------------------------------------------------------------------------------------


class Rot13:
    """Rewrites every event, as encryption would, into other JSON."""

    def outgoing(self, data: bytes) -> bytes:
        return b'"' + data.hex().encode() + b'"'

    def incoming(self, data: bytes) -> bytes:
        return bytes.fromhex(data.decode().strip('"'))


def test_a_transform_stands_between_events_and_storage(make_store: MakeStore) -> None:
    store = make_store(transform=Rot13())
    store.execute(deposit, "ann", 5)
    once = store.execute_once("key", deposit, "ann", 6)

    for each in (store, make_store(transform=Rot13(), cache_size=0)):
        assert each.state(accounts("ann")).balance == 11
        assert [recorded.event for recorded in each.log(types=Deposited)] == [Deposited(5), Deposited(6)]
        assert [recorded.event for recorded in each.events(accounts("ann"))] == [Deposited(5), Deposited(6)]
        assert [recorded.event for recorded in each.log()] == [{"amount": 5}, {"amount": 6}]
        assert each.execute_once("key", deposit, "ann", 6).events == once.events
        assert each.verify(accounts).ok
    assert [recorded.event for recorded in make_store().log()] == [b'{"amount":5}'.hex(), b'{"amount":6}'.hex()]


def test_without_the_transform_or_with_another_one_events_cannot_be_decoded(make_store: MakeStore) -> None:
    class Broken(Rot13):
        def incoming(self, data: bytes) -> bytes:
            raise ArithmeticError("wrong key")

    make_store(transform=Rot13()).execute(deposit, "ann", 5)

    with pytest.raises(DecodingError, match="ledger:ann"):
        make_store().state(accounts("ann"))
    broken = make_store(transform=Broken())
    uses: list[Callable[[], object]] = [
        lambda: broken.state(accounts("ann")),
        lambda: list(broken.log()),
        lambda: list(broken.events(accounts("ann"))),
    ]
    for use in uses:
        with pytest.raises(DecodingError, match="wrong key"):
            use()
    assert not broken.verify(accounts).ok


def test_a_transform_that_fails_on_the_way_out_says_so(make_store: MakeStore) -> None:
    class Broken(Rot13):
        def outgoing(self, data: bytes) -> bytes:
            raise ArithmeticError("no key")

    store = make_store(transform=Broken())
    with pytest.raises(EncodingError, match="no key"):
        store.execute(deposit, "ann", 5)
    assert store.head() == 0
