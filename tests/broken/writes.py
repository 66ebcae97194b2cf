"""Faults of appending."""

from __future__ import annotations

import json
import time

from msgspec.structs import replace

from factfold.storage.base import (
    EMPTY,
    Append,
    Appended,
    Check,
    Conflict,
    Load,
    Loaded,
    Log,
    NewEvent,
    News,
    Selection,
    Wanted,
)
from tests.broken.storage import Sound


def unchecked(append: Append, *selections: Selection) -> Append:
    """The append with other selections."""
    return replace(append, check=replace(append.check, selections=selections))


class ChecksNothing(Sound):
    caught_by = (
        "a_stream_that_was_only_read_is_checked",
        "16_threads_race_for_a_place_through_one_engine",
        "an_append_that_lost_did_not_happen",
        "an_append_is_seen_at_once_by_every_engine",
    )

    def append(self, append: Append) -> Appended | Conflict:
        return self.log.append(unchecked(append))


class ChecksOnlyWhatItWrites(Sound):
    caught_by = ("a_stream_that_was_only_read_is_checked", "write_skew_is_impossible", "async_appends_are_checked")

    def append(self, append: Append) -> Appended | Conflict:
        written = {stream for event in append.events for stream in event.streams}
        return self.log.append(unchecked(append, *(one for one in append.check.selections if one.stream in written)))


class TakesNarrowForWide(Sound):
    caught_by = ("an_event_of_another_type_does_not_conflict",)

    def append(self, append: Append) -> Appended | Conflict:
        return self.log.append(unchecked(append, *(Selection(one.stream, None) for one in append.check.selections)))


class TakesWideForNarrow(Sound):
    caught_by = ("a_selection_without_types_looks_at_all_events",)

    def append(self, append: Append) -> Appended | Conflict:
        own = frozenset(event.type for event in append.events)
        return self.log.append(
            unchecked(append, *(Selection(one.stream, one.types or own) for one in append.check.selections))
        )


class ChecksFirstStreamOfEvents(Sound):
    caught_by = ("a_shared_event_conflicts_in_each_of_its_streams",)

    def append(self, append: Append) -> Appended | Conflict:
        answer = self.log.append(append)
        if isinstance(answer, Conflict):
            firsts = {next(iter(event.streams)) for event in answer.news.events}
            touched = {index for index, one in enumerate(append.check.selections) if one.stream in firsts}
            return replace(answer, news=replace(answer.news, touched=frozenset(touched)))
        return answer


class BurnsPositions(Sound):
    caught_by = ("an_append_to_several_streams_is_all_or_nothing",)

    def append(self, append: Append) -> Appended | Conflict:
        answer = self.log.append(append)
        if isinstance(answer, Conflict):
            self.log.append(
                Append((replace(append.events[0], type="$burnt", streams=("$burnt:1",)),), Check((), EMPTY, {}))
            )
        return answer


class WritesHalf(Sound):
    caught_by = ("an_append_to_several_streams_is_all_or_nothing",)

    def append(self, append: Append) -> Appended | Conflict:
        answer = self.log.append(append)
        if isinstance(answer, Conflict):
            self.log.append(Append(append.events[:1], Check((), append.check.after, {})))
        return answer


class ChecksBeforeItLocks(Sound):
    caught_by = (
        "16_threads_race_for_a_place_through_engines_of_their_own",
        "racing_decisions_that_rest_on_each_other_exclude_each_other",
        "async_racers_for_a_place_have_one_winner",
    )
    caught_between_processes_by = ("16_racers_in_processes_race_for_a_place",)

    def append(self, append: Append) -> Appended | Conflict:
        news = self.log.check(append.check)
        if news.touched:
            return Conflict(news)
        time.sleep(0.001)
        return self.log.append(unchecked(append))


class RefusesManySelections(Sound):
    caught_by = ("thousands_of_selections_are_checked_at_once", "thousands_of_selections_are_loaded_at_once")

    def append(self, append: Append) -> Appended | Conflict:
        assert len(append.check.selections) <= 1000, "too many SQL variables"
        return self.log.append(append)

    def load(self, load: Load) -> Loaded:
        assert len(load.wanted) <= 1000, "too many SQL variables"
        return self.log.load(load)


class BelievesHints(Sound):
    caught_by = ("known_versions_are_a_hint_and_no_truth",)

    def append(self, append: Append) -> Appended | Conflict:
        answer = self.log.append(append)
        if isinstance(answer, Appended):
            hints = append.check.versions
            versions = {stream: hints.get(stream, version) for stream, version in answer.versions.items()}
            return Appended(answer.first, versions, answer.recorded_at, answer.news)
        return answer


class WritesWhatItCannotHold(Sound):
    caught_by = ("data_and_metadata_come_back_equal_as_json",)

    def append(self, append: Append) -> Appended | Conflict:
        events = [replace(event, data=event.data.replace(b"[]", b"{}")) for event in append.events]
        return self.log.append(replace(append, events=tuple(events)))


class GoesThroughFloats(Sound):
    caught_by = ("data_and_metadata_come_back_equal_as_json",)

    def append(self, append: Append) -> Appended | Conflict:
        events = [
            replace(event, data=json.dumps(json.loads(event.data, parse_int=float)).encode()) for event in append.events
        ]
        return self.log.append(replace(append, events=tuple(events)))


class ChecksTheWholePast(Sound):
    caught_by = ("what_is_not_above_after_does_not_fail",)

    def append(self, append: Append) -> Appended | Conflict:
        return self.log.append(replace(append, check=replace(append.check, after=EMPTY)))


