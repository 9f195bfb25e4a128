"""The reference servers, one file each: the same model, request and response in other frameworks.

They run in an environment of their own (`make bench-peers`), so nothing here imports the service. The model's
file comes from the benchmark through the environment: a peer that had to import BentoML to find it would look
larger and slower to start than it is.
"""
