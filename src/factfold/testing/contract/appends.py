"""The contract of `append`: order, atomicity, and the condition under which it happens."""

from __future__ import annotations

import time

from factfold.storage.base import EMPTY, Appended, Conflict, Head, Log, LogPage, Selection, Storage
from factfold.testing.contract.running import logs, one_log
from factfold.testing.contract.scribe import Scribe, appending, facts, loading, new, read_log, selection, several

DAY = 86_400_000_000
"""A day in microseconds."""


class AppendContract:
    """What an append writes, and when it must not."""

    # -- Order ---------------------------------------------------------------------------------------------------------

    def test_a_new_log_is_empty(self, storage: Storage) -> None:
        """A namespace that was never written to has the head EMPTY and holds nothing."""
        with one_log(storage) as log:
            assert log.head() == EMPTY
            assert list(log.read(LogPage(0, 10))) == []
            assert list(log.streams(None, "", 10)) == []
            assert log.load(loading(selection("a:1"))).head == EMPTY

    def test_positions_are_dense_and_in_order(self, storage: Storage) -> None:
        """Positions are 1, 2, 3, ... through appends of one event and of several."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            for count in (1, 3, 1, 2, 10):
                scribe.write(*several(count, "a:1"))
            assert [stored.position for stored in read_log(log)] == list(range(1, 18))
            scribe.assert_unchanged()

    def test_versions_are_dense_in_each_stream(self, storage: Storage) -> None:
        """Each stream counts its own events: 1, 2, 3, ..., whatever is written to others in between."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(new("a:1"), new("b:1"), new("a:1"))
            scribe.write(new("b:1"))
            scribe.write(new("c:1"), new("a:1"), new("b:1"), new("b:1"))
            scribe.assert_unchanged()
            versions = {
                stream: [stored.streams[stream] for stored in log.load(loading(selection(stream))).slices[0].events]
                for stream in ("a:1", "b:1", "c:1")
            }
            assert versions == {"a:1": [1, 2, 3], "b:1": [1, 2, 3, 4], "c:1": [1]}

    def test_the_head_is_the_last_event(self, storage: Storage) -> None:
        """`head()` has the position and the id of the last event, after every append."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            for _ in range(3):
                events = several(2, "a:1")
                answer = scribe.write(*events)
                assert log.head() == Head(answer.first + 1, events[-1].id)

    def test_an_event_comes_back_as_it_was_written(self, storage: Storage) -> None:
        """Id, type, type version, data, metadata and streams are kept, per event."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(
                new("a:1", type="Opened", data=b'{"owner":"alice"}', metadata=b'{"actor":"bob"}', type_version=3),
                new("a:1", "b:1", type="Moved", data=b"[1,2]", type_version=1),
            )
            assert facts(read_log(log)) == facts(scribe.events)

    def test_recorded_at_never_goes_backwards(self, storage: Storage) -> None:
        """`recorded_at` is microseconds of today, one for an append, and never earlier than the one before."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            answers = [scribe.write(*several(3, "a:1")) for _ in range(20)]
            times = [stored.recorded_at for stored in read_log(log)]
            assert times == sorted(times), "the log's times go backwards"
            assert times == [answer.recorded_at for answer in answers for _ in range(3)], (
                "the answer tells the stored time"
            )
            now = time.time_ns() // 1000
            assert abs(times[-1] - now) < DAY, f"{times[-1]} is not near {now}: microseconds since 1970, UTC"

    # -- Atomicity -----------------------------------------------------------------------------------------------------

    def test_an_append_to_several_streams_is_all_or_nothing(self, storage: Storage) -> None:
        """One failed selection keeps every event of the append out, and burns no position and no version."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(new("a:1"))
            before = scribe.head
            scribe.write(new("c:1"))
            events = [new("a:1"), new("b:1"), new("a:1", "b:1", "c:1")]
            answer = log.append(appending(events, before, *map(selection, ("a:1", "b:1", "c:1"))))
            assert isinstance(answer, Conflict), "c:1 has an event above `after`"
            scribe.assert_unchanged()
            assert log.load(loading(selection("b:1"))).slices[0].version == 0
            assert [info.id for info in log.streams(None, "", 10)] == ["a:1", "c:1"], "a failed append makes no stream"
            scribe.write(*events)
            scribe.assert_unchanged()

    def test_one_event_in_several_streams_is_stored_once(self, storage: Storage) -> None:
        """A shared event has one position and one id, and a version in each of its streams."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(new("course:1"), new("course:1"), new("student:1"))
            scribe.write(new("course:1", "student:1"))
            shared = new("course:1", "student:1", "student:2")
            scribe.write(shared, new("student:2"))
            scribe.assert_unchanged()
            stored = [stored for stored in read_log(log) if stored.id == shared.id]
            assert [(one.position, dict(one.streams)) for one in stored] == [
                (5, {"course:1": 4, "student:1": 3, "student:2": 1})
            ]

    def test_a_batch_of_10_000_events_is_one_append(self, storage: Storage) -> None:
        """A big append over 100 streams happens at once, with dense positions and versions."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(new("a:0"))
            streams = [f"a:{number}" for number in range(100)]
            events = [new(streams[number % 100], streams[number * 7 % 100 - 1]) for number in range(9_900)]
            events = [one if len(set(one.streams)) == 2 else new(one.streams[0]) for one in events]
            events += several(100, "b:1")
            checked = [selection(stream) for stream in streams]
            scribe.must_append(appending(events, scribe.head, *checked, versions=dict(scribe.versions)))
            scribe.assert_unchanged()

    def test_thousands_of_selections_are_checked_at_once(self, storage: Storage) -> None:
        """A batch of many commands asks about many streams; a driver's limit of parameters must not show."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(*several(3, "a:4000"))
            start = scribe.head
            checked = [selection(f"a:{number}", "Noted", "Moved") for number in range(5_000)]
            scribe.must_append(appending([new("a:4999")], start, *checked))
            scribe.assert_told(log.check(appending([new("a:1")], start, *checked).check), start, {4999})
            answer = log.append(appending([new("a:1")], EMPTY, *checked))
            assert isinstance(answer, Conflict)
            scribe.assert_told(answer.news, EMPTY, {4000, 4999})

    # -- The condition -------------------------------------------------------------------------------------------------

    def test_a_stream_that_was_only_read_is_checked(self, storage: Storage) -> None:
        """A selection fails an append that writes elsewhere."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(new("limit:1"), new("account:1"))
            before = scribe.head
            scribe.write(new("limit:1"))
            answer = log.append(appending([new("account:1")], before, selection("limit:1"), selection("account:1")))
            assert _failed(answer) == {0}, "limit:1 has changed since it was read, and only limit:1"
            scribe.assert_unchanged()

    def test_write_skew_is_impossible(self, storage: Storage) -> None:
        """Of two appends that read the same two streams and write one each, the second fails."""
        with logs(storage, 2) as (one, other):
            scribe = Scribe(one)
            scribe.write(new("doctor:1"), new("doctor:2"))
            both = (selection("doctor:1"), selection("doctor:2"))
            scribe.must_append(appending([new("doctor:1")], Head(2, scribe.events[1].id), *both))
            answer = other.append(appending([new("doctor:2")], Head(2, scribe.events[1].id), *both))
            assert _failed(answer) == {0}, "the other doctor has left since"
            scribe.assert_unchanged()

    def test_an_event_of_another_type_does_not_conflict(self, storage: Storage) -> None:
        """A selection with types looks at events of these types only, in its stream."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(new("course:1", type="Defined"))
            before = scribe.head
            scribe.write(new("course:1", type="Renamed"), new("course:2", type="Enrolled"))
            narrow = selection("course:1", "Enrolled", "Left")
            scribe.must_append(appending([new("course:1", type="Enrolled")], before, narrow))
            answer = log.append(appending([new("course:1", type="Enrolled")], before, narrow))
            assert _failed(answer) == {0}, "an event of one of its types fails the selection"
            scribe.assert_unchanged()

    def test_a_selection_without_types_looks_at_all_events(self, storage: Storage) -> None:
        """`types=None` fails for an event of any type."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            for type in ("Defined", "Renamed", "$internal"):
                before = scribe.head
                scribe.write(new("course:1", type=type))
                answer = log.append(appending([new("course:2")], before, Selection("course:1", None)))
                assert _failed(answer) == {0}, f"course:1 has a new event of type {type}"
            scribe.assert_unchanged()

    def test_a_shared_event_conflicts_in_each_of_its_streams(self, storage: Storage) -> None:
        """An event in several streams fails the selections of all of them."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(new("a:1", "b:1", "c:1", type="Shared"))
            checked = (
                selection("a:1"),
                selection("b:1", "Shared"),
                selection("c:1", "Other"),
                selection("d:1"),
                selection("c:1"),
            )
            assert _failed(log.append(appending([new("d:1")], EMPTY, *checked))) == {0, 1, 4}

    def test_all_failed_selections_are_told_at_once(self, storage: Storage) -> None:
        """A conflict names every selection that failed, none that did not, and brings all that was missed."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(*several(3, "a:1"), new("b:1"), new("e:1"))
            before = scribe.head
            scribe.write(new("a:1", type="Moved"), new("d:1"))
            scribe.write(new("b:1", "c:1"), new("unasked:1"))
            checked = (
                selection("a:1"),
                selection("a:1", "Noted"),
                selection("b:1"),
                selection("c:1", "Noted", "Moved"),
                selection("d:1", "Moved"),
                selection("e:1"),
                selection("never:1"),
                selection("a:1", "Moved"),
            )
            answer = log.append(appending([new("e:1")], before, *checked, versions={"a:1": 3, "b:1": 1, "e:1": 1}))
            assert isinstance(answer, Conflict)
            scribe.assert_told(answer.news, before, {0, 2, 3, 7})
            scribe.assert_unchanged()

    def test_what_is_not_above_after_does_not_fail(self, storage: Storage) -> None:
        """Events at `after` and below it are known to the asker; the append's own events are not in its own way."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(*several(5, "a:1"))
            scribe.must_append(appending(several(3, "a:1"), scribe.head, selection("a:1")))
            scribe.must_append(appending([new("a:1")], scribe.head, selection("a:1"), versions={"a:1": 8}))
            scribe.write(new("b:1"))
            after_the_last_of_a = scribe.events[-2].head
            scribe.must_append(appending([new("a:1")], after_the_last_of_a, selection("a:1")))
            scribe.assert_unchanged()

    def test_streams_may_be_written_without_being_checked(self, storage: Storage) -> None:
        """An append without selections always happens, after whatever it knows of."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            for _ in range(3):
                scribe.must_append(appending([new("a:1"), new("a:1", "b:1")], EMPTY))
            scribe.assert_unchanged()

    def test_known_versions_are_a_hint_and_no_truth(self, storage: Storage) -> None:
        """Versions are right with `Check.versions` and without, also when others wrote to the streams since."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(*several(3, "a:1"), *several(2, "b:1"), new("c:1"))
            known, before = dict(scribe.versions), scribe.head
            scribe.write(new("a:1", type="Moved"), new("a:1", "b:1", type="Moved"), new("new:1"))
            narrow = (selection("a:1", "Noted"), selection("b:1", "Noted"))
            hints: list[dict[str, int]] = [known, {}, {"a:1": 3}, known | {"new:1": 0, "newer:1": 0}]
            for versions in hints:
                events = [new(*streams, type="Moved") for streams in (("a:1",), ("b:1", "c:1"), ("new:1", "newer:1"))]
                scribe.must_append(appending(events, before, *narrow, versions=versions))
            scribe.assert_unchanged()

    def test_an_append_is_seen_at_once_by_every_engine(self, storage: Storage) -> None:
        """What was acknowledged to one is there for all, and counts in their checks."""
        with logs(storage, 3) as (one, two, three):
            scribe = Scribe(one)
            for _ in range(5):
                before = scribe.head
                scribe.write(new("a:1"))
                for log in (two, three):
                    assert log.head() == scribe.head
                    assert log.load(loading(selection("a:1"))).slices[0].version == scribe.head.position
                    assert _failed(log.append(appending([new("a:1")], before, selection("a:1")))) == {0}
            _write_in_turns(two, three)


def _failed(answer: Appended | Conflict) -> frozenset[int]:
    """The selections that kept an append from happening."""
    assert isinstance(answer, Conflict), f"an event of a selection is above `after`, and yet it was appended: {answer}"
    return answer.news.touched


def _write_in_turns(*logs: Log) -> None:
    """Each engine knows the positions and versions that the others have assigned."""
    for number, log in enumerate(logs * 3, 1):
        head = log.head()
        answer = log.append(appending([new("turn:1")], head, selection("turn:1")))
        assert isinstance(answer, Appended)
        assert (answer.first, dict(answer.versions)) == (head.position + 1, {"turn:1": number - 1})
