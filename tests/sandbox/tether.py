"""Run as a script: become the given program, bound to die with the process that started it.

A test run that is killed outright cannot clean up after itself, so the kernel has to (PR_SET_PDEATHSIG). The setting
survives exec, so any program can be tethered, etcd and kube-apiserver of other people included; and doing it here
instead of in `preexec_fn` keeps a multi-threaded parent safe. It is bound to the *thread* that forked: see
`processes.spawn`.

    python -I -S tether.py PARENT_PID PROGRAM [ARGUMENT ...]
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, argv: list[str]) -> None:
    if sys.platform == "linux":
        # SIGKILL, because it also ends a process that is stopped (SIGSTOP).
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    # The parent may have died before the call above: then no signal will ever come.
    if os.getppid() != parent:
        sys.exit("tether: the parent is gone")
    try:
        os.execv(argv[0], argv)
    except OSError as error:
        sys.exit(f"tether: cannot run {argv[0]}: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
