"""Runners that are killed at random moments, while writers go on: the read model is what the log says.

Where it cannot be in one transaction with the checkpoint, each event is handled at least once, and none before another.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from factfold import Store
from factfold.storage.postgres import Postgres
from factfold.storage.sqlite import SQLite
from factfold.storage.valkey import Valkey
from tests.ledger import accounts
from tests.postgres_faults import end_backends
from tests.racing import eventually
from tests.read_models import Money, balances, balances_in, folded, placed, recording
from tests.runners import children, notes, run_balances, run_noting, write
from tests.servers.postgres import PostgresServer

KILLS = 50

LEASE = 0.2
"""So short that a runner whose turn it is may be taken for dead while it lives, which is to be harmless."""


def kill_runners(storage: SQLite | Postgres, folder: Path, disturb: Callable[[int], object]) -> None:
    """Four runners at a time, of threads and of a loop; any of them is killed, and another one started."""
    seen, enough = folder / "seen", folder / "enough"
    flavours = ["threads", "loop"]
    chance = random.Random(5)
    with Store(storage) as store, children() as processes:
        writers = [processes.start(write, storage, enough, number) for number in range(2)]
        runners = [processes.start(run_balances, storage, flavour, LEASE, seen) for flavour in flavours * 2]
        eventually(lambda: notes(seen))
        for number in range(KILLS):
            time.sleep(chance.uniform(0.02, 0.15))  # a moment that nobody has chosen
            processes.kill(runners.pop(chance.randrange(4)))
            disturb(number)
            runners.append(processes.start(run_balances, storage, flavours[number % 2], LEASE, seen))
        enough.touch()
        for writer in writers:
            writer.join()
        head = store.head()
        assert len(set(notes(seen))) > KILLS, "they came to do something"
        for runner in runners:
            processes.kill(runner)
        store.catch_up(balances())
        assert balances_in(storage) == folded(store)
        assert head > KILLS


def test_in_sqlite(tmp_path: Path) -> None:
    kill_runners(SQLite(tmp_path / "log.db", synchronous="normal"), tmp_path, lambda number: None)


def test_in_postgresql(direct: Postgres, postgres_server: PostgresServer, tmp_path: Path) -> None:
    """Whose own processes are ended, too, now and then: those of the writers, and of runners that live."""

    def disturb(number: int) -> None:
        if number % 5 == 0:
            end_backends(postgres_server)

    storage = placed(direct)
    assert isinstance(storage, Postgres)
    kill_runners(storage, tmp_path, disturb)


def test_in_valkey(valkey: Valkey, tmp_path: Path) -> None:
    seen, enough = tmp_path / "seen", tmp_path / "enough"
    chance = random.Random(5)
    with Store(valkey) as store, children() as processes:
        writer = processes.start(write, valkey, enough, 0)
        runners = [processes.start(run_noting, valkey, LEASE, seen) for _ in range(3)]
        eventually(lambda: notes(seen))
        for _ in range(10):
            time.sleep(chance.uniform(0.02, 0.15))  # a moment that nobody has chosen
            processes.kill(runners.pop(chance.randrange(3)))
            runners.append(processes.start(run_noting, valkey, LEASE, seen))
        enough.touch()
        writer.join()
        store.wait_for(recording([], "noting"), store.head())
        money = [recorded.position for recorded in store.log(types=accounts) if isinstance(recorded.event, Money)]
    assert list(dict.fromkeys(map(int, notes(seen)))) == money
