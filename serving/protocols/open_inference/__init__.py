"""The Open Inference Protocol (KServe's V2), over HTTP and gRPC."""
