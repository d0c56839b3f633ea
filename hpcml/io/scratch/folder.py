"""A private directory that is reached through its handle: no link planted in a shared place is followed."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from contextlib import suppress
from pathlib import Path

from hpcml.errors import OutputError
from hpcml.io.files import output_error

__all__ = ["Folder", "NoRoomError", "make_folder", "open_root", "sync", "write_all"]

_PRIVATE = 0o700
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LOCK = "lock"
_WAITS = (0.0, *[0.01] * 100)
_NOBODY = 65534
_ALL_USERS = str(2**32 - 1)


class NoRoomError(Exception):
    """The device, the quota or the limit of file size is used up: rows can be had elsewhere."""


def write_all(handle: int, content: memoryview | bytes, offset: int, path: Path) -> None:
    """Write all of `content` at an offset; `path` is for the message. Local.

    Raises
    ------
    NoRoomError
        There is no space for it.
    OutputError
        It cannot be written for another reason.
    """
    view = memoryview(content)
    try:
        while len(view):
            n_written = os.pwrite(handle, view, offset)
            view, offset = view[n_written:], offset + n_written
    except OSError as error:
        raise _write_error(path, error) from error


def sync(handle: int, path: Path) -> None:
    """Bring what was written to the device; `path` is for the message. Local.

    Raises
    ------
    NoRoomError, OutputError
        As in `write_all`: some file systems find out late.
    """
    try:
        os.fdatasync(handle)
    except OSError as error:
        raise _write_error(path, error) from error


def _write_error(path: Path, error: OSError) -> Exception:
    sentence = output_error(path, error)
    return NoRoomError(str(sentence)) if error.errno in _FULL else sentence


def _refused(path: Path, why: str) -> OutputError:
    return OutputError(f"the scratch directory {path} cannot be used: {why}")


def _trusted(owner: int) -> bool:
    """Tell whether an owner may have made what leads to our files: us, or the administrator.

    In a container whose users are mapped, the administrator outside is shown as nobody.
    """
    return owner in (os.geteuid(), 0) or (owner == _NOBODY and _users_are_mapped())


def _users_are_mapped() -> bool:
    try:
        return _ALL_USERS not in Path("/proc/self/uid_map").read_text().split()
    except OSError:
        return False


def open_root(path: Path) -> int:
    """Return the handle of a directory below which private ones can be made. Local.

    Raises
    ------
    OutputError
        It is missing, no directory, not writable, or others could put their own files in the place of ours.
    """
    try:
        is_link = stat.S_ISLNK(os.lstat(path).st_mode)
        if is_link and not _trusted(os.lstat(path).st_uid):
            raise _refused(path, "it is a link that belongs to another user; name the directory itself")
        follow = 0 if is_link else os.O_NOFOLLOW
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | follow)
    except OutputError:
        raise
    except OSError as error:
        raise _refused(path, (error.strerror or str(error)).lower()) from None
    why = _unsafe(handle)
    if why:
        os.close(handle)
        raise _refused(path, why)
    return handle


def _unsafe(root: int) -> str | None:
    status = os.fstat(root)
    if not _trusted(status.st_uid):
        return "it belongs to another user; make a directory of your own in it and name that"
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        return "other users may rename files in it; take its write permission from them, or chmod +t"
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=root, effective_ids=True):
        return "permission denied"
    return None


class Folder:
    """A private directory: ours, of mode 0700, below a root. All Local.

    Its files have plain names; each is opened without following a link and must be a regular file of ours
    with one name.

    Parameters
    ----------
    root : int
        Handle of the root; it stays the caller's.
    path : Path
        Of the folder: its last part is opened below the root, the rest is for messages.

    Raises
    ------
    OutputError
        It is not a private directory of ours, on the device of the root.
    """

    def __init__(self, root: int, path: Path) -> None:
        self.path = path
        try:
            self.handle = os.open(_plain(path.name), _OPEN, dir_fd=root)
        except OSError as error:
            raise _refused(path, (error.strerror or str(error)).lower()) from None
        self._root, self._lock = os.dup(root), -1
        status = os.fstat(self.handle)
        self.identity = [status.st_dev, status.st_ino]
        is_private = status.st_uid == os.geteuid() and status.st_mode & 0o777 == _PRIVATE
        if not is_private or status.st_dev != os.fstat(root).st_dev:
            self.close()
            raise _refused(path, "it is not a private directory of this user")

    def create(self, name: str) -> int:
        """Return the handle of a new file, to be written.

        Raises
        ------
        NoRoomError, OutputError
            It cannot be made, or is there already.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(_plain(name), flags, 0o600, dir_fd=self.handle)
        except OSError as error:
            raise _write_error(self.path / name, error) from error

    def open(self, name: str, flags: int = os.O_RDONLY) -> int:
        """Return the handle of a file.

        Raises
        ------
        OutputError
            There is none, or it is a link, has a second name, or belongs to another user.
        """
        # A pipe that somebody planted would keep the call waiting without O_NONBLOCK.
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            handle = os.open(_plain(name), flags, dir_fd=self.handle)
        except OSError as error:
            raise OutputError(f"cannot open {self.path / name}: {error.strerror or error}") from None
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink != 1:
            os.close(handle)
            raise OutputError(f"cannot open {self.path / name}: it is not a file of this user alone")
        return handle

    def names(self) -> list[str]:
        """Return the names of what is in the folder, sorted."""
        return sorted(os.listdir(self.handle))

    def size(self) -> int:
        """Return the bytes that its files take on the device."""
        return sum(512 * self._status(name).st_blocks for name in self.names())

    def _status(self, name: str) -> os.stat_result:
        return os.stat(_plain(name), dir_fd=self.handle, follow_symlinks=False)

    def read(self, name: str, most: int = -1) -> bytes:
        """Return a file, or its first `most` bytes.

        Raises
        ------
        OutputError
            As in `open`.
        """
        with os.fdopen(self.open(name), "rb") as file:
            return file.read(most)

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file: aside, synced, renamed.

        Raises
        ------
        NoRoomError, OutputError
            It cannot be written.
        """
        aside = f".{_plain(name)}.part"
        self.remove(aside)
        handle = self.create(aside)
        try:
            write_all(handle, content, 0, self.path / name)
            os.fsync(handle)
            os.replace(aside, name, src_dir_fd=self.handle, dst_dir_fd=self.handle)
        except OSError as error:
            raise _write_error(self.path / name, error) from error
        finally:
            os.close(handle)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(_plain(name), dir_fd=self.handle)

    def lock(self, *, alone: bool) -> bool:
        """Take the folder's lock, alone or with others; tell whether it was to be had.

        The lock is the kernel's and ends with its holders. Where the file system has no locks it is not to
        be had. Who only looks whether a folder is dead has its lock alone for a moment: that is waited for.
        """
        kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        for wait in (0.0,) if alone else _WAITS:
            time.sleep(wait)
            try:
                if self._lock < 0:
                    self._lock = self.open(_LOCK, os.O_RDWR)
                fcntl.flock(self._lock, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            except OSError:
                return False
            return True
        return False

    def is_named(self) -> bool:
        """Tell whether the folder still stands at its path."""
        try:
            now = os.stat(self.path.name, dir_fd=self._root, follow_symlinks=False)
        except OSError:
            return False
        return [now.st_dev, now.st_ino] == self.identity

    def rename(self, name: str) -> None:
        """Give the folder another name below its root.

        Raises
        ------
        NoRoomError, OutputError
            It cannot be renamed.
        """
        try:
            os.rename(self.path.name, _plain(name), src_dir_fd=self._root, dst_dir_fd=self._root)
        except OSError as error:
            raise _write_error(self.path, error) from error
        self.path = self.path.with_name(name)

    def destroy(self) -> bool:
        """Remove the folder with its files, if it holds plain files alone; tell whether it is gone."""
        try:
            names = self.names()
            if not self.is_named() or any(not self._is_ours(name) for name in names):
                return False
            # Who it was comes last: what a removal that is ended leaves can still be told from others' files.
            for name in sorted(names, key=lambda name: name in (_LOCK, "owner.json")):
                self.remove(name)
            os.rmdir(self.path.name, dir_fd=self._root)
        except OSError:
            return False
        return True

    def _is_ours(self, name: str) -> bool:
        status = self._status(name)
        kinds = stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)
        return kinds and status.st_dev == self.identity[0]

    def close(self) -> None:
        """Give the handles and the lock back."""
        for handle in (self.handle, self._lock, self._root):
            if handle >= 0:
                os.close(handle)
        self.handle = self._lock = self._root = -1


def make_folder(root: int, path: Path) -> Folder:
    """Make a private directory below a root, with its lock taken. Local.

    Raises
    ------
    NoRoomError, OutputError
        It cannot be made, or something else stands at its name.
    """
    try:
        os.mkdir(_plain(path.name), _PRIVATE, dir_fd=root)
    except OSError as error:
        raise _write_error(path, error) from error
    folder = Folder(root, path)
    if folder.names():
        folder.close()
        raise _refused(path, "it was filled by another process")
    os.close(folder.create(_LOCK))
    folder.lock(alone=False)
    return folder


def _plain(name: str) -> str:
    """Return a name that stays inside its directory.

    Raises
    ------
    OutputError
        It could lead elsewhere.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise OutputError(f"{name!r} is no plain file name: a scratch file stays in its directory")
    return name
