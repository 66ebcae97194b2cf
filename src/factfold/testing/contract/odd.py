"""The contract for odd input: names are opaque text, compared byte by byte, and JSON comes back equal."""

from __future__ import annotations

from factfold.errors import AppendRefusedError
from factfold.storage.base import Appended, Conflict, LogPage, Storage, StreamPage
from factfold.testing.contract.running import one_log, outcome_of
from factfold.testing.contract.scribe import Scribe, appending, asking, facts, loading, new, read_log, selection

# These are tables:
# fmt: off
ODD_SUFFIXES = (
    "x", "X", "x ", " x", "x  y", "", " ", ".", "..", "/", "//", "a/b", "a/b/", "\\", "\\\\", "a\\b",
    "'", "''", "'; DROP TABLE events; --", '"', '""', "`", "%", "%%", "%25", "%s", "%(x)s", "_", "__", "x%", "x_",
    "a%z", "*", "**", "?", "[x]", "[!x]", "[a-z]", "{x}", "{", "}", "(x)", "x|y", "^x", "x$", "$1", "$", "$x", "#", "&",
    "@", ":", "::", "x:y", ";", ",", ">", "x.>", "x.*", "<x>", "+", "=", "~", "!", "?x=1&y=2", "http://x/y?z#w", "-",
    "--x", "0", "1", "01", "1.0", "1e0", "1e1000", "-1", "+1", "0x1", "null", "NULL", "None", "true", "[]", "{}",
    "\u00e9", "e\u0301", "\u00c9", "\u00df", "ss", "\u1e9e", "\u0131", "i", "I", "\u0130", "\u03a9", "\u2126", "\ufb01",
    "fi", "\u00c5", "\u212b", "\u01c6", "\uff41", "a", "\u0430", "\u65e5\u672c", "\u0e44", "\u05e9\u05dc", "\u0645",
    "👩\u200d👩\u200d👧", "👩", "🇩🇪", "\U0001d518", "\U0010ffff", "\ufeff", "\ufffd", "\uffff", "\ud7ff", "\ue000",
    "\u00a0", "\u00ad", "\u200b", "\u200d", "\u202e", "\u2028", "\u2029", "\u3000", "x\u200b", "x\ufe0f",
    "x" * 253, "x" * 252 + "y", "X" * 253, "\u00fc" * 253, "\U0001f600" * 253, "\U0001f600" * 252 + "\U0001f601",
)
# fmt: on
"""What may stand after the colon of a stream id: everything but control characters and lone surrogates, 255 in all."""

# fmt: off
LOOK_ALIKES = (
    "a:x", "a:X", "A:x", "a:x ", "a:x%", "a:%", "a:_", "a:?", "a:*", "a:[x]", "a:\u00e9", "a:e\u0301", "a:1", "a:01",
)

ODD_TYPES = (
    "Opened", "opened", "OPENED", "Opened ", " Opened", "order placed", "a.b", "a:b", "a,b", "a'b", 'a"b', "a\\b", "%",
    "_", "Open%", "O_ened", "*", "{x}", "[]", "null", "1", "01", "\u00e9", "e\u0301", "x" * 128, "\U0001f600" * 128,
)

ODD_JSON = (
    b"{}", b"[]", b"null", b"true", b"false", b"0", b"-1", b'""', b'"text"', b"1.5", b"[[],{},[{}]]", b'{"":{"":[]}}',
    b'{"a":[],"b":{},"c":null,"d":""}', b'{"list":[],"empty":{}}', b'[null,[null],{"x":null}]', b'{"b":1,"a":2,"B":3}',
    b"9007199254740993", b"-9223372036854775808", b"18446744073709551615", b"123456789012345678901234567890",
    b"0.1", b"1e-7", b"1.7976931348623157e308", b"5e-324", b"-0.0", b"12345678.901234567", b'"12.30"',
    b'"\\"\\\\\\/\\b\\f\\n\\r\\t"', b'"\\u001f\\u007f\\u2028\\ud83d\\ude00"', b"\"';--%s$1:x{}`\"", b'{"a\\"":1}',
    '"\u00e9 e\u0301 \u65e5 👩\u200d👧 \U0010ffff"'.encode(), '{"\u043a\u043b\u044e\u0447":"🔑","🔑":[1]}'.encode(),
    b"[" * 100 + b"]" * 100, b'{"x":"' + b"y" * 1_000_000 + b'"}', b"[" + b"1," * 50_000 + b"1]",
)
# fmt: on


