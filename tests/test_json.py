"""csrc/json.cpp against Python's reader: equal values where both read, an error where the text is no JSON."""

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from edgepose import enginefile
from edgepose.shipped import WEIGHTS

ROOT = Path(__file__).parent.parent

VALUES = [None, True, False, 0, -1, 7, 2**53 + 1, 2**63 - 1, -2**63, 0.1, -2.5e-3, 1e-5, 5e-324,
          1.7976931348623157e308, 1 / 3, "", "a", '"\\/\b\f\n\r\t\x01\x7f', "é 漢 😀 \uffff \U0010ffff",
          [], {}, [[]], [1, [2, {"a": [None]}]], {"": 0, "a": {"b": 1}, "é": 2}]
ACCEPTED = [b" \n\t\r1 ", b"-0", b"-0.0", b"1E5", b"1e+5", b"10e-1", b"123456789012345678901234567890",
            b"9223372036854775808", b"-9223372036854775809", b"1e-400", b'"\\u00e9\\ud83d\\ude00\\/"',
            b'"\\u0000"', b"[1 , 2 ]", b'{ "a" : 1 }', b"[" * 64 + b"]" * 64]
REFUSED = {
    "": "wanted a value", " ": "wanted a value", "nul": "wanted a value", "nulll": "something follows",
    "True": "wanted a value", "1 2": "something follows", "01": "something follows", "-": "wanted a value",
    "+1": "wanted a value", ".5": "wanted a value",
    "1.": "wanted a digit", "1e": "wanted a digit", "1e+": "wanted a digit", "0x10": "something follows",
    "1_0": "something follows", "1e309": "too large", "-1e999": "too large", "1" * 400: "too large",
    "NaN": "wanted a value", "-Infinity": "wanted a value", "[": "wanted a value", "[1": "wanted , or ]",
    "[1,]": "wanted a value", "[1 2]": "wanted , or ]", "]": "wanted a value", "[1}": "wanted , or ]",
    "{": "wanted a key", "{1:2}": "wanted a key", '{"a"}': "wanted :", '{"a":}': "wanted a value",
    '{"a":1': "wanted , or }", '{"a":1,}': "wanted a key", '{"a":1,"b":2,"a":3}': "a key twice",
    '{"a":1,"\\u0061":2}': "a key twice", '"': "does not end", '"a': "does not end",
    '"\n"': "control character", '"\0"': "control character", '"\\x"': "unknown escape", '"\\': "unknown escape",
    '"\\u12g4"': "hexadecimal", '"\\u12': "hexadecimal", '"\\ud800"': "surrogate", '"\\udc00"': "surrogate",
    '"\\ud800\\u0041"': "surrogate", '"\\ud800\\ud800"': "surrogate", "[" * 66 + "]" * 66: "too deep",
    '{"a":' * 10000: "too deep", "\ufeff1": "wanted a value", "/**/1": "wanted a value", "'a'": "wanted a value"}
NOT_UTF8 = [b'"\xff"', b'"\x80"', b'"\xc0\x80"', b'"\xc1\xbf"', b'"\xe0\x80\x80"', b'"\xed\xa0\x80"',
            b'"\xf0\x80\x80\x80"',
            b'"\xf4\x90\x80\x80"', b'"\xf5\x80\x80\x80"', b'"\xc3"', b'"\xe6\xbc"', b'"\xf0\x9f\x98', b'"\xc3']


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    """The value of each text (bytes) as csrc/json.cpp reads it, or its error as a ValueError."""
    if not shutil.which("g++"):
        pytest.skip("needs g++")
    program = tmp_path_factory.mktemp("json") / "json_echo"
    subprocess.run(["g++", "-std=c++17", "-O1", "-fsanitize=undefined", "-fno-sanitize-recover",
                    ROOT / "tests/json_echo.cpp", ROOT / "csrc/json.cpp", "-o", program], check=True)

    def ask(texts):
        process = subprocess.run([program], input=b"".join(b"%d\n%s" % (len(text), text) for text in texts),
                                 capture_output=True, check=True)
        answers = [line.decode() for line in process.stdout.split(b"\n")[:-1]]
        assert len(answers) == len(texts)
        return [ValueError(answer[1:]) if answer.startswith("!") else json.loads(answer) for answer in answers]

    return ask


def typed(value):
    """The value with its types, so that 1, 1.0 and True differ."""
    if isinstance(value, list):
        return [typed(item) for item in value]
    if isinstance(value, dict):
        return [(key, typed(item)) for key, item in value.items()]
    return type(value), value


def as_int64(value):
    """Python's value with whole numbers beyond int64 as floats, as csrc/json.cpp reads them."""
    return float(value) if type(value) is int and not -2**63 <= value < 2**63 else value


@pytest.mark.slow
def test_values_are_read_as_python_reads_them_to_the_last_bit(echo):
    texts = [json.dumps(value, **options).encode() for value in VALUES
             for options in ({}, {"ensure_ascii": False}, {"indent": 1}, {"separators": (",", ":")})] + ACCEPTED
    for text, value in zip(texts, echo(texts)):
        assert typed(value) == typed(as_int64(json.loads(text))), text


@pytest.mark.slow
def test_the_headers_of_the_shipped_engines_are_read_as_python_reads_them(echo):
    for path in sorted(WEIGHTS.glob("*.epose")):
        data = path.read_bytes()
        outer = data[8:8 + int.from_bytes(data[:8], "little")]
        inner = json.loads(outer)["__metadata__"]["edgepose"].encode()
        expected = [typed(json.loads(outer)), typed(enginefile.read(path)[0])]
        assert [typed(value) for value in echo([outer, inner])] == expected


@pytest.mark.slow
def test_what_is_no_json_is_refused_with_the_reason_and_the_place(echo):
    texts = [text.encode() for text in REFUSED] + NOT_UTF8
    reasons = [*REFUSED.values(), *["not UTF-8"] * len(NOT_UTF8)]
    for text, reason, answer in zip(texts, reasons, echo(texts)):
        assert isinstance(answer, ValueError) and reason in str(answer), (text, answer)
        assert str(answer).startswith("not JSON at byte "), answer


@pytest.mark.slow
def test_a_changed_text_is_read_as_python_reads_it_or_refused(echo):
    rng = random.Random(0)
    whole = json.dumps(VALUES, ensure_ascii=False).encode()
    texts = []
    for _ in range(5000):
        text = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 4))):
            at = rng.randrange(len(text))
            text[at:at + rng.choice((0, 1, 1, 5))] = rng.choice(
                (b"", b"0", b"9", b"-", b'"', b"[", b"]", b"{", b"}", b",", b":", b"\\", bytes([rng.randrange(256)])))
        texts.append(bytes(text))
    read = 0
    for text, answer in zip(texts, echo(texts)):
        try:
            expected = json.loads(text)
        except ValueError:  # UnicodeDecodeError is one too
            assert isinstance(answer, ValueError), text
            continue
        if not isinstance(answer, ValueError):
            read += 1
            assert typed(answer) == typed([as_int64(value) for value in expected]), text
    assert read > 300  # otherwise the changes were too coarse
