"""The commands of `serving`, and what they print."""
