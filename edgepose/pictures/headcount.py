"""The number of people in a film, for a detector that must be told how many to look for."""

from __future__ import annotations

import numpy as np

MOST_PEOPLE = 6  # that a look over the whole picture is asked for
LOOK_EVERY = 15  # pictures between two looks
LOOK_SOON = 3  # after so many pictures with fewer people than are looked for
AGREEING = 2  # looks in a row that must say the same other number
SAME = 0.15  # poses whose joints are this near, in sizes of a person, are of one


class Headcount:
    """The number of people to look for. MediaPipe, asked for three where two are, changes their places and loses one in
    a fifth of the pictures; asked for two it is nearly always right. So a detector is asked for as many as looks over
    the whole picture, apart from its tracking, find.

    count: the number to look for, at first 1.
    """

    def __init__(self) -> None:
        self.count = 1
        self._since, self._fewer, self._said = LOOK_EVERY, 0, [0] * AGREEING

    def wants_look(self) -> bool:
        """True if the next picture is to be looked over."""
        return self._since >= LOOK_EVERY or self._fewer >= LOOK_SOON

    def look(self, people: np.ndarray) -> bool:
        """Takes what a look found, (N, K, 3); whether the count has changed."""
        self._since = self._fewer = 0
        self._said = [*self._said[1:], max(1, len(distinct(people)))]
        is_other = len(set(self._said)) == 1 and self._said[0] != self.count
        if self._said[-1] != self.count and not is_other:
            self._since = LOOK_EVERY  # the next picture shows whether it was right
        if is_other:
            self.count = self._said[0]
        return is_other

    def see(self, found: int) -> None:
        """Takes how many people the detector found in a picture."""
        self._since += 1
        self._fewer = self._fewer + 1 if found < self.count else 0


def distinct(people: np.ndarray) -> list[np.ndarray]:
    """The poses of (N, K, 3) that are not of somebody before them in the list."""
    found: list[np.ndarray] = []
    for person in people:
        xy = person[:, :2]
        size = max(float(np.ptp(xy, axis=0).max()), 1.0)
        if all(np.median(np.linalg.norm(xy - other[:, :2], axis=1)) > SAME * size for other in found):
            found.append(person)
    return found
