"""Predictions by the service's own routes."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from serving.client.answers import read_json
from serving.client.description import Description
from serving.client.exchange import Exchange, HttpDialect, HttpRequest, get, post_json, reading
from serving.client.inputs import IMAGE_TYPE, Inputs, rows_body, tensors_body
from serving.client.predictions import Candidate, Prediction, best


class Native(HttpDialect):
    """`/{model}/predict`; images go one by one."""

    def metadata(self, model: str) -> Exchange[dict[str, Any]]:
        return (yield from get(f"{quote(model, safe='')}/metadata"))

    def predict(self, description: Description, inputs: Inputs) -> Exchange[list[Prediction]]:
        inputs.check(description)
        path = f"{quote(description.name, safe='')}/predict"
        if inputs.images:
            requests = _image_requests(path, description, inputs)
        else:
            requests = [post_json(path, rows_body(inputs.rows) if inputs.rows else tensors_body(inputs.tensors))]
        found: list[Prediction] = []
        for request in requests:
            answer = read_json((yield request))
            with reading(request):
                found += _read(answer, description, inputs)
        return found


def _image_requests(path: str, description: Description, inputs: Inputs) -> list[HttpRequest]:
    content: dict[str, Any] = {"headers": {"Content-Type": IMAGE_TYPE}}
    if description.ranks:
        content["params"] = {"top_k": min(inputs.top_k or description.classes, description.classes)}
    return [HttpRequest("POST", path, {**content, "content": image}) for image in inputs.images]


def _read(answer: Any, description: Description, inputs: Inputs) -> list[Prediction]:
    if description.ranks and inputs.images:
        candidates = (Candidate(each["label"], each["class_id"], each["probability"]) for each in answer["predictions"])
        return [Prediction(tuple(candidates))]
    if description.ranks:
        labels = description.labels
        return [best(zip(labels, row, strict=True), inputs.top_k) for row in answer["prediction"]]
    if description.task == "regression" and description.kind != "tensors":
        values = answer["prediction"] if inputs.rows else [answer["prediction"]]
        return [Prediction(value=value) for value in values]
    from serving.client.arrays import from_lists, split  # NumPy is not worth its start where there are no tensors

    outputs = {output.name: from_lists(answer["outputs"][output.name], output) for output in description.outputs}
    return split(outputs, len(inputs.rows)) if inputs.rows else [Prediction(outputs=outputs)]
