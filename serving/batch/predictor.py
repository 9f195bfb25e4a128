"""Scoring the rows of one model: from the JSON of rows to the JSON of predictions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import groupby, islice
from typing import Any

from serving.batch.checks import open_row_codec
from serving.codecs.base import Codec, Files, RowAnswers
from serving.codecs.image_files import ImageFiles
from serving.codecs.rows import RowsCodec
from serving.core.engine import Engine, available_cores
from serving.core.errors import InvalidInputError, MalformedRequestError
from serving.core.halving import run_in_halves
from serving.core.tensors import Tensors, join, rows
from serving.placement import open_engine
from serving.settings import Settings

_MOST_NUMBERS = 4_000_000
"""Values of a chunk of rows. They are held as text, as Python objects and in tensors: a few hundred MB."""
_MOST_ROWS = 1_000
"""Of a chunk whose rows are read one by one: half a minute of photos on two cores, well within a lease."""
_CALL_ROWS = 65_536
"""Rows of an engine call where a whole chunk is read at once."""


_Scored = tuple[Sequence[int], RowAnswers]
"""Places of rows in a chunk, and their answers."""


class Predictor:
    """Scores the rows of one model.

    Rows of a table are read in one pass and scored in few engine calls. Other rows are read one by one; where that is
    slow, as for images, threads read the next rows while the engine scores those that have been read.

    Args:
        files: the files that rows may name.

    Attributes:
        tag: name and version of the stored model.
        most_rows: most rows of a chunk: they fit into memory and are scored well within a lease.
    """

    def __init__(self, codec: Codec[Any], engine: Engine, files: Files) -> None:
        self.tag = codec.stored.tag
        self._codec = codec
        self._engine = engine
        self._files = files
        self._table = codec if isinstance(codec, RowsCodec) and _reads_tables(codec) else None
        if self._table is None:
            self.most_rows = _MOST_ROWS
        else:
            self.most_rows = min(1_000_000, max(_MOST_ROWS, _MOST_NUMBERS // len(self._table.columns)))
        batching = codec.signature.batching
        # Where the graph takes one row, or tensors without rows, a call is about one row and fails alone.
        self._batch_rows = codec.limits.max_batch_rows if batching == "free" else 1
        self._call_rows = _CALL_ROWS if batching == "free" else 1

    def predict(self, values: Sequence[str]) -> RowAnswers:
        """Score rows, given as the JSON of their `values`. A bad row fails alone."""
        found = RowAnswers([None] * len(values), [None] * len(values), [None] * len(values))
        for places, answers in self._score_table(self._table, values) if self._table else self._score_each(values):
            if len(places) == len(values):
                return answers
            for index, prediction, label, error in zip(places, *answers, strict=True):
                found.predictions[index] = prediction
                found.labels[index] = label
                found.errors[index] = error
        return found

    # A whole chunk at once

    def _score_table(self, table: RowsCodec, values: Sequence[str]) -> Iterator[_Scored]:
        if not values:
            return
        tensors, errors = table.read_rows(values)
        places: Sequence[int] = range(len(values))
        if errors.count(None) < len(errors):
            bad = [index for index, error in enumerate(errors) if error is not None]
            yield bad, _failed([errors[index] for index in bad])
            places = [index for index, error in enumerate(errors) if error is None]
            tensors = {name: array[places] for name, array in tensors.items()}
        for start in range(0, len(places), self._call_rows):
            stop = min(start + self._call_rows, len(places))
            part = tensors if stop - start == len(places) else rows(tensors, start, stop)
            yield places[start:stop], self._score(part, stop - start)

    # Row by row

    def _score_each(self, values: Sequence[str]) -> Iterator[_Scored]:
        with ExitStack() as stack:
            read = self._read_ahead(values, stack) if self._codec.slow else map(self._read, values)
            numbered = enumerate(read)
            while batch := list(islice(numbered, self._batch_rows)):
                good: list[tuple[int, Tensors]] = []
                for index, found in batch:
                    if isinstance(found, InvalidInputError):
                        yield [index], _failed([found.message])
                    else:
                        good.append((index, found))
                # Neighbours with rows of equal shapes share an engine call.
                for _, group in groupby(good, lambda item: _shape(item[1])):
                    places, tensors = zip(*group, strict=True)
                    yield places, self._score(join(list(tensors)), len(places))

    def _score(self, tensors: Tensors, number: int) -> RowAnswers:
        """The answers for rows in one engine call; when the graph refuses it, in halves, down to the bad rows."""
        try:
            return self._call(tensors, number)
        except InvalidInputError as error:
            if number == 1:
                return _failed([error.message])
        answers = run_in_halves(range(number), partial(self._call_part, tensors), InvalidInputError)
        refused = [(None, None, each.message) if isinstance(each, InvalidInputError) else each for each in answers]
        return RowAnswers(*map(list, zip(*refused, strict=True)))

    def _call_part(self, tensors: Tensors, part: Sequence[int]) -> list[tuple[str | None, str | None, str | None]]:
        """The answers for consecutive rows of `tensors`."""
        return list(zip(*self._call(rows(tensors, part[0], part[-1] + 1), len(part)), strict=True))

    def _call(self, tensors: Tensors, number: int) -> RowAnswers:
        answers = self._codec.row_answers(self._engine.run(tensors))
        if len(answers.predictions) != number:
            raise RuntimeError(f"model {self.tag} answers {number} rows with {len(answers.predictions)}")
        return answers

    def _read_ahead(self, values: Sequence[str], stack: ExitStack) -> Iterator[Tensors | InvalidInputError]:
        """Read in threads: as many rows ahead as the engine takes at a time, and one more for each thread.

        So the tensors of all rows are never in memory at once.
        """
        threads = self._codec.settings.image.decode_threads or available_cores()
        pool = stack.enter_context(ThreadPoolExecutor(threads, thread_name_prefix="batch-read"))
        ahead = self._batch_rows + threads
        waiting: deque[Future[Tensors | InvalidInputError]] = deque()
        texts = iter(values)
        while True:
            waiting.extend(pool.submit(self._read, text) for text in islice(texts, ahead - len(waiting)))
            if not waiting:
                return
            yield waiting.popleft().result()

    def _read(self, text: str) -> Tensors | InvalidInputError:
        """The tensors of a row, or why there are none."""
        try:
            return self._codec.tensors(self._codec.read_row(text, self._files))[0]
        except InvalidInputError as error:
            return error
        except MalformedRequestError as error:
            return InvalidInputError(error.message)


def _reads_tables(codec: RowsCodec) -> bool:
    """Whether a chunk may be read in one pass: a plug-in with its own pre-processing reads row by row."""
    own = type(codec)
    return (
        codec.signature.has_rows
        and own.read_row is RowsCodec.read_row
        and own.read_rows is RowsCodec.read_rows
        and own.tensors is RowsCodec.tensors
    )


def _failed(errors: Sequence[str | None]) -> RowAnswers:
    return RowAnswers([None] * len(errors), [None] * len(errors), list(errors))


def _shape(tensors: Tensors) -> object:
    """Equal for rows that can share a call."""
    return [(name, tensors[name].shape[1:]) for name in sorted(tensors)]


OpenPredictor = Callable[[], Predictor]


def open_predictor(settings: Settings, name: str) -> Predictor:
    """Load a model to score its rows.

    Raises:
        ModelError: the model is not in the store or cannot be served.
    """
    codec = open_row_codec(settings, name)
    # The file of an image may be as large as the body of a request.
    files = ImageFiles(settings.batch.image_root, max_bytes=settings.api.max_request_bytes)
    return Predictor(codec, open_engine(codec.stored, settings.served[name]), files)


def predictors(settings: Settings) -> Mapping[str, OpenPredictor]:
    """How to load the models whose rows can be scored, by the name that stands in the column `model` of a row.

    No model is loaded before there is a row of it.
    """
    return {name: partial(open_predictor, settings, name) for name in settings.served}
