"""Whatever is interleaved with whatever: the log is what comes of running its commands one after another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from factfold.storage.memory import Memory
from tests.properties.chance import Chance, chances
from tests.properties.driven import DrivenHeart
from tests.properties.interleaving import Interleaving
from tests.properties.limits import Limits, cache_sizes, examples, limits
from tests.properties.programs import Program, programs

keys = st.lists(st.sampled_from([None, None, None, None, "k"]), min_size=8, max_size=8)


@examples(8)
@given(
    programs=programs(poison=True),
    keys=keys,
    sizes=cache_sizes,
    locks=st.booleans(),
    limits=limits,
    warm=st.booleans(),
    chance=chances(400),
)
def test_commands_are_run_one_after_another(
    programs: list[Program],
    keys: list[str | None],
    sizes: list[int],
    locks: bool,
    limits: Limits,
    warm: bool,
    chance: Chance,
) -> None:
    memory = Memory()
    with limits.apply():
        world = Interleaving(memory, [], programs, keys, chance)
        world.hearts = [DrivenHeart(memory, cache_size=size, locks=locks, decoding=world.meanwhile) for size in sizes]
        if warm:
            world.warm_up()
        world.run()
        world.check()
