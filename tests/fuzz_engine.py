"""Load and run engines whose header, plan and tensors are changed at random, with valid checksums.

    python fuzz_engine.py ENGINE SEED CASES

Every case must end in a Python error or in poses; a crash or a sanitizer's report ends the process. Prints how many
were refused when loaded, refused when run, and ran. tests/test_fuzz.py runs it under AddressSanitizer.
"""

import copy
import json
import math
import random
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save

import edgepose
from edgepose import EngineError, enginefile

NUMBERS = (0, -1, 1, 2, 3, 15, 16, 17, 32, 64, 255, 256, 257, 4096, 65536, 2**24, 2**26, 2**31 - 1, 2**31,
           -2**31, 2**32 + 1, 2**62, 2**63 - 1, 2**63, 2**64, -2**63, 10**400, 0.5, 1e30, -1e30, math.nan, math.inf)
OTHERS = (None, True, "", "0", "linear", "\ud800", "x" * 10000, [], [0], {}, {"op": "tokens", "y": 0})
TYPES = ("float32", "float16", "int8", "float64", "uint8", "int32", "int64", "bool")


def leaves(value, path=()):
    """The paths of all values that are neither list nor dict, and of the lists and dicts themselves."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from leaves(item, (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def change_value(rng, header, tensors):
    """Replace or remove one value anywhere in the plan, or rarely in the header."""
    root = header["plan"] if rng.random() < 0.9 else header
    path = rng.choice(list(leaves(root)))
    parent, key = at(root, path[:-1]), path[-1]
    old, kind = parent[key], rng.random()
    if kind < 0.05:
        del parent[key]
    elif kind < 0.4 and isinstance(old, (int, float)):
        parent[key] = old + rng.choice((-1, 1, -16, 16, old, -2 * old, 2**32, 7 * old))
    elif kind < 0.85:
        parent[key] = rng.choice(NUMBERS)
    else:
        parent[key] = copy.deepcopy(rng.choice(OTHERS))


def change_number(rng, header, tensors):
    """Replace a number of the plan by another one of the plan: small, and often valid."""
    numbers = [path for path in leaves(header["plan"]) if type(at(header["plan"], path)) is int]
    path, other = rng.choice(numbers), rng.choice(numbers)
    at(header["plan"], path[:-1])[path[-1]] = at(header["plan"], other)


def change_steps(rng, header, tensors):
    """Remove a step, repeat it, exchange it with another, or change its op."""
    steps = header["plan"]["steps"]
    i, j = rng.randrange(len(steps)), rng.randrange(len(steps))
    kind = rng.randrange(4)
    if kind == 0:
        del steps[i]
    elif kind == 1:
        steps.insert(j, copy.deepcopy(steps[i]))
    elif kind == 2:
        steps[i], steps[j] = steps[j], steps[i]
    else:
        steps[i]["op"] = steps[j]["op"]


def change_buffers(rng, header, tensors):
    """Let steps share buffers that were their own, or write to a buffer while it is still needed."""
    plan = header["plan"]
    for _ in range(rng.randint(1, 3)):
        step, other = rng.choice(plan["steps"]), rng.choice(plan["steps"])
        old, new = step["y"], other["y"]
        if plan["buffers"][old] == plan["buffers"][new] or rng.random() < 0.1:
            for each in plan["steps"] if rng.random() < 0.5 else [step]:
                each.update({key: new for key in ("x", "other", "y", "residual", "gate") if each.get(key) == old})


def change_shape(rng, header, tensors):
    """Give all buffers of some rows or columns others, as if the model had another size."""
    plan = header["plan"]
    column = rng.randrange(2)
    old, new = rng.choice(plan["buffers"])[column], rng.choice((1, 2, 3, 5, 7, 8, 24, 48, 100, 4096))
    for buffer in plan["buffers"]:
        if buffer[column] == old:
            buffer[column] = new
    if column == 0 and rng.random() < 0.8:
        plan["joints"] = new


def change_tensor(rng, header, tensors):
    """Remove, rename or exchange a tensor, or change its type, shape or content."""
    name, other = rng.choice(sorted(tensors)), rng.choice(sorted(tensors))
    tensor, kind = tensors[name], rng.randrange(7)
    if kind == 0:
        del tensors[name]
    elif kind == 1:
        tensors[name], tensors[other] = tensors[other], tensor
    elif kind == 2:
        with np.errstate(all="ignore"):
            tensors[name] = tensor.astype(rng.choice(TYPES))
    elif kind == 3:
        axis = rng.randrange(tensor.ndim)
        tensors[name] = np.concatenate([tensor, tensor], axis) if rng.random() < 0.5 else np.delete(tensor, -1, axis)
    elif kind == 4:
        tensors[name] = rng.choice((tensor.reshape(-1), tensor[None], tensor.T, tensor[:0], np.ones(1, np.float32)))
    elif kind == 5:
        with np.errstate(all="ignore"):
            tensors[name] = np.full_like(tensor, rng.choice((0, 1, -1, math.nan, math.inf, 1e30)))
    else:
        tensors[f"{name}.more"] = tensors.pop(name)


CHANGES = (change_value, change_value, change_value, change_number, change_number, change_steps,
           change_buffers, change_shape, change_tensor)


def run(path, people, threads, isa):
    """The outcome: 'refused when loaded', 'refused when run' or 'ran'."""
    try:
        engine = edgepose.load(path, threads=threads, isa=isa)
    except EngineError:
        return "refused when loaded"
    x = np.linspace(-1, 1, people * engine.frames * len(engine.skeleton) * len(engine.inputs), dtype=np.float32)
    try:
        for _ in range(2):
            engine.run(x.reshape(people, engine.frames, len(engine.skeleton), len(engine.inputs)))
    except (ValueError, MemoryError):
        return "refused when run"
    return "ran"


def changed(engine, rng, cases):
    """The bytes of randomly changed copies of `engine`."""
    whole_header, whole_tensors = enginefile.read(engine)
    for _ in range(cases):
        header, tensors = copy.deepcopy(whole_header), dict(whole_tensors)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            try:
                rng.choice(CHANGES)(rng, header, tensors)
            except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
                break  # the first change removed what the second would alter
        text = json.dumps(header)
        contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        yield save(contiguous, {"edgepose": text, "sha256": enginefile.checksum(text, contiguous)})


def main(engine, seed, cases):
    rng, path = random.Random(seed), Path(tempfile.mkdtemp()) / "changed.epose"
    counts = {"refused when loaded": 0, "refused when run": 0, "ran": 0}
    for data in changed(engine, rng, cases):
        path.write_bytes(data)
        counts[run(path, rng.choice((1, 2, 5)), rng.choice((1, 1, 2, 3)), rng.choice(("generic", "avx2")))] += 1
    path.unlink()
    path.parent.rmdir()
    print(json.dumps(counts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
