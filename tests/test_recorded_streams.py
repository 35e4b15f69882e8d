import json
from pathlib import Path

import pytest
from recorded_streams import WAYS, digest, scenarios

RECORDED = json.loads(Path(__file__).with_name("recorded_streams.json").read_text())


@pytest.mark.parametrize("way", WAYS)
def test_a_stream_hands_over_and_answers_what_was_recorded_to_the_bit(way):
    compared = 0
    for name, scenario in scenarios():
        assert digest(scenario[0], WAYS[way](*scenario)) == RECORDED[f"{name}, {way}"], name
        compared += 1
    assert compared * len(WAYS) == len(RECORDED)
