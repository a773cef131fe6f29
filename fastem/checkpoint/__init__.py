"""What outlives a process: files of arrays and JSON, and what they were made from."""

from fastem.checkpoint.archive import read_archive, remove_leftovers, write_archive
from fastem.checkpoint.encoding import decode, encode
from fastem.checkpoint.fingerprints import differences, fingerprint

__all__ = [
    "decode",
    "differences",
    "encode",
    "fingerprint",
    "read_archive",
    "remove_leftovers",
    "write_archive",
]
