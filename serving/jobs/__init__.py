"""The asynchronous pattern: jobs that are accepted at once, kept durably and run by workers."""
