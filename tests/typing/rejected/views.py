"""Reads and appends that the type checkers refuse: each marked line, and no other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from factfold import Store, Stream, Transaction, View
from tests.typing.domain import (
    Account,
    Defined,
    Deposited,
    Enrolled,
    Opened,
    accounts,
    counters,
    courses,
    students,
)

S = TypeVar("S")
E = TypeVar("E")

# -- Reading -----------------------------------------------------------------------------------------------------------


def what_is_no_stream(tx: Transaction) -> None:
    tx.read(accounts)  # type: ignore[call-overload]
    tx.read("account:alice")  # type: ignore[arg-type]
    tx.read(None)  # type: ignore[call-overload]
    tx.read()  # type: ignore[call-overload]
    tx.read(accounts("a"), "b")  # type: ignore[call-overload]
    tx.read([accounts("a"), "b"])  # type: ignore[arg-type]
    tx.read(accounts("a"), [accounts("b")])  # type: ignore[call-overload]


def states_are_of_their_stream(tx: Transaction) -> None:
    account, course = tx.read(accounts("a"), courses("b"))
    print(account.state.balance + course.state.capacity)
    print(course.state.balance)  # type: ignore[attr-defined]
    print(account.state.capacity)  # type: ignore[attr-defined]
    one, two = tx.read(accounts("a"), courses("b"), students("c"))  # type: ignore[misc]
    print(one, two)
    for _ in tx.read(accounts("a")):  # type: ignore[attr-defined]
        pass


def states_are_not_changed(tx: Transaction) -> None:
    account = tx.read(accounts("a"))
    account.state = Account("ann")  # type: ignore[misc]
    account.state.balance = 5  # type: ignore[misc]
    account.version = 5  # type: ignore[misc]
    tx.now = None  # type: ignore[misc,assignment]


# -- Appending ---------------------------------------------------------------------------------------------------------


def to_one_view(tx: Transaction) -> None:
    account = tx.read(accounts("a"))
    account.append(Opened("ann"), Deposited(1))
    account.append(Defined(30))  # type: ignore[arg-type]
    account.append(Opened("ann"), Enrolled("math", "ann"))  # type: ignore[arg-type]
    account.append([Deposited(1)])  # type: ignore[arg-type]
    account.append(Deposited)  # type: ignore[arg-type]
    account.append(None)  # type: ignore[arg-type]
    tx.append(Deposited(1), account)
    tx.append(Defined(30), account)  # type: ignore[misc]


def to_several_views(tx: Transaction) -> None:
    course, student, account, counter = tx.read(courses("math"), students("ann"), accounts("ann"), counters("ann"))
    tx.append(Enrolled("math", "ann"), course, student)
    tx.append(Defined(30), course, student)  # type: ignore[misc]
    tx.append(Defined(30), student, course)  # type: ignore[misc]
    tx.append(Enrolled("math", "ann"), course, student, account)  # type: ignore[misc]
    tx.append(Enrolled("math", "ann"), account, course, student)  # type: ignore[misc]
    tx.append(Deposited(1), account, counter)
    tx.append(Opened("ann"), account, counter)  # type: ignore[misc]


def to_many_views_of_one_type(tx: Transaction, ids: Iterable[str]) -> None:
    first, *others = tx.read(map(counters, ids))
    tx.append(Deposited(1), first, *others)
    tx.append(Opened("ann"), first, *others)  # type: ignore[misc]
    for counter in others:
        counter.append(Opened("ann"))  # type: ignore[arg-type]


def to_what_is_no_view(tx: Transaction) -> None:
    tx.append(Deposited(1))  # type: ignore[call-arg]
    tx.append(Deposited(1), accounts("a"))  # type: ignore[arg-type]
    tx.append(Deposited(1), tx.read([accounts("a")]))  # type: ignore[arg-type]


# -- Helpers over any stream -------------------------------------------------------------------------------------------


def record(tx: Transaction, happened: E, first: Stream[object, E], second: Stream[object, E]) -> None:
    one, other = tx.read(first, second)
    tx.append(happened, one, other)


def swap(tx: Transaction, happened: E, stream: Stream[S, E]) -> S:
    view = tx.read(stream)
    view.append(view.state)  # type: ignore[arg-type]
    return happened  # type: ignore[return-value]


def deposit(account: View[object, Deposited]) -> None:
    account.append(Opened("ann"))  # type: ignore[arg-type]


def helpers_keep_the_types(tx: Transaction) -> None:
    record(tx, Opened("ann"), accounts("a"), counters("a"))  # type: ignore[misc]
    course, counter = tx.read(courses("math"), counters("a"))
    deposit(counter)
    deposit(course)  # type: ignore[arg-type]


def a_view_of_less_is_no_view_of_more(tx: Transaction) -> None:
    wide: View[int, Opened | Deposited] = tx.read(counters("a"))  # type: ignore[arg-type]
    text: View[str, Deposited] = tx.read(counters("a"))  # type: ignore[arg-type]
    print(wide, text)


def a_store_is_no_transaction(store: Store) -> None:
    store.append(Deposited(1), accounts("a"))  # type: ignore[attr-defined]
    store.read(accounts("a"))  # type: ignore[attr-defined]
