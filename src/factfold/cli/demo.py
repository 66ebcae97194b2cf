"""`factfold demo`: transfers between bank accounts from several processes against one store, and then an audit."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from factfold import AsyncStore, FactfoldError, Store
from factfold.cli.audit import audit
from factfold.cli.bank import open_account
from factfold.cli.crew import Crew
from factfold.cli.display import Meter, last_events, screen, summary, verdict, wide_console
from factfold.cli.output import fail, printable
from factfold.cli.worker import SAMPLE_SECONDS, Job
from factfold.storage import Storage, open_storage
from factfold.storage.memory import Memory
from factfold.storage.sqlite import SQLite

DEPOSIT = 1000
"""What every account starts with: little enough that some transfers have to be rejected."""


def demo(*, url: str | None, seconds: float, tasks: int, processes: int | None, accounts: int) -> bool:
    """Runs the demo. True when every check held and nothing failed."""
    console = wide_console()
    with _place(url) as storage:
        in_process = isinstance(storage, Memory)
        workers = processes or (1 if in_process else 2)
        if in_process and workers > 1:
            fail(
                f"memory: lives in one process, and {workers} are wanted. Use --processes 1, or a store they can share."
            )
        job = Job(storage, secrets.token_hex(3), accounts, tasks, seconds)
        after = asyncio.run(_open_accounts(job))
        console.print(
            f"{accounts:,} accounts opened in {printable(storage.name)}\n"
            f"{tasks} tasks in {'one process' if workers == 1 else f'each of {workers} processes'} "
            f"transfer money for {seconds:g} s",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        try:
            return _run(console, job, workers, after, in_process=in_process)
        except FactfoldError as error:
            print("factfold: the store failed:", printable(" ".join(str(error).split())), file=sys.stderr)
            return False


def _run(console: Console, job: Job, workers: int, after: int, *, in_process: bool) -> bool:
    with Crew(job, workers, in_process=in_process) as crew:
        begun = crew.begin()
        meter = Meter(job.seconds)
        with screen(console, meter) as shown:
            while begun and crew.running:
                crew.listen(SAMPLE_SECONDS)
                meter.read(crew.total())
                shown.show()
        seconds = meter.elapsed
    total = crew.total()
    with Store(job.storage) as store:
        audited = audit(store, job.run, job.accounts, DEPOSIT, total.transferred, after, whole=not crew.failures)
    console.print()
    console.print(summary(total, seconds), highlight=False)
    console.print()
    console.print(verdict(audited, crew.failures), highlight=False)
    console.print(f"\nThe last events of {audited.busiest}:", highlight=False, markup=False)
    console.print(last_events(audited))
    return audited.passed and not crew.failures


@contextmanager
def _place(url: str | None) -> Generator[Storage]:
    """The storage that is asked for, or a temporary SQLite file, removed afterwards."""
    if url is not None:
        yield open_storage(url)
        return
    with TemporaryDirectory(prefix="factfold-demo-") as directory:
        yield SQLite(Path(directory) / "demo.db")


async def _open_accounts(job: Job) -> int:
    """Opens the accounts of a run, and returns the position of the last event before them."""
    async with AsyncStore(job.storage) as store:
        before = await store.head()
        await asyncio.gather(*(store.execute(open_account, job.run, n, DEPOSIT) for n in range(job.accounts)))
    return before
