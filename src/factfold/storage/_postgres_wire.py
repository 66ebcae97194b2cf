"""How values travel to PostgreSQL and back: its binary formats, and one connection's side of the protocol.

`Wire` puts a question on a connection and takes the answer from it, and never waits: those who drive it do, with
threads or with an event loop. It works on libpq itself (`psycopg.pq`): that costs a fraction of what a cursor does, and
it leaves the waiting, its limits and its interruption to the drivers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct as Packing
from typing import Any, Generic, TypeAlias, TypeVar

import psycopg
from msgspec import Struct
from psycopg import pq
from psycopg.adapt import AdaptersMap, Transformer
from psycopg.pq.abc import PGconn, PGresult
from psycopg.types.numeric import Int8BinaryLoader
from psycopg.types.string import ByteaBinaryLoader

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Parameter: TypeAlias = bytes | None
Row: TypeAlias = tuple[Any, ...]
"""A row of an answer: integers, and the bytes of all that is text, uuid or jsonb. Times are microseconds since 2000."""

# -- Parameters --------------------------------------------------------------------------------------------------------

TEXT, INT4, INT8, UUID, JSONB, BYTEA = 25, 23, 20, 2950, 3802, 17
"""Oids of types, which are the same in every server."""

NULL = b"\xff\xff\xff\xff"
"""NULL as an element of an array."""

int4 = Packing(">i").pack
int8 = Packing(">q").pack
int4_element = Packing(">ii").pack
int8_element = Packing(">iq").pack
"""These two take the length first: `int4_element(4, value)` and `int8_element(8, value)`."""
json_header = Packing(">ib").pack
"""What stands before JSON in an array of jsonb: `json_header(len(value) + 1, 1) + value`."""
_array_header = Packing(">iiIii").pack
_EMPTY_ARRAY = Packing(">iiI").pack


def boolean(value: bool) -> bytes:
    """A boolean parameter."""
    return b"\x01" if value else b"\x00"


def element(value: bytes) -> bytes:
    """A value as an element of an array: its length comes first."""
    return int4(len(value)) + value


@lru_cache(maxsize=4096)
def known_element(value: str) -> bytes:
    """A text that comes again and again, as an element of an array."""
    return element(value.encode())


def array(type: int, elements: Sequence[bytes]) -> bytes:
    """An array of elements that have their lengths in front, or are NULL."""
    if not elements:
        return _EMPTY_ARRAY(0, 0, type)
    return _array_header(1, 1, type, len(elements), 1) + b"".join(elements)


def texts(values: Sequence[str]) -> bytes:
    """An array of texts."""
    return array(TEXT, [element(value.encode()) for value in values])


# -- Questions ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL text with a name, under which it is prepared; all its parameters are sent in binary formats."""

    name: bytes
    sql: bytes
    formats: tuple[int, ...]

    @classmethod
    def call(cls, schema: str, function: str, parameters: int) -> Statement:
        """A call of one of the schema's functions. `schema` is quoted."""
        marks = ", ".join(f"${number}" for number in range(1, parameters + 1))
        return cls(function.encode(), f"SELECT * FROM {schema}.{function}({marks})".encode(), (1,) * parameters)


class Question(Struct, Generic[R_co], frozen=True):
    """What is sent in one go, and how its answer is read.

    `opens`: a transaction is begun before, and stays open. `ends`: the one that is open is committed after. `locks`: it
    may have to wait for the writers' lock, or for that of a value. `once`: asked a second time it would mean another
    thing.
    """

    statement: Statement
    parameters: Sequence[Parameter]
    read: Callable[[Sequence[Row]], R_co]
    opens: bool = False
    ends: bool = False
    locks: bool = False
    once: bool = False


class Script(Struct, frozen=True):
    """Statements without parameters, several if need be, whose answers nobody reads."""

    sql: bytes


class ServerError(Exception):
    """The server refused a question. `fatal`: it has closed the connection as well."""

    def __init__(self, result: PGresult) -> None:
        def field(code: pq.DiagnosticField) -> str:
            return (result.error_field(code) or b"").decode(errors="replace")

        self.state = field(pq.DiagnosticField.SQLSTATE)
        self.hint = field(pq.DiagnosticField.MESSAGE_HINT)
        self.fatal = field(pq.DiagnosticField.SEVERITY_NONLOCALIZED) in ("FATAL", "PANIC")
        super().__init__(field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.get_error_message().strip())


