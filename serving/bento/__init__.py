"""Everything that touches BentoML: service classes, runners, the link to them, processes and their drain."""
