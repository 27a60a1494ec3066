"""The commands, one module each: argument parser and `main`; the work is done by other packages."""
