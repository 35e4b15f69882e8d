import pytest
import torch

from edgepose.training import runs
from edgepose.training.runs import option_words, read_options
from edgepose.zoo.checkpoints import read_tensors, write_tensors


class Line(runs.Trainer):
    """The smallest trainer: a line fitted to one point. spoilt: steps whose loss is no number."""

    def __init__(self, steps, spoilt=()):
        torch.manual_seed(0)
        line = torch.nn.Linear(1, 1)
        super().__init__({"line": line}, {"descent": torch.optim.SGD(line.parameters())}, steps, 0, 0.9)
        self.spoilt = spoilt

    def rates(self):
        return {"descent": 0.1 if self.done < 3 else 0.0}

    def learn(self, generator):
        loss = (self.module(torch.ones(1, 1)) - 5).square().mean() * (torch.nan if self.done in self.spoilt else 1)
        self.descend("descent", loss)
        return {"loss": loss.item()}


def run(folder, trainer, resume=False, report=None):
    return runs.run(trainer, folder / "line.safetensors", {"seed": 0}, every=2, resume=resume, about={"model": "line"},
                    validate=lambda: {"weight": trainer.module.weight.item()}, report=report,
                    save=lambda path, module, metadata: write_tensors(path, module.state_dict(), metadata))


def test_a_run_reports_every_step_and_keeps_a_checkpoint_after_every_other_and_the_last(tmp_path):
    reports = []
    path = run(tmp_path, Line(5), report=reports.append)
    assert [report.done for report in reports] == [1, 2, 3, 4, 5]
    assert [report.is_kept for report in reports] == [False, True, False, True, True]
    assert [bool(report.scores) for report in reports] == [False, True, True, True, True]
    losses = [report.losses["loss"] for report in reports]
    assert losses[0] > losses[1] > losses[3] == losses[4]  # the rate is 0 from the fourth step on
    assert reports[3].means == {"loss": (losses[2] + losses[3]) / 2} and reports[-1].left_s == 0
    tensors, metadata = read_tensors(path)
    assert metadata == {"model": "line", "figures": {"weight": round(reports[-1].scores["weight"], 2), "steps": 5}}
    state, about = read_tensors(runs.state_file(path))
    assert about == {"seed": 0, "done": 5} and torch.equal(state["averaged.weight"], tensors["weight"])


def test_a_loss_that_is_no_number_leaves_the_checkpoint_before_it(tmp_path):
    with pytest.raises(FloatingPointError, match="the loss is nan at step 3"):
        run(tmp_path, Line(5, spoilt=[3]))
    assert read_tensors(tmp_path / "line.safetensors")[1]["figures"]["steps"] == 2
    mended, whole = Line(5), Line(5)
    run(tmp_path, mended, resume=True)
    (tmp_path / "whole").mkdir()
    run(tmp_path / "whole", whole)
    assert torch.equal(mended.module.weight, whole.module.weight)


def test_the_time_left_is_in_hours_minutes_and_seconds():
    assert runs.StepReport(1, 2, {}, {}, {}, 3 * 3600 + 125.9, False).left == "3:02:05"


def test_a_run_prints_a_line_a_checkpoint_and_its_path(tmp_path, capsys):
    def words(step):
        return f"weight {step.scores['weight']:.1f}" if step.scores else "begun"

    runs.print_run("line", 4, words, lambda report: run(tmp_path, Line(4), report=report))
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith("step 2/4  weight ") and second.startswith("step 4/4  weight ")
    assert last == str(tmp_path / "line.safetensors")
    runs.print_run("line", 4, words, lambda report: run(tmp_path, Line(4), resume=True, report=report))
    assert capsys.readouterr().out == f"{tmp_path}/line.safetensors: the run is at step 4 or later already\n"


def test_options_are_json_or_text():
    words = ["is_causal=true", "channels=16", "dropout=0.1", "attention=dense"]
    options = read_options("strided27-s", words)
    assert options == {"is_causal": True, "channels": 16, "dropout": 0.1, "attention": "dense"}
    assert read_options("strided27-s", ["is_causal=True"]) == {"is_causal": True}
    assert read_options("ampose", ["block=[=]"]) == {"block": "[=]"}
    assert option_words(options) == ["--option", *words] and option_words({}) == []


@pytest.mark.parametrize("words, error, message", [
    (["depth"], ValueError, "--option 'depth': wanted NAME=VALUE"),
    (["depth=2", "heads=4", "depth=3"], ValueError, "'depth' is given twice"),
    (["width=3"], ValueError,
     "model 'ampose' has no option 'width'; it has depth, channels, heads, block, order, groups"),
    (["frames=9"], ValueError, "has no option 'frames'"), (["skeleton=h36m17"], ValueError, "has no option 'skeleton'"),
    (["channels=many"], TypeError, "option 'channels' of model 'ampose' is 'many'; wanted a whole number"),
    (["block=null"], TypeError, "is None; wanted text"), (["depth=" + 5000 * "9"], TypeError, "wanted a whole number"),
    (["depth=" + 99999 * "["], TypeError, "wanted a whole number"),
    (["depth=NaN"], TypeError, "is nan; wanted a whole number")])
def test_an_option_that_the_model_does_not_have_is_refused(words, error, message):
    with pytest.raises(error, match=message):
        read_options("ampose", words)
