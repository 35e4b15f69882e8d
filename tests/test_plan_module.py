import models
import pytest
import torch

from edgepose import zoo
from edgepose.build_engines.lower import lower
from edgepose.build_engines.plan_module import PlanModule


@pytest.mark.parametrize("name, options", [*((name, {}) for name in zoo.MODELS), ("strided27-s", {"is_causal": True})])
def test_a_plan_in_torch_is_the_model_it_was_lowered_from(name, options):
    model = models.randomised(zoo.build(name, **options))
    x = torch.from_numpy(models.keypoints(model, 2))
    with torch.inference_mode():
        plan = PlanModule(*lower(model, "fp32")).eval()
        wanted = model(x)
        torch.testing.assert_close(plan(x), wanted, rtol=0, atol=1e-5 * max(1, float(wanted.abs().max())))
