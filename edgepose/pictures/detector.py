"""From a picture to one person's keypoints: HRNet-like networks in ONNX Runtime, MediaPipe and rtmlib behind one
protocol.

    with edgepose.open_detector("hrnet-w32_256x192.onnx") as detector:   # open_detector() lists the other names
        stream = edgepose.Stream(engine, detector.layout, (width, height))
        pose = stream.push(detector(image), timestamp_s)                 # image: (height, width, 3) uint8, RGB

The path of a picture: person box -> crop -> heatmaps -> maxima -> pixels of the picture. A box is (centre x, centre y,
width, height) in px with the shape of the network's input; pixel (0, 0) is the centre of the top left one. Sources: Sun
et al. 2019, section 3 and the authors' code.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from ..adapters import ADAPTERS, COCO17, MEDIAPIPE33
from ..checks import first_line
from ..shipped import shipped_file
from ..skeleton import Skeleton
from .headcount import MOST_PEOPLE, Headcount

SHIPPED_DETECTOR = "hrnet-w8"
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])  # ImageNet's, RGB in [0, 1]
PADDING = 1.25  # a person's box is so many times as large as the person
STRIDE = 4  # a heatmap's pixel (i, j) is the crop's pixel (4 i, 4 j)
SHIFT = 0.25  # heatmap px that a maximum is moved towards its higher neighbour
SEEN_ABOVE = 0.2  # a keypoint fainter than this says nothing about where the person is
LEAST_SEEN = 5  # keypoints; with fewer the person is lost
MEDIAPIPE_FRAME_MS = 33  # its tracker gets this as the time between two pictures
DETECTORS = ("\"shipped\", an HRNet-like FILE.onnx, \"mediapipe\", a FILE.task of MediaPipe, \"rtmlib\", "
             "\"rtmlib:PERSON.onnx,POSE.onnx\"")
MEDIAPIPE_WITH_MODEL = "'mediapipe<0.10.30'"  # what pip installs of it by name alone comes without a model


class Detector(Protocol):
    """A finder of people's keypoints in a picture: of one person's if it is called, of everybody's by `people`. A film
    is seen through one of the two. layout: a name in ADAPTERS, for `Stream`. As a context manager it closes itself."""

    layout: str

    def __call__(self, image: np.ndarray) -> np.ndarray | None:
        """image: (height, width, 3) uint8 RGB. (K, 3): x, y in px and the confidence, or None if nobody is found."""

    def people(self, image: np.ndarray) -> np.ndarray:
        """(N, K, 3), for `People.push`, in any order. Here: of a detector that finds one person."""
        found = self(image)
        return np.zeros((0, len(ADAPTERS[self.layout].layout), 3)) if found is None else found[None]

    def reset(self) -> None:
        """Forgets where the person is: for another video. Here: nothing to forget."""

    def close(self) -> None:
        """Frees the networks, and ends their threads; the last call of a detector. Here: nothing to free."""

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def checked_image(image: np.ndarray) -> np.ndarray:
    """The picture as it is. Raises ValueError or TypeError unless it is (height, width, 3) uint8."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        raise TypeError(f"image is {getattr(image, 'dtype', type(image).__name__)}; wanted a uint8 array, RGB")
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"image has shape {image.shape}; wanted (height, width, 3), RGB")
    return image


def padded_box(low: np.ndarray, high: np.ndarray, aspect: float) -> np.ndarray:
    """The box of shape `aspect`, width over height, around two corners in px, with PADDING: (4,)."""
    width, height = np.maximum(np.subtract(high, low), 1.0)
    height = PADDING * max(height, width / aspect)
    return np.array([*(np.add(low, high) / 2), height * aspect, height])


def box_around(keypoints: np.ndarray, aspect: float) -> np.ndarray | None:
    """The box around the seen ones of (K, 3) keypoints, or None if the person is lost."""
    seen = keypoints[keypoints[:, 2] >= SEEN_ABOVE, :2]
    if len(seen) < LEAST_SEEN:
        return None
    return padded_box(seen.min(0), seen.max(0), aspect)


