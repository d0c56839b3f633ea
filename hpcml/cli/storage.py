"""Arguments that say how an HDF5 file is stored."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpcml.io.write.filters import Storage

__all__ = ["add_storage", "make_storage"]


def add_storage(parser: argparse.ArgumentParser) -> None:
    """Add layout, chunks and filters to a verb."""
    layout = parser.add_mutually_exclusive_group()
    layout.add_argument("--chunk-rows", type=int, metavar="R", help="rows of a chunk (default: some 1 MiB)")
    layout.add_argument(
        "--contiguous", action="store_true", help="rows in one piece (the default without filters)"
    )
    parser.add_argument(
        "--compression",
        default="none",
        metavar="NAME[:LEVEL]",
        help="none, gzip, lzf; or with hdf5plugin blosc-lz4, blosc-zstd, blosc2-lz4, blosc2-zstd, "
        "bitshuffle-lz4, bitshuffle-zstd, lz4, zstd",
    )
    parser.add_argument(
        "--shuffle",
        action=argparse.BooleanOptionalAction,
        help="order the bytes of numbers by place before compressing (default: yes)",
    )
    parser.add_argument("--fletcher32", action="store_true", help="a checksum a chunk")


def make_storage(args: argparse.Namespace) -> Storage:
    """Return how the arguments want data sets stored.

    Raises
    ------
    SpecError
        They exclude each other, or hdf5plugin is missing.
    """
    from hpcml.io.write.filters import Storage

    return Storage(args.contiguous, args.chunk_rows, args.compression, args.shuffle, args.fletcher32)
