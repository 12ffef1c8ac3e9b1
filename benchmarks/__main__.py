"""`python -m benchmarks` lists the benchmarks; `python -m benchmarks NAME [--json]` runs one.

Exit code 0 if every bar holds, 1 if one falls short, 2 on an error.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence

from benchmarks.result import CannotMeasure, Result

#: Name and what it measures; the module of the same name has ``run() -> Result``.
BENCHMARKS = {
    "confirm": "from the confirmation to the first resource action by every path, held first",
    "freeze": "a pool of 100 pods and 300 held applies into a freeze and out of it again",
    "lists": "the pages that are read most, with 100,000 tasks",
    "reconcile": "a pass over 1,000 pods and 3,000 slots, with a real Kubernetes API server",
    "rebuild": "from the loss of an agent to its pending apply held again on another one",
    "slots": "from the confirmation to the opened gate, 300 held applies, 5 and 20 a second",
    "startup": "from the confirmation to the first resource action, against Terraform by hand",
    "wake": "from a commit to the agent that has the job, with 200 idle agents; memory",
}


def main(arguments: Sequence[str]) -> int:
    """List the benchmarks or run one; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=sorted(BENCHMARKS), help="which to run")
    parser.add_argument("--runs", type=int, help="how often; default: the benchmark's own number")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    if options.runs is not None and options.runs < 1:
        parser.error("--runs must be at least 1")
    if options.name is None:
        print(json.dumps(BENCHMARKS) if options.json else _listing())
        return 0
    module = importlib.import_module(f"benchmarks.{options.name}")
    try:
        result: Result = module.run(options.runs or module.RUNS)
    except CannotMeasure as error:
        if options.json:
            print(json.dumps({"name": options.name, "error": str(error)}))
        print(f"\n{error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(json.dumps(result.document(), indent=2) if options.json else result.text())
    return 0 if result.ok else 1


def _listing() -> str:
    return "\n".join(f"{name:10} {about}" for name, about in BENCHMARKS.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
