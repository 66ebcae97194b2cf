"""On which engines the tests of stores run.

What an engine could get wrong is asked of every engine: by the contract suite, by property tests, and by the modules
that say `ENGINES = EVERY_ENGINE`. What lies above them, and is the same on each, is asked on two that need no server.
"""

from __future__ import annotations

LOCAL = ("memory", "sqlite")
EVERY_ENGINE = (*LOCAL, "postgres", "valkey")
