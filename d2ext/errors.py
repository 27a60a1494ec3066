"""Mistakes of the person at the keyboard: shown as one message, without a traceback."""


class UserError(Exception):
    """Something the user can mend; the message names the file, the field and the remedy."""


class ConfigError(UserError):
    """A config file, a key or a value on the command line."""


class DataError(UserError):
    """Annotations, images or their folder."""


class WeightsError(UserError):
    """A file of weights or a checkpoint."""


class OutputError(UserError):
    """The output folder: not writable, or the disk is full."""
