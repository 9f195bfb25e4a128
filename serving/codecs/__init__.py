"""From a request to tensors, and from tensors to an answer: one codec for each kind of model."""
