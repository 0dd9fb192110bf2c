"""Standard output, for the log. A write never raises, and never waits for long."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
import time
from collections.abc import Callable

__all__ = ["Output"]

#: How long one line may wait for a slow reader. Once a line has waited in vain, the next ones do
#: not wait until one could be written again.
WAIT_SECONDS = 0.05
#: How much a pipe holds for its reader, where the system allows it.
PIPE_BYTES = 1024 * 1024


class Output:
    """Writes whole lines to standard output, or drops them. Threads must take turns."""

    def __init__(self) -> None:
        self._write: Callable[[bytes], int] | None = None
        self._poll: select.poll
        self._stalled = False
        #: What is left of a line that was written in part. It goes before the next line.
        self._rest = b""

    def write(self, line: bytes) -> bool:
        """Write *line*, and report whether that worked."""
        stream, begun = sys.stdout, False
        # There is no log if the process started without a descriptor 1. A file or a connection
        # that was opened since may have this number: a line must not go there.
        if stream is None:
            return False
        try:
            # It is wrapped where functions-framework adds its ids, and on AWS Lambda.
            if stream is not sys.__stdout__ or not hasattr(select, "poll"):
                stream.write(line.decode())
                stream.flush()
                return True
            self._send()
            if not self._rest:
                self._rest, begun = line, True
                self._send()
        except BrokenPipeError:
            self._rest = b""
            return False
        except (OSError, ValueError, AttributeError, RuntimeError):
            pass  # it is full, closed or missing
        if self._rest is line:
            self._rest = b""
            return False
        return begun

    def _send(self) -> None:
        """
        Send what is left of a line, as much as the reader takes.

        Raises:
            OSError: There is no reader, or no space.
        """
        if self._write is None:
            self._write = self._open(1)
        deadline = time.monotonic() + WAIT_SECONDS
        while self._rest:
            left = deadline - time.monotonic()
            if left < 0 or not self._poll.poll(0 if self._stalled else left * 1000):
                self._stalled = True
                break
            with contextlib.suppress(BlockingIOError):  # another process was faster
                self._rest = self._rest[self._write(self._rest) :]
                self._stalled = False

    def _open(self, descriptor: int) -> Callable[[bytes], int]:
        """
        Return a function that writes to *descriptor* without waiting.

        A pipe is opened anew: to change the inherited one would change it for other processes too.

        Raises:
            OSError: A pipe has no reader.
        """
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
            with contextlib.suppress(PermissionError, FileNotFoundError):
                descriptor = os.open(f"/dev/fd/{descriptor}", flags)
        if stat.S_ISFIFO(mode):
            with contextlib.suppress(ImportError, AttributeError, OSError):
                import fcntl

                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        if stat.S_ISSOCK(mode):
            import socket  # standard output is rarely one

            connection = socket.socket(fileno=os.dup(descriptor))
            return lambda data: connection.send(data, socket.MSG_DONTWAIT)
        return lambda data: os.write(descriptor, data)
