"""The contract of the news: what others appended is told completely, or said to be too far, and always exactly."""

from __future__ import annotations

from collections.abc import Callable

from factfold.storage.base import NEWS_BYTES, NEWS_LIMIT, Appended, Check, Conflict, Head, Log, News, Selection, Storage
from factfold.testing.contract.running import capabilities, one_log
from factfold.testing.contract.scribe import Scribe, appending, asking, facts, loading, new, selection, several


class NewsContract:
    """What an answer tells of the events since `after`."""

    def test_nothing_new_is_told_as_nothing(self, storage: Storage) -> None:
        """At the head the news are empty, for every question."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            for _ in range(2):
                for ask in _questions(storage, log):
                    scribe.assert_told(
                        ask(asking(scribe.head, selection("a:1"), selection("b:1", "Noted"))), scribe.head, set()
                    )
                scribe.write(new("a:1"), new("b:1"))

    def test_an_append_tells_what_came_before_it(self, storage: Storage) -> None:
        """The news of an append that happened end just before its first event."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(new("a:1"), new("b:1"))
            before = scribe.head
            scribe.write(new("a:1", "c:1", type="Moved", metadata=b'{"actor":"bob"}'), new("d:1"))
            missed = scribe.head
            events = several(2, "b:1")
            answer = log.append(appending(events, before, selection("b:1"), selection("a:1", "Noted")))
            assert isinstance(answer, Appended)
            scribe.assert_told(answer.news, before, set())
            assert answer.news.head == missed
            assert answer.first == missed.position + 1

    def test_a_conflict_brings_what_was_missed(self, storage: Storage) -> None:
        """The news of a conflict hold all that was appended since, also what no selection asks about."""
        with one_log(storage) as log:
            scribe, before, checked, touched = _some_history(log)
            answer = log.append(appending([new("b:1")], before, *checked))
            assert isinstance(answer, Conflict)
            scribe.assert_told(answer.news, before, touched)

    def test_a_check_tells_what_came_since(self, storage: Storage) -> None:
        """A validation brings the same news as a conflict, and says which selections are touched."""
        with one_log(storage) as log:
            scribe, before, checked, touched = _some_history(log)
            scribe.assert_told(log.check(asking(before, *checked)), before, touched)
            scribe.assert_told(log.check(asking(before)), before, set())

    def test_a_load_tells_what_came_since(self, storage: Storage) -> None:
        """A load that was asked to brings the news as of its own head; else it brings none."""
        with one_log(storage) as log:
            scribe, before, checked, touched = _some_history(log)
            loaded = log.load(loading(*checked, after=before))
            assert loaded.news is not None, "news were asked for"
            scribe.assert_told(loaded.news, before, touched)
            assert loaded.head == scribe.head
            assert log.load(loading(*checked)).news is None, "no news were asked for"
            loaded = log.load(loading(after=before))
            assert (loaded.slices, loaded.head) == ((), scribe.head)
            assert loaded.news is not None, "also a load of nothing tells the news"
            scribe.assert_told(loaded.news, before, set())

    def test_the_news_hold_the_events_of_the_library_itself(self, storage: Storage) -> None:
        """The news are without a gap: types and streams that begin with `$` are in them too."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(new("a:1"))
            before = scribe.head
            scribe.write(new("$once:key", type="$once"), new("a:1", "$once:key"), new("a:1", type="$mark"))
            for ask in _questions(storage, log):
                scribe.assert_told(ask(asking(before, selection("a:1", "$mark"), selection("$once:x"))), before, {0})

    def test_as_many_events_as_the_limit_are_told(self, storage: Storage) -> None:
        """`NEWS_LIMIT` events are told, one more is too far; `touched` is exact in both cases."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(new("a:1"), new("b:1"), new("c:1"))
            before, known = scribe.head, dict(scribe.versions)
            scribe.write(new("c:1", "a:1", type="Moved"), *several(NEWS_LIMIT - 1, "b:1"))
            checked = (
                selection("a:1"),
                selection("a:1", "Noted"),
                selection("b:1", "Noted", "Other"),
                selection("b:1", "Moved"),
                selection("c:1", "Moved"),
                selection("c:1", "Noted"),
                selection("never:1"),
            )
            touched = {0, 2, 4}
            for versions in (known, {}):
                for ask in _questions(storage, log):
                    scribe.assert_told(ask(asking(before, *checked, versions=versions)), before, touched)
            scribe.write(new("d:1"))
            for versions in (known, {}):
                for ask in _questions(storage, log):
                    scribe.assert_too_far(ask(asking(before, *checked, versions=versions)), before, touched)

    def test_an_append_happens_also_when_the_news_are_too_far(self, storage: Storage) -> None:
        """Only touched selections fail an append, however much was appended elsewhere; its versions are right."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(*several(2, "a:1"), *several(2, "b:1"))
            before, known = scribe.head, dict(scribe.versions)
            scribe.write(*several(NEWS_LIMIT + 1, "b:1", type="Moved"))
            for versions in (known, {}):
                missed = scribe.head
                append = appending([new("b:1", "a:2")], before, selection("a:1"), versions=versions)
                answer = log.append(append)
                assert isinstance(answer, Appended), "a:1 has no event above `after`"
                scribe.assert_too_far(answer.news, before, set())
                assert answer.news.head == missed
                scribe.wrote(append, answer)
            scribe.assert_unchanged()

    def test_a_conflict_is_exact_also_when_the_news_are_too_far(self, storage: Storage) -> None:
        """All selections that failed are named when the events themselves are not told."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(new("a:1"), new("b:1"))
            before = scribe.head
            scribe.write(new("a:1", type="Moved"), *several(NEWS_LIMIT, "c:1"), new("b:1"))
            checked = (selection("a:1", "Noted"), selection("a:1"), selection("b:1"), selection("d:1"))
            answer = log.append(appending([new("d:1")], before, *checked))
            assert isinstance(answer, Conflict)
            scribe.assert_too_far(answer.news, before, {1, 2})
            scribe.assert_unchanged()

    def test_the_news_are_bounded_in_bytes(self, storage: Storage) -> None:
        """More than `NEWS_BYTES` of event data are too far, however few events they are."""
        quarter = b'{"text":"' + b"x" * (NEWS_BYTES // 4) + b'"}'
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(new("a:1"))
            before = scribe.head
            checked = (selection("a:1"), selection("b:1"), selection("b:1", "Moved"))
            scribe.write(new("b:1", data=quarter), new("b:1", data=quarter))
            for ask in _questions(storage, log):
                scribe.assert_told(ask(asking(before, *checked)), before, {1})
            scribe.write(*(new("b:1", data=quarter) for _ in range(3)))
            for ask in _questions(storage, log):
                scribe.assert_too_far(ask(asking(before, *checked)), before, {1})

    def test_a_load_is_whole_also_when_its_news_are_too_far(self, storage: Storage) -> None:
        """The slices of a load do not depend on how much was appended since `after`."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(*several(3, "a:1"))
            before = scribe.head
            scribe.write(*several(NEWS_LIMIT, "b:1"), new("a:1"))
            loaded = log.load(loading(selection("a:1"), selection("c:1"), after=before))
            assert loaded.news is not None
            scribe.assert_too_far(loaded.news, before, {0})
            assert [slice.version for slice in loaded.slices] == [4, 0]
            assert facts(loaded.slices[0].events) == facts(scribe.of(selection("a:1")))


def _some_history(log: Log) -> tuple[Scribe, Head, tuple[Selection, ...], set[int]]:
    """Events before and after a head, selections, and which of them are touched since."""
    scribe = Scribe(log)
    scribe.write(*several(3, "a:1"), new("b:1"), new("c:1"))
    before = scribe.head
    scribe.write(new("a:1", "d:1", type="Moved", data=b'{"to":[1,2.5,null]}', metadata=b'{"actor":"bob"}'))
    scribe.write(new("unasked:1"), new("c:1", type_version=2))
    checked = (
        selection("a:1"),
        selection("a:1", "Noted"),
        selection("b:1"),
        selection("c:1", "Noted"),
        selection("d:1", "Other", "Moved"),
    )
    return scribe, before, checked, {0, 3, 4}


def _questions(storage: Storage, log: Log) -> list[Callable[[Check], News]]:
    """Every way to be told the news without appending."""

    def by_loading(check: Check) -> News:
        news = log.load(loading(*check.selections, after=check.after)).news
        assert news is not None
        return news

    def by_locking(check: Check) -> News:
        try:
            return log.lock(check)
        finally:
            log.unlock()

    questions: list[Callable[[Check], News]] = [log.check, by_loading]
    if capabilities(storage).locks:
        questions.append(by_locking)
    return questions
