"""What a fold is told of its stream is what events say of it, wherever the events are folded."""

from __future__ import annotations

import pytest

from factfold import Store
from tests.conftest import MakeStore
from tests.ledger import accounts, balances, deposit, transfer


@pytest.mark.parametrize("name", ["b/c", "50%", "a%2Fb", "plain"])
def test_both_streams_of_a_shared_event_know_which_one_they_are(make_store: MakeStore, rival: Store, name: str) -> None:
    here = make_store()
    here.execute(deposit, "ann", 10)
    assert here.state(balances(name)) == 0
    here.execute(transfer, "ann", name, 1)  # folded as it was appended, through both folds
    assert here.state(balances(name)) == 1
    rival.execute(transfer, "ann", name, 2)  # loaded
    here.execute(transfer, name, "ann", 1)  # refreshed by what the rival has written
    assert (here.state(accounts(name)).balance, here.state(balances(name))) == (2, 2)
    assert make_store().state(balances(name)) == 2
