"""What the bank refuses: each error carries the facts, and its message says what to do."""

from __future__ import annotations

from dataclasses import dataclass


class BankError(Exception):
    """The bank says no, and why."""


@dataclass(eq=False)
class InvalidAccountIdError(BankError, ValueError):
    """A text that names no account."""

    text: object

    def __str__(self) -> str:
        return f"{self.text!r} is no account: up to 40 of a-z, 0-9 and '-' are, beginning with a letter"


@dataclass(eq=False)
class InvalidAmountError(BankError, ValueError):
    """A number that is no sum of money."""

    cents: object
    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.cents!r} is no amount: a whole number of cents is, from {self.least} to {self.most}"


@dataclass(eq=False)
class InvalidOwnerError(BankError, ValueError):
    """An account is opened for nobody."""

    account: str
    owner: str

    def __str__(self) -> str:
        return f"{self.account} cannot be opened for {self.owner!r}: name its owner"


@dataclass(eq=False)
class AccountExistsError(BankError):
    """An id is used once, for ever."""

    account: str
    owner: str

    def __str__(self) -> str:
        return f"{self.account} was opened before, for {self.owner}: an id is never used again, choose another one"


@dataclass(eq=False)
class AccountNotOpenError(BankError):
    """Nothing can be done with an account that was never opened, or is closed."""

    account: str
    status: str

    def __str__(self) -> str:
        return f"{self.account} is {self.status}: only an open account has a balance, and takes or gives money"


@dataclass(eq=False)
class InsufficientFundsError(BankError):
    """An account holds less than what is to leave it, its overdraft included."""

    account: str
    available: int
    amount: int

    def __str__(self) -> str:
        return (
            f"{self.amount} cents cannot leave {self.account}: {self.available} are available. "
            "Deposit the rest, or agree on a larger overdraft"
        )


@dataclass(eq=False)
class OverdraftInUseError(BankError):
    """An overdraft is not taken back while the account needs it."""

    account: str
    limit: int
    balance: int

    def __str__(self) -> str:
        return (
            f"{self.account} stands at {self.balance} cents, below the new limit of {-self.limit}: "
            f"{-self.limit - self.balance} have to be deposited first"
        )


@dataclass(eq=False)
class BalanceLeftError(BankError):
    """An account is closed with nothing on it, and no debt either."""

    account: str
    balance: int

    def __str__(self) -> str:
        to_do = "withdraw them, or name the account that they go to" if self.balance > 0 else "deposit them first"
        what = "still holds" if self.balance > 0 else "still owes"
        return f"{self.account} cannot be closed, it {what} {abs(self.balance)} cents: {to_do}"


@dataclass(eq=False)
class SameAccountError(BankError):
    """Money does not go from an account to itself."""

    account: str

    def __str__(self) -> str:
        return f"{self.account} cannot transfer to itself: name two accounts"
