"""When commands are decided in two groups: as the times that things took suggest it."""

from __future__ import annotations

from factfold.pace import ALONE, Pace


def pace(*, deciding: float, flying: float) -> Pace:
    """Measured for long enough: so many seconds for a command, and for an append."""
    measured = Pace()
    for _ in range(100):
        measured.decided(10, 10 * deciding)
        measured.landed(flying, alone=True)
    return measured


def test_it_pays_when_commands_take_as_long_as_their_append() -> None:
    assert pace(deciding=10e-6, flying=1e-3).pays(64)


def test_it_does_not_pay_for_few_commands() -> None:
    assert not pace(deciding=10e-6, flying=1e-3).pays(8)


def test_it_does_not_pay_where_appends_take_long() -> None:
    assert not pace(deciding=10e-6, flying=10e-3).pays(64)


def test_it_does_not_pay_while_others_write() -> None:
    disturbed = pace(deciding=10e-6, flying=1e-3)
    disturbed.landed(1e-3, alone=False)

    assert not disturbed.is_alone
    assert not disturbed.pays(64)


def test_it_does_not_pay_after_a_lost_race_until_nobody_else_has_written_for_a_while() -> None:
    disturbed = pace(deciding=10e-6, flying=1e-3)
    disturbed.lost()
    for _ in range(ALONE - 1):
        disturbed.landed(1e-3, alone=True)
    assert not disturbed.pays(64)

    disturbed.landed(1e-3, alone=True)

    assert disturbed.pays(64)
