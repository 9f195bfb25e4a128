"""The batch pattern: rows are kept in a database and scored later, in chunks."""
