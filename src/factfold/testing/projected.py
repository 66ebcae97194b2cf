"""What has to come of a projection: the rows of its tables, or what it could not handle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, Self

from factfold.testing.differences import all_same, difference
from factfold.testing.parking import Parking, check_event, is_meant, told_of
from factfold.testing.projecting import Built
from factfold.testing.raised import check_error_class, explain, other_than
from factfold.testing.rehearsing import setup_of
from factfold.testing.tables import Row, Tables, checked_rows, row_difference, view

__unittest = True  # see aftermath


class Projected:
    """What came of a projection in a scenario. Every method gives this again, so that the next may follow.

    Where it parked an event, or stopped at one, `then_parked` or `then_stopped` comes first; anything else fails. So
    it does when the projection has other rows when it is built again from the same events.
    """

    def __init__(self, built: Built) -> None:
        self._built = built
        self._parking = Parking(built.handled)
        self._expected_stop = False

    def then_rows(self, table: str, rows: Sequence[Row], /) -> Self:
        """The table has these rows, in whatever order, and no others: tuples, or dicts with the names of all columns.

        Raises DefinitionError when it is no table of the projection, TypeError where there are none.
        """
        __tracebackhide__ = True
        call = f".then_rows({table!r}, ...)"
        expected = checked_rows(call, rows)
        tables = self._tables(call)
        if setup_of(self._built.projection) is None:
            label = self._built.projection.label
            raise TypeError(f"{call}: {label} makes no tables, it has no function below @setup. Ask by .then_query()")
        self._built.projection.physical(table, self._built.namespace)  # which refuses what it does not have
        self._check()
        found = tables.query(f"SELECT * FROM {view(table, self._built.namespace)}")
        differs = row_difference(expected, found.like(expected))
        if differs is not None:
            self._fail(f"has other rows in {table} than expected (- expected, + found):\n{differs}")
        return self

    def then_query(self, sql: str, rows: Sequence[Row], /) -> Self:
        """The query finds these rows, in this order: tuples, or dicts with the names of all columns.

        `{balances}` in it stands for the name of the table `balances`, which on the engine of a store is no plain one.
        Raises the driver's error.
        """
        __tracebackhide__ = True
        expected = checked_rows(".then_query(sql, ...)", rows)
        tables = self._tables(".then_query()")
        self._check()
        for table in self._built.projection.tables:
            sql = sql.replace(f"{{{table}}}", view(table, self._built.namespace))
        try:
            found = tables.query(sql)
        except Exception as error:
            error.add_note(f"This came of .then_query({sql!r}, ...)")
            raise
        seen = found.like(expected)
        if not all_same(expected, seen):
            self._fail(f"has other rows than expected (- expected, + found) in\n  {sql}\n{difference(expected, seen)}")
        return self

    def then_parked(self, event: object, error: type[Exception], /) -> Self:
        """It parked this event, or the one at this position, because of an error of this class, or of a subclass.

        The next call with an equal event asks for another one.
        """
        __tracebackhide__ = True
        check_event("then_parked", event, self._built.projection)
        check_error_class(f".then_parked(event, {error!r})", error)
        self._check_stop()
        wrong = self._parking.name(event, error)
        if wrong is not None:
            self._fail(wrong)
        return self

    def then_stopped(self, event: object, error: type[Exception], /, **attributes: object) -> Self:
        """It stopped at this event, or at this position, by an error of this class, with attributes equal to these.

        What is given after the `given` of this event does not happen.
        """
        __tracebackhide__ = True
        check_event("then_stopped", event, self._built.projection)
        check_error_class(f".then_stopped(event, {error!r})", error)
        stopped = self._built.stopped
        failed = None if stopped is None else self._built.handled.first_after(stopped.position)
        if stopped is None or failed is None:
            self._fail(f"did not stop, and should have at {told_of(event)}, by {error.__name__}")
        if not is_meant(event, failed):
            self._fail(f"stopped at {failed.event!r}, and not at {told_of(event)}: {stopped.reason}", stopped)
        cause = stopped.__cause__
        wrong = other_than(cause if isinstance(cause, Exception) else stopped, error, attributes)
        if wrong is not None:
            self._fail(wrong, stopped)
        self._expected_stop = True
        return self

    def then_all_handled(self) -> Self:
        """It handled everything, without parking an event that no `then_parked` has named, and did not stop.

        All that can be asked of a projection that writes somewhere else than into SQL tables.
        """
        __tracebackhide__ = True
        self._check()
        return self

    # -- inside ----------------------------------------------------------------------------------------------------

    def _tables(self, call: str) -> Tables:
        if self._built.tables is None:
            raise TypeError(
                f"{call}: the projection ran on {self._built.storage}, which has no SQL database for a read model. "
                "scenario() runs it on SQLite, scenario(store) on the engine of a store."
            )
        return self._built.tables

    def _check(self) -> None:
        """Fails when something went wrong that nobody has expected."""
        __tracebackhide__ = True
        self._check_stop()
        wrong = self._parking.unnamed() or self._built.fault
        if wrong:
            self._fail(wrong)

    def _check_stop(self) -> None:
        __tracebackhide__ = True
        stopped = self._built.stopped
        if stopped is not None and not self._expected_stop:
            failed = self._built.handled.first_after(stopped.position)
            if failed is not None:
                explain(stopped, f".then_stopped({failed.event!r}, {type(stopped.__cause__).__name__})")
            raise stopped

    def _fail(self, what: str, cause: Exception | None = None) -> NoReturn:
        __tracebackhide__ = True
        raise AssertionError(f"{self._built.projection.label} {what}") from cause
