"""Thin adapters from HTTP to the engines."""
