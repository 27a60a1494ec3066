"""Checksums of checkpoints: bit rot is found by the CRCs that torch.save writes to the zip file."""

import struct
import zipfile
import zlib
from pathlib import Path

_CHUNK = 2**20  # bytes read at once
_TENSORS = "/data/"  # part of the names of the records that hold tensors
_FAILURES = (zipfile.BadZipFile, zlib.error, struct.error, ValueError, RuntimeError, EOFError)


class ChecksumError(ValueError):
    """A record of a zip file that is not as it was written."""


def check_crcs(path: Path, *, tensors: bool = True) -> None:
    """Compare the CRC-32 of each record of a zip file with its content; torch.load does not.

    Records without a CRC, see `torch.serialization.set_crc32_options`, are passed over.

    Args:
        tensors: check all records; False: only those that are not tensors, which is fast.
    Raises:
        ChecksumError: a record, or the table of records, is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for record in archive.infolist():
                if record.CRC and (tensors or _TENSORS not in record.filename):
                    _read_through(archive, record)
    except _FAILURES as error:
        raise ChecksumError(str(error)) from error


def is_undamaged(path: Path) -> bool:
    """Return true if a file is a complete zip file whose CRCs are right."""
    try:
        check_crcs(path)
    except (ChecksumError, OSError):
        return False
    return True


def _read_through(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> None:
    if record.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ChecksumError(f"unknown compression of {record.filename!r}")
    with archive.open(record) as file:
        while file.read(_CHUNK):  # compares the CRC at the end
            pass
