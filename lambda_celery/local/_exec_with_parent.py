"""Become another program that the kernel kills when the parent dies (Linux).

Run as a script: ``python -I -S _exec_with_parent.py PARENT_PID SIGNAL PROGRAM ARGUMENTS…``.
It is a program of its own because ``preexec_fn`` is unsafe in a process with threads.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent_pid, signal_number, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number)
    # The parent may have died before prctl: then no signal is ever going to come.
    if os.getppid() != parent_pid:
        sys.exit(1)
    os.execv(program, sys.argv[3:])  # noqa: S606 - the caller names the program
