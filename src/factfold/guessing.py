"""Which commands are likely to find a stream empty, so that they need not wait for the log to say so.

What opens an account or takes an order begins with a stream that does not exist yet. To load it is a round trip only to
hear that there is nothing. Where that has been the answer again and again, the command is decided at once, and its
append goes through only if the stream is empty indeed.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, MethodType
from weakref import WeakKeyDictionary

from factfold.commands import innermost
from factfold.folds import Fold

FIRST = 8
"""How many loads in a row must have found nothing before it is guessed for the first time."""

LAST = 4096
"""How many of them are asked for at most, where guesses were wrong: each time it is twice as many."""

IDLE = 4
"""What a guess costs that had to be given up, measured in those that were of use."""


class _Luck:
    """How often in a row there was nothing, and how often there must have been for the next guess."""

    __slots__ = ("needed", "streak")

    def __init__(self) -> None:
        self.streak = 0
        self.needed = FIRST


class Guesses:
    """What was found so far, for each command and each fold that it reads."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[object, WeakKeyDictionary[Fold, _Luck]] = WeakKeyDictionary()
        # The last one that was asked for: most of the time it is the next one, too.
        self._last: tuple[object, Fold | None, _Luck] = (None, None, _Luck())

    def expects_nothing(self, command: Callable[..., object], fold: Fold) -> bool:
        """Whether a stream that the command reads and that is not loaded had better be taken for empty."""
        luck = self._luck(command, fold)
        return luck.streak >= luck.needed

    def loaded(self, command: Callable[..., object], fold: Fold, *, empty: bool) -> None:
        """A stream was loaded for the command."""
        luck = self._luck(command, fold)
        luck.streak = luck.streak + 1 if empty else 0

    def used(self, command: Callable[..., object], fold: Fold) -> None:
        """A guess saved the command a load, if it is right."""
        luck = self._luck(command, fold)
        luck.streak = min(luck.streak + 1, luck.needed + IDLE * FIRST)

    def idle(self, command: Callable[..., object], fold: Fold) -> None:
        """A guess was of no use: the command had to wait for the load all the same."""
        luck = self._luck(command, fold)
        luck.streak = max(0, luck.streak - IDLE)

    def wrong(self, command: Callable[..., object], fold: Fold) -> None:
        """A guess was wrong, and a whole batch had to be decided again."""
        luck = self._luck(command, fold)
        luck.streak = 0
        luck.needed = min(luck.needed * 2, LAST)

    def _luck(self, command: Callable[..., object], fold: Fold) -> _Luck:
        last, through, luck = self._last
        if last is command and through is fold:
            return luck
        subject = _subject(command)
        by_fold = self._known.get(subject)
        if by_fold is None:
            by_fold = self._known[subject] = WeakKeyDictionary()
        found = by_fold.get(fold)
        if found is None:
            found = by_fold[fold] = _Luck()
        self._last = (command, fold, found)
        return found


def _subject(command: Callable[..., object]) -> object:
    """What lives on when the call is over: the function, or the class of a command that is an object."""
    command = innermost(command)
    if isinstance(command, MethodType):
        return command.__func__
    return command if isinstance(command, FunctionType) else type(command)
