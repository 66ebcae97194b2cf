"""Urls of storages: which one each of them means, and what is said about those that mean none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import factfold.storage
from factfold.errors import FactfoldError, InvalidUrlError
from factfold.storage import open_storage
from factfold.storage.base import Storage
from factfold.storage.memory import Memory
from factfold.storage.postgres import Postgres
from factfold.storage.sqlite import SQLite
from factfold.storage.valkey import Valkey


@pytest.mark.parametrize(
    ("url", "storage"),
    [
        ("sqlite:///bank.db", SQLite("bank.db")),
        ("sqlite:///data/bank.db", SQLite("data/bank.db")),
        ("sqlite:////var/lib/bank.db", SQLite("/var/lib/bank.db")),
        ("SQLite:///bank.db", SQLite("bank.db")),
        ("sqlite:///my%20bank%3f.db", SQLite("my bank?.db")),
        ("sqlite:///b%C3%A4nk.db", SQLite("bänk.db")),
        ("sqlite:///bank.db?synchronous=normal", SQLite("bank.db", synchronous="normal")),
        ("sqlite:///bank.db?timeout=10&synchronous=full", SQLite("bank.db", timeout=10.0)),
        ("postgresql://ann@db:5433/bank", Postgres("postgresql://ann@db:5433/bank")),
        ("postgres://db/bank", Postgres("postgresql://db/bank")),
        ("postgresql://db/bank?sslmode=require", Postgres("postgresql://db/bank?sslmode=require")),
        (
            "postgresql://db/bank?schema=shop&sslmode=require&timeout=2.5&pool_size=3&pooler=true&user=a%26b",
            Postgres(
                "postgresql://db/bank?sslmode=require&user=a%26b", schema="shop", timeout=2.5, pool_size=3, pooler=True
            ),
        ),
        ("valkey://db", Valkey("valkey://db")),
        ("redis://ann:secret@db:6380/3", Valkey("redis://ann:secret@db:6380/3")),
        ("REDISS://db?ssl_ca_certs=/ca.pem", Valkey("rediss://db", ssl_ca_certs="/ca.pem")),
        (
            "valkey://a:1,b:2?cluster=true&durable=false&min_replicas=2&timeout=2.5&lease=3&connections=4&prefix=x",
            Valkey(
                "valkey://a:1,b:2",
                cluster=True,
                durable=False,
                min_replicas=2,
                timeout=2.5,
                lease=3.0,
                connections=4,
                prefix="x",
            ),
        ),
    ],
)
def test_a_url_means_a_storage(url: str, storage: Storage) -> None:
    assert open_storage(url) == storage


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://ann:hunter2@db:5433/bank?sslmode=require", "postgresql://ann@db:5433/bank"),
        ("postgresql://:hunter2@/bank", "postgresql://@/bank"),
        ("postgresql://db/bank?password=hunter2", "postgresql://db/bank"),
        ("host=db port=5433 dbname=bank user=ann password=hunter2", "postgresql://ann@db:5433/bank"),
        ("dbname='bank' password = 'hunter2 host=x'", "postgresql:///bank"),
        ("postgresql://ann:hun@ter2@[::1", "postgresql://"),
        ("postgresql://ann:hun/ter2@db/bank", "postgresql://"),
        ("postgresql://ann:hun#ter2@db/bank", "postgresql://"),
    ],
)
def test_the_name_of_a_server_holds_no_password(url: str, name: str) -> None:
    storage = Postgres(url)
    assert storage.name == name
    assert "hun" not in repr(storage)


def test_the_name_and_the_text_of_a_server_hold_no_password() -> None:
    storage = Valkey("valkey://ann:hun%40ter2@db:6380/3")
    assert storage.name == "valkey://db:6380/3"
    assert storage.server().password == "hun@ter2"
    assert "hun" not in repr(storage) + repr(storage.server())


def test_memory_is_a_new_log_each_time() -> None:
    one, other = open_storage("memory:"), open_storage("memory:")
    assert isinstance(one, Memory)
    assert one is not other


def test_a_storage_is_itself() -> None:
    storage = Memory()
    assert open_storage(storage) is storage


@pytest.mark.parametrize("path", ["bank.db", "/var/lib/bank.db", "50% off?.db", "a b#c.db"])
def test_the_name_of_a_storage_is_its_url(path: str) -> None:
    assert open_storage(SQLite(path).name) == SQLite(path)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("bank.db", "'sqlite:///bank.db'"),
        ("./data/bank.db", "'sqlite:///./data/bank.db'"),
        ("/var/lib/bank.db", "'sqlite:////var/lib/bank.db'"),
        ("C:\\data\\bank.db", "is not a url"),
        ("", "is not a url"),
        ("memory", "'memory:'"),
        (":memory:", "'memory:'"),
        ("memory://", "write 'memory:'"),
        ("sqlite:bank.db", "'sqlite:///bank.db'"),
        ("sqlite://bank.db", "'sqlite:///bank.db'"),
        ("sqlite:", "three slashes"),
        ("sqlite:///", "is no path"),
        ("sqlite:///:memory:", "Memory()"),
        ("sqlite:///bank.db?synchronos=full", "Did you mean 'synchronous'?"),
        ("sqlite:///bank.db?colour=red", "synchronous, timeout"),
        ("sqlite:///bank.db?timeout=soon", "cannot be 'soon'"),
        ("sqlite:///bank.db?timeout=-1", "above 0"),
        ("sqlite:///bank.db?timeout=nan", "above 0"),
        ("sqlite:///bank.db?synchronous=off", "'full' or 'normal'"),
        ("sqlite:///bank.db?timeout=1&timeout=2", "twice"),
        ("sqlte:///bank.db", "Did you mean sqlite:?"),
        ("postgresql:bank", "two slashes"),
        ("postgresql://localhost/bank?timeout=soon", "cannot be 'soon'"),
        ("postgresql://localhost/bank?pooler=perhaps", "cannot be 'perhaps'"),
        ("postgresql://localhost/bank?pool_size=0", "above 0"),
        ("postgresql://localhost/bank?schema=Bank", "cannot be a schema"),
        ("postgresql://localhost/bank?schema=pg_bank", "cannot be a schema"),
        ("postgresql://localhost/bank?schema=a&schema=b", "twice"),
        ("valkey:localhost", "two slashes"),
        ("valkey://localhost/bank", "number of a database"),
        ("valkey://localhost:port", "not a host and a port"),
        ("valkey://localhost?cluster=perhaps", "cannot be 'perhaps'"),
        ("valkey://localhost/1?cluster=true", "database 0 only"),
        ("valkey://a,b", "cluster=True"),
        ("valkey://localhost?min_replicas=-1", "number of replicas"),
        ("valkey://localhost?timeout=0", "above 0"),
        ("valkey://localhost?lease=0", "0.01 or more"),
        ("valkey://localhost?connections=0", "above 0"),
        ("valkey://localhost?prefix={x}", "cannot be a prefix"),
        ("valkey://localhost?ssl_ca_certs=ca.pem", "valkeys://"),
        ("valkey://localhost?replicas=1", "Did you mean 'min_replicas'?"),
        ("nats://localhost", "not in this version"),
        ("mysql://localhost", "There is no storage mysql:"),
    ],
)
def test_an_unusable_url_is_refused_with_a_hint(url: str, said: str) -> None:
    with pytest.raises(InvalidUrlError) as refused:
        open_storage(url)
    assert said in str(refused.value)
    assert isinstance(refused.value, FactfoldError | ValueError)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bob:hunter2@db/bank?timeout=0",
        "postgresql://bob:hunter2@db/bank?timeout=x",
        "postgrsql://bob:hunter2@db",
        "x://a:hunter2@b",
        "valkey://bob:hunter2@db/bank",
        "valkey://bob:hunter2@db:port",
        "valkey://bob:hunter2@db?timeout=x",
        "valkey://bob:hunter2@a,b",
        "valkey:bob:hunter2@db",
        "redis://bob:hunter2?@db",
        "redis://bob:hunter2/@db",
    ],
)
def test_no_message_repeats_a_password(url: str) -> None:
    with pytest.raises(InvalidUrlError) as refused:
        open_storage(url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("storage", [None, 7, Path("bank.db"), b"memory:", Memory])
def test_what_is_no_storage_is_refused(storage: object) -> None:
    with pytest.raises(InvalidUrlError, match="A storage is a url or an object"):
        open_storage(storage)  # type: ignore[arg-type]  # what is tested


def test_the_contract_is_exported() -> None:
    for name in factfold.storage.__all__:
        assert hasattr(factfold.storage, name)


@pytest.mark.parametrize("used", ["import factfold", "import factfold; factfold.storage.open_storage('memory:')"])
def test_no_driver_is_imported_before_it_is_needed(used: str) -> None:
    script = f"{used}\nimport sys\nprint({{'sqlite3', 'psycopg', 'redis'}} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment, timeout=60
    )
    assert said.stdout.strip() == "set()"
