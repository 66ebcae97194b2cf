"""Faults of swaps, of the transactions of read models, and of what accompanies appends."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from msgspec.structs import replace

from factfold.storage.base import (
    INLINE,
    Append,
    Appended,
    Capabilities,
    Conflict,
    Entry,
    Inline,
    Log,
    StoredEvent,
    Swap,
    events_of,
)
from tests.broken.storage import Common, Sound, SoundEngine, SoundTransactions


class SwapsWithoutComparing(Sound):
    caught_by = (
        "a_swap_writes_only_what_is_as_expected",
        "of_16_racers_one_swaps",
        "async_values_are_swapped_and_listed",
    )

    def swap(self, swap: Swap) -> bool:
        for put in (swap.put, *swap.others):
            self.log.put(put.place, put.key, put.value)
        return True


class ComparesBeforehand(Sound):
    caught_by = ("of_16_racers_one_swaps",)

    def swap(self, swap: Swap) -> bool:
        if self.log.get(swap.put.place, [swap.put.key]).get(swap.put.key) != swap.expected:
            return False
        time.sleep(0.001)
        self.log.put(swap.put.place, swap.put.key, swap.put.value)
        return True


class ForgetsTheOthers(Sound):
    caught_by = ("a_swap_writes_only_what_is_as_expected", "async_values_are_swapped_and_listed")

    def swap(self, swap: Swap) -> bool:
        return self.log.swap(replace(swap, others=()))


class WritesTheOthersAnyway(Sound):
    caught_by = ("a_swap_writes_only_what_is_as_expected", "async_values_are_swapped_and_listed")

    def swap(self, swap: Swap) -> bool:
        for put in swap.others:
            self.log.put(put.place, put.key, put.value)
        return self.log.swap(swap)


class TakesNothingForAnEmptyValue(Sound):
    caught_by = ("a_swap_writes_only_what_is_as_expected",)

    def swap(self, swap: Swap) -> bool:
        return self.log.swap(replace(swap, expected=swap.expected or None))


class TakesTheAgeFromItsOwnClock(Sound):
    """As if each client had noted when it has seen a value for the first time."""

    caught_by = ("entries_are_listed_in_order_and_with_their_age",)

    def __init__(self, log: Log, common: Common) -> None:
        super().__init__(log, common)
        self.seen: dict[tuple[str, str, bytes], float] = {}

    def entries(self, place: str, after: str, limit: int) -> Sequence[Entry]:
        now = time.monotonic()
        return [
            replace(entry, age=now - self.seen.setdefault((place, entry.key, entry.value), now))
            for entry in self.log.entries(place, after, limit)
        ]


class KeepsTheAgeOfAnEqualValue(Sound):
    caught_by = ("entries_are_listed_in_order_and_with_their_age",)

    def swap(self, swap: Swap) -> bool:
        return swap.put.value == swap.expected or self.log.swap(swap)


class ListsAsPeopleDo(Sound):
    caught_by = ("entries_are_listed_in_order_and_with_their_age",)

    def entries(self, place: str, after: str, limit: int) -> Sequence[Entry]:
        return sorted(self.log.entries(place, after, limit), key=lambda entry: entry.key.lower())


class PromisesTransactions(SoundEngine):
    """Although its logs have none."""

    caught_by = ("the_engine_tells_whether_logs_have_transactions",)

    @property
    def capabilities(self) -> Capabilities:
        return replace(self.engine.capabilities, transactions=True)


# -- Transactions ------------------------------------------------------------------------------------------------------


class CommitsTheSwapFirst(SoundTransactions):
    """What the body does comes too late to undo anything."""

    caught_by = (
        "a_transaction_that_raises_has_swapped_nothing",
        "an_exclusive_transaction_keeps_writers_waiting",
        "async_transactions_call_or_await",
        "a_cancelled_transaction_is_rolled_back",
    )

    def transact(self, swap: Swap, body: Callable[[object], object]) -> bool:
        if not self.log.swap(swap):
            return False
        body(self)
        return True


class CallsTheBodyOfALostSwap(SoundTransactions):
    caught_by = ("a_transaction_that_raises_has_swapped_nothing", "async_transactions_call_or_await")

    def transact(self, swap: Swap, body: Callable[[object], object]) -> bool:
        done = self.transactional.transact(swap, body)
        if not done:
            body(self)
        return done


class ForgetsWhatTheBodyGives(SoundTransactions):
    """It does what the body does, and no more."""

    caught_by = ("what_a_body_gives_is_written_with_the_swap", "async_transactions_call_or_await")

    def transact(self, swap: Swap, body: Callable[[object], object]) -> bool:
        return self.transactional.transact(swap, lambda connection: _nothing_of(body(connection)))


def _nothing_of(given: object) -> object:
    async def await_it(given: Awaitable[object]) -> None:
        await given

    return await_it(given) if isinstance(given, Awaitable) else None


class AppendsWithoutWhatAccompanies(SoundTransactions):
    """The database asks for it, and nobody looks."""

    caught_by = ("an_append_is_accompanied_or_refused",)

    def append(self, append: Append) -> Appended | Conflict:
        place, key = INLINE
        asked = self.log.get(place, [key]).get(key)
        self.transactional.accompany(None if asked is None else Inline(asked, lambda connection, events: None))
        return self.log.append(append)


class AccompaniesOutside(SoundTransactions):
    """Not in the transaction of the append."""

    def __init__(self, log: Log, common: Common) -> None:
        super().__init__(log, common)
        self.inline: Inline | None = None

    def accompany(self, inline: Inline | None) -> None:
        self.inline = inline
        self.transactional.accompany(None if inline is None else Inline(inline.names, lambda connection, events: None))


class AccompaniesAfterwards(AccompaniesOutside):
    """When the append is committed already."""

    caught_by = ("what_an_append_cannot_be_accompanied_by_undoes_it", "async_appends_are_accompanied")

    def append(self, append: Append) -> Appended | Conflict:
        answer = self.log.append(append)
        if self.inline is not None and isinstance(answer, Appended):
            self.inline.handle(self, events_of(append, answer))
        return answer


class AccompaniesBeforehand(AccompaniesOutside):
    """When it is not known yet whether there will be an append."""

    caught_by = ("what_has_lost_is_accompanied_by_nothing",)

    def append(self, append: Append) -> Appended | Conflict:
        if self.inline is not None:
            events: list[StoredEvent] = []
            self.inline.handle(self, events)
        return self.log.append(append)
