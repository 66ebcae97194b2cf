"""Whatever is decided ahead, and whatever becomes of it: the log is what comes of running its commands one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from factfold.storage.memory import Memory
from tests.properties.chance import Chance, chances
from tests.properties.driven import DrivenHeart
from tests.properties.interleaving import Interleaving
from tests.properties.limits import Limits, examples
from tests.properties.programs import Program, programs

keys = st.lists(st.sampled_from([None, None, None, None, "k"]), min_size=16, max_size=16)


class Eager(Interleaving):
    """As soon as something can be decided ahead, it mostly is."""

    def _act(self) -> None:
        ready = [heart for heart in self.hearts if heart.can_prepare]
        if ready and self.chance.below(4) < 3:
            self._do([heart.prepare for heart in ready])
        else:
            super()._act()


@examples(8)
@given(
    programs=programs(max_size=16, poison=True),
    keys=keys,
    sizes=st.lists(st.sampled_from([10, 10, 0, 2]), min_size=1, max_size=2),
    locks=st.booleans(),
    commands=st.sampled_from([1000, 1, 2]),
    apart=st.booleans(),
    warm=st.sampled_from([True, True, False]),
    chance=chances(400),
)
def test_commands_are_run_one_after_another(
    programs: list[Program],
    keys: list[str | None],
    sizes: list[int],
    locks: bool,
    commands: int,
    apart: bool,
    warm: bool,
    chance: Chance,
) -> None:
    memory = Memory()
    with Limits(commands=commands, ahead=True, apart=apart).apply():
        world = Eager(memory, [], programs, keys, chance)
        world.hearts = [DrivenHeart(memory, cache_size=size, locks=locks, decoding=world.meanwhile) for size in sizes]
        if warm:
            world.warm_up()
        world.run()
        world.check()
