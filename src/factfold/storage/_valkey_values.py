"""The small values of a log in Valkey, as generators that ask scripts.

Each place is a hash of its own, and each value in it begins with the time at which the server has written it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from factfold.storage._valkey_steps import Route, Steps
from factfold.storage._valkey_wire import ENTRIES, SWAP, Keys, Word, binary, encode_question, items, number
from factfold.storage.base import Entry, Put, Swap

STAMP = 6
"""How many bytes the time takes."""


class Values:
    """The operations on the small values of one namespace."""

    def __init__(self, keys: Keys, route: Route) -> None:
        self._keys = keys
        self._route = route

    def get(self, place: str, keys: Sequence[str]) -> Steps[Mapping[str, bytes]]:
        """Those of these keys that have a value."""
        if not keys:
            return {}
        reply = yield from self._route.command("HMGET", self._keys.places + place, *keys)
        found = zip(keys, items(reply), strict=True)
        return {key: binary(value)[STAMP:] for key, value in found if value is not None}

    def entries(self, place: str, after: str, limit: int) -> Steps[Sequence[Entry]]:
        """A page of them, in order."""
        keys = (*self._keys.fixed, self._keys.places + place)
        found = yield from self._route.run(ENTRIES, keys, (encode_question({"limit": limit}), after))
        return [Entry(binary(key).decode(), binary(value), number(age) / 1000) for key, value, age in map(items, found)]

    def put(self, put: Put) -> Steps[None]:
        """Writes or removes a value. What is sent again, as no answer came, leads to the same."""
        keys, arguments = self._question((put,), "any", b"")
        yield from self._route.run(SWAP, keys, arguments, reading=False)

    def swap(self, swap: Swap) -> Steps[bool]:
        """Writes values if the first of them is what is expected. Never sent twice: the second would find its own."""
        expects, expected = ("none", b"") if swap.expected is None else ("value", swap.expected)
        keys, arguments = self._question((swap.put, *swap.others), expects, expected)
        replies = yield from self._route.run_once(SWAP, keys, arguments)
        return items(replies[0])[0] == b"swapped"

    def _question(self, puts: Sequence[Put], expects: str, expected: bytes) -> tuple[list[str], list[Word]]:
        keys = list(self._keys.fixed)
        indices: dict[str, int] = {}
        for put in puts:
            if put.place not in indices:
                keys.append(self._keys.places + put.place)
                indices[put.place] = len(keys)
        asked = [(indices[put.place], put.value is not None) for put in puts]
        arguments: list[Word] = [encode_question({"puts": asked, "expects": expects}), expected]
        for put in puts:
            arguments += (put.key, put.value or b"")
        return keys, arguments
