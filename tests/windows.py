"""The window of csrc/runtime by itself, for tests: anything may be the note of a frame."""

from edgepose import _native


class Window:
    """(J, 2) frames in, the model's input (T, J, 2) out."""

    def __init__(self, frames, skeleton, rate_hz=50.0, delay_frames=0, max_gap_s=0.5, is_causal=False):
        self.frames, self._notes = frames, []
        self._window = _native.Window(frames, skeleton, rate_hz or 0.0, delay_frames, max_gap_s, is_causal, 2)

    def push(self, keypoints_norm, timestamp_s, note=None):
        self._last = keypoints_norm
        return self._window.push(keypoints_norm, timestamp_s, self._number(note))

    def repeat_last(self, timestamp_s, note=None):
        return self._window.repeat(self._last, timestamp_s, self._number(note))

    def flush(self):
        while self._window.flush():
            yield

    def _number(self, note):
        self._notes.append(note)
        return len(self._notes) - 1

    @property
    def note(self):
        return self._notes[int(self._window.note())]

    @property
    def keypoints_norm(self):
        return self._window.input()

    def __getattr__(self, name):
        return getattr(self._window, name)
