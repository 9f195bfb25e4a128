"""Asks with OpenVINO Model Server's client, where PYTHONPATH has it: `python ovms_client.py <HTTP> <gRPC> <image>`.

The first two are addresses, `host:port`. Prints what it was told as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import ovmsclient

ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]], np.float32)


def refusal(client: Any, model: str, rows: Any) -> str:
    try:
        client.predict({"features": rows}, model)
    except ovmsclient.tfs_compat.base.errors.ModelServerError as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def ask(client: Any, image: bytes) -> dict[str, Any]:
    (status,) = client.get_model_status("iris").values()
    return {
        "status": status,
        "metadata": client.get_model_metadata("iris"),
        "rows": client.predict({"features": ROWS}, "iris").tolist(),
        "image": [
            str(np.char.decode(np.asarray(each, "S"))) for each in client.predict({"image": image}, "inception_v3")
        ],
        "missing": refusal(client, "rose", ROWS),
        "refused": refusal(client, "iris", ROWS[:, :3]),
    }


http, grpc, file = sys.argv[1:]
content = Path(file).read_bytes()
found = {
    "http": ask(ovmsclient.make_http_client(http), content),
    "grpc": ask(ovmsclient.make_grpc_client(grpc), content),
}
print(json.dumps(found))
