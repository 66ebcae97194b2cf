"""The pytest plugin: what its fixtures give, where they run, and what it costs those who do not use them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from factfold import Store
from tests.servers.postgres import PostgresServer
from tests.servers.valkey import ValkeyServer

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parent.parent

TESTS = """
    import asyncio
    from datetime import timedelta
    from factfold import AsyncStore, Store
    from factfold.testing import NOW
    from tests.ledger import accounts, deposit

    def now(tx):
        return tx.now

    def test_one(store):
        assert type(store) is Store
        assert store.execute(deposit, "ann", 5).result == 5
        assert store.head() == 1

    def test_another_one_has_a_log_of_its_own(store):
        assert store.head() == 0

    async def test_in_a_loop(async_store):
        assert type(async_store) is AsyncStore
        assert (await async_store.execute(deposit, "ann", 5)).result == 5
        assert await async_store.head() == 1

    async def test_both_see_one_log(store, async_store):
        store.execute(deposit, "ann", 5)
        assert (await async_store.state(accounts("ann"))).balance == 5

    async def test_the_clock_is_that_of_both(store, async_store, factfold_clock):
        factfold_clock.advance(60)
        assert store.execute(now).result == NOW + timedelta(seconds=60)
        assert (await async_store.execute(now)).result == NOW + timedelta(seconds=60)

    def test_without_a_store(factfold_clock):
        assert factfold_clock() == NOW
"""
CONFIG = "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"


def test_the_fixtures_are_in_memory_where_nothing_is_said(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess(*CONFIG, "-v")
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["*::test_one[[]memory] PASSED*", "*::test_without_a_store PASSED*"])


def test_the_fixtures_run_on_every_engine_that_is_asked_for(
    pytester: pytest.Pytester, postgres_server: PostgresServer, postgres_schema: str, quick_valkey_server: ValkeyServer
) -> None:
    postgres = f"{postgres_server.url}?schema={postgres_schema}"
    valkey = f"{quick_valkey_server.url}?durable=false&prefix=plugin"
    file = pytester.path / "all.db"
    engines = ["memory", "sqlite", postgres, valkey, f"sqlite:///{file}", "sqlite"]
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess(*CONFIG, "-v", *(f"--factfold-engine={engine}" for engine in engines))
    result.assert_outcomes(passed=5 * 5 + 1)
    for engine in ("memory", "sqlite", "postgresql", "valkey"):
        result.stdout.fnmatch_lines([f"*::test_in_a_loop[[]{engine}*] PASSED*"])
    with Store(f"sqlite:///{file}") as store:
        assert store.head() == 0  # each test was in a namespace of its own


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("mysql://localhost/test", "There is no storage mysql:"),
        ("memory:5", "write 'memory:', nothing follows"),
        ("postgres", "is not a url. Did you mean"),
    ],
)
def test_what_is_no_engine_is_refused_before_any_test_runs(pytester: pytest.Pytester, engine: str, said: str) -> None:
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess(*CONFIG, f"--factfold-engine={engine}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: --factfold-engine: " in result.stderr.str()
    assert said in result.stderr.str()
    assert "memory and sqlite need no url" in result.stderr.str()


def test_without_pytest_asyncio_it_says_what_to_install(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_it(async_store): ...
        def test_another(store): ...
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:asyncio", "-p", "no:cacheprovider")
    result.assert_outcomes(errors=1, passed=1)
    assert "async_store needs pytest-asyncio: pip install 'factfold[test]'" in result.stdout.str()


def test_a_project_may_have_fixtures_of_these_names(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest
        @pytest.fixture
        def store():
            return "mine"
        """
    )
    pytester.makepyfile("def test_it(store): assert store == 'mine'")
    pytester.runpytest_inprocess(*CONFIG, "--factfold-engine=sqlite").assert_outcomes(passed=1)


UNUSED = """
import sys
import pytest
before = set(sys.modules)
others = ("asyncio", "hypothesispytest", "anyio", "valkey")
code = pytest.main(["-q", *(option for name in others for option in ("-p", f"no:{name}")), sys.argv[1]])
heavy = {"asyncio", "hypothesis", "sqlite3", "psycopg", "redis", "pydantic", "factfold.testing.contract"}
print(sorted(heavy & (set(sys.modules) - before)), "factfold.testing.plugin" in sys.modules)
sys.exit(code)
"""


def test_who_does_not_use_it_pays_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(): pass")
    done = subprocess.run(
        [sys.executable, "-c", UNUSED, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "[] True"
