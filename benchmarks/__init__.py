"""Side-by-side measurements of this service and its peers; `python -m benchmarks` runs them."""
