"""Programs that other people wrote, and small ones in their languages, against the running service."""
