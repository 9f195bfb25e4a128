"""The standard protocols: the Open Inference Protocol and TensorFlow Serving's API."""