class ChecksAlsoWhatItWrites(Sound):
    caught_by = ("streams_may_be_written_without_being_checked",)

    def append(self, append: Append) -> Appended | Conflict:
        written = {stream for event in append.events for stream in event.streams}
        return self.log.append(unchecked(append, *append.check.selections, *(Selection(one, None) for one in written)))


class TakesAnyNewsForAConflict(Sound):
    caught_by = ("writers_in_threads_never_conflict_when_they_are_unrelated",)

    def append(self, append: Append) -> Appended | Conflict:
        news = self.log.check(append.check)
        if append.check.selections and news.events:
            return Conflict(replace(news, touched=frozenset({0})))
        return self.log.append(append)


class LeavesGapsBehindBatches(Sound):
    caught_by = ("positions_are_dense_and_in_order", "a_batch_of_10_000_events_is_one_append")

    def append(self, append: Append) -> Appended | Conflict:
        if len(append.events) == 1:
            return self.log.append(append)
        gap = NewEvent(append.events[0].id, "$gap", 1, b"{}", b"{}", ("$gap:1",))
        return self.log.append(replace(append, events=(gap, *append.events)))


class DropsZeroCharacters(Sound):
    caught_by = ("a_zero_character_is_kept_or_refused",)

    def append(self, append: Append) -> Appended | Conflict:
        events = [replace(event, data=event.data.replace(rb"\u0000", b"")) for event in append.events]
        return self.log.append(replace(append, events=tuple(events)))


def not_empty(log: Log, append: Append) -> frozenset[str]:
    """Those of the streams that must be empty that have an event."""
    slices = log.load(Load(tuple(Wanted(Selection(stream, None), 0) for stream in append.empty), None, 1)).slices
    return frozenset(stream for stream, found in zip(append.empty, slices, strict=True) if found.version)


class IgnoresWhatMustBeEmpty(Sound):
    caught_by = (
        "a_stream_with_an_event_of_any_type_is_not_empty",
        "a_stream_that_is_not_written_may_have_to_be_empty",
        "all_streams_that_are_not_empty_are_told_at_once",
        "streams_must_be_empty_under_the_lock_too",
        "16_racers_for_a_stream_that_must_be_empty_have_one_winner",
        "async_appends_are_checked",
    )

    def append(self, append: Append) -> Appended | Conflict:
        return self.log.append(replace(append, empty=()))


class TakesEveryStreamForFull(Sound):
    caught_by = ("empty_streams_let_an_append_happen",)

    def append(self, append: Append) -> Appended | Conflict:
        if append.empty:
            return Conflict(self.log.check(append.check), frozenset(append.empty))
        return self.log.append(append)


class TakesEmptyForUntouched(Sound):
    """Looks for events above `after` only."""

    caught_by = ("a_stream_with_an_event_of_any_type_is_not_empty",)

    def append(self, append: Append) -> Appended | Conflict:
        check = append.check
        every = (*check.selections, *(Selection(stream, None) for stream in append.empty))
        return self.log.append(replace(append, check=replace(check, selections=every), empty=()))


class LooksForTheTypesOfSelections(Sound):
    caught_by = ("a_stream_with_an_event_of_any_type_is_not_empty",)

    def append(self, append: Append) -> Appended | Conflict:
        found = [
            one.stream
            for one in append.check.selections
            if one.stream in append.empty and self.log.load(Load((Wanted(one, 0),), None, 1)).slices[0].events
        ]
        if found:
            return Conflict(self.log.check(append.check), frozenset(found))
        return self.log.append(replace(append, empty=()))


class WantsOnlyWhatItWritesToBeEmpty(Sound):
    caught_by = ("a_stream_that_is_not_written_may_have_to_be_empty",)

    def append(self, append: Append) -> Appended | Conflict:
        written = {stream for event in append.events for stream in event.streams}
        return self.log.append(replace(append, empty=tuple(one for one in append.empty if one in written)))


class TellsOneStreamThatIsNotEmpty(Sound):
    caught_by = ("all_streams_that_are_not_empty_are_told_at_once",)

    def append(self, append: Append) -> Appended | Conflict:
        answer = self.log.append(append)
        if isinstance(answer, Conflict):
            return replace(answer, not_empty=frozenset(sorted(answer.not_empty)[:1]))
        return answer


class TellsNothingBesideTouchedSelections(Sound):
    caught_by = ("all_streams_that_are_not_empty_are_told_at_once",)

    def append(self, append: Append) -> Appended | Conflict:
        answer = self.log.append(append)
        if isinstance(answer, Conflict) and answer.news.touched:
            return Conflict(answer.news)
        return answer


class LooksForEventsFirst(Sound):
    """Before it looks whether the append is void, or rests on another past."""

    caught_by = ("void_and_diverged_appends_are_told_before_streams_are_looked_at",)

    def append(self, append: Append) -> Appended | Conflict:
        if found := not_empty(self.log, append):
            head = self.log.head()
            return Conflict(News(head, head, (), frozenset()), found)
        return self.log.append(append)


class LooksForEventsBeforeItLocks(Sound):
    caught_by = ("16_racers_for_a_stream_that_must_be_empty_have_one_winner",)

    def append(self, append: Append) -> Appended | Conflict:
        if found := not_empty(self.log, append):
            return Conflict(self.log.check(append.check), found)
        time.sleep(0.001)
        return self.log.append(replace(append, empty=()))


class TrustsTheHolderOfTheLock(Sound):
    caught_by = ("streams_must_be_empty_under_the_lock_too",)

    def lock(self, check: Check) -> News:
        self.common.holder = self
        return self.log.lock(check)

    def append(self, append: Append) -> Appended | Conflict:
        trusted, self.common.holder = self.common.holder is self, None
        return self.log.append(replace(append, empty=()) if trusted else append)