class ConnectionLostError(Exception):
    """The connection broke, or nothing came for too long. `sent`: the server may have got the question."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


# -- Sessions ----------------------------------------------------------------------------------------------------------

_OK = pq.ConnStatus.OK
_OPEN = (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)


class Connected:
    """What threads and event loops can tell of a session without asking the server."""

    def __init__(self, pgconn: PGconn) -> None:
        self._pgconn = pgconn

    @property
    def server_version(self) -> int:
        """As `server_version_num` says it."""
        return self._pgconn.server_version

    @property
    def closed(self) -> bool:
        """Whether it has ended, as far as is known."""
        return self._pgconn.status != _OK

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._pgconn.transaction_status in _OPEN

    @property
    def has_failed(self) -> bool:
        """Whether a statement of the open transaction has failed, so that it can only be rolled back."""
        return self._pgconn.transaction_status == pq.TransactionStatus.INERROR


# -- The wire ----------------------------------------------------------------------------------------------------------

_ADAPTERS = AdaptersMap(psycopg.adapters)
for _type in ("text", "uuid", "jsonb", "bytea"):
    _ADAPTERS.register_loader(_type, ByteaBinaryLoader)
for _type in ("int8", "timestamptz"):
    _ADAPTERS.register_loader(_type, Int8BinaryLoader)

_BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED"
_COMMIT = b"COMMIT"
_SUCCESSES = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)
_SYNC = pq.ExecStatus.PIPELINE_SYNC
_ABORTED = pq.ExecStatus.PIPELINE_ABORTED
_BINARY = pq.Format.BINARY


class Wire:
    """One connection: `send` a question, `flush` it, `receive` until the answer is there, then take its `rows`.

    Each of these may raise psycopg.OperationalError: the connection is lost.
    """

    def __init__(self, pgconn: PGconn, *, prepares: bool) -> None:
        self.pgconn = pgconn
        self._prepares = prepares
        self._prepared: set[bytes] = set()
        self._transformer = Transformer(_ADAPTERS)
        self._results: list[PGresult] = []
        self._pipelined = False
        self._preparing: bytes | None = None
        self._told = True

    def prepare_no_more(self) -> None:
        """Somebody else uses the connection, who may take prepared statements away, as psycopg does after a DROP."""
        self._prepares = False

    def send(self, question: Question[object] | Script) -> None:
        """Puts a question into the buffer of what is to be sent."""
        pgconn = self.pgconn
        self._results = []
        self._told = isinstance(question, Question)
        if isinstance(question, Script):
            pgconn.send_query(question.sql)
            return
        statement = question.statement
        prepares = self._prepares
        new = prepares and statement.name not in self._prepared
        if new or question.opens or question.ends:
            pgconn.enter_pipeline_mode()
            self._pipelined = True
        if question.opens:
            pgconn.send_query_params(_BEGIN, None)
        if new:
            pgconn.send_prepare(statement.name, statement.sql)
            self._preparing = statement.name
        if prepares:
            pgconn.send_query_prepared(statement.name, question.parameters, statement.formats, _BINARY)
        else:
            pgconn.send_query_params(
                statement.sql, question.parameters, param_formats=statement.formats, result_format=_BINARY
            )
        if question.ends:
            pgconn.send_query_params(_COMMIT, None)
        if self._pipelined:
            pgconn.pipeline_sync()

    def flush(self) -> bool:
        """Sends what the network takes now; False when something is left."""
        return self.pgconn.flush() == 0

    def receive(self) -> bool:
        """Takes what has been read from the network; True when the answer is complete."""
        pgconn = self.pgconn
        while not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:
                if not self._pipelined:
                    return True
                if pgconn.status == pq.ConnStatus.BAD:
                    raise psycopg.OperationalError("the connection was closed in the middle of an answer")
            elif result.status == _SYNC:
                pgconn.exit_pipeline_mode()
                self._pipelined = False
                return True
            else:
                self._results.append(result)
        return False

    def rows(self) -> Sequence[Row]:
        """The rows of the answer. Raises `ServerError` when it is an error."""
        preparing, self._preparing = self._preparing, None
        results, self._results = self._results, []
        answer: PGresult | None = None
        for result in results:
            if result.status in _SUCCESSES:
                if preparing is not None and result.command_status == b"":
                    self._prepared.add(preparing)
                if result.nfields:
                    answer = result
            elif result.status != _ABORTED:
                raise ServerError(result)
        if answer is None or not self._told:
            return ()
        transformer = self._transformer
        transformer.set_pgresult(answer, set_loaders=True, format=_BINARY)
        return transformer.load_rows(0, answer.ntuples, tuple)

    def last_words(self) -> ServerError | None:
        """What the server said before it closed the connection, if it said anything."""
        said = (result for result in self._results if result.status == pq.ExecStatus.FATAL_ERROR)
        return next((error for error in map(ServerError, said) if error.state), None)


def announced(pgconn: PGconn) -> list[str]:
    """What was announced on the channels that a connection listens to, as far as it has been read."""
    found: list[str] = []
    while (notice := pgconn.notifies()) is not None:
        found.append(notice.extra.decode())
    return found
