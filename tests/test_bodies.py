import numpy as np
import torch
from tiny_mocap import standing

from edgepose.skeleton import H36M17
from edgepose.training import bodies as varied
from edgepose.training.bodies import vary_bodies


def test_bodies_keep_their_symmetry_and_their_joints():
    bodies = vary_bodies(torch.from_numpy(standing()).expand(500, 2, -1, -1), torch.Generator().manual_seed(0))
    parents, mirror = list(H36M17.parents[1:]), list(H36M17.mirror)
    bones = bodies[:, :, 1:] - bodies[:, :, parents]
    lengths = torch.cat([torch.zeros(500, 2, 1), bones.norm(dim=-1)], -1)
    torch.testing.assert_close(lengths, lengths[..., mirror], atol=1e-5, rtol=0)
    torch.testing.assert_close(bodies[:, 0], bodies[:, 1])
    thigh = lengths[:, 0, H36M17.index("right_knee")]
    sizes, proportions = varied.SUBJECTS.sizes, varied.SUBJECTS.proportions
    low, high = sizes[0] * (1 - proportions), sizes[1] * (1 + proportions)
    true = np.linalg.norm(standing()[H36M17.index("right_knee")] - standing()[H36M17.index("right_hip")])
    assert (thigh > low * true - 1e-5).all() and (thigh < high * true + 1e-5).all() and thigh.std() > 0.03
    left_hip = bodies[:, :, H36M17.index("left_hip"), 0]
    assert (left_hip > 0).all()  # mirrored about x = 0: still the person's left


def test_the_head_nods_forward_and_nothing_else_moves():
    body = torch.from_numpy(standing()).expand(400, 1, -1, -1)
    nodded = varied._nod(body, torch.Generator().manual_seed(0))
    moved = (nodded - body).norm(dim=-1).amax((0, 1)) > 1e-6
    assert [H36M17.joints[j] for j in range(17) if moved[j]] == ["nose", "head"]
    assert (nodded - body)[:, 0, H36M17.index("head"), 2].mean() > 0.02  # +z is forward
    reach = lambda b: (b[:, :, H36M17.index("head")] - b[:, :, H36M17.index("thorax")]).norm(dim=-1)  # noqa: E731
    torch.testing.assert_close(reach(nodded), reach(body))


def test_strangers_have_longer_trunks_and_stand_on_their_feet():
    body = torch.from_numpy(standing()).expand(4000, 1, -1, -1)
    bodies = vary_bodies(body, torch.Generator().manual_seed(0), varied.STRANGERS)

    def trunk_over_leg(joints):
        length = lambda a, b: (  # noqa: E731
            joints[..., H36M17.index(a), :] - joints[..., H36M17.index(b), :]).norm(dim=-1)
        return length("pelvis", "thorax") / (length("left_hip", "left_knee") + length("left_knee", "left_ankle"))

    change = (trunk_over_leg(bodies) / trunk_over_leg(body)).flatten()
    assert 1.05 < change.mean() < 1.14  # trunk 0.97 to 1.22, bones 10 %
    assert change.quantile(0.02) < 1 < change.quantile(0.9)
    lowest = bodies[..., 1].amin((1, 2)) / body[..., 1].amin((1, 2))
    assert (lowest > varied.STRANGERS.sizes[0] - 1e-4).all() and (lowest < varied.STRANGERS.sizes[1] + 1e-4).all()
