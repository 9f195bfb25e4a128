"""Text, and tables whose columns are numbers and words, some of them missing or unknown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from tests.matrix.cases import Case
from tests.matrix.zoo.making import FLOWERS, NAMES, ROWS, SINGLE, classification, convert, regression

SENTENCES = ["the cat sat on a mat", "dogs chase the cats", "stocks fell sharply", "the market rallied", "a dog barked"]
SUBJECTS = ["pets", "pets", "money", "money", "pets"]
# Unknown words, none at all, letters of other scripts, and what cuts a text short in C.
ASKED = np.array(
    [["a cat and a dog"], ["Stocks fell, the market too"], ["unknown"], [""], ["서울 ZÜRICH cat\0 🐈"]], object
)


def text() -> Case:
    """A sentence a row."""
    from skl2onnx.common.data_types import StringTensorType

    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression()).fit(SENTENCES, SUBJECTS)
    graph = convert(model, [("text", StringTensorType([None, 1]))])
    return classification("text", model, graph, ASKED, asked=ASKED[:, 0])


def frame() -> Case:
    """A data frame: a number is missing, a word is unknown; rows are records by name, as pandas writes them."""
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    table = pd.DataFrame(
        {
            "age": [31.0, 45.0, np.nan, 60.0, 22.0, 39.0],
            "visits": [1, 2, 3, 4, 5, 6],
            "city": ["Bern", "Zürich", "Genf", "Bern", "Genf", "Basel"],
        }
    )
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["age", "visits"]),
            ("words", OneHotEncoder(handle_unknown="ignore"), ["city"]),
        ]
    )
    model = make_pipeline(columns, LogisticRegression()).fit(table, ["no", "yes", "no", "yes", "no", "yes"])
    types = [FloatTensorType([None, 1]), Int64TensorType([None, 1]), StringTensorType([None, 1])]
    asked = pd.DataFrame({"age": [31.5, np.nan, 50.0], "visits": [3, 4, 0], "city": ["Bern", "Paris", "Basel"]})
    inputs: dict[str, Any] = {
        "age": asked[["age"]].to_numpy(np.float32),
        "visits": asked[["visits"]].to_numpy(np.int64),
        "city": asked[["city"]].to_numpy(object),
    }
    records = asked.astype(object).where(asked.notna(), None).to_dict("records")
    return Case(
        "frame",
        convert(model, list(zip(table.columns, types, strict=True))),
        (),
        kind="rows",
        task="classification",
        inputs=inputs,
        outputs={"output_probability": model.predict_proba(asked)},
        scores="output_probability",
        body={"data": records},
        labels=("no", "yes"),
        predicted=tuple(model.predict(asked)),
        tolerance=SINGLE,
    )


def array() -> Case:
    """Columns of one array by their numbers, the first of them with missing values."""
    rows = np.array([[1, np.nan, 0, 5], [2, 3, 1, 6], [np.nan, 1, 2, 7], [4, 2, 0, 8]], np.float32)
    columns = ColumnTransformer(
        [("filled", SimpleImputer(), [0, 1]), ("coded", OrdinalEncoder(), [2]), ("kept", "passthrough", [3])]
    )
    model = make_pipeline(columns, RandomForestRegressor(5, random_state=0)).fit(rows, [1.0, 2.0, 3.0, 4.0])
    return regression("array", model, convert(model, rows), rows)


def branches() -> Case:
    """Trees that were trained with missing values say where a row without one goes."""
    random = np.random.default_rng(0)
    flowers, rows = (np.where(random.random(each.shape) < 0.3, np.nan, each) for each in (FLOWERS, ROWS))
    model = HistGradientBoostingClassifier(max_iter=5).fit(flowers, NAMES)
    return classification("branches", model, convert(model, ROWS), rows.astype(np.float32))


MAKE: dict[str, Callable[[], Case]] = {each.__name__: each for each in (text, frame, array, branches)}
