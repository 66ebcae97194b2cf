"""Faults of loading, of what is stored and of reading in pages."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Sequence

from msgspec.structs import replace

from factfold.storage.base import (
    Append,
    Appended,
    Check,
    Conflict,
    Load,
    Loaded,
    LogPage,
    News,
    Selection,
    StoredEvent,
    StreamInfo,
    StreamPage,
    Wanted,
)
from tests.broken.answers import WithNews
from tests.broken.storage import Sound


class TruncatesInSilence(Sound):
    caught_by = ("a_stream_of_thousands_of_events_is_loaded_whole", "a_slice_that_was_cut_says_so")

    def load(self, load: Load) -> Loaded:
        loaded = self.log.load(load)
        slices = tuple(type(slice)(slice.events, slice.version, True) for slice in loaded.slices)
        return Loaded(slices, loaded.head, loaded.news)


class NeverKnowsTheEnd(Sound):
    caught_by = ("a_slice_that_was_cut_says_so",)

    def load(self, load: Load) -> Loaded:
        loaded = self.log.load(load)
        slices = tuple(type(one)(one.events, one.version, len(one.events) < load.limit) for one in loaded.slices)
        return Loaded(slices, loaded.head, loaded.news)


class MakesNoProgress(Sound):
    caught_by = ("every_load_makes_progress",)

    def load(self, load: Load) -> Loaded:
        return self.log.load(Load(load.wanted, load.after, load.limit // len(load.wanted)))


class TakesTheLastEventForTheVersion(Sound):
    caught_by = ("the_version_of_a_slice_is_that_of_the_stream",)

    def load(self, load: Load) -> Loaded:
        loaded = self.log.load(load)
        slices = tuple(
            type(slice)(slice.events, slice.events[-1].streams[wanted.selection.stream] if slice.events else 0, True)
            for slice, wanted in zip(loaded.slices, load.wanted, strict=True)
        )
        return Loaded(slices, loaded.head, loaded.news)


class LoadsOneByOne(Sound):
    caught_by = ("a_load_is_one_snapshot",)

    def load(self, load: Load) -> Loaded:
        loads: list[Loaded] = []
        for wanted in load.wanted:
            loads.append(self.log.load(Load((wanted,), load.after, load.limit)))
            time.sleep(0.001)
        return Loaded(tuple(one.slices[0] for one in loads), loads[-1].head, loads[-1].news)


class WithStored(WithNews):
    """Does something to every event that is read."""

    def show(self, stored: StoredEvent) -> StoredEvent:
        return stored

    def tell(self, news: News, check: Check) -> News:
        return replace(news, events=tuple(map(self.show, news.events)))

    def load(self, load: Load) -> Loaded:
        loaded = super().load(load)
        slices = tuple(type(one)(tuple(map(self.show, one.events)), one.version, one.complete) for one in loaded.slices)
        return Loaded(slices, loaded.head, loaded.news)

    def read(self, page: LogPage) -> Sequence[StoredEvent]:
        return [self.show(stored) for stored in self.log.read(page)]

    def read_stream(self, page: StreamPage) -> Sequence[StoredEvent]:
        return [self.show(stored) for stored in self.log.read_stream(page)]


class NumbersSharedEventsAlike(WithStored):
    caught_by = (
        "one_event_in_several_streams_is_stored_once",
        "async_and_sync_are_one_log",
        "a_load_brings_each_selection_its_own",
    )

    def show(self, stored: StoredEvent) -> StoredEvent:
        return replace(stored, streams=dict.fromkeys(stored.streams, max(stored.streams.values())))


class NumbersVersionsByPosition(WithStored):
    caught_by = (
        "versions_are_dense_in_each_stream",
        "a_load_begins_above_a_version",
        "a_stream_may_be_asked_for_twice",
    )

    def show(self, stored: StoredEvent) -> StoredEvent:
        return replace(stored, streams=dict.fromkeys(stored.streams, stored.position))


class LosesMetadata(WithStored):
    caught_by = ("an_event_comes_back_as_it_was_written", "a_check_tells_what_came_since")

    def show(self, stored: StoredEvent) -> StoredEvent:
        return replace(stored, metadata=b"{}")


class HasAClockThatGoesBackwards(WithStored):
    caught_by = ("recorded_at_never_goes_backwards",)

    def append(self, append: Append) -> Appended | Conflict:
        answer = super().append(append)
        if isinstance(answer, Appended):
            wrong = answer.recorded_at - 1_000_000 * answer.first
            return Appended(answer.first, answer.versions, wrong, answer.news)
        return answer

    def show(self, stored: StoredEvent) -> StoredEvent:
        return replace(stored, recorded_at=stored.recorded_at - 1_000_000 * stored.position)


class RecordsMilliseconds(WithStored):
    caught_by = ("recorded_at_never_goes_backwards",)

    def append(self, append: Append) -> Appended | Conflict:
        answer = super().append(append)
        if isinstance(answer, Appended):
            return Appended(answer.first, answer.versions, answer.recorded_at // 1000, answer.news)
        return answer

    def show(self, stored: StoredEvent) -> StoredEvent:
        return replace(stored, recorded_at=stored.recorded_at // 1000)


class Renames(Sound):
    """Takes different stream ids for the same."""

    def rename(self, stream: str) -> str:
        return stream

    def append(self, append: Append) -> Appended | Conflict:
        events = [
            replace(event, streams=tuple(dict.fromkeys(map(self.rename, event.streams)))) for event in append.events
        ]
        empty = tuple(dict.fromkeys(map(self.rename, append.empty)))
        return self.log.append(Append(tuple(events), self.renamed(append.check), empty))

    def check(self, check: Check) -> News:
        return self.log.check(self.renamed(check))

    def load(self, load: Load) -> Loaded:
        wanted = [
            Wanted(Selection(self.rename(one.selection.stream), one.selection.types), one.after_version)
            for one in load.wanted
        ]
        return self.log.load(Load(tuple(wanted), load.after, load.limit))

    def renamed(self, check: Check) -> Check:
        return Check(tuple(Selection(self.rename(one.stream), one.types) for one in check.selections), check.after, {})


class IgnoresCase(Renames):
    caught_by = ("stream_ids_are_opaque", "every_odd_stream_is_checked_for_itself")

    def rename(self, stream: str) -> str:
        return stream.lower()


class NormalisesUnicode(Renames):
    caught_by = ("stream_ids_are_opaque", "every_odd_stream_is_checked_for_itself")

    def rename(self, stream: str) -> str:
        return unicodedata.normalize("NFC", stream)


class TrimsSpaces(Renames):
    caught_by = ("stream_ids_are_opaque", "every_odd_stream_is_checked_for_itself")

    def rename(self, stream: str) -> str:
        return stream.rstrip()


class LimitsBeforeItFilters(Sound):
    caught_by = (
        "types_are_filtered_before_the_limit",
        "a_category_is_filtered_before_the_limit",
        "the_log_is_read_in_pages_forwards",
        "types_in_a_stream_are_filtered_before_the_limit",
    )

    def read(self, page: LogPage) -> Sequence[StoredEvent]:
        found = self.log.read(LogPage(page.after, page.limit, backwards=page.backwards, system=True))
        wanted = self.log.read(LogPage(page.after, 1_000_000, page.types, page.category, page.backwards, page.system))
        return [stored for stored in found if stored in wanted]

    def read_stream(self, page: StreamPage) -> Sequence[StoredEvent]:
        found = self.log.read_stream(replace(page, selection=replace(page.selection, types=None)))
        return [stored for stored in found if page.selection.types is None or stored.type in page.selection.types]


class ReadsBackwardsInOrder(Sound):
    caught_by = ("the_log_is_read_in_pages_backwards", "a_stream_is_read_in_pages_both_ways")

    def read(self, page: LogPage) -> Sequence[StoredEvent]:
        return sorted(self.log.read(page), key=lambda stored: stored.position)

    def read_stream(self, page: StreamPage) -> Sequence[StoredEvent]:
        return sorted(self.log.read_stream(page), key=lambda stored: stored.position)


class ShowsSystemEvents(Sound):
    caught_by = ("the_events_of_the_library_are_left_out",)

    def read(self, page: LogPage) -> Sequence[StoredEvent]:
        return self.log.read(LogPage(page.after, page.limit, page.types, page.category, page.backwards, True))


class TakesCategoriesForPrefixes(Sound):
    caught_by = (
        "a_category_is_filtered_before_the_limit",
        "streams_of_a_category_are_its_own",
        "a_category_and_types_are_filtered_together",
        "the_streams_of_the_library_are_listed_only_by_their_category",
    )

    def read(self, page: LogPage) -> Sequence[StoredEvent]:
        found = self.log.read(LogPage(page.after, 1_000_000, page.types, None, page.backwards, page.system))
        prefix = page.category or ""
        return [one for one in found if any(stream.startswith(prefix) for stream in one.streams)][: page.limit]

    def streams(self, category: str | None, after: str, limit: int) -> Sequence[StreamInfo]:
        found = self.log.streams(None, after, 1_000_000)
        return [info for info in found if info.id.startswith(category or "")][:limit]


class ListsStreamsByName(Sound):
    caught_by = ("streams_are_listed_in_pages",)

    def streams(self, category: str | None, after: str, limit: int) -> Sequence[StreamInfo]:
        return sorted(self.log.streams(category, after, limit), key=lambda info: info.id.lower())


class MissesFreshEvents(Sound):
    """As with positions from a sequence: some events become visible later than their successors."""

    caught_by = ("a_reader_beside_writing_threads_misses_nothing",)
    caught_between_processes_by = ("a_reader_beside_writing_processes_misses_nothing",)

    def is_visible(self, stored: StoredEvent) -> bool:
        return stored.position % 3 != 0 or time.time_ns() // 1000 - stored.recorded_at > 200_000

    def read(self, page: LogPage) -> Sequence[StoredEvent]:
        return [stored for stored in self.log.read(page) if self.is_visible(stored)]

    def check(self, check: Check) -> News:
        news = self.log.check(check)
        return replace(news, events=tuple(filter(self.is_visible, news.events)))


class StopsShortOfItsLimit(Sound):
    caught_by = ("a_page_has_exactly_its_limit",)

    def read(self, page: LogPage) -> Sequence[StoredEvent]:
        return self.log.read(page)[: max(1, page.limit - 1)]


class IgnoresTheCaseOfTypes(Sound):
    caught_by = ("type_names_are_opaque",)

    def read(self, page: LogPage) -> Sequence[StoredEvent]:
        types = {type.lower() for type in page.types or ()}
        found = self.log.read(replace(page, types=None, limit=1_000_000))
        return [stored for stored in found if page.types is None or stored.type.lower() in types][: page.limit]
