"""Looks at a bank while it works: python -m examples.dashboard [FILE] [--seconds 10]."""

from __future__ import annotations

import asyncio
import sys
from argparse import ArgumentParser
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.live import Live

from examples.bank.accounts import accounts
from examples.bank.statements import statements
from examples.dashboard.figures import Figures, Flow, read_books
from examples.dashboard.screen import line, picture, summary
from factfold import AsyncStore, FactfoldError
from factfold.storage.sqlite import SQLite

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the dashboard. Returns the exit status: 1 when the books are not balanced, 2 when the input is wrong."""
    parser = ArgumentParser(prog="python -m examples.dashboard", description="A live dashboard of the bank.")
    parser.add_argument("file", nargs="?", help="the SQLite file of a bank (default: a temporary one, and traffic)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to look (default: 10)")
    given = parser.parse_args(arguments)
    console = Console()
    try:
        if given.file is not None:
            if not Path(given.file).is_file():
                parser.error(f"there is no file {given.file}: give one that a bank works on, or none")
            return asyncio.run(watch(console, given.file, given.seconds))
        with TemporaryDirectory(prefix="dashboard-") as directory:
            return asyncio.run(watch_traffic(console, str(Path(directory) / "bank.db"), given.seconds))
    except FactfoldError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0


async def watch_traffic(console: Console, file: str, seconds: float) -> int:
    """Looks at a bank at which another process makes up traffic."""
    async with traffic(file, seconds):
        return await watch(console, file, seconds)


async def watch(console: Console, file: str, seconds: float) -> int:
    """Looks at a bank for so many seconds."""
    async with AsyncStore(SQLite(file)) as store:
        await store.catch_up(statements)  # the tables are there now
        await store.start(statements)
        flow = Flow()
        terminal = Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext()
        async with listening(store, flow) as task:
            with terminal as live:
                while flow.seconds < seconds and not task.done():
                    figures = Figures(flow, read_books(file), await store.projections())
                    if live is not None:
                        live.update(picture(figures), refresh=True)
                    elif flow.history():
                        print(line(figures), flush=True)
                    await asyncio.sleep(min(max(0.0, seconds - flow.seconds), 0.1 if live is not None else 1.0))
        await store.wait_for(statements, await store.head())
        figures = Figures(flow, read_books(file), await store.projections())
    print(summary(figures))
    return 0 if figures.books.balanced else 1


async def listen(store: AsyncStore, flow: Flow) -> None:
    """Counts what happens from now on, whichever process does it."""
    async for recorded in store.subscribe(types=accounts, after="head"):
        flow.add(recorded)


@asynccontextmanager
async def listening(store: AsyncStore, flow: Flow) -> AsyncGenerator[asyncio.Task[None]]:
    """Listens meanwhile. What has gone wrong is raised at the end."""
    task = asyncio.create_task(listen(store, flow))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def traffic(file: str, seconds: float) -> AsyncGenerator[None]:
    """Another process has money transferred meanwhile."""
    command = (sys.executable, "-m", "examples.dashboard.traffic", file, str(seconds))
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        await process.stdout.readline()  # it says so when it begins
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


if __name__ == "__main__":
    sys.exit(main())
