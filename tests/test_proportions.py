import re
from pathlib import Path

import torch
from tiny_mocap import write_all

from edgepose.skeleton import H36M17
from edgepose.training.proportions import PARTS, main, proportions


def test_a_proportion_is_the_median_length_over_the_persons_size():
    keypoints = torch.zeros(1, 3, 17, 2)
    keypoints[:, :, H36M17.index("head"), 1] = -1.0
    keypoints[:, :, H36M17.index("left_ankle"), 1] = 3.0  # the size is 4
    keypoints[:, :, H36M17.index("left_wrist"), 0] = torch.tensor([0.5, 1.0, 3.0])
    found = {part: float(value) for part, value in proportions(keypoints).items()}
    assert found == {**dict.fromkeys(PARTS, 0.0), "forearm": 0.25, "shank": 0.75, "head": 0.25}
    assert proportions(2 * keypoints + 5)["forearm"] == 0.25


def test_the_runtime_has_a_limit_for_each_part():
    source = (Path(__file__).parents[1] / "csrc/runtime/doubts.cpp").read_text()
    limits = {name: float(limit)
              for name, limit in re.findall(r'\{"the (?:left |right )?([a-z ]+) (?:is|are)", ([\d.]+)', source)}
    assert set(limits) == set(PARTS) and all(0.3 < limit < 0.8 for limit in limits.values())


def test_the_command_prints_a_line_for_each_part(tmp_path, capsys):
    write_all(tmp_path)
    main(["--motion", str(tmp_path), "--windows", "40"])
    said = capsys.readouterr().out
    assert "windows of whole people" in said and all(re.search(rf"^{part} +median 0\.\d+, limit 0\.\d+", said, re.M)
                                                     for part in PARTS)
