"""Each reader of outside files on files like good ones, for a moment: tests/fuzz_parsers.py does it at length."""

import fuzz_parsers
import pytest

CASES = 40  # inputs of each reader


@pytest.mark.parametrize("name", fuzz_parsers.READERS)
def test_whatever_comes_is_read_or_refused(tmp_path, name):
    reader = fuzz_parsers.READERS[name]
    assert all(fuzz_parsers.run(reader, seed, tmp_path) for seed in reader.seeds())
    for data in fuzz_parsers.by_chance(reader, CASES, 0):
        fuzz_parsers.run(reader, data, tmp_path)
