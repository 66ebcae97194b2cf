"""Tells what holds connections, locks or threads that the process is about to fork, and that it has.

An object that registers here is asked before a fork to come to rest, and told afterwards: once in the parent, once in
the child. It is held weakly, so it need not be taken back.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """What can be registered. When one raises, the others are told all the same."""

    def before_fork(self) -> None: ...
    def after_fork_in_parent(self) -> None: ...
    def after_fork_in_child(self) -> None: ...


_registered: WeakSet[Forkable] = WeakSet()
_told: list[Forkable] = []
_lock = threading.Lock()
"""Held from before a fork until after it: two threads may fork at once, and others may register meanwhile."""


def register(forkable: Forkable) -> None:
    """From now on `forkable` is told about forks, for as long as something else keeps it alive."""
    with _lock:
        _registered.add(forkable)


def _before() -> None:
    _lock.acquire()
    _told.extend(_registered)
    _tell(forkable.before_fork for forkable in _told)


def _after_in_parent() -> None:
    try:
        _tell(forkable.after_fork_in_parent for forkable in reversed(_told))
    finally:
        _told.clear()
        _lock.release()


def _after_in_child() -> None:
    global _lock  # noqa: PLW0603 (the old one is held by a thread that is not in this process)
    _lock = threading.Lock()
    try:
        _tell(forkable.after_fork_in_child for forkable in reversed(_told))
    finally:
        _told.clear()


def _tell(calls: Iterable[Callable[[], None]]) -> None:
    """Makes every call. The first error is raised at the end: Python reports it, and forks nevertheless."""
    errors: list[BaseException] = []
    for call in calls:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 (it is raised below)
            errors.append(error)
    if errors:
        raise errors[0]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
