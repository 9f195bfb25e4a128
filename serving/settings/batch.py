"""Settings of the batch pattern."""

from __future__ import annotations

from pydantic import Field

from serving.settings.section import Section

_EMBEDDED_URL = "sqlite:///batch.db"


class BatchSettings(Section):
    database_url: str = Field(
        "",
        repr=False,
        description="Where the rows are: `sqlite:///file.db`, `postgresql://` or `mysql://` (MariaDB as well). Empty: "
        f"no routes in the API, and `serving batch` works on `{_EMBEDDED_URL}`. It may hold a password, so set it in "
        "the environment.",
    )
    database_schema: str = Field(
        "",
        description="Schema of the tables in PostgreSQL. Empty: the first one on the user's search path, as a rule "
        "`public`.",
    )
    chunk_rows: int = Field(
        10_000, ge=1, le=1_000_000, description="Rows that are claimed, predicted and committed together."
    )
    lease_seconds: float = Field(
        60.0, ge=1, description="Rows whose scorer gives no sign of life for this long go to another scorer."
    )
    max_attempts: int = Field(
        3, ge=1, description="How often a row is scored that fails, unless `--max-attempts` is given."
    )
    retry_seconds: float = Field(
        60.0, ge=0, description="How long a scorer tries again while the database is away, before it gives up."
    )
    image_root: str = Field(
        "", description="Directory below which the images of rows have to lie; empty allows no images."
    )

    @property
    def url(self) -> str:
        """The database of the commands: a file of the working directory unless one is configured."""
        return self.database_url or _EMBEDDED_URL
