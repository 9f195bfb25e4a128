"""Spans reach a collector when one is configured."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.e2e.test_observability import eventually
from tests.server import NO_PROXY_THERE, serving

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.usefixtures("model_store")
def test_spans_of_api_and_runner_are_one_trace() -> None:
    names: set[tuple[str, str]] = set()

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            for resource in request.resource_spans:
                service = {item.key: item.value.string_value for item in resource.resource.attributes}["service.name"]
                for scope in resource.scope_spans:
                    names.update((service, span.name) for span in scope.spans if span.trace_id.hex() == TRACE_ID)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    collector = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=collector.serve_forever)
    thread.start()
    try:
        # No proxy is asked for the collector and the runners, which are on this machine.
        with serving(
            **NO_PROXY_THERE,
            SERVING__MODELS__INCEPTION_V3__ENABLED="false",
            SERVING__TRACING__EXPORTER="otlp",
            SERVING__TRACING__ENDPOINT=f"http://127.0.0.1:{collector.server_port}/v1/traces",
        ) as server:
            headers = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
            for route in ("/iris/predict", "/iris/predict/batched"):
                response = httpx.post(
                    server.url + route, json={"data": [[5.1, 3.5, 1.4, 0.2]]}, headers=headers, timeout=60
                )
                assert response.status_code == 200
            assert eventually(
                lambda: (
                    # a copy is made at once: the collector may add to the set meanwhile
                    {"model_serving", "iris_runner"} <= {service for service, _ in names.copy()}
                    and any("/iris/predict" in name for _, name in names.copy())
                )
            ), names
    finally:
        collector.shutdown()
        thread.join()
        collector.server_close()
