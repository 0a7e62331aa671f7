"""Standard input, output and error of a program that Python runs."""

from __future__ import annotations

import os


class Streams:
    """Standard input, output and error of a run: the host's own, or files in memory that capture them."""

    def __init__(self, given: bytes | None, capture: bool) -> None:
        self._own: list[int] = []
        if given is not None:
            source = self._file("stdin")
            os.write(source, given)
            os.lseek(source, 0, os.SEEK_SET)
        else:
            source = 0 if not capture else self._keep(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        self._capture = capture
        self.descriptors = (source, self._file("stdout"), self._file("stderr")) if capture else (source, 1, 2)

    def _file(self, name: str) -> int:
        return self._keep(os.memfd_create(name))

    def _keep(self, fd: int) -> int:
        self._own.append(fd)
        return fd

    def captured(self) -> tuple[bytes | None, bytes | None]:
        """What was written to output and error."""
        if not self._capture:
            return None, None
        out, error = (os.pread(fd, os.fstat(fd).st_size, 0) for fd in self.descriptors[1:])
        return out, error

    def sizes(self) -> list[int]:
        """How much was written to output and error when they are captured."""
        return [os.fstat(fd).st_size for fd in self.descriptors[1:]]

    def cut(self, sizes: list[int]) -> None:
        """Take back what was written since `sizes`."""
        for fd, size in zip(self.descriptors[1:], sizes, strict=True):
            if os.fstat(fd).st_size != size:
                os.ftruncate(fd, size)
                os.lseek(fd, size, os.SEEK_SET)

    def close(self) -> None:
        for fd in self._own:
            os.close(fd)
