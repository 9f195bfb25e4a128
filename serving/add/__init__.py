"""Bringing a model: from an ONNX file to a model in the store that every pattern serves.

`graph` reads and judges the file, `trial` runs it, `decide` says what it is, `add` saves it, and `check` answers its
sample.
"""
