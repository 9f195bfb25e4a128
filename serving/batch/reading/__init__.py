"""The one reader of files of rows, for `serving batch load` and `serving batch score-files`.

`sources` finds the files of an input, `layout` looks at the beginning of each and says how it is written, `columns`
finds the columns of a model in it, `text` and `lines` read the rows, and `judge` says what their values mean. A file
that is not as the options say is refused as a whole, with a sentence; a row whose values are wrong fails alone.

Nothing here needs pyarrow to be imported: CSV and JSON lines are read without it.
"""

from __future__ import annotations

from serving.core.errors import ConfigurationError

SHOWN_ROWS = 20
"""Of the bad rows of a command."""


class FilesError(ConfigurationError):
    """A file cannot be read as it was asked for. For the operator: says what to change."""
