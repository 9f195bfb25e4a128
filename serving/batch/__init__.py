"""The batch pattern: rows that nobody waits for lie in a database and are scored later, in sets."""
