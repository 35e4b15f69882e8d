import pytest
import torch
from safetensors import safe_open
from tiny_mocap import write_all
from tiny_real_clips import write_folder

import edgepose
from edgepose import zoo
from edgepose.build_engines import publish
from edgepose.build_engines.lifters import weights_sha256
from edgepose.training import evaluate
from edgepose.zoo.checkpoints import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture
def published(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "WINDOWS", 100)
    monkeypatch.setattr(evaluate, "FLOOR_WINDOWS", 200)
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "tiny.safetensors", zoo.build("ampose", channels=16), {
        "model": "ampose", "frames": 1, "skeleton": "h36m17", "options": {"channels": 16}, "seed": 5,
        "command": "edgepose train --steps 1", "data": "CMU", "figures": {}})
    return publish.publish(tmp_path / "tiny.safetensors", write_all(tmp_path / "mocap"), tmp_path / "weights",
                           real=write_folder(tmp_path / "real"))


def test_published_weights_are_half_precision_and_carry_their_figures(published):
    with safe_open(published, framework="pt") as file:
        assert file.get_tensor("embed.weight").dtype == torch.float16
    _, metadata = load_checkpoint(published)
    assert metadata["seed"] == 5 and metadata["options"] == {"channels": 16}
    assert metadata["figures"]["model, noisy"]["MPJPE mm"] > 0


def test_the_card_says_what_the_weights_are(published):
    text = published.with_suffix(".md").read_text()
    _, metadata = load_checkpoint(published)
    figure = metadata["figures"]["real detections, cam1"]["P-MPJPE mm"]
    assert text.startswith("# tiny\n") and "`edgepose train --steps 1`" in text and "mocap.cs.cmu.edu" in text
    assert "| seed | 5 |" in text and f" {figure:.1f} |" in text and "linear regression, noisy" in text


def test_the_card_has_the_groups_of_real_clips_where_there_are_any(published):
    text = published.with_suffix(".md").read_text()
    _, metadata = load_checkpoint(published)
    row = metadata["real"]["beam, OpenPose, perfect"]
    assert "## Real clips" in text
    assert f"| beam, OpenPose, perfect | {row['MPJPE mm']:.1f} | {row['N-MPJPE mm']:.1f} | " in text
    assert f" | {row['MPJVE mm/s']:.1f} | {row['upper body mm']:.1f} | {row['poses']} | 0 |" in text
    assert row["poses"] == 24
    del metadata["real"]
    without = publish.card("tiny", metadata)
    assert "Real clips" not in without and "camera 3 is behind him.\n\n## What it does not know" in without


def test_the_engine_beside_the_weights_is_made_of_them(published):
    engine = edgepose.load(published.with_name("tiny_fp16.epose"))
    assert edgepose.load(published.with_name("tiny_int8.epose")).precision == "int8"
    module, _ = load_checkpoint(published)
    x = torch.rand(4, 1, 17, 2, generator=torch.Generator().manual_seed(1)) - 0.5
    with torch.inference_mode():
        assert abs(engine.run(x.numpy()) - module(x).numpy()).mean() < 5e-4  # m: the budget of half precision
    assert engine.header["weights_sha256"] == weights_sha256(module)


def test_the_card_names_every_source_of_the_data_and_the_cameras_it_saw(published):
    _, metadata = load_checkpoint(published)
    old = publish.card("tiny", metadata)
    assert "lenses of 35 to 85 degrees" in old and "people 2 m and more away, cameras\n  0.3 to 3 m above" in old
    assert "HDM05" not in old
    new = publish.card("tiny", {**metadata, "data": "CMU Graphics Lab Motion Capture Database, HDM05, UI-PRMD",
                                "rate_hz": 50.0})
    assert "lenses of 31 to 90 degrees" in new and "0.1 to 3 m above" in new
    for credit in ("mocap.cs.cmu.edu", "obtained from HDM05", "Attribution-ShareAlike 3.0", "UI-PRMD"):
        assert credit in new


def test_a_predicted_error_is_calibrated_before_it_ships(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "WINDOWS", 200)
    monkeypatch.setattr(evaluate, "FLOOR_WINDOWS", 100)
    torch.manual_seed(0)
    options = {"channels": 16, "blocks": 1}
    save_checkpoint(tmp_path / "tiny.safetensors", zoo.build("posemlp", **options).eval(), {
        "model": "posemlp", "frames": 1, "skeleton": "h36m17", "options": options, "seed": 5, "rate_hz": 50.0,
        "command": "edgepose train --steps 1", "data": "CMU, HDM05, UI-PRMD", "figures": {}})
    path = publish.publish(tmp_path / "tiny.safetensors", write_all(tmp_path / "mocap"), tmp_path / "weights")
    coverage = load_checkpoint(path)[1]["error_coverage"]
    assert abs(coverage["all"] - 68.3) < 1.0  # half precision and quantiles of 3200 joints
    assert f"{coverage['all']:.1f} % of all joints" in path.with_suffix(".md").read_text()
    assert edgepose.load(path.with_name("tiny_fp16.epose")).rate_hz == 50
    figures = load_checkpoint(path)[1]["figures"]
    assert "model, noisy, told the person's lengths" in figures and "model, clean, told lens and gravity" in figures
