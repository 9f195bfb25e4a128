"""Predictions by TensorFlow Serving's REST API: `:classify` where there are classes, else `:predict`."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

from serving.client.answers import read_json
from serving.client.description import Description
from serving.client.exchange import Exchange, HttpDialect, get, post_json, reading
from serving.client.inputs import Inputs, plain_array
from serving.client.predictions import Prediction, best


class TfservingHttp(HttpDialect):
    """In JSON."""

    def metadata(self, model: str) -> Exchange[dict[str, Any]]:
        return (yield from get(f"v1/models/{quote(model, safe='')}/metadata"))

    def predict(self, description: Description, inputs: Inputs) -> Exchange[list[Prediction]]:
        from serving.client.arrays import from_lists, to_arrays, to_predictions

        inputs.check(description)
        path = f"v1/models/{quote(description.name, safe='')}"
        columns = {name: _plain(array) for name, array in to_arrays(inputs, description).items()}
        if description.ranks:
            names = list(columns)
            examples = [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
            request = post_json(f"{path}:classify", {"examples": examples})
            answer = read_json((yield request))
            with reading(request):
                return [best(row, inputs.top_k) for row in answer["results"]]
        request = post_json(f"{path}:predict", {"inputs": columns})
        answer = read_json((yield request))
        with reading(request):
            outputs = answer["outputs"]
            if len(description.outputs) == 1:  # a single output is not named
                outputs = {description.outputs[0].name: outputs}
            arrays = {output.name: from_lists(outputs[output.name], output) for output in description.wanted}
            return to_predictions(arrays, description, inputs)


def _plain(array: Any) -> Any:
    """Nested lists; files are in base64."""
    values = plain_array(array)
    if array.dtype == object and any(isinstance(value, bytes) for value in array.flat):
        return [{"b64": base64.b64encode(value).decode("ascii")} for value in values]
    return values
