"""Logging, events, processes and files."""
