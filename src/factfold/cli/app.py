"""The commands of `factfold`, their arguments and options; what they do is in the files named after them."""

from __future__ import annotations

from typing import Annotated

import typer

from factfold.cli import demo as demonstration
from factfold.cli import inspect
from factfold.cli import migrate as migration
from factfold.cli import projections as consumers
from factfold.cli.output import one_line_errors

app = typer.Typer(
    name="factfold",
    help="Look into a factfold store, or see one at work.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Url = Annotated[str, typer.Argument(metavar="URL", help="The store, such as sqlite:///bank.db", show_default=False)]
Namespace = Annotated[str, typer.Option(metavar="NAME", help="The namespace to look into.")]

ACTIONS = "list (default), run, rebuild, parked, replay, discard, or withdraw (from running inline)."


@app.command()
def demo(
    store: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The store to run on.", show_default="a temporary SQLite file"),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="How long to run transfers.")] = 8.0,
    tasks: Annotated[int, typer.Option(min=1, max=10_000, help="Concurrent tasks in each process.")] = 32,
    processes: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes.", show_default="2, or 1 for memory:")
    ] = None,
    accounts: Annotated[int, typer.Option(min=2, max=100_000, help="Bank accounts.")] = 100,
) -> None:
    """Transfers money between bank accounts, in many tasks and several processes, and checks that none was lost."""
    with one_line_errors():
        whole = demonstration.demo(url=store, seconds=seconds, tasks=tasks, processes=processes, accounts=accounts)
    if not whole:
        raise typer.Exit(1)


@app.command()
def streams(
    url: Url,
    category: Annotated[str | None, typer.Argument(metavar="CATEGORY", help="Only those of this category.")] = None,
    namespace: Namespace = "default",
) -> None:
    """Lists the streams, each with its version and the position of its last event."""
    with one_line_errors():
        inspect.streams(url, namespace, category)


@app.command()
def show(
    url: Url,
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The stream's id, such as account:alice")],
    namespace: Namespace = "default",
) -> None:
    """Shows the events of one stream."""
    with one_line_errors():
        inspect.show(url, namespace, stream)


@app.command()
def log(
    url: Url,
    after: Annotated[int, typer.Option(min=0, metavar="N", help="Only what stands above this position.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="At most so many events.")] = None,
    namespace: Namespace = "default",
) -> None:
    """Shows the log: all events, in order of position."""
    with one_line_errors():
        inspect.log(url, namespace, after, limit)


@app.command()
def verify(url: Url, namespace: Namespace = "default") -> None:
    """Checks that the log is whole: no gap in positions and versions, nothing damaged."""
    with one_line_errors():
        whole = inspect.verify(url, namespace)
    if not whole:
        raise typer.Exit(1)


@app.command()
def migrate(
    url: Url, sql: Annotated[bool, typer.Option("--sql", help="Print the SQL (PostgreSQL), and do nothing.")] = False
) -> None:
    """Makes the tables of a store, or brings them up to date: for a role that may, before others work with them."""
    with one_line_errors():
        if sql:
            migration.print_sql(url)
        else:
            migration.migrate(url)


@app.command()
def projections(
    url: Url,
    place: Annotated[
        str | None,
        typer.Argument(metavar="MODULE:NAME", help="Where your projections stand, such as bank.views:balances"),
    ] = None,
    action: Annotated[consumers.Action, typer.Argument(metavar="ACTION", help=ACTIONS)] = consumers.Action.LIST,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Only the one of this name.")] = None,
    position: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the event parked there.")] = None,
    namespace: Namespace = "default",
) -> None:
    """Lists projections and reactions, runs and rebuilds them, and sees to the events that they have parked."""
    with one_line_errors():
        done = consumers.act(url, namespace, place, action, name, position)
    if not done:
        raise typer.Exit(1)
