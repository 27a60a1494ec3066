"""Tests of d2ext; a package, so that spawned workers find `tests.helpers` by name."""
