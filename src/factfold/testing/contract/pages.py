"""The contract of reading in pages: the log, one stream, and the list of streams, both ways and filtered."""

from __future__ import annotations

from factfold.storage.base import Log, LogPage, Selection, Storage, StoredEvent, StreamInfo, StreamPage
from factfold.testing.contract.running import one_log
from factfold.testing.contract.scribe import Scribe, all_pages, facts, new, selection, several


class PageContract:
    """Pages of the log, of a stream and of streams."""

    # -- The log -------------------------------------------------------------------------------------------------------

    def test_the_log_is_read_in_pages_forwards(self, storage: Storage) -> None:
        """Each page goes on above the position where the one before ended."""
        with one_log(storage) as log:
            scribe = _some_orders(log)
            for size in (1, 2, 7, 100):
                assert facts(_forwards(log, size)) == facts(_public(scribe)), f"pages of {size}"
            assert list(log.read(LogPage(scribe.head.position, 10))) == []
            assert list(log.read(LogPage(scribe.head.position + 5, 10))) == []

    def test_the_log_is_read_in_pages_backwards(self, storage: Storage) -> None:
        """Backwards the first page starts at the head, and each goes on below where the one before ended."""
        with one_log(storage) as log:
            scribe = _some_orders(log)
            for size in (1, 2, 7, 100):
                assert facts(_backwards(log, size)) == facts(reversed(_public(scribe))), f"pages of {size}"
            assert list(log.read(LogPage(1, 10, backwards=True))) == [], "there is nothing below position 1"
            beyond = log.read(LogPage(scribe.head.position + 5, 3, backwards=True))
            assert facts(beyond) == facts(_public(scribe)[:-4:-1]), "from beyond the head on, it is read from the head"

    def test_a_page_has_exactly_its_limit(self, storage: Storage) -> None:
        """`limit` events when there are so many: fewer mean that the end was reached."""
        with one_log(storage) as log:
            Scribe(log).write(*several(20, "a:1"))
            for limit in (1, 19, 20):
                for backwards in (False, True):
                    assert len(log.read(LogPage(None if backwards else 0, limit, backwards=backwards))) == limit
            assert len(log.read(LogPage(0, 21))) == 20

    def test_types_are_filtered_before_the_limit(self, storage: Storage) -> None:
        """The limit counts what is left after the filter, so that a page of rare events is a full one."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            for _ in range(30):
                scribe.write(*several(9, "a:1"), new("a:1", type="Rare"))
            rare = [stored for stored in scribe.events if stored.type == "Rare"]
            types = frozenset({"Rare", "Never"})
            assert facts(log.read(LogPage(0, 12, types=types))) == facts(rare[:12])
            assert facts(_forwards(log, 7, types=types)) == facts(rare)
            assert facts(_backwards(log, 7, types=types)) == facts(reversed(rare))
            assert list(log.read(LogPage(0, 10, types=frozenset({"Never"})))) == []

    def test_a_category_is_filtered_before_the_limit(self, storage: Storage) -> None:
        """A category is what stands before the colon, all of it; an event counts once, by whichever of its streams."""
        with one_log(storage) as log:
            scribe = _some_orders(log)
            for category in _CATEGORIES:
                expected = [one for one in _public(scribe) if any(s.startswith(f"{category}:") for s in one.streams)]
                assert len(expected) >= 2
                for size in (1, 3, 100):
                    assert facts(_forwards(log, size, category=category)) == facts(expected), f"category {category}"
                    assert facts(_backwards(log, size, category=category)) == facts(reversed(expected))
            for absent in ("rder", "order:1", "ord", "o%", "order_"):
                assert list(log.read(LogPage(0, 10, category=absent))) == [], f"there is no category {absent!r}"

    def test_a_category_and_types_are_filtered_together(self, storage: Storage) -> None:
        """Only events that have one of the types and belong to the category."""
        with one_log(storage) as log:
            scribe = _some_orders(log)
            page = LogPage(0, 100, types=frozenset({"Placed"}), category="order")
            expected = [
                stored
                for stored in scribe.events
                if stored.type == "Placed" and any(stream.startswith("order:") for stream in stored.streams)
            ]
            assert 0 < len(expected) < len(_public(scribe))
            assert facts(log.read(page)) == facts(expected)

    def test_the_events_of_the_library_are_left_out(self, storage: Storage) -> None:
        """Types that begin with `$` are read only with `system`, and do not count in the limit otherwise."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            for _ in range(5):
                scribe.write(new("$once:k", type="$once"), new("a:1"), new("a:1", type="$mark"), new("a:1"))
            public = [stored for stored in scribe.events if stored.type == "Noted"]
            assert facts(log.read(LogPage(0, 10))) == facts(public)
            assert facts(log.read(LogPage(None, 10, backwards=True))) == facts(reversed(public))
            assert facts(log.read(LogPage(0, 10, category="a"))) == facts(public)
            assert facts(log.read(LogPage(0, 100, system=True))) == facts(scribe.events)
            assert facts(log.read(LogPage(None, 100, system=True, backwards=True))) == facts(reversed(scribe.events))
            marks = [stored for stored in scribe.events if stored.type == "$mark"]
            assert facts(log.read(LogPage(0, 100, types=frozenset({"$mark"}), system=True))) == facts(marks)

    # -- One stream ----------------------------------------------------------------------------------------------------

    def test_a_stream_is_read_in_pages_both_ways(self, storage: Storage) -> None:
        """Pages go on above or below the version where the one before ended; backwards they start at the end."""
        with one_log(storage) as log:
            scribe = _some_orders(log)
            for asked in (selection("order:1"), selection("order:1", "Placed"), selection("line:1")):
                expected = scribe.of(asked)
                assert expected
                for size in (1, 2, 100):
                    assert facts(_stream_forwards(log, asked, size)) == facts(expected), f"pages of {size}"
                    assert facts(_stream_backwards(log, asked, size)) == facts(reversed(expected)), f"pages of {size}"
            assert list(log.read_stream(StreamPage(selection("order:99"), 0, 10))) == []
            assert list(log.read_stream(StreamPage(selection("order:1"), 1, 10, backwards=True))) == []

    def test_types_in_a_stream_are_filtered_before_the_limit(self, storage: Storage) -> None:
        """The limit counts events of the selection, while versions count all events of the stream."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            for _ in range(20):
                scribe.write(*several(4, "a:1"), new("a:1", type="Rare"), new("b:1", type="Rare"))
            rare = scribe.of(selection("a:1", "Rare"))
            asked = selection("a:1", "Rare", "Never")
            assert facts(log.read_stream(StreamPage(asked, 0, 12))) == facts(rare[:12])
            assert facts(log.read_stream(StreamPage(asked, 10, 2))) == facts(rare[2:4]), "above version 10"
            assert facts(log.read_stream(StreamPage(asked, 10, 2, backwards=True))) == facts([rare[0]]), (
                "below version 10"
            )
            assert facts(log.read_stream(StreamPage(asked, None, 12, backwards=True))) == facts(rare[:-13:-1])

    # -- Streams -------------------------------------------------------------------------------------------------------

    def test_streams_are_listed_in_pages(self, storage: Storage) -> None:
        """Ids in the order of their UTF-8 bytes, each with its version and the position of its last event."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            in_category = [
                f"a:{suffix}" for suffix in ("Z", "a", "B", "b", "10", "9", "", "é", "\uff5e", "\U0001f600", "~")
            ]
            ids = [*in_category, "b:1", "ab:1", "a.b:1"]
            for _ in range(2):
                for stream in ids:
                    scribe.write(*several(1 + len(stream.encode()) % 3, stream))
            scribe.write(new(*ids[3:9], "z:1"))
            expected = _infos(scribe, sorted({*ids, "z:1"}, key=str.encode))
            for size in (1, 2, 5, len(expected), 100):
                assert _list_streams(log, None, size) == expected, f"pages of {size}"
            assert list(log.streams(None, "a:A", 2)) == [one for one in expected if one.id.encode() > b"a:A"][:2]
            assert list(log.streams(None, "zz", 10)) == []

    def test_streams_of_a_category_are_its_own(self, storage: Storage) -> None:
        """A category is what stands before the colon: all of it, in its case, and no pattern."""
        with one_log(storage) as log:
            scribe = _some_orders(log)
            for category in _CATEGORIES:
                own = sorted((s for s in scribe.versions if s.startswith(f"{category}:")), key=str.encode)
                assert own
                for size in (1, 2, 100):
                    assert _list_streams(log, category, size) == _infos(scribe, own), f"category {category}"
            assert list(log.streams("ord", "", 10)) == []
            assert list(log.streams("order", "order:1", 1)) == _infos(scribe, ["order:2"])
            assert list(log.streams("order", "zzz", 10)) == []

    def test_the_streams_of_the_library_are_listed_only_by_their_category(self, storage: Storage) -> None:
        """Streams that begin with `$` appear when their category is asked for."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(new("$once:k", "a:1"), new("$once:l"), new("b:1"))
            assert list(log.streams(None, "", 10)) == _infos(scribe, ["a:1", "b:1"])
            assert list(log.streams(None, "", 1)) == _infos(scribe, ["a:1"]), "left out before the limit"
            assert list(log.streams("$once", "", 10)) == _infos(scribe, ["$once:k", "$once:l"])


_CATEGORIES = ("order", "orders", "order.x", "order_x", "orderyx", "line", "o")


def _some_orders(log: Log) -> Scribe:
    """Categories that are easily taken for one another: prefixes, and one whose `_` is a wildcard in SQL."""
    scribe = Scribe(log)
    for number in (2, 1, 3):
        for category in _CATEGORIES:
            scribe.write(new(f"{category}:{number}", type="Placed"), new(f"{category}:{number}", type="Changed"))
        scribe.write(new(f"order:{number}", f"orders:{number}", "line:1", type="Moved"))
        scribe.write(new("line:1", "line:2", type="Swapped"), new("$once:k", type="$once"))
    scribe.write(new("order:1", type="Placed"), new("line:1"), new("o:1"))
    return scribe


def _public(scribe: Scribe) -> list[StoredEvent]:
    return [stored for stored in scribe.events if not stored.type.startswith("$")]


def _forwards(
    log: Log, size: int, *, types: frozenset[str] | None = None, category: str | None = None
) -> list[StoredEvent]:
    return all_pages(lambda last: log.read(LogPage(last.position if last else 0, size, types, category)))


def _backwards(
    log: Log, size: int, *, types: frozenset[str] | None = None, category: str | None = None
) -> list[StoredEvent]:
    return all_pages(lambda last: log.read(LogPage(last.position if last else None, size, types, category, True)))


def _stream_forwards(log: Log, asked: Selection, size: int) -> list[StoredEvent]:
    return all_pages(lambda last: log.read_stream(StreamPage(asked, last.streams[asked.stream] if last else 0, size)))


def _stream_backwards(log: Log, asked: Selection, size: int) -> list[StoredEvent]:
    return all_pages(
        lambda last: log.read_stream(StreamPage(asked, last.streams[asked.stream] if last else None, size, True))
    )


def _list_streams(log: Log, category: str | None, size: int) -> list[StreamInfo]:
    return all_pages(lambda last: log.streams(category, last.id if last else "", size))


def _infos(scribe: Scribe, streams: list[str]) -> list[StreamInfo]:
    """What the list must say of these streams."""
    return [
        StreamInfo(stream, scribe.versions[stream], scribe.of(selection(stream))[-1].position) for stream in streams
    ]
