"""Writes layouts.inl: what edgepose/skeleton.py, adapters.py, camera.py, window.py and stream.py know as tables and
constants, for the runtime without Python. Run it after a change of these; tests/test_c_api.py holds the two equal.

    python csrc/runtime/layouts.py > csrc/runtime/layouts.inl
"""

import math

from edgepose import adapters, camera, stream, window
from edgepose.skeleton import H36M17, MODEL_SKELETONS

CONSTANTS = {"kFaceSeen": adapters.FACE_SEEN, "kLostShare": stream.LOST_SHARE, "kLeastPx": camera.LEAST_PX, "kMostPx": stream.MOST_PX,
             "kH36mFocal": camera.H36M_FOCAL, "kSlower": window.SLOWER, "kSnap": window.SNAP, "kMaxJumpTorsos": window.MAX_JUMP_TORSOS,
             "kJumpFrameS": window.JUMP_FRAME_S}


def braces(items):
    return "{" + ", ".join(map(str, items)) + "}"


def quoted(names):
    return braces(f'"{name}"' for name in names)


def terms(adapter, j):
    """The sources of a joint with their weights; what repeats the first one with weight 0 is left out."""
    kept = [p for p in range(adapter.sources.shape[1]) if p == 0 or adapter.weights[j, p].any()]
    return [braces((int(adapter.sources[j, p]), *map(float, adapter.weights[j, p]))) for p in kept]


def layout(name, adapter, when_face_hidden):
    if adapter.skeleton is not H36M17:
        raise ValueError(f"layout {name} gives the joints of {adapter.skeleton.name}; layouts.h takes them all for {H36M17.name}'s")
    yield f'    {{"{name}", {len(adapter.layout)}, {when_face_hidden}, {{'
    for j, most in enumerate(adapter.most_confidence):
        of_joint = terms(adapter, j)
        yield f"        {{{'kSure' if math.isinf(most) else float(most)}, {len(of_joint)}, {braces(of_joint)}}},"
    yield "    }},"


def lines():
    """The lines of layouts.inl."""
    rows = [(name, adapter) for name, adapter in adapters.ADAPTERS.items()]
    hidden = {name: (f"{name}, face hidden", adapter.when_face_hidden) for name, adapter in rows if adapter.when_face_hidden}
    everything = rows + list(hidden.values())
    yield "// Written by layouts.py, not by hand. Doubles are written so that they are read back to the last bit."
    for name, value in CONSTANTS.items():
        yield f"inline constexpr double {name} = {value!r};"
    yield f"inline constexpr int kFace[] = {braces(adapters._FACE.tolist())};"
    yield "inline constexpr Skeleton kSkeletons[] = {"
    for skeleton in MODEL_SKELETONS.values():
        yield f'    {{"{skeleton.name}", {len(skeleton)}, {quoted(skeleton.joints)},'
        yield f"     {braces(skeleton.parents)}}},"
    yield "};"
    yield f"inline constexpr int kLayoutCount = {len(rows)};  // the others stand in for one of these"
    yield "inline constexpr Layout kLayouts[] = {"
    for name, adapter in everything:
        yield from layout(name, adapter, [n for n, _ in everything].index(hidden[name][0]) if name in hidden else -1)
    yield "};"


if __name__ == "__main__":
    print("\n".join(lines()))
