"""Faults of the news, of outcomes and of the head."""

from __future__ import annotations

import time

from msgspec.structs import replace

from factfold.errors import LogDivergedError
from factfold.storage.base import (
    EMPTY,
    NEWS_LIMIT,
    Append,
    Appended,
    Check,
    Conflict,
    Head,
    Load,
    Loaded,
    LogPage,
    News,
)
from tests.broken.storage import Sound


class WithNews(Sound):
    """Does something to the news of every answer."""

    def tell(self, news: News, check: Check) -> News:
        return news

    def append(self, append: Append) -> Appended | Conflict:
        answer = self.log.append(append)
        news = self.tell(answer.news, append.check)
        if isinstance(answer, Conflict):
            return replace(answer, news=news)
        return Appended(answer.first, answer.versions, answer.recorded_at, news)

    def check(self, check: Check) -> News:
        return self.tell(self.log.check(check), check)

    def lock(self, check: Check) -> News:
        return self.tell(self.log.lock(check), check)

    def load(self, load: Load) -> Loaded:
        loaded = self.log.load(load)
        if loaded.news is None or load.after is None:
            return loaded
        check = Check(tuple(wanted.selection for wanted in load.wanted), load.after, {})
        return Loaded(loaded.slices, loaded.head, self.tell(loaded.news, check))


class TellsOnlyTheFirstFailure(WithNews):
    caught_by = (
        "all_failed_selections_are_told_at_once",
        "a_check_tells_what_came_since",
        "a_load_tells_what_came_since",
        "lock_then_append",
    )

    def tell(self, news: News, check: Check) -> News:
        return replace(news, touched=frozenset(sorted(news.touched)[:1]))


class TellsOnlyWhatWasAskedAbout(WithNews):
    caught_by = ("a_conflict_brings_what_was_missed", "an_append_tells_what_came_before_it")

    def tell(self, news: News, check: Check) -> News:
        asked = {selection.stream for selection in check.selections}
        return replace(news, events=tuple(event for event in news.events if not asked.isdisjoint(event.streams)))


class TruncatesNews(WithNews):
    caught_by = ("as_many_events_as_the_limit_are_told", "the_news_are_bounded_in_bytes")

    def tell(self, news: News, check: Check) -> News:
        if not news.too_far:
            return news
        some = self.log.read(LogPage(news.after.position, NEWS_LIMIT, system=True))
        return replace(news, events=tuple(some), too_far=False)


class TellsTooLittle(WithNews):
    caught_by = ("as_many_events_as_the_limit_are_told",)

    def tell(self, news: News, check: Check) -> News:
        return replace(news, events=(), too_far=True) if len(news.events) >= NEWS_LIMIT else news


class GuessesWhenTooFar(WithNews):
    caught_by = (
        "as_many_events_as_the_limit_are_told",
        "a_conflict_is_exact_also_when_the_news_are_too_far",
        "a_load_is_whole_also_when_its_news_are_too_far",
        "an_append_happens_also_when_the_news_are_too_far",
    )

    def tell(self, news: News, check: Check) -> News:
        return replace(news, touched=frozenset(range(len(check.selections)))) if news.too_far else news


class LeavesOutSystemEvents(WithNews):
    caught_by = ("the_news_hold_the_events_of_the_library_itself",)

    def tell(self, news: News, check: Check) -> News:
        return replace(news, events=tuple(event for event in news.events if not event.type.startswith("$")))


class TellsOwnEventsAsNews(Sound):
    caught_by = ("an_append_tells_what_came_before_it",)

    def append(self, append: Append) -> Appended | Conflict:
        answer = self.log.append(append)
        if isinstance(answer, Appended):
            news = self.log.check(Check((), append.check.after, {}))
            return Appended(answer.first, answer.versions, answer.recorded_at, news)
        return answer


class ResolvesWithoutTheLock(Sound):
    def resolve(self, append: Append) -> Appended | None:
        there = any(one.id == append.id for one in self.log.read(LogPage(0, 1_000_000, system=True)))
        return self.log.resolve(append) if there else None


