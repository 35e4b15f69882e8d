"""edgepose doctor --live: an engine at a camera's pace."""

import re
import time

import numpy as np
import pytest
from people import FakeEngine

from edgepose.cli import main
from edgepose.commands.live import Live, keeps_up, lines_of, run_live
from edgepose.shipped import WEIGHTS


class Sleeper(FakeEngine):
    """An engine that takes a while for each person."""

    def run(self, keypoints_norm, out=None):
        time.sleep(0.1 * len(keypoints_norm))
        return super().run(keypoints_norm, out)


def test_what_is_not_lifted_in_time_is_counted():
    live = run_live(Sleeper(frames=1), people=2, rate_hz=20, seconds=0.5, deadline_ms=50)
    assert len(live.push_ms) == len(live.wake_ms) == 10 and live.not_lifted > 0 and (live.push_ms > 0).all()
    assert not keeps_up(live, 50)
    assert f"of 20 poses {live.not_lifted} were not lifted in time, of 10 pushes {live.late}" in lines_of(live, 50)[1]


@pytest.mark.parametrize("push_ms, not_lifted, is_enough", [(1.0, 0, True), (40.0, 0, False), (1.0, 10, False)])
def test_an_engine_keeps_up_if_nearly_all_is_in_time(push_ms, not_lifted, is_enough):
    live = Live(np.full(100, push_ms), np.zeros(100), 2, not_lifted, 0)
    assert keeps_up(live, 33) == is_enough


def test_the_command_says_for_each_engine_what_it_did(capsys):
    engine = str(WEIGHTS / "martinez-s_fp16.epose")
    status = main(["doctor", engine, "--live", "--seconds", "0.5", "--people", "3", "--deadline", "10000"])
    output = capsys.readouterr().out
    assert "each for 0.5 s with 3 in the picture, at 30 Hz" in output
    assert re.search(r"push: median \d+\.\d\d ms, p99 \d+\.\d\d ms.*woken late by", output)
    assert "of 45 poses 0 were not lifted in time, of 15 pushes 0 took longer than 10000 ms" in output
    assert status == 0 and "keeps up" in output


@pytest.mark.parametrize("option", ["--people", "--rate", "--seconds", "--deadline"])
def test_an_impossible_setting_is_refused(option, capsys):
    assert main(["doctor", "--live", option, "0"]) == 1
    assert f"{option} is 0" in capsys.readouterr().err
