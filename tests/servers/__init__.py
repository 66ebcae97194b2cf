"""Real servers for the tests: found, started once for a session, broken on purpose, and never left behind."""
