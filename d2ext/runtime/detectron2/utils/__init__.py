"""Utilities: logging, events, processes and files."""
