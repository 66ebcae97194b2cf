"""Small types of the bank: what is made once is valid everywhere."""

from __future__ import annotations

import re
from dataclasses import dataclass

from examples.bank.errors import InvalidAccountIdError, InvalidAmountError

MOST_CENTS = 10**12


@dataclass(frozen=True, slots=True)
class AccountId:
    """The name of an account: lower case letters, digits and hyphens."""

    text: str

    def __post_init__(self) -> None:
        if type(self.text) is not str or not re.fullmatch("[a-z][a-z0-9-]{0,39}", self.text):
            raise InvalidAccountIdError(self.text)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Money:
    """A sum that changes hands: at least one cent."""

    cents: int

    def __post_init__(self) -> None:
        if type(self.cents) is not int or not 1 <= self.cents <= MOST_CENTS:
            raise InvalidAmountError(self.cents, 1, MOST_CENTS)

    def __str__(self) -> str:
        return in_euros(self.cents)


def in_euros(cents: int) -> str:
    """Cents as people read them, also below zero."""
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100:,}.{abs(cents) % 100:02} EUR"
