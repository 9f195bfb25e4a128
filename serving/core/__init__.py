"""The middle that knows no HTTP, no gRPC and no BentoML: tensors, engines, the batcher, admission, ranking, errors."""
