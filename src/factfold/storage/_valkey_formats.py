"""The format of a namespace in Valkey: made where there is none, and brought up to date where an older one is found."""

from __future__ import annotations

from factfold.errors import StorageFormatError
from factfold.storage._valkey_steps import Route, Steps
from factfold.storage._valkey_wire import DIVIDE, Keys, Word, binary, encode_question, items

FORMAT = 2
"""Of keys and rows. Stored in every namespace."""

MOVED = 500
"""About how many values are moved by one call of a script: the server does nothing else meanwhile."""


def preparing(name: str, keys: Keys, route: Route) -> Steps[None]:
    """Makes a namespace unless it is there. Raises StorageFormatError."""
    yield from route.command("SET", keys.format, FORMAT, "NX", reading=False)
    found = yield from route.command("GET", keys.format)
    if found == b"1":
        yield from _dividing_places(keys, route)
        yield from route.command("SET", keys.format, FORMAT, reading=False)
    elif found != str(FORMAT).encode():
        raise StorageFormatError(
            f"{name}: this namespace has format {found!r}, and this version of factfold knows {FORMAT}. "
            "Install the version that wrote it, or a newer one; if it is not factfold's, use another prefix."
        )


def _dividing_places(keys: Keys, route: Route) -> Steps[None]:
    """From format 1 to 2: small values are no longer in one hash. Several may do this at once, and again."""
    together = keys.base + "places"
    cursor = b"0"
    while True:
        reply = yield from route.command("HSCAN", together, cursor, "COUNT", MOVED)
        cursor, fields = binary(items(reply)[0]), [binary(field) for field in items(items(reply)[1])[::2]]
        declared: list[str] = [*keys.fixed, together]
        indices: dict[bytes, int] = {}
        places: list[int] = []
        arguments: list[Word] = []
        for field in fields:
            place, _, key = field.partition(b"\0")
            if place not in indices:
                declared.append(keys.places + place.decode())
                indices[place] = len(declared)
            places.append(indices[place])
            arguments += (field, key)
        if places:
            question = encode_question({"places": places})
            yield from route.run(DIVIDE, declared, (question, *arguments), reading=False)
        if cursor == b"0":
            return
