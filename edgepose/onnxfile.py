"""ONNX graphs as they come in files, read without the onnx library, which a machine that runs engines need not have."""

from __future__ import annotations

from collections.abc import Iterator

# Where an ONNX model holds tensors: each message's fields that are messages, by number (onnx.proto3).
MESSAGES = {"model": {7: "graph", 20: "training", 25: "function"}, "training": {1: "graph", 2: "graph"},
            "function": {7: "node", 11: "attribute"}, "graph": {1: "node", 5: "tensor", 15: "sparse"},
            "node": {5: "attribute"}, "sparse": {1: "tensor", 2: "tensor"},
            "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"}}
EXTERNAL = {13: "external_data", 14: "data_location"}  # fields of a tensor


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """(the number, where it ends). Raises ValueError if it does not end."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        value |= (data[at] & 0x7F) << shift
        at += 1
        if not data[at - 1] & 0x80:
            return value, at
    raise ValueError("the payload is no ONNX model")


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of each field of a protobuf message; no number is bytes. Raises ValueError for other bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
        else:
            size, at = _varint(data, at) if kind == 2 else ({1: 8, 5: 4}.get(kind, -1), at)
            if size < 0 or at + size > len(data):
                raise ValueError("the payload is no ONNX model")
            value, at = data[at:at + size], at + size
        yield tag >> 3, value


def check_has_no_external_data(model: bytes) -> None:
    """Raises ValueError if a tensor of an ONNX model lies in another file, or the bytes are none."""
    waiting = [("model", memoryview(model))]
    while waiting:
        message, data = waiting.pop()
        for number, value in _fields(data):
            if message == "tensor" and number in EXTERNAL and value != 0:
                raise ValueError("its graph reads tensors from other files, which could be any of yours; "
                                 "an engine holds its tensors itself")
            kind = MESSAGES.get(message, {}).get(number)
            if kind and isinstance(value, memoryview):
                waiting.append((kind, value))