class DeclaresNothingVoid(ResolvesWithoutTheLock):
    caught_by = ("an_append_that_did_not_happen_never_will", "resolving_waits_for_the_writer")


class KeepsVoidIdsToItself(ResolvesWithoutTheLock):
    caught_by = ("a_void_append_is_refused_by_every_engine",)

    def resolve(self, append: Append) -> Appended | None:
        answer = super().resolve(append)
        if answer is None:
            self.common.void.add((id(self), append.id))
        return answer

    def append(self, append: Append) -> Appended | Conflict:
        if (id(self), append.id) in self.common.void:
            self.log.resolve(append)
        return self.log.append(append)


class ForgetsWhatHappened(Sound):
    caught_by = ("an_append_that_happened_is_found",)

    def resolve(self, append: Append) -> Appended | None:
        head = self.log.head().position
        answer = self.log.resolve(append)
        return answer if answer and answer.first + len(append.events) > head else None


class FindsItsOwnPast(Sound):
    """Takes whatever event stands at a position for the one that is meant."""

    def real(self, after: Head) -> Head:
        found = self.log.read(LogPage(after.position - 1, 1, system=True)) if after.position else ()
        return found[0].head if found else self.log.head()

    def append(self, append: Append) -> Appended | Conflict:
        check = append.check
        return self.log.append(replace(append, check=replace(check, after=self.real(check.after))))

    def check(self, check: Check) -> News:
        return self.log.check(Check(check.selections, self.real(check.after), check.versions))

    def lock(self, check: Check) -> News:
        return self.log.lock(Check(check.selections, self.real(check.after), check.versions))

    def load(self, load: Load) -> Loaded:
        return self.log.load(Load(load.wanted, self.real(load.after) if load.after else None, load.limit))


class NoticesNoDivergence(FindsItsOwnPast):
    caught_by = (
        "an_append_on_another_past_is_refused",
        "a_check_on_another_past_is_refused",
        "a_load_on_another_past_is_refused",
        "a_lock_on_another_past_is_not_taken",
        "an_append_under_the_lock_on_another_past_gives_it_back",
    )


class NoticesOnlyAMissingEnd(FindsItsOwnPast):
    caught_by = ("an_append_on_another_past_is_refused", "a_load_on_another_past_is_refused")

    def real(self, after: Head) -> Head:
        return after if after.position > self.log.head().position else super().real(after)


class KeepsTheLockOfAnotherPast(Sound):
    raises_in = ("a_lock_on_another_past_is_not_taken",)

    def lock(self, check: Check) -> News:
        try:
            return self.log.lock(check)
        except LogDivergedError:
            self.log.lock(Check((), self.log.head(), {}))
            raise


class RepeatsWhatIsKnown(WithNews):
    caught_by = ("nothing_new_is_told_as_nothing",)

    def tell(self, news: News, check: Check) -> News:
        known = self.log.read(LogPage(news.after.position - 1, 1, system=True)) if news.after.position else ()
        return replace(news, events=(*known, *news.events))


class DeniesEverything(Sound):
    caught_by = (
        "an_append_that_happened_is_found",
        "resolving_and_a_late_append_agree",
        "a_cancelled_append_happens_wholly_or_never",
    )

    def resolve(self, append: Append) -> Appended | None:
        return None


class ClaimsEverything(Sound):
    caught_by = ("an_append_that_lost_did_not_happen", "async_outcomes_are_resolved")

    def resolve(self, append: Append) -> Appended | None:
        found = self.log.resolve(append)
        return found or Appended(1, {}, 0, self.log.check(append.check))


class ConfusesItsCallers(Sound):
    caught_by = ("resolving_disturbs_no_writer",)

    def append(self, append: Append) -> Appended | Conflict:
        self.asked = append
        time.sleep(0.0005)
        return self.log.append(self.asked)

    def resolve(self, append: Append) -> Appended | None:
        self.asked = append
        time.sleep(0.0005)
        return self.log.resolve(append)


class HasAnOldHead(Sound):
    caught_by = ("the_head_is_the_last_event", "an_append_is_seen_at_once_by_every_engine")

    known = EMPTY

    def head(self) -> Head:
        old, self.known = self.known, self.log.head()
        return old
