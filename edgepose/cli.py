"""The console command: `edgepose COMMAND`. Each command is a module with add_arguments(parser) and main(arguments),
imported only when it is called, so that streaming starts without torch."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version

from .checks import LIBRARIES, installing
from .enginefile import EngineError

COMMANDS = {  # its module, the extra that installs what the module imports, what it does
    "compile": ("edgepose.build_engines.compile", "build", "a trained lifter -> engine files for this machine"),
    "compile-detector": ("edgepose.build_engines.compile_detector", "build", "a trained detector -> ONNX files"),
    "rebuild": ("edgepose.build_engines.tensorrt.rebuild", "gpu",
                "build TensorRT engines again, in place, on this machine; needs no torch"),
    "bench": ("edgepose.benchmarks.run", "bench", "latency, error and memory beside other runtimes"),
    "train": ("edgepose.training.supervised", "train", "train a lifter on motion capture"),
    "evaluate": ("edgepose.training.evaluate", "train",
                 "the error of a lifter on real detections, motion capture and the papers' data sets"),
    "stream": ("edgepose.commands.stream", None, "lift a recorded clip, a video or a camera frame by frame"),
    "lift": ("edgepose.commands.lift", None, "lift an archive of recorded clips by many processes, resumable"),
    "serve": ("edgepose.commands.serve", None, "poses for other programs over WebSocket or JSON lines, and a page that "
                                               "shows them"),
    "doctor": ("edgepose.commands.doctor", None, "what this machine has, and which engine it would run"),
}


def main(argv: list[str] | None = None) -> int:
    """Runs `edgepose COMMAND ...`; the exit status: 0, 1 if the command failed, 2 if it was not understood."""
    argv = sys.argv[1:] if argv is None else argv
    overview = argparse.ArgumentParser(prog="edgepose", formatter_class=argparse.RawDescriptionHelpFormatter,
                                       epilog="\n".join(f"  {name:<18}{text}"
                                                        for name, (_, _, text) in COMMANDS.items()))
    overview.add_argument("command", choices=COMMANDS, metavar="COMMAND",
                          help="one of those below; each has its own --help")
    overview.add_argument("--version", action="version", version=f"edgepose {version('edgepose')}")
    if not argv:
        overview.print_help()
        return 2
    command = overview.parse_args(argv[:1]).command
    module_name, extra, text = COMMANDS[command]
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:  # before its --help can be shown: the module names the choices
        if extra is None or (error.name or "").startswith("edgepose"):
            raise
        print(f"edgepose {command}: {error.name} is not installed: pip install 'edgepose[{extra}]'", file=sys.stderr)
        return 1
    parser = argparse.ArgumentParser(prog=f"edgepose {command}", description=text)
    module.add_arguments(parser)
    arguments = parser.parse_args(argv[1:])
    return reporting(f"edgepose {command}", lambda: module.main(arguments))


def reporting(program: str, run: Callable[[], int | None]) -> int:
    """The exit status of `run`; what a user can mend is told in a line instead of a traceback."""
    try:
        return run() or 0
    except ModuleNotFoundError as error:
        _, needed = LIBRARIES.get((error.name or "").partition(".")[0], (error.name, "bench"))
        print(f"{program}: {error.name} is not installed: {installing(needed)}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError, EngineError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"{program}: interrupted" + (f": {error}" if str(error) else ""), file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
