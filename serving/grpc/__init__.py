"""The gRPC protocols: TensorFlow Serving's, the Open Inference Protocol, health and reflection, on one server."""
