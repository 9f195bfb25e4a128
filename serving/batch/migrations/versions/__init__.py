"""Migrations of the tables of the batch pattern."""
