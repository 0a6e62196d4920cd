"""Start TFF's worker so that nothing can reach it but its owner.

The worker joins "[::]:", which is every network interface, and its port to the address it listens
at, and asks nobody who is there. With "unix:" in that place the same code makes a socket file in
its working folder, which only one user may enter. The five letters are changed in memory before the
worker's first instruction, as a debugger would; where one process may not trace another, in a copy
of the program that exists in memory only (300 MB). No disk holds a copy that could grow old, belong
to somebody else or be half written.
"""

import contextlib
import ctypes
import mmap
import os
import pathlib
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence

SOCKET = "1"  # the "port": with "unix:" before it, the name of the socket's file

_OPEN, _SEALED = b"\0[::]:\0", b"\0unix:\0"
_USUAL_PLACE = 195_424_647  # of _OPEN in the only build of TFF 0.87.0; looked for in others
_PEEK, _POKE, _DETACH = 2, 5, 17  # requests of ptrace, which knows them by number

# What becomes the worker asks Linux to end it when its parent ends (PR_SET_PDEATHSIG), and in one
# case to let its parent trace it (PTRACE_TRACEME).
_LAUNCH = (
    "import ctypes, os, sys; libc = ctypes.CDLL(None); libc.prctl(1, 9);"
    "{}; os.execv(sys.argv[1], sys.argv[2:])"
)
_LAUNCH_TRACED = _LAUNCH.format("libc.ptrace(0, 0, 0, 0) and sys.exit('not allowed')")
_LAUNCH_PLAIN = _LAUNCH.format("")
