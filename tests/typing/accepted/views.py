"""Views are typed one by one, and helpers can be written for any stream and any view."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Generic, Never, TypeVar, assert_type
from uuid import UUID

from factfold import Stream, StreamType, Transaction, View
from tests.typing.domain import (
    Account,
    Course,
    Defined,
    Deposited,
    Enrolled,
    Item,
    Opened,
    Ticked,
    accounts,
    carts,
    clocks,
    counters,
    courses,
    students,
)

S = TypeVar("S")
E = TypeVar("E")

AccountView = View[Account, Opened | Deposited]
CourseView = View[Course, Defined | Enrolled]
StudentView = View[frozenset[str], Enrolled]
CartView = View[tuple[Item, ...], Item]
CounterView = View[int, Deposited]
ClockView = View[float, Ticked]

# -- Reading -----------------------------------------------------------------------------------------------------------


def one(tx: Transaction) -> None:
    account = tx.read(accounts("a"))
    assert_type(account, View[Account, Opened | Deposited])
    assert_type(account.state, Account)
    assert_type(account.version, int)
    assert_type(account.stream, Stream[Account, Opened | Deposited])


def two(tx: Transaction) -> None:
    assert_type(tx.read(accounts("a"), courses("b")), tuple[AccountView, CourseView])
    account, course = tx.read(accounts("a"), courses("b"))
    assert_type(account.state, Account)
    assert_type(course.state, Course)


def three(tx: Transaction) -> None:
    views = tx.read(accounts("a"), courses("b"), students("c"))
    assert_type(views, tuple[AccountView, CourseView, StudentView])


def four(tx: Transaction) -> None:
    views = tx.read(accounts("a"), courses("b"), students("c"), carts("d"))
    assert_type(views, tuple[AccountView, CourseView, StudentView, CartView])


def five(tx: Transaction) -> None:
    views = tx.read(accounts("a"), courses("b"), students("c"), carts("d"), counters("e"))
    assert_type(views, tuple[AccountView, CourseView, StudentView, CartView, CounterView])


def six(tx: Transaction) -> None:
    views = tx.read(accounts("a"), courses("b"), students("c"), carts("d"), counters("e"), clocks("f"))
    assert_type(views, tuple[AccountView, CourseView, StudentView, CartView, CounterView, ClockView])
    account, course, student, cart, counter, clock = views
    assert_type(account.state, Account)
    assert_type(course.state, Course)
    assert_type(student.state, frozenset[str])
    assert_type(cart.state, tuple[Item, ...])
    assert_type(counter.state, int)
    assert_type(clock.state, float)


def any_number(tx: Transaction, ids: Iterable[str]) -> None:
    assert_type(tx.read([accounts(id) for id in ids]), tuple[AccountView, ...])
    assert_type(tx.read(accounts(id) for id in ids), tuple[AccountView, ...])
    assert_type(tx.read({accounts(id) for id in ids}), tuple[AccountView, ...])
    assert_type(tx.read((accounts("a"), accounts("b"))), tuple[AccountView, ...])
    assert_type(sum(view.state.balance for view in tx.read(map(accounts, ids))), int)


# -- Appending ---------------------------------------------------------------------------------------------------------


def to_one_view(tx: Transaction, either: Opened | Deposited, several: list[Deposited]) -> None:
    account = tx.read(accounts("a"))
    account.append()
    account.append(Opened("ann"))
    account.append(Opened("ann"), Deposited(1), either)
    account.append(*several)
    tx.append(Deposited(1), account)
    tx.append(either, account)


def to_several_views(tx: Transaction) -> None:
    course, student = tx.read(courses("math"), students("ann"))
    tx.append(Enrolled("math", "ann"), course, student)
    account, counter = tx.read(accounts("a"), counters("a"))
    tx.append(Deposited(1), account, counter)


def to_many_views_of_one_type(tx: Transaction, ids: list[str]) -> None:
    first, *others = tx.read(map(accounts, ids))
    tx.append(Deposited(1), first, *others)


def what_a_run_gets(tx: Transaction) -> None:
    assert_type(tx.now, datetime)
    assert_type(tx.new_id(), UUID)


# -- Helpers over any stream -------------------------------------------------------------------------------------------


def current(tx: Transaction, stream: Stream[S, E]) -> S:
    return tx.read(stream).state


def view_of(tx: Transaction, kind: StreamType[S, E], id: str) -> View[S, E]:
    return tx.read(kind(id))


def append_to_all(tx: Transaction, happened: E, streams: Iterable[Stream[object, E]]) -> None:
    for view in tx.read(streams):
        view.append(happened)


def record(tx: Transaction, happened: E, first: Stream[object, E], second: Stream[object, E]) -> None:
    one, other = tx.read(first, second)
    tx.append(happened, one, other)


def exists(view: View[object, Never]) -> bool:
    return view.version > 0


def id_of(stream: Stream[object, Never]) -> str:
    return stream.id


def deposit(account: View[object, Deposited], amount: int) -> None:
    account.append(Deposited(amount))


class Repository(Generic[S, E]):
    """What a code base that likes repositories would write."""

    def __init__(self, kind: StreamType[S, E]) -> None:
        self._kind = kind

    def get(self, tx: Transaction, id: str) -> S:
        return tx.read(self._kind(id)).state

    def add(self, tx: Transaction, id: str, *events: E) -> None:
        tx.read(self._kind(id)).append(*events)


def helpers_keep_the_types(tx: Transaction) -> None:
    assert_type(current(tx, accounts("a")), Account)
    assert_type(current(tx, students("ann")), frozenset[str])
    assert_type(view_of(tx, courses, "math"), CourseView)
    append_to_all(tx, Deposited(1), [accounts("a"), accounts("b")])
    record(tx, Deposited(1), accounts("a"), counters("a"))
    record(tx, Enrolled("math", "ann"), courses("math"), students("ann"))
    account, counter = tx.read(accounts("a"), counters("a"))
    assert_type(exists(account), bool)
    assert_type(id_of(account.stream), str)
    deposit(account, 1)
    deposit(counter, 1)
    repository = Repository(accounts)
    assert_type(repository.get(tx, "a"), Account)
    repository.add(tx, "a", Opened("ann"), Deposited(1))


def a_view_of_more_is_a_view_of_less(tx: Transaction) -> None:
    wide = tx.read(courses("math"))
    narrow: View[Course | None, Enrolled] = wide
    narrow.append(Enrolled("math", "ann"))


def streams_of_several_kinds(tx: Transaction) -> None:
    mixed: list[Stream[object, Never]] = [accounts("a"), courses("math")]
    assert_type(tx.read(mixed), tuple[View[object, Never], ...])
    assert_type(sum(view.version for view in tx.read(mixed)), int)
