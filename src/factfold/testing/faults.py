"""A storage that fails as real ones do, as often as it is told to, and in the same way in every run of a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from msgspec import structs

from factfold.storage import open_storage
from factfold.storage.base import AsyncEngine, AsyncLog, Capabilities, Engine, Log, Storage
from factfold.testing.fates import Fates, Rates
from factfold.testing.faulty_logs import FaultyAsyncLog, FaultyAsyncTransactions, FaultyLog, FaultyTransactions


class Faulty:
    """A storage around another one that injects faults, for tests of what a program does then.

        storage = Faulty("memory:", seed=7, conflicts=0.2, lost=0.05)
        store = Store(storage)

    Rates are probabilities from 0 to 1, and all are 0 unless they are given. The n-th call of one kind (append, load,
    ...) has the same fate in every run with the same `seed`, whatever other threads or tasks do meanwhile.

    Args:
        storage: a url, or a storage object.
        conflicts: of appends that are not under the writers' lock, how many find that others were faster. Nobody was:
            what the storage tells of the log stays true. The command is decided again; it fails with `ConflictError`
            where no more attempts are allowed.
        latency: seconds that a call takes longer, at most; half of that in the mean.
        lost: of all calls, how many raise `StoreUnavailableError`, and do nothing.
        unknown: of appends, how many raise `OutcomeUnknownError`. Half of them were done all the same.
        unresolved: of those, how many stay unknown when the store asks what became of them, so that the caller of
            `execute` gets the error; the store resolves the others itself.

    Raises:
        InvalidUrlError, MissingDriverError: the storage cannot be used.
        ValueError: a rate is none.

    Set `active` to False while a test prepares what it needs, and while it looks at what came of it.
    """

    def __init__(
        self,
        storage: str | Storage,
        *,
        seed: int = 0,
        conflicts: float = 0.0,
        latency: float = 0.0,
        lost: float = 0.0,
        unknown: float = 0.0,
        unresolved: float = 0.5,
    ) -> None:
        self._storage = open_storage(storage)
        self._fates = Fates(
            Rates(seed=seed, conflicts=conflicts, latency=latency, lost=lost, unknown=unknown, unresolved=unresolved)
        )

    @property
    def name(self) -> str:
        """Where the storage is."""
        return self._storage.name

    @property
    def active(self) -> bool:
        """Whether faults are injected. While it is set to False, no fate is used up either."""
        return self._fates.active

    @active.setter
    def active(self, active: bool) -> None:
        self._fates.active = active

    @property
    def injected(self) -> Mapping[str, int]:
        """How often each kind of fault was injected so far, by the names of the arguments."""
        return self._fates.injected

    def open(self) -> Engine:
        """Opens the storage for threads."""
        return _FaultyEngine(self._fates, self._storage.open())

    async def open_async(self) -> AsyncEngine:
        """Opens the storage for the running event loop."""
        return _FaultyAsyncEngine(self._fates, await self._storage.open_async())

    def __reduce__(self) -> tuple[Callable[[], Faulty], tuple[()]]:
        # In another process it begins from its start, as it did in this one: calls are counted in each process.
        return partial(Faulty, self._storage, **structs.asdict(self._fates.rates)), ()

    def __repr__(self) -> str:
        return f"Faulty({self.name!r}, {self._fates.rates!r})"


class _FaultyEngine:
    def __init__(self, fates: Fates, engine: Engine) -> None:
        self.capabilities: Capabilities = engine.capabilities
        self._fates = fates
        self._engine = engine

    def log(self, namespace: str) -> Log:
        kind = FaultyTransactions if self.capabilities.transactions else FaultyLog
        return kind(self._engine.log(namespace), self._fates)

    def close(self) -> None:
        self._engine.close()


class _FaultyAsyncEngine:
    def __init__(self, fates: Fates, engine: AsyncEngine) -> None:
        self.capabilities: Capabilities = engine.capabilities
        self._fates = fates
        self._engine = engine

    async def log(self, namespace: str) -> AsyncLog:
        kind = FaultyAsyncTransactions if self.capabilities.transactions else FaultyAsyncLog
        return kind(await self._engine.log(namespace), self._fates)

    async def close(self) -> None:
        await self._engine.close()