class OddContract:
    """Stream ids, type names and JSON as odd as they are allowed to be."""

    def test_stream_ids_are_opaque(self, storage: Storage) -> None:
        """Ids with odd characters are streams of their own: nothing is trimmed, folded, normalised or a pattern."""
        ids = [f"a:{suffix}" for suffix in ODD_SUFFIXES]
        assert len(set(ids)) == len(ids)
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(*(new(stream) for stream in ids))
            before = scribe.head
            for stream in ids[::2]:
                scribe.write(new(stream))
            scribe.assert_unchanged()
            assert [info.id for info in log.streams(None, "", 1_000)] == sorted(ids, key=str.encode)
            assert [info.id for info in log.streams("a", "", 1_000)] == sorted(ids, key=str.encode)
            news = log.check(asking(before, *map(selection, ids)))
            assert news.touched == set(range(0, len(ids), 2)), "a selection looks at its own stream"
            slices = log.load(loading(*map(selection, ids))).slices
            for stream, slice in zip(ids, slices, strict=True):
                assert slice.version == scribe.versions[stream], f"the version of {stream!r}"
                assert facts(slice.events) == facts(scribe.of(selection(stream))), f"the events of {stream!r}"
                assert facts(log.read_stream(StreamPage(selection(stream), 0, 10))) == facts(slice.events)

    def test_every_odd_stream_is_checked_for_itself(self, storage: Storage) -> None:
        """An append conflicts in the stream that was written to, and in none that looks like it."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            for index, stream in enumerate(LOOK_ALIKES):
                before = scribe.head
                scribe.write(new(stream))
                answer = log.append(appending([new("b:1")], before, *map(selection, LOOK_ALIKES)))
                assert isinstance(answer, Conflict)
                assert answer.news.touched == {index}, f"only {stream!r} has a new event"

    def test_type_names_are_opaque(self, storage: Storage) -> None:
        """Type names with odd characters, up to 128, select exactly their own events."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(*(new("a:1", type=type) for type in ODD_TYPES))
            narrow = [selection("a:1", type) for type in ODD_TYPES]
            slices = log.load(loading(*narrow)).slices
            for type, asked, slice in zip(ODD_TYPES, narrow, slices, strict=True):
                assert facts(slice.events) == facts(scribe.of(asked)), f"the events of type {type!r}"
                assert facts(log.read(LogPage(0, 10, types=frozenset({type})))) == facts(scribe.of(asked))
                assert facts(log.read_stream(StreamPage(asked, 0, 10))) == facts(scribe.of(asked))
            for index, type in enumerate(ODD_TYPES):
                before = scribe.head
                scribe.write(new("a:1", type=type))
                assert log.check(asking(before, *narrow)).touched == {index}, f"only {type!r} is new"

    def test_data_and_metadata_come_back_equal_as_json(self, storage: Storage) -> None:
        """Numbers keep their digits, empty lists stay lists, and text its characters, in every answer."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            for value in ODD_JSON:
                scribe.write(new("a:1", data=value, metadata=b'{"extra":' + value + b"}"))
            assert len(ODD_JSON) > 30
            assert facts(log.load(loading(selection("a:1"))).slices[0].events) == facts(scribe.events)
            assert facts(read_log(log)) == facts(scribe.events)
            for index, stored in enumerate(scribe.events):
                found = log.read_stream(StreamPage(selection("a:1"), index, 1))
                assert facts(found) == facts([stored]), f"{stored.data[:80]!r} came back as {found[0].data[:80]!r}"

    def test_a_zero_character_is_kept_or_refused(self, storage: Storage) -> None:
        """An engine that cannot store U+0000 in a text refuses the append, wholly; it never stores something else."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(new("a:1"))
            append = appending([new("a:1"), new("b:1", data=b'{"text":"x\\u0000y"}')], scribe.head, selection("a:1"))
            answer = outcome_of(lambda: log.append(append))
            if isinstance(answer, AppendRefusedError):
                assert log.resolve(append) is None
            else:
                assert isinstance(answer, Appended), answer
                scribe.wrote(append, answer)
            scribe.assert_unchanged()