def crop(image: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A box of a picture at (height, width), bilinear, black outside: (h, w, 3) uint8 -> (height, width, 3) float32 in
    [0, 255]."""
    rows, columns = (_taps(box[axis], box[axis + 2], size[1 - axis], image.shape[1 - axis]) for axis in (1, 0))
    out = np.zeros((*size, 3), np.float32)
    for y, weight_y in rows:
        strip = image[y]
        for x, weight_x in columns:
            out += (weight_y[:, None] * weight_x)[..., None] * strip[:, x]
    return out


def _taps(centre: float, extent: float, pixels: int, side: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The two pixels of the picture's axis that each pixel of the crop's mixes, and their weights: 0 outside the
    picture."""
    place = centre + (np.arange(pixels) - pixels / 2) * (extent / pixels)
    before = np.floor(place).astype(np.int64)
    blend = (place - before).astype(np.float32)
    return [(index.clip(0, side - 1), np.where((index >= 0) & (index < side), weight, np.float32(0)))
            for index, weight in ((before, 1 - blend), (before + 1, blend))]


def to_picture(points: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels of a crop of (height, width) to those of the picture it was cut from: (..., 2) -> (..., 2)."""
    pixels = np.array(size[::-1])
    return box[:2] + (points - pixels / 2) * (box[2:] / pixels)


def decode(heatmaps: np.ndarray) -> np.ndarray:
    """The maximum of each heatmap, a quarter of a pixel towards its higher neighbours: (..., K, h, w) -> (..., K, 3).

    x and y in heatmap px, then the maximum itself, clipped to [0, 1], as the confidence.
    """
    *lead, height, width = heatmaps.shape
    maps = heatmaps.reshape(-1, height, width)
    best = maps.reshape(len(maps), -1).argmax(1)
    y, x = np.divmod(best, width)
    row = np.arange(len(maps))
    dx = np.sign(maps[row, y, np.minimum(x + 1, width - 1)] - maps[row, y, np.maximum(x - 1, 0)])
    dy = np.sign(maps[row, np.minimum(y + 1, height - 1), x] - maps[row, np.maximum(y - 1, 0), x])
    inside = (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    points = np.stack([x + SHIFT * dx * inside, y + SHIFT * dy * inside, maps[row, y, x].clip(0, 1)], -1)
    return points.reshape(*lead, 3)


def normalised(crops: np.ndarray) -> np.ndarray:
    """Crops as the networks take them: (..., H, W, 3) in [0, 255] -> (..., 3, H, W) float32."""
    return np.ascontiguousarray(np.moveaxis((crops / np.float32(255) - MEAN) / STD, -1, -3), np.float32)


def unflipped(heatmaps: np.ndarray, layout: Skeleton = COCO17) -> np.ndarray:
    """The heatmaps of a mirrored crop as those of the crop: (..., K, h, w) -> the same; left and right are exchanged.

    Moved by one pixel, as in the authors' code: pixel i stands for the crop's 4 i, so mirroring leaves them 3/4 of one
    apart.
    """
    back = heatmaps[..., list(layout.mirror), :, ::-1].copy()
    back[..., 1:] = back[..., :-1].copy()
    return back


def _need_open(detector: Detector, network: object) -> None:
    if network is None:
        raise ValueError(f"this {type(detector).__name__} is closed: open another one")


def _library(name: str, package: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError:
        raise ImportError(f"this detector needs {name}, which is not installed: pip install {package}") from None


def _onnx_session(path: str | Path, threads: int) -> Any:
    """onnxruntime's session of a file. Raises FileNotFoundError if there is none, and ValueError if it is no ONNX
    file."""
    onnxruntime = _library("onnxruntime", "'edgepose[video]'")
    if not Path(path).is_file():
        raise FileNotFoundError(f"no detector at {path}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes, which are no part of its interface
        raise ValueError(f"{path} is no ONNX file that onnxruntime can run: {error}") from error


class HRNetDetector(Detector):
    """An HRNet-like ONNX file: (1, 3, H, W) normalised RGB -> (1, 17, H / 4, W / 4) heatmaps of COCO-17.

    The person is looked for in the box around the last keypoints; at the start and after a loss in the whole picture,
    and then once more in the box that was found. flip_test: the mean with the mirrored crop's heatmaps, at twice the
    time.
    Raises ValueError if the file is no such network, FileNotFoundError if there is none, and ImportError, saying what
    to install, without onnxruntime.
    """

    layout = COCO17.name

    def __init__(self, path: str | Path, *, threads: int = 1, flip_test: bool = False):
        self._session = _onnx_session(path, threads)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape, heatmaps = inputs[0].shape, outputs[0].shape
        is_sized = len(shape) == 4 and shape[1] == 3 and all(isinstance(side, int) for side in shape[2:])
        if len(inputs) != 1 or not is_sized or heatmaps[1:] != [len(COCO17), shape[2] // STRIDE, shape[3] // STRIDE]:
            raise ValueError(f"{path} takes {[i.shape for i in inputs]} and gives {heatmaps}; wanted (1, 3, H, W) -> "
                             f"(1, {len(COCO17)}, H / {STRIDE}, W / {STRIDE})")
        self.size = (shape[2], shape[3])
        self.flip_test, self._input, self._path = flip_test, inputs[0].name, path
        self.reset()

    def __repr__(self) -> str:
        return f"HRNetDetector({str(self._path)!r}, {self.size[0]}x{self.size[1]})"

    def reset(self) -> None:
        """Forgets where the person is: for another video."""
        self._box: np.ndarray | None = None

    def close(self) -> None:
        """Frees the network; the last call of a detector."""
        self._session = None

    def __call__(self, image: np.ndarray) -> np.ndarray | None:
        """(17, 3): px and confidence, or None if nobody is found. Raises what checked_image raises."""
        height, width = checked_image(image).shape[:2]
        aspect = self.size[1] / self.size[0]
        if self._box is None:
            whole = padded_box(np.zeros(2), np.array([width - 1, height - 1]), aspect)
            whole[2:] /= PADDING
            self._box = box_around(self.in_box(image, whole), aspect)
            if self._box is None:
                return None
        keypoints = self.in_box(image, self._box)
        self._box = box_around(keypoints, aspect)
        return keypoints if self._box is not None else None

    def in_box(self, image: np.ndarray, box: np.ndarray) -> np.ndarray:
        """The keypoints of the person in a box, for callers who have a person detector: (17, 3); nothing is
        remembered."""
        part = crop(image, box, self.size)
        heatmaps = self.heatmaps(normalised(part))
        if self.flip_test:
            heatmaps = (heatmaps + unflipped(self.heatmaps(normalised(part[:, ::-1])))) / 2
        keypoints = decode(heatmaps).astype(np.float64)
        keypoints[:, :2] = to_picture(STRIDE * keypoints[:, :2], box, self.size)
        return keypoints

    def heatmaps(self, crop_normalised: np.ndarray) -> np.ndarray:
        """(3, H, W) -> (17, H / 4, W / 4). Raises ValueError once closed."""
        _need_open(self, self._session)
        return self._session.run(None, {self._input: crop_normalised[None]})[0][0]


class MediaPipeDetector(Detector):
    """MediaPipe's pose: 33 landmarks, with its own tracker. With a .task file it finds several people, as many as
    Headcount says.

    model: a pose_landmarker*.task file; None takes the model that came with the library, which its newer versions do
    not have. Close it, or use it in a `with`, before the next one is opened: its network lives in a thread of the
    library.
    Raises ImportError without mediapipe, FileNotFoundError if there is no such file, and ValueError if the library came
    without a model, or cannot read the file.
    """

    layout = MEDIAPIPE33.name

    def __init__(self, model: str | Path | None = None):
        self._mediapipe, self._model = (_library("mediapipe", MEDIAPIPE_WITH_MODEL if model is None else "mediapipe"),
                                        model)
        if model is None and not hasattr(self._mediapipe, "solutions"):
            raise ValueError("this version of mediapipe came without a model: "
                             f"pip install {MEDIAPIPE_WITH_MODEL}, which has one, or give a pose_landmarker.task file "
                             "(ai.google.dev/edge/mediapipe/solutions/vision/pose_landmarker) as the detector")
        if model is not None and not Path(model).is_file():
            raise FileNotFoundError(f"no detector at {model}")
        self._open()

    def _open(self) -> None:
        # Never a function that holds `self` in here: the cycle would keep the landmarker until its thread has ended,
        # and then its end hangs.
        self._pictures, self._headcount, self._looking = 0, Headcount(), None
        self._network = (self._mediapipe.solutions.pose.Pose(static_image_mode=False) if self._model is None
                         else self._landmarker("VIDEO", 1))

    def _landmarker(self, mode: str, people: int) -> Any:
        vision = self._mediapipe.tasks.vision
        try:
            return vision.PoseLandmarker.create_from_options(vision.PoseLandmarkerOptions(
                base_options=self._mediapipe.tasks.BaseOptions(model_asset_path=str(self._model)),
                running_mode=getattr(vision.RunningMode, mode), num_poses=people))
        except (RuntimeError, ValueError, OSError) as error:
            raise ValueError(f"{self._model} is no .task file of a pose landmarker that mediapipe can read: "
                             f"{first_line(error)}") from error

    def reset(self) -> None:
        """Forgets where the person is: for another video."""
        self.close()
        self._open()

    def close(self) -> None:
        """Ends the library's thread, and frees the network; the last call of a detector but for reset()."""
        networks, self._network, self._looking = (self._network, self._looking), None, None
        for network in networks:
            if network is not None:
                network.close()

    def __call__(self, image: np.ndarray) -> np.ndarray | None:
        """(33, 3): px and visibility, or None if nobody is found. Raises what checked_image raises, and ValueError once
        closed."""
        found = self._found(image)
        return found[0] if len(found) else None

    def people(self, image: np.ndarray) -> np.ndarray:
        """(N, 33, 3): px and visibility of everybody; without a .task file of one person at most. Raises what calling
        raises."""
        checked_image(image)
        _need_open(self, self._network)
        if self._model is not None and self._headcount.wants_look():
            if self._looking is None:
                self._looking = self._landmarker("IMAGE", MOST_PEOPLE)
            if self._headcount.look(self._pixels(self._looking.detect(self._picture(image)).pose_landmarks, image)):
                self._network.close()
                self._network = self._landmarker("VIDEO", self._headcount.count)
        found = self._found(image)
        self._headcount.see(len(found))
        return found

    def _found(self, image: np.ndarray) -> np.ndarray:
        checked_image(image)
        _need_open(self, self._network)
        if self._model is None:
            found = self._network.process(np.ascontiguousarray(image)).pose_landmarks
            return self._pixels([found.landmark] if found else [], image)
        self._pictures += 1
        return self._pixels(self._network.detect_for_video(
            self._picture(image), MEDIAPIPE_FRAME_MS * self._pictures).pose_landmarks, image)

    def _picture(self, image: np.ndarray) -> Any:
        return self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))

    @staticmethod
    def _pixels(people: Any, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        return np.array([[(mark.x * width, mark.y * height, mark.visibility) for mark in person]
                         for person in people or []]).reshape(-1, len(MEDIAPIPE33), 3)


class RtmlibDetector(Detector):
    """rtmlib's Body: RTMPose after a person detector; 17 keypoints.

    files: the ONNX files of a person detector (YOLOX) and of RTMPose; None: those that rtmlib fetches when it is first
    used. Of several people the one nearest to the last answer is taken, at first the one of highest scores.
    Raises ImportError without rtmlib, FileNotFoundError if a file is missing, and ValueError if one is no network for
    pictures of one size.
    """

    layout = COCO17.name

    def __init__(self, files: tuple[str, str] | None = None) -> None:
        rtmlib, where = _library("rtmlib", "rtmlib"), {"backend": "onnxruntime", "device": "cpu"}
        if files is None:
            self._person, self._pose = None, rtmlib.Body(mode="balanced", to_openpose=False, **where)
        else:
            (height, width), (pose_height, pose_width) = (_picture_size(file) for file in files)
            self._person = rtmlib.YOLOX(str(files[0]), model_input_size=(height, width), **where)
            self._pose = rtmlib.RTMPose(str(files[1]), model_input_size=(pose_width, pose_height), to_openpose=False,
                                        **where)
        self.reset()

    def reset(self) -> None:
        """Forgets where the person is: for another video."""
        self._last: np.ndarray | None = None

    def close(self) -> None:
        """Frees the networks; the last call of a detector."""
        self._person = self._pose = None

    def __call__(self, image: np.ndarray) -> np.ndarray | None:
        """(17, 3): px and score, or None if nobody is found. Raises what checked_image raises, and ValueError once
        closed."""
        people = self.people(image)
        if not len(people):
            self._last = None
        elif self._last is None:
            self._last = max(people, key=lambda person: person[:, 2].mean())
        else:
            last = self._last[:, :2]
            self._last = min(people, key=lambda person: np.linalg.norm(person[:, :2] - last, axis=1).mean())
        return None if self._last is None else self._last.copy()

    def people(self, image: np.ndarray) -> np.ndarray:
        """(N, 17, 3): px and score of everybody of whom enough is seen. Raises what calling raises."""
        picture = np.ascontiguousarray(checked_image(image)[..., ::-1])  # it takes BGR
        _need_open(self, self._pose)
        keypoints, scores = (self._pose(picture) if self._person is None
                             else self._pose(picture, bboxes=self._person(picture)))
        if not len(keypoints):
            return np.zeros((0, len(COCO17), 3))
        people = np.concatenate([keypoints, np.clip(scores, 0, 1)[..., None]], -1)
        return people[[box_around(person, 1.0) is not None for person in people]]


def _picture_size(file: str) -> tuple[int, int]:
    """(height, width) of the pictures an ONNX file takes. Raises FileNotFoundError and ValueError, naming it, if it has
    none."""
    shape = _onnx_session(file, 1).get_inputs()[0].shape
    if len(shape) != 4 or not all(isinstance(side, int) for side in shape[2:]):
        raise ValueError(f"{file} takes {shape}; wanted pictures of one size, (1, 3, H, W)")
    return shape[2], shape[3]


def open_detector(name_or_file: str | Path = "shipped", *, threads: int = 1, flip_test: bool = False) -> Detector:
    """A detector by its name or file: "shipped" (HRNet-W8, trained on rendered people alone), an HRNet-like .onnx file,
    "mediapipe" or a .task file of MediaPipe, "rtmlib", or with its files "rtmlib:PERSON.onnx,POSE.onnx". threads and
    flip_test are for the HRNets.

    Raises ValueError for another name, FileNotFoundError for a missing file, and ImportError, saying what to install.
    """
    name = str(name_or_file)
    if name == "shipped" or name.endswith(".onnx") and not name.startswith("rtmlib:"):
        file = shipped_file(f"weights/{SHIPPED_DETECTOR}.onnx") if name == "shipped" else name
        return HRNetDetector(file, threads=threads, flip_test=flip_test)
    if flip_test:
        raise ValueError(f"the detector {name} has no flip test; the HRNets have")
    if name == "mediapipe" or name.endswith(".task"):
        return MediaPipeDetector(None if name == "mediapipe" else name)
    if name == "rtmlib":
        return RtmlibDetector()
    if name.startswith("rtmlib:"):
        files = name.removeprefix("rtmlib:").split(",")
        if len(files) != 2:
            raise ValueError(f"detector {name!r}; wanted \"rtmlib:PERSON.onnx,POSE.onnx\": a person "
                             "detector's file and RTMPose's")
        return RtmlibDetector((files[0], files[1]))
    raise ValueError(f"there is no detector {name!r}; wanted {DETECTORS}")
