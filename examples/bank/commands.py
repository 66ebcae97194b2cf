"""What the bank's customers can ask for. Plain functions: they read, decide, append, and do nothing else."""

from __future__ import annotations

from examples.bank.accounts import (
    Account,
    AccountEvent,
    Closed,
    Deposited,
    Opened,
    OverdraftAgreed,
    Status,
    Transferred,
    Withdrawn,
    account,
)
from examples.bank.errors import (
    AccountExistsError,
    AccountNotOpenError,
    BalanceLeftError,
    InsufficientFundsError,
    InvalidAmountError,
    InvalidOwnerError,
    OverdraftInUseError,
    SameAccountError,
)
from examples.bank.money import MOST_CENTS, AccountId, Money
from factfold import Transaction, View


def open_account(tx: Transaction, id: AccountId, owner: str) -> None:
    """Opens an account, without an overdraft. An id that was used is never used again."""
    if not owner.strip():
        raise InvalidOwnerError(id.text, owner)
    view = tx.read(account(id))
    if view.state.status is not Status.UNKNOWN:
        raise AccountExistsError(id.text, view.state.owner)
    view.append(Opened(owner))


def balance(tx: Transaction, id: AccountId) -> int:
    """What is on an account, in cents. A command that only looks."""
    return _opened(id, tx.read(account(id))).state.balance


def deposit(tx: Transaction, id: AccountId, amount: Money) -> int:
    """Puts money on an account; gives the new balance."""
    view = _opened(id, tx.read(account(id)))
    view.append(Deposited(amount))
    return view.state.balance  # the state already holds what this command appended


def withdraw(tx: Transaction, id: AccountId, amount: Money) -> int:
    """Takes money from an account, into its overdraft if there is one; gives the new balance."""
    view = _opened(id, tx.read(account(id)))
    _check_funds(id, view.state, amount)
    view.append(Withdrawn(amount))
    return view.state.balance


def transfer(tx: Transaction, source: AccountId, target: AccountId, amount: Money, reference: str = "") -> int:
    """Moves money from one account to another; gives the new balance of the source. Both change, or neither does."""
    if source == target:
        raise SameAccountError(source.text)
    giving, taking = tx.read(account(source), account(target))
    _opened(source, giving)
    _opened(target, taking)
    _check_funds(source, giving.state, amount)
    tx.append(Transferred(source, target, amount, reference), giving, taking)
    return giving.state.balance


def agree_overdraft(tx: Transaction, id: AccountId, limit: int) -> None:
    """Lets the balance go down to minus so many cents; 0 ends the agreement. Agreed twice, it is agreed once."""
    if type(limit) is not int or not 0 <= limit <= MOST_CENTS:
        raise InvalidAmountError(limit, 0, MOST_CENTS)
    view = _opened(id, tx.read(account(id)))
    if view.state.balance < -limit:
        raise OverdraftInUseError(id.text, limit, view.state.balance)
    if view.state.overdraft != limit:
        view.append(OverdraftAgreed(limit))


def close(tx: Transaction, id: AccountId, remainder_to: AccountId | None = None) -> int:
    """Closes an account for ever; gives how many cents were left, and went to the account that was named for them.

    The last transfer and the closing are one decision: nothing can arrive between the two.
    """
    view = _opened(id, tx.read(account(id)))
    left = view.state.balance
    if left > 0 and remainder_to is not None:
        tx.call(transfer, id, remainder_to, Money(left), "remainder")
    elif left:
        raise BalanceLeftError(id.text, left)
    view.append(Closed())
    return left


def _opened(id: AccountId, view: View[Account, AccountEvent]) -> View[Account, AccountEvent]:
    if view.state.status is not Status.OPEN:
        raise AccountNotOpenError(id.text, view.state.status.value)
    return view


def _check_funds(id: AccountId, state: Account, amount: Money) -> None:
    if state.available < amount.cents:
        raise InsufficientFundsError(id.text, state.available, amount.cents)
