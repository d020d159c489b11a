"""Start of a process that cannot outlive the supervisor, as an ordinary user where it must be one.

PostgreSQL refuses to run as root. Under root it runs as a user that every system has (`ORDINARY_USER`); it keeps one
capability, so a checkout or sandbox in root's closed home needs no wider permissions.
"""

import ctypes
import os
import pwd
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from deploy.sandbox.errors import SandboxError

ORDINARY_USER = "nobody"

# From Linux's prctl.h, securebits.h and capability.h.
_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 4
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_HEADER = struct.pack("Ii", 0x20080522, 0)
_CAPABILITY_SETS = struct.pack("6I", *(1 << _CAP_DAC_OVERRIDE,) * 3, 0, 0, 0)

_LINUX = sys.platform == "linux"
_libc = ctypes.CDLL(None, use_errno=True)


def ordinary_user() -> pwd.struct_passwd | None:
    """Return the user for parts that refuse root, None when not run by root; raise SandboxError when it is missing."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(ORDINARY_USER)
    except KeyError:
        raise SandboxError(
            f"PostgreSQL does not run as root and there is no user {ORDINARY_USER!r}; run as another user"
        ) from None


def spawn(
    command: tuple[str, ...],
    *,
    env: Mapping[str, str],
    folder: Path,
    log: Path | None = None,
    script: Path | None = None,
    orphan_signal: signal.Signals = signal.SIGKILL,
    drop_root: bool = False,
) -> subprocess.Popen[bytes]:
    """Start `command`, which reads `script` and appends to `log`; without a log it has the caller's output.

    Call it from the supervisor's only thread. When that dies, even by SIGKILL, Linux sends `orphan_signal`; other
    systems send nothing.
    """
    user = ordinary_user() if drop_root else None
    with ExitStack() as opened:
        output = opened.enter_context(log.open("ab")) if log else None
        return subprocess.Popen(  # noqa: S603 - the commands are those of `parts`
            command,
            env=env,
            cwd=folder,
            stdin=opened.enter_context(script.open("rb")) if script else subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the supervisor alone, which then stops the parts in order
            preexec_fn=_before_exec(user, orphan_signal, os.getpid()),  # noqa: PLW1509 - there is one thread only
        )


def _before_exec(user: pwd.struct_passwd | None, orphan_signal: signal.Signals, parent: int) -> Callable[[], None]:
    def prepare() -> None:
        if user is not None:
            _become(user)
        if _LINUX:
            # After the change of user, which would clear it.
            _libc.prctl(_PR_SET_PDEATHSIG, orphan_signal, 0, 0, 0)
            if os.getppid() != parent:  # the supervisor died in the meantime
                os.kill(os.getpid(), signal.SIGKILL)

    return prepare


def _become(user: pwd.struct_passwd) -> None:
    if _LINUX:
        # Capabilities outlast the change of user, and count in access(2), by which PostgreSQL finds its programs.
        _libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    if _LINUX:
        # Keep this capability only. Where any of this is refused, as in some containers, the program still runs if its
        # files are readable by all users.
        _libc.capset(_CAPABILITY_HEADER, _CAPABILITY_SETS)
        _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)
