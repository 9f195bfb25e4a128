"""What ships in the Bento: engines, runners, protocol adapters, settings."""

__version__ = "0.1.0"
