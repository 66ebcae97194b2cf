"""The contract of `load`: several selections from one snapshot, whole however often the limit cuts them."""

from __future__ import annotations

import threading
import time

from factfold.storage.base import Head, Log, Slice, Storage, Wanted
from factfold.testing.contract.running import PATIENCE, Background, logs, one_log
from factfold.testing.contract.scribe import Scribe, facts, load_in_steps, loading, new, selection, several


class SliceContract:
    """What a load brings."""

    def test_a_load_brings_each_selection_its_own(self, storage: Storage) -> None:
        """One slice for each selection, in the order of asking, with events in order of version."""
        with one_log(storage) as log:
            scribe = _some_courses(log)
            asked = (
                selection("student:1"),
                selection("course:1"),
                selection("course:1", "Enrolled"),
                selection("course:1", "Defined", "Renamed"),
                selection("course:2", "Nothing"),
            )
            loaded = log.load(loading(*asked))
            assert loaded.head == scribe.head
            assert [facts(slice.events) for slice in loaded.slices] == [facts(scribe.of(one)) for one in asked]
            assert all(slice.complete for slice in loaded.slices)

    def test_the_version_of_a_slice_is_that_of_the_stream(self, storage: Storage) -> None:
        """A narrow selection, and one from a later version on, still tell how many events the stream has."""
        with one_log(storage) as log:
            scribe = _some_courses(log)
            version = scribe.versions["course:1"]
            for wanted in (
                Wanted(selection("course:1"), 0),
                Wanted(selection("course:1", "Defined"), 0),
                Wanted(selection("course:1", "Nothing"), 0),
                Wanted(selection("course:1"), 2),
                Wanted(selection("course:1"), version),
            ):
                assert log.load(loading(wanted)).slices[0].version == version, wanted
            assert log.load(loading(selection("course:9"))).slices[0] == Slice((), 0, True), "there is no such stream"

    def test_a_load_begins_above_a_version(self, storage: Storage) -> None:
        """`after_version` counts the stream's events, also those that the selection does not look at."""
        with one_log(storage) as log:
            scribe = _some_courses(log)
            for version in range(scribe.versions["course:1"] + 1):
                for asked in (selection("course:1"), selection("course:1", "Enrolled")):
                    slice = log.load(loading(Wanted(asked, version))).slices[0]
                    assert facts(slice.events) == facts(scribe.of(asked, version)), f"{asked} above version {version}"
                    assert slice.complete

    def test_a_stream_may_be_asked_for_twice(self, storage: Storage) -> None:
        """Two folds look at one stream: each has its slice, from its own version on."""
        with one_log(storage) as log:
            scribe = _some_courses(log)
            narrow, wide = selection("course:1", "Renamed"), selection("course:1")
            loaded = log.load(loading(Wanted(narrow, 0), Wanted(wide, 2), Wanted(narrow, 0)))
            expected = [scribe.of(narrow), scribe.of(wide, 2), scribe.of(narrow)]
            assert [facts(slice.events) for slice in loaded.slices] == [facts(events) for events in expected]

    def test_a_stream_of_thousands_of_events_is_loaded_whole(self, storage: Storage) -> None:
        """Slices that the limit cut are continued where they end, and nothing is lost or repeated."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            for number in range(6):
                scribe.write(*several(500, "a:1", type=f"Type{number % 2}"), *several(5, "b:1"))
            for asked in (selection("a:1"), selection("a:1", "Type1")):
                (found,) = load_in_steps(log, [asked], 400)
                assert facts(found) == facts(scribe.of(asked))
            loaded = log.load(loading(selection("a:1"), limit=3_000)).slices[0]
            assert facts(loaded.events) == facts(scribe.of(selection("a:1")))
            assert loaded.complete

    def test_a_slice_that_was_cut_says_so(self, storage: Storage) -> None:
        """`complete` is False when events follow after the last one, and only then."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(*several(10, "a:1"), *several(3, "a:1", type="Moved"))
            for asked, count in ((selection("a:1"), 13), (selection("a:1", "Noted"), 10)):
                for limit in (1, 2, count - 1, count, count + 1):
                    slice = log.load(loading(asked, limit=limit)).slices[0]
                    assert facts(slice.events) == facts(scribe.of(asked)[: len(slice.events)]), "a prefix, in order"
                    assert slice.events, "a load makes progress"
                    assert slice.complete == (len(slice.events) == count), f"{count} events, limit {limit}: {slice}"

    def test_every_load_makes_progress(self, storage: Storage) -> None:
        """With the smallest limit and many selections, each load that is not complete brings at least one event."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            asked = [selection(f"a:{number % 7}", *(["Moved"] if number % 2 else [])) for number in range(14)]
            for number in range(30):
                scribe.write(new(f"a:{number % 6}", type="Moved" if number % 3 else "Noted"))
            for limit in (1, 2, 5):
                found = load_in_steps(log, asked, limit)
                assert [facts(events) for events in found] == [facts(scribe.of(one)) for one in asked]

    def test_thousands_of_selections_are_loaded_at_once(self, storage: Storage) -> None:
        """A load of many streams is one question; a driver's limit of parameters must not show."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(*(new(f"a:{number}", f"b:{number % 10}") for number in range(2_500)))
            asked = [selection(f"a:{number}", "Noted", "Moved") for number in range(5_000)]
            loaded = log.load(loading(*asked))
            assert len(loaded.slices) == 5_000
            assert [slice.version for slice in loaded.slices] == [1] * 2_500 + [0] * 2_500
            found = [event for slice in loaded.slices for event in slice.events]
            assert facts(found) == facts(scribe.events)

    def test_a_load_is_one_snapshot(self, storage: Storage) -> None:
        """However much is written meanwhile, all slices, versions and news are those of one head."""
        with logs(storage, 2) as (reader, writer):
            stop = threading.Event()

            def write() -> None:
                scribe = Scribe(writer)
                while not stop.is_set():
                    scribe.write(new("a:1"), new("b:1"))
                    scribe.write(new("a:1", "b:1", type="Moved"))

            writing = Background(write)
            try:
                head, version, growing = reader.head(), 0, 0
                end = time.monotonic() + PATIENCE
                while growing < 20:
                    assert time.monotonic() < end, "what is written is never loaded"
                    before = head
                    head, version = _load_one_snapshot(reader, head, version)
                    growing += head != before
                    assert not writing.ends_within(0), f"the writer has stopped: {writing.result()}"
            finally:
                stop.set()
            writing.result()


def _load_one_snapshot(log: Log, after: Head, version: int) -> tuple[Head, int]:
    """Loads what follows of two streams that are always written together; where both ended."""
    wanted = [Wanted(selection("a:1"), version), Wanted(selection("b:1"), version)]
    loaded = log.load(loading(*wanted, after=after, limit=1_000_000))
    a, b = loaded.slices
    assert loaded.news is not None
    assert loaded.news.head == loaded.head, "the news are as of the head of the load"
    assert a.version == b.version, "both streams are always written together"
    for slice in (a, b):
        assert len(slice.events) == slice.version - version, "the events reach up to the version"
    last = max((stored.position for slice in (a, b) for stored in slice.events), default=after.position)
    assert last == loaded.head.position, "the slices reach up to the head"
    return loaded.head, a.version


def _some_courses(log: Log) -> Scribe:
    """A few streams with events of several types, some of them shared."""
    scribe = Scribe(log)
    scribe.write(new("course:1", type="Defined"), new("course:2", type="Defined"))
    scribe.write(new("course:1", "student:1", type="Enrolled"))
    scribe.write(new("course:1", type="Renamed"), new("course:1", "student:2", type="Enrolled"), new("student:1"))
    scribe.write(new("course:1", type="Defined"))
    return scribe
