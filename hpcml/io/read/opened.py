"""The files that hold the rows, opened when they are first read and kept open."""

from __future__ import annotations

import os
import resource
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py

from hpcml.collectives import Communicator, agreed
from hpcml.errors import DataError
from hpcml.io.read.handle import FileIdentity, Handle, Traffic, identity_of
from hpcml.io.read.mpio import open_together
from hpcml.io.read.opening import open_file

__all__ = ["KnownFile", "OpenFiles"]


class KnownFile(NamedTuple):
    """A file whose layout was read, and what tells that it is still the same."""

    path: Path
    identity: FileIdentity


class OpenFiles:
    """Files by number. All Local.

    Parameters
    ----------
    files : sequence of KnownFile
    traffic : Traffic
    by_library : collection of int
        The files that HDF5 will read too: it opens them, and what is read by offset shares its descriptor.
    """

    def __init__(
        self, files: Sequence[KnownFile], traffic: Traffic, by_library: Collection[int] = ()
    ) -> None:
        self.files = files
        self.traffic = traffic
        self._by_library = by_library
        self._handles: dict[int, Handle] = {}
        self._libraries: dict[int, h5py.File] = {}
        self._is_shared = False
        self._most = max(8, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)

    def adopt(self, number: int, descriptor: int, library: h5py.File | None = None) -> None:
        """Take over a file that is open already: its descriptor, and what HDF5 reads it by."""
        self.traffic.opens += 1
        self._take(number, descriptor)
        if library is not None:
            self._libraries[number] = library

    def _take(self, number: int, descriptor: int) -> None:
        self._make_room()
        self._handles[number] = Handle(*self.files[number], self.traffic, descriptor, self._make_room)

    def handle(self, number: int) -> Handle:
        """Return a file to be read by offset.

        Raises
        ------
        DataError
            As `library`, where HDF5 will read the file too.
        """
        if number not in self._handles:
            shared = number in self._by_library
            self._take(number, os.dup(self.library(number).id.get_vfd_handle()) if shared else -1)
        return self._handles[number]

    def _make_room(self) -> None:
        """Close one: a list of data files may be longer than a process may open. It opens again when read."""
        opened = [handle for handle in self._handles.values() if handle.is_open]
        if len(opened) >= self._most:
            opened[0].close()

    def library(self, number: int) -> h5py.File:
        """Return a file to be read through HDF5.

        Raises
        ------
        DataError
            It cannot be opened, or is not the file whose layout was read.
        """
        if number not in self._libraries:
            self._keep(number, open_file(self.files[number].path))
        return self._libraries[number]

    def share(self, comm: Communicator) -> None:
        """Open all files through MPI-IO, to be read through HDF5. Collective, one small message a file.

        Raises
        ------
        DataError
            As `library`; on every rank.
        """
        self._is_shared = True
        for number, known in enumerate(self.files):
            with agreed(comm):
                self._keep(number, open_together(comm, known.path))

    def _keep(self, number: int, file: h5py.File) -> None:
        self._libraries[number] = file
        self.traffic.opens += 1
        path, identity = self.files[number]
        status = os.stat(path) if self._is_shared else os.fstat(file.id.get_vfd_handle())
        if identity_of(status) != identity:
            raise DataError(f"{path}: was replaced or changed since its layout was read")

    def check(self) -> None:
        """Raise a DataError if a file that was read is no longer what it was."""
        for handle in self._handles.values():
            handle.check()
        for number in self._libraries:
            path, identity = self.files[number]
            if not path.exists() or identity_of(path.stat()) != identity:
                raise DataError(f"{path}: was replaced or changed while it was read")

    def close(self) -> None:
        """Close all of them."""
        for handle in self._handles.values():
            handle.close()
        for file in () if self._is_shared else self._libraries.values():
            file.close()
        self._handles.clear()
        self._libraries.clear()
