import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from models import randomised, small
from PIL import Image
from tiny_mocap import standing, write_all
from windows import Window

from edgepose import metrics, zoo
from edgepose.cli import main
from edgepose.clip import load_windows
from edgepose.show import drawing
from edgepose.skeleton import H36M17
from edgepose.training import error_plots, evaluate, models
from edgepose.zoo.checkpoints import save_checkpoint

pytestmark = pytest.mark.slow

matplotlib.use("Agg")


def poses(seed, count=40):
    return np.random.default_rng(seed).normal(0, 0.15, (count, 17, 3)).astype(np.float32)


@pytest.fixture
def figures(monkeypatch):
    """The list of the figures that are saved."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig",
                        lambda self, *args, **options: (figures.append(self), save(self, *args, **options)))
    return figures


def checkpoint(tmp_path, name, frames, **options):
    file = tmp_path / f"{name}.safetensors"
    save_checkpoint(file, randomised(zoo.build(name, frames, **options)),
                    {"model": name, "frames": frames, "skeleton": "h36m17", "options": options})
    return str(file)


def test_the_errors_are_those_of_the_metrics():
    predicted, target = poses(0), poses(1)
    errors = error_plots.joint_errors_mm(predicted, target)
    assert errors.shape == (40, 17) and errors.mean() == pytest.approx(metrics.mpjpe(1000 * predicted, 1000 * target))
    for threshold in (50.0, 150.0, 300.0):
        assert error_plots.share_under(errors, np.array([threshold]))[0] == pytest.approx(
            metrics.pck(1000 * predicted, 1000 * target, threshold))


def test_an_error_of_exactly_the_threshold_is_not_under_it():
    np.testing.assert_array_equal(error_plots.share_under(np.array([[0.0, 10.0], [20.0, 150.0]]),
                                                          np.array([0, 10, 11, 150, 151])), [0, 25, 50, 75, 100])


@pytest.mark.parametrize("frames, wanted", [(1, [0]), (3, [0, 1]), (9, [0, 1, 2, 4]), (27, [0, 1, 2, 4, 8, 13]),
                                            (351, [0, 1, 2, 4, 8, 16, 32, 64, 128, 175])])
def test_the_delays_run_from_none_to_all_that_a_window_has(frames, wanted):
    assert error_plots.delays(frames) == wanted


@pytest.mark.parametrize("delay", range(5))
def test_a_window_with_a_delay_is_what_the_stream_gives_the_model(delay):
    frames = 9
    keypoints = (standing()[:, :2] * [1, -1] + np.cumsum(np.random.default_rng(0).normal(0, 0.004, (frames, 17, 2)),
                                                         0)).astype(np.float32)
    window = Window(frames, H36M17, rate_hz=None, delay_frames=delay)
    for i in range(frames // 2 + delay + 1):
        answers = window.push(keypoints[i], i / 50)
    assert answers and window.timestamp_s == pytest.approx((frames // 2) / 50)
    np.testing.assert_array_equal(error_plots.with_delay(keypoints[None], delay)[0], window.keypoints_norm)


class NextFrame:
    """An engine that answers with the frame after the middle one of a window whose keypoints move."""

    frames, skeleton = 9, H36M17

    def run(self, keypoints_norm, out=None):
        assert keypoints_norm.flags.c_contiguous
        return np.pad(keypoints_norm[:, 5], ((0, 0), (0, 0), (0, 1)))


def moving():
    keypoints = np.zeros((6, 9, 17, 2), np.float32)
    keypoints[:, :, 16, 0] = 0.017 * np.arange(9)  # 17 mm a frame in one of 17 joints
    return keypoints, np.pad(keypoints[:, 5], ((0, 0), (0, 0), (0, 1)))


def test_the_error_against_the_delay_falls_to_that_of_the_whole_window():
    keypoints, target = moving()
    errors = error_plots.error_by_delay(NextFrame(), keypoints, target)
    assert errors == {0: pytest.approx(1.0, abs=1e-4), 1: 0.0, 2: 0.0, 4: 0.0}
    other = target + poses(3, 6)
    whole = evaluate.score(NextFrame().run(keypoints), other)["MPJPE mm"]
    assert error_plots.error_by_delay(NextFrame(), keypoints, other)[4] == pytest.approx(whole)


def test_the_bars_and_curves_are_the_errors():
    errors = {"clean": np.abs(poses(0)[..., 0]) * 1000, "noisy": np.abs(poses(1)[..., 0]) * 1400}
    bars, curves, delays = Figure().subplots(1, 3)
    error_plots._bars(bars, H36M17, errors)
    for kind, (container, _) in zip(errors, (bars.containers[:2], bars.containers[2:])):
        np.testing.assert_allclose([bar.get_width() for bar in container], errors[kind].mean(0))
        colours = [to_rgb(drawing.colour_of(joint)) for joint in H36M17.joints]
        assert [to_rgb(bar.get_facecolor()) for bar in container] == colours
    assert [label.get_text() for label in bars.get_yticklabels()][4:6] == ["left hip", "left knee"]
    labels = [text.get_text() for text in bars.get_legend().get_texts()]
    assert f"noisy: MPJPE {errors['noisy'].mean():.1f} mm" in labels
    error_plots._distribution(curves, errors)
    clean, at_150 = curves.lines[:2]
    np.testing.assert_allclose(clean.get_ydata()[[50, 150]], [100 * (errors["clean"] < mm).mean() for mm in (50, 150)])
    assert at_150.get_xydata().tolist() == [[150, clean.get_ydata()[150]]]
    error_plots._by_delay(delays, {"noisy": {0: 9.0, 1: 7.0, 4: 6.0}})
    np.testing.assert_array_equal(delays.lines[0].get_xydata(), [[0, 9], [1, 7], [4, 6]])


@pytest.mark.parametrize("frames, panels", [(1, 2), (9, 3)])
def test_the_delay_has_a_panel_where_the_model_takes_many_frames(tmp_path, figures, frames, panels):
    model = models.TorchLifter(randomised(small("ampose", frames)))
    keypoints, target = (part[:20] for part in load_windows(frames))
    error_plots.plot_errors(model, "small", {"shipped": (keypoints, target)}, tmp_path / "a.png")
    assert len(figures[0].axes) == panels
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 700


def test_a_prediction_that_holds_lies_on_the_diagonal_and_half_of_it_beside():
    rng = np.random.default_rng(0)
    predicted_mm = rng.uniform(10, 200, (2000, 16))
    errors_mm = predicted_mm * rng.uniform(0, 1 / 0.683, predicted_mm.shape)  # 68.3 % lie within
    groups = error_plots.reliability(predicted_mm, errors_mm)
    assert groups.shape == (10, 2) and (np.diff(groups[:, 0]) > 0).all()
    np.testing.assert_allclose(groups[:, 1], groups[:, 0], rtol=0.05)
    np.testing.assert_allclose(error_plots.reliability(predicted_mm / 2, errors_mm)[:, 1], groups[:, 1])


@pytest.mark.parametrize("name, panels", [("posemlp", 3), ("posemlp27", 4)])
def test_a_predicted_error_has_a_panel_of_its_reliability(tmp_path, figures, name, panels):
    module = randomised(zoo.build(name, channels=16, blocks=1))
    model = models.TorchLifter(module)
    keypoints, target = (part[:20] for part in load_windows(module.frames))
    error_plots.plot_errors(model, name, {"shipped": (keypoints, target)}, tmp_path / "a.png")
    assert len(figures[0].axes) == panels
    curve, diagonal = figures[0].axes[-1].lines
    predicted_mm = error_plots.predicted_errors_mm(model, keypoints)
    assert curve.get_xdata().mean() == pytest.approx(predicted_mm.mean(), rel=1e-5)
    assert diagonal.get_xydata()[0].tolist() == [0, 0]


def test_a_causal_model_has_no_delay_and_is_shown_windows_that_end_in_their_answer(tmp_path, figures, monkeypatch):
    keypoints, target = load_windows(27, is_causal=True)
    answers = {window.tobytes(): pose for window, pose in zip(keypoints, target)}

    class Causal:
        frames, skeleton, is_causal = 27, H36M17, True

        def run(self, keypoints_norm, out=None):
            return np.stack([answers[window.tobytes()] for window in keypoints_norm])

    error_plots.plot_errors(Causal(), "causal", {"shipped": (keypoints, target)}, tmp_path / "a.png")
    assert len(figures[0].axes) == 2
    monkeypatch.setattr(evaluate, "on_clip", lambda model, clip: {})
    assert evaluate.evaluate(Causal())["shipped windows, noisy"]["MPJPE mm"] == 0
    assert models.TorchLifter(small("strided27", is_causal=True)).is_causal


def test_the_maps_are_the_means_of_the_model_s_own(tmp_path, figures):
    module = randomised(zoo.build("posegate-s", depth=2, channels=24, heads=3))
    keypoints = load_windows(1)[0][:30]
    maps = error_plots.attention_maps(models.TorchLifter(module), "posegate-s", keypoints)
    with torch.no_grad():
        np.testing.assert_allclose(maps, module.attention_weights(torch.from_numpy(keypoints)).numpy().mean(1),
                                   atol=1e-6)
    np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-5)
    error_plots.plot_attention(models.TorchLifter(module), "posegate-s", keypoints, tmp_path / "a.png")
    shown = {axes.get_title(): axes.images[0].get_array() for axes in figures[0].axes if axes.images}
    assert len(shown) == 2 * 3
    np.testing.assert_array_equal(shown["layer 2, head 3"], maps[1, 2])
    assert Image.open(tmp_path / "a.png").size[0] > 600


def test_the_command_draws_the_validation_set_and_the_attention(tmp_path, figures, monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "WINDOWS", 60)
    monkeypatch.setattr(evaluate, "FLOOR_WINDOWS", 80)
    data, errors, maps = write_all(tmp_path / "mocap"), tmp_path / "errors.png", tmp_path / "maps.png"
    file = checkpoint(tmp_path, "posegate-s", 9, channels=16, depth=2, heads=2)
    assert main(["evaluate", "--model", file, "--data", "mocap", "--path", str(data), "--plot",
                 str(errors), "--plot-attention", str(maps)]) == 0
    of_maps, of_errors = figures
    assert Image.open(errors).format == Image.open(maps).format == "PNG" and str(errors) in capsys.readouterr().out
    assert len([axes for axes in of_maps.axes if axes.images]) == 2 * 2 and len(of_errors.axes) == 3
    labels = [text.get_text() for text in of_errors.axes[0].get_legend().get_texts()]
    errors_mm = [evaluate.score(models.lift(model := models.open_model(file)[0], keypoints), joints[:, 4])["MPJPE mm"]
                 for keypoints, joints in (evaluate.seeded_windows(data, "validation", 60, 9, noisy)
                                           for noisy in (False, True))]
    assert labels == [f"{kind}: MPJPE {error_mm:.1f} mm" for kind, error_mm in zip(("clean", "noisy"), errors_mm)]
    assert model.frames == 9


def test_a_model_without_attention_maps_is_told_which_have_them(tmp_path, capsys):
    file = tmp_path / "maps.png"
    assert main(["evaluate", "--model", "ampose", "--plot-attention", str(file)]) == 1
    assert "ampose has no attention maps; checkpoints of posegate, posegate-s do" in capsys.readouterr().err
    assert not file.exists()


def test_a_picture_that_cannot_be_written_is_refused_before_any_work(tmp_path, capsys):
    for option in ("--plot", "--plot-attention"):
        assert main(["evaluate", "--model", "nobody", option, str(tmp_path / "a.doc")]) == 1
        assert "a.doc: wanted a name that ends in .png" in capsys.readouterr().err
