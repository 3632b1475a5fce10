"""Run a command and see, or kill it at, each system call by which it writes below its working folder.

``python write_calls.py NUMBER COMMAND…``: NUMBER 0 kills nothing. A call is one JSON line on stdout. The process that makes
call NUMBER is killed on entering it. Calls are counted over all threads and child processes together, once the file
``ready`` was made; strace counts for each thread, and which of Lance's threads writes is chance.

It needs Linux, and to be allowed to trace its own children, as everybody is but in strict containers. It imports nothing
but Python's own.
"""

import ctypes
import json
import os
import platform
import re
import signal
import struct
import sys
from itertools import count
from pathlib import Path

# Numbers of the kernel's tables; by where the path is: a file descriptor, a name, or a folder's descriptor and a name.
_NUMBERS = {
    "x86_64": {
        "fd": "write 1, pwrite64 18, writev 20, sendfile 40, fsync 74, fdatasync 75, ftruncate 77, fallocate 285, "
        "pwritev 296, pwritev2 328",
        "name": "truncate 76, rename 82, mkdir 83, rmdir 84, creat 85, link 86, unlink 87, symlink 88",
        "at": "openat 257, mkdirat 258, unlinkat 263, renameat 264, linkat 265, renameat2 316",
    },
    "aarch64": {
        "fd": "write 64, pwrite64 68, writev 66, sendfile 71, fsync 82, fdatasync 83, ftruncate 46, fallocate 47, "
        "pwritev 70, pwritev2 287",
        "name": "truncate 45",
        "at": "openat 56, mkdirat 34, unlinkat 35, renameat 38, linkat 37, renameat2 276",
    },
}
_CALLS = {
    int(number): (name, how)
    for how, listed in _NUMBERS.get(platform.machine(), {}).items()
    for name, number in re.findall(r"(\w+) (\d+)", listed)
}

# ptrace(2), seccomp(2), waitpid(2)
_SEIZE, _CONT, _GET_SYSCALL_INFO = 0x4206, 7, 0x420E
_FORK, _VFORK, _CLONE, _SECCOMP, _EXITKILL = 0x2, 0x4, 0x8, 0x80, 0x100000
_AT_A_CALL = 7  # PTRACE_EVENT_SECCOMP
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD_NUMBER, _JUMP_IF_EQUAL, _RETURN, _TRACE, _ALLOW = 0x20, 0x15, 0x06, 0x7FF00000, 0x7FFF0000
_ALL_CHILDREN = 0x40000000
_AT_FDCWD = -100


class _Info(ctypes.Structure):
    """What PTRACE_GET_SYSCALL_INFO tells on entering a call."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction", ctypes.c_uint64),
        ("stack", ctypes.c_uint64),
        ("number", ctypes.c_uint64),
        ("args", ctypes.c_uint64 * 6),
    )


_libc = ctypes.CDLL(None, use_errno=True)


def _ptrace(request, thread, address=0, data=0):
    done = _libc.ptrace(*map(ctypes.c_long, (request, thread, address, data)))
    if done < 0 and (error := ctypes.get_errno()) != 3:  # ESRCH: killed meanwhile
        raise OSError(error, f"ptrace: {os.strerror(error)}; tracing one's own children must be allowed")
    return done


def _stop_at_calls():
    """Have the kernel stop this process and its children at the calls listed, and at no others."""
    jumps = [(_JUMP_IF_EQUAL, len(_CALLS) - n, 0, number) for n, number in enumerate(_CALLS)]
    program = [(_LOAD_NUMBER, 0, 0, 0), *jumps, (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _TRACE)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    told = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))
    assert _libc.prctl(*map(ctypes.c_ulong, (_NO_NEW_PRIVILEGES, 1, 0, 0, 0))) == 0
    assert _libc.prctl(*map(ctypes.c_ulong, (_SET_SECCOMP, _FILTER, ctypes.addressof(told), 0, 0))) == 0


def started(command):
    """Start a command that is traced from the beginning."""
    assert _CALLS, f"the system calls of {sys.platform} on {platform.machine()} are not known here"
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        os.read(read, 1)
        _stop_at_calls()
        os.execv(command[0], command)
    _ptrace(_SEIZE, process, 0, _FORK | _VFORK | _CLONE | _SECCOMP | _EXITKILL)
    os.write(write, b"!")
    return process


def trace(process, kill_at):
    """See the calls of a process and all its children to the end of it; return its exit code."""
    folder, numbers, info = os.getcwd(), None, _Info()
    while True:
        thread, status = os.waitpid(-1, _ALL_CHILDREN)
        if not os.WIFSTOPPED(status):
            if thread == process:
                return os.waitstatus_to_exitcode(status)
            continue
        event = status >> 16
        if event == _AT_A_CALL and _ptrace(_GET_SYSCALL_INFO, thread, ctypes.sizeof(info), ctypes.addressof(info)) > 0:
            name, path = _call(thread, info, folder)
            if numbers is not None and path.startswith(folder + "/"):  # else a pipe, a terminal
                number = next(numbers)
                print(json.dumps([number, name, path.removeprefix(folder + "/")]), flush=True)
                if number == kill_at:
                    _kill(thread)
            elif path == f"{folder}/ready":
                numbers = count(1)
        _ptrace(_CONT, thread, 0, 0 if event else os.WSTOPSIG(status))


def _call(thread, info, folder):
    name, how = _CALLS[info.number]
    if name == "openat" and not info.args[2] & os.O_CREAT:
        return name, ""
    return name, _path(thread, how, info.args, folder)


def _kill(thread):
    (group,) = re.findall(r"Tgid:\s+(\d+)", Path(f"/proc/{thread}/status").read_text())
    os.kill(int(group), signal.SIGKILL)


def _path(thread, how, args, folder):
    if how == "fd":
        return _of(thread, args[0])
    base = folder
    if how == "at" and (at := ctypes.c_int(args[0]).value) != _AT_FDCWD:
        base = _of(thread, at)
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        memory.seek(args[how == "at"])
        return os.path.join(base, os.fsdecode(memory.read(4096).partition(b"\0")[0]))


def _of(thread, descriptor):
    try:
        return os.readlink(f"/proc/{thread}/fd/{descriptor}")
    except FileNotFoundError:
        return ""


if __name__ == "__main__":
    _code = trace(started(sys.argv[2:]), int(sys.argv[1]))
    print(json.dumps([_code]), flush=True)
