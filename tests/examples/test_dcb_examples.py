"""The examples of the DCB specification (https://dcb.events/examples/), but for the courses: those are a package.

Unique usernames that are kept for a while after they were given up, invoice numbers without gaps, opt-in tokens, prices
that change while a customer looks at them, and requests that come twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from factfold import Store, Transaction, event, stream
from factfold.storage.memory import Memory
from tests.examples.clock import Clock
from tests.examples.racers import RACERS, Race

# -- Unique usernames --------------------------------------------------------------------------------------------------

RETENTION = timedelta(days=3)
"""For how long a name that was given up is kept from others."""


@dataclass(frozen=True)
class AccountRegistered:
    username: str


@dataclass(frozen=True)
class AccountClosed:
    username: str
    at: datetime


@event(streams=("username", "username"))
@dataclass(frozen=True)
class UsernameChanged:
    old: str
    new: str
    at: datetime


@dataclass(frozen=True)
class Claim:
    """Whether somebody has a name, and if nobody has, since when."""

    taken: bool = False
    given_up: datetime | None = None

    def holds(self, now: datetime) -> bool:
        return self.taken or (self.given_up is not None and now - self.given_up <= RETENTION)


@stream("username", initial=Claim())
def claims(state: Claim, event: AccountRegistered | AccountClosed | UsernameChanged, id: str) -> Claim:
    match event:
        case UsernameChanged(old, at=at) if normal(old) == id:
            return Claim(given_up=at)
        case AccountRegistered() | UsernameChanged():
            return Claim(taken=True)
        case AccountClosed(at=at):
            return Claim(given_up=at)


class UsernameClaimedError(Exception):
    """Somebody has this name, or had it a short while ago."""


def normal(username: str) -> str:
    """JamesBond and jamesbond are one name."""
    return username.casefold()


class NoSuchAccountError(Exception):
    """Nobody has this name."""


def register(tx: Transaction, username: str) -> None:
    claim = tx.read(claims(normal(username)))
    if claim.state.holds(tx.now):
        raise UsernameClaimedError(username)
    claim.append(AccountRegistered(username))


def change_username(tx: Transaction, old: str, new: str) -> None:
    had, wanted = tx.read(claims(normal(old)), claims(normal(new)))
    if not had.state.taken:
        raise NoSuchAccountError(old)
    if wanted.state.holds(tx.now):
        raise UsernameClaimedError(new)
    tx.append(UsernameChanged(old, new, tx.now), had, wanted)


def close_account(tx: Transaction, username: str) -> None:
    claim = tx.read(claims(normal(username)))
    if not claim.state.taken:
        raise NoSuchAccountError(username)
    claim.append(AccountClosed(username, tx.now))


def is_refused(store: Store, username: str) -> bool:
    try:
        store.execute(register, username)
    except UsernameClaimedError:
        return True
    return False


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Iterator[Store]:
    with Store("memory:", clock=clock) as opened:
        yield opened


def test_a_username_is_claimed_once_however_it_is_written(store: Store) -> None:
    store.execute(register, "JamesBond")
    assert is_refused(store, "JamesBond")
    assert is_refused(store, "jamesbond")
    assert not is_refused(store, "moneypenny")


def test_a_changed_username_is_claimed_from_then_on(store: Store) -> None:
    store.execute(register, "bond")
    (changed,) = store.execute(change_username, "bond", "james").events
    assert set(changed.streams) == {"username:bond", "username:james"}
    assert is_refused(store, "james")


@pytest.mark.parametrize("how", ["closed", "changed"])
def test_a_username_that_is_given_up_is_kept_for_three_days(how: str, store: Store, clock: Clock) -> None:
    store.execute(register, "bond")
    clock.go_on(days=1)
    if how == "closed":
        store.execute(close_account, "bond")
    else:
        store.execute(change_username, "bond", "james")
    clock.go_on(days=3)
    assert is_refused(store, "bond")
    clock.go_on(seconds=1)
    assert not is_refused(store, "bond")


def test_only_who_has_a_username_can_give_it_up(store: Store) -> None:
    store.execute(register, "bond")
    store.execute(close_account, "bond")
    with pytest.raises(NoSuchAccountError):
        store.execute(close_account, "bond")
    with pytest.raises(NoSuchAccountError):
        store.execute(change_username, "bond", "james")


def test_one_of_many_who_want_a_username_gets_it(stores: tuple[Store, ...]) -> None:
    race = Race(stores)
    for number in range(RACERS):
        if number % 2:
            race.run(register, "bond" if number % 3 else "BOND")
        else:
            stores[0].execute(register, f"agent-{number}")
            race.run(change_username, f"agent-{number}", "Bond")
    assert len(race.results(UsernameClaimedError)) == 1


# -- Invoice numbers without gaps --------------------------------------------------------------------------------------


@event(streams=("invoice", "invoice"))
@dataclass(frozen=True)
class InvoiceCreated:
    """In the stream of all invoices, which gives the numbers, and in one of its own."""

    number: int
    customer: str
    cents: int


@stream("invoice", initial=0, snapshot_every=1000)
def last_invoice_number(state: int, event: InvoiceCreated) -> int:
    return event.number


@stream("invoice", initial=None)
def invoices(state: InvoiceCreated | None, event: InvoiceCreated) -> InvoiceCreated | None:
    return event


class NothingToPayError(Exception):
    """An invoice is about money."""


def create_invoice(tx: Transaction, customer: str, cents: int) -> int:
    last = tx.read(last_invoice_number())
    number = last.state + 1
    tx.append(InvoiceCreated(number, customer, cents), last, tx.read(invoices(number)))
    if cents < 1:
        raise NothingToPayError(customer)
    return number


def test_the_first_invoice_is_number_one_and_the_next_is_two(store: Store) -> None:
    assert store.execute(create_invoice, "ann", 500).result == 1
    assert store.execute(create_invoice, "bo", 700).result == 2
    assert store.state(invoices(2)) == InvoiceCreated(2, "bo", 700)


def test_many_invoices_at_once_have_numbers_without_a_gap(stores: tuple[Store, ...]) -> None:
    race = Race(stores)
    for number in range(RACERS):
        race.run(create_invoice, f"customer-{number}", number % 4)  # every fourth is refused, and takes no number along
    numbers = sorted(receipt.result for receipt in race.results(NothingToPayError) if isinstance(receipt.result, int))
    assert numbers == list(range(1, RACERS * 3 // 4 + 1))
    assert [recorded.event.number for recorded in stores[1].log(types=InvoiceCreated)] == numbers


# -- Opt-in tokens -----------------------------------------------------------------------------------------------------

VALID_FOR = timedelta(minutes=60)


@dataclass(frozen=True)
class SignUpInitiated:
    email: str
    otp: str
    name: str
    at: datetime


@dataclass(frozen=True)
class SignUpConfirmed:
    email: str
    otp: str
    name: str


@dataclass(frozen=True)
class SignUp:
    name: str
    at: datetime
    confirmed: bool = False


@stream("signup", initial=None)
def sign_ups(state: SignUp | None, event: SignUpInitiated | SignUpConfirmed) -> SignUp | None:
    """A sign-up is known by address and token together: the pair has a stream of its own."""
    match event:
        case SignUpInitiated(name=name, at=at):
            return SignUp(name, at)
        case SignUpConfirmed():
            return state and replace(state, confirmed=True)


class SignUpError(Exception):
    """The token confirms nothing."""


def initiate_sign_up(tx: Transaction, email: str, otp: str, name: str) -> None:
    """The token is drawn by the caller: a command that draws lots would draw another one when it runs again."""
    tx.read(sign_ups(email, otp)).append(SignUpInitiated(email, otp, name, tx.now))


def confirm_sign_up(tx: Transaction, email: str, otp: str) -> str:
    sign_up = tx.read(sign_ups(email, otp))
    if sign_up.state is None:
        raise SignUpError("there is no sign-up for this token and this address")
    if sign_up.state.confirmed:
        raise SignUpError("the token was used before")
    if tx.now - sign_up.state.at > VALID_FOR:
        raise SignUpError("the token has expired")
    sign_up.append(SignUpConfirmed(email, otp, sign_up.state.name))
    return sign_up.state.name


def test_a_token_confirms_the_sign_up_that_it_was_made_for_once(store: Store) -> None:
    store.execute(initiate_sign_up, "john@example.com", "111111", "John")
    for email, otp in (("john@example.com", "000000"), ("jane@example.com", "111111")):
        with pytest.raises(SignUpError, match="there is no sign-up"):
            store.execute(confirm_sign_up, email, otp)
    (confirmed,) = store.execute(confirm_sign_up, "john@example.com", "111111").events
    assert confirmed.event == SignUpConfirmed("john@example.com", "111111", "John")
    with pytest.raises(SignUpError, match="used before"):
        store.execute(confirm_sign_up, "john@example.com", "111111")


def test_a_token_expires_after_an_hour(store: Store, clock: Clock) -> None:
    for otp in ("111111", "222222"):
        store.execute(initiate_sign_up, "john@example.com", otp, "John")
    clock.go_on(minutes=60)
    assert store.execute(confirm_sign_up, "john@example.com", "111111").result == "John"
    clock.go_on(minutes=1)
    with pytest.raises(SignUpError, match="expired"):
        store.execute(confirm_sign_up, "john@example.com", "222222")


def test_a_token_that_is_used_many_times_at_once_confirms_once(stores: tuple[Store, ...]) -> None:
    stores[0].execute(initiate_sign_up, "john@example.com", "111111", "John")
    race = Race(stores)
    for _ in range(RACERS):
        race.run(confirm_sign_up, "john@example.com", "111111")
    assert len(race.results(SignUpError)) == 1


# -- Prices that change ------------------------------------------------------------------------------------------------

GRACE = timedelta(minutes=10)
"""For how long a price that was shown still holds after it was changed."""


@dataclass(frozen=True)
class PriceSet:
    price: int
    at: datetime


@dataclass(frozen=True)
class Item:
    product: str
    price: int


@dataclass(frozen=True)
class ProductsOrdered:
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Prices:
    """The price of now, and those that were replaced: until when each of them was the price."""

    price: int | None = None
    replaced: tuple[tuple[int, datetime], ...] = ()

    def holds(self, price: int, now: datetime) -> bool:
        return price == self.price or any(price == old and now - until <= GRACE for old, until in self.replaced)


@stream("product", initial=Prices())
def prices(state: Prices, event: PriceSet) -> Prices:
    replaced = state.replaced if state.price is None else (*state.replaced, (state.price, event.at))
    return Prices(event.price, tuple(one for one in replaced if event.at - one[1] <= GRACE))


@stream("cart", initial=())
def carts(state: tuple[Item, ...], event: ProductsOrdered) -> tuple[Item, ...]:
    return event.items


class PriceNotValidError(Exception):
    """The price that was shown does not hold, or holds no longer."""


def set_price(tx: Transaction, product: str, price: int) -> None:
    tx.read(prices(product)).append(PriceSet(price, tx.now))


def order_products(tx: Transaction, cart: UUID, items: tuple[Item, ...]) -> None:
    """The prices of all products of a cart are only read, and in the boundary all the same."""
    for item, valid in zip(items, tx.read(prices(item.product) for item in items), strict=True):
        if not valid.state.holds(item.price, tx.now):
            raise PriceNotValidError(item.product, item.price)
    tx.read(carts(cart)).append(ProductsOrdered(items))


def can_order(store: Store, **shown: int) -> bool:
    try:
        store.execute(order_products, uuid4(), tuple(Item(product, price) for product, price in shown.items()))
    except PriceNotValidError:
        return False
    return True


def test_a_product_is_ordered_at_the_price_that_was_shown(store: Store) -> None:
    store.execute(set_price, "cup", 123)
    assert can_order(store, cup=123)
    assert not can_order(store, cup=100)
    assert not can_order(store, pot=100)


def test_a_price_that_was_replaced_holds_for_ten_minutes_more(store: Store, clock: Clock) -> None:
    store.execute(set_price, "cup", 123)
    clock.go_on(minutes=20)
    assert can_order(store, cup=123)
    store.execute(set_price, "cup", 134)
    clock.go_on(minutes=10)
    assert (can_order(store, cup=123), can_order(store, cup=134)) == (True, True)
    clock.go_on(seconds=1)
    assert (can_order(store, cup=123), can_order(store, cup=134)) == (False, True)


def test_all_prices_of_the_last_ten_minutes_hold(store: Store, clock: Clock) -> None:
    for price in (100, 110, 120):
        store.execute(set_price, "cup", price)
        clock.go_on(minutes=6)
    assert [can_order(store, cup=price) for price in (100, 110, 120, 130)] == [False, True, True, False]


def test_a_cart_is_ordered_when_all_of_its_prices_hold(store: Store, clock: Clock) -> None:
    store.execute(set_price, "cup", 123)
    clock.go_on(minutes=11)
    store.execute(set_price, "cup", 134)
    store.execute(set_price, "pot", 321)
    assert can_order(store, cup=123, pot=321)
    assert not can_order(store, cup=134, pot=320)


def test_an_order_is_decided_again_when_a_price_is_set_meanwhile(clock: Clock) -> None:
    storage = Memory()
    with Store(storage, clock=clock) as here, Store(storage, clock=clock) as there:
        here.execute(set_price, "cup", 123)
        there.state(prices("cup"))
        clock.go_on(minutes=1)
        here.execute(set_price, "cup", 134)
        clock.go_on(minutes=11)
        assert not can_order(there, cup=123)


def test_customers_who_order_the_same_product_do_not_disturb_each_other() -> None:
    storage = Memory()
    with Store(storage) as here, Store(storage) as there:
        here.execute(set_price, "cup", 123)
        there.state(prices("cup"))
        assert can_order(here, cup=123)
        assert there.execute(order_products, uuid4(), (Item("cup", 123),)).attempts == 1


# -- Requests that come twice ------------------------------------------------------------------------------------------


@event(streams=("order", "request"))
@dataclass(frozen=True)
class OrderPlaced:
    order: UUID
    token: str


@stream("order", initial=False)
def placed(state: bool, event: OrderPlaced) -> bool:
    return True


@stream("request", initial=None)
def requests(state: UUID | None, event: OrderPlaced) -> UUID | None:
    """What a request with this token has led to."""
    return event.order


class AlreadyPlacedError(Exception):
    """The request with this token was served before."""


def place_order(tx: Transaction, token: str) -> UUID:
    order = tx.new_id()
    request, placing = tx.read(requests(token), placed(order))
    if request.state is not None:
        raise AlreadyPlacedError(request.state)
    tx.append(OrderPlaced(order, token), placing, request)
    return order


def test_a_token_that_was_used_places_no_second_order(store: Store) -> None:
    first = store.execute(place_order, "11111").result
    with pytest.raises(AlreadyPlacedError) as caught:
        store.execute(place_order, "11111")
    assert caught.value.args == (first,)
    assert store.execute(place_order, "22222").result != first


def test_a_request_that_comes_many_times_at_once_places_one_order(stores: tuple[Store, ...]) -> None:
    race = Race(stores)
    for _ in range(RACERS):
        race.run(place_order, "11111")
    (receipt,) = race.results(AlreadyPlacedError)
    assert stores[1].state(requests("11111")) == receipt.result


def test_under_a_key_a_request_that_comes_again_is_answered_as_the_first_time(stores: tuple[Store, ...]) -> None:
    """What factfold has for this case: the command knows of no token."""
    race = Race(stores)
    for _ in range(RACERS):
        race.once("11111", create_invoice, "ann", 500)
    receipts = race.results()
    assert {receipt.result for receipt in receipts} == {1}
    assert sum(not receipt.repeated for receipt in receipts) == 1
    assert stores[1].state(last_invoice_number()) == 1
