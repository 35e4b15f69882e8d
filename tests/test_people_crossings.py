"""Ids on simulated crossings of real motion, order shuffled and one detection in ten lost."""

import numpy as np
import pytest

from edgepose.benchmarks.people import Count, NoLifter, count, crossings, crowd, detections, simulated
from edgepose.people import People

pytestmark = pytest.mark.filterwarnings("ignore")
MOST_SWITCHES = 0.01  # a crossing


@pytest.mark.parametrize("rate_hz", [30, 60])
def test_at_most_one_person_in_a_hundred_crossings_gets_another_id(rate_hz):
    scenes = {2: 40, 5: 12, 20: 2}  # by how many people there are
    total = sum((simulated(people, times, rate_hz, True, seed=1) for people, times in scenes.items()), Count())
    assert total.crossings > 100
    assert total.switches <= MOST_SWITCHES * total.crossings
    assert total.lost == 0


@pytest.mark.parametrize("people", [2, 5, 20])
def test_nobody_who_stays_apart_gets_another_id_or_loses_a_pose(people):
    total = simulated(people, 60 // people, 30, False, seed=2)
    assert (total.switches, total.crossings, total.lost) == (0, 0, 0) and total.detections > 1000


def test_the_count_counts_what_a_list_in_the_detectors_order_does():
    everybody = crowd(np.random.default_rng(0), 2, 30, True)
    assert crossings(everybody) == 1

    class Places:
        """People who are taken for their places in the list."""

        def push(self, keypoints_px, timestamp_s):
            self.ids = np.arange(len(keypoints_px))

    assert count(Places(), detections(np.random.default_rng(0), everybody), 30).switches > 20
    wide = People(NoLifter(), "h36m17", (100, 100))  # everybody is outside of the picture
    assert count(wide, detections(np.random.default_rng(0), everybody), 30).lost > 100
