import pytest

from edgepose.training.runs import option_words, read_options


def test_options_are_json_or_text():
    words = ["is_causal=true", "channels=16", "dropout=0.1", "attention=dense"]
    options = read_options("strided27-s", words)
    assert options == {"is_causal": True, "channels": 16, "dropout": 0.1, "attention": "dense"}
    assert read_options("strided27-s", ["is_causal=True"]) == {"is_causal": True} and read_options("ampose", ["block=[=]"]) == {"block": "[=]"}
    assert option_words(options) == ["--option", *words] and option_words({}) == []


@pytest.mark.parametrize("words, error, message", [
    (["depth"], ValueError, "--option 'depth': wanted NAME=VALUE"), (["depth=2", "heads=4", "depth=3"], ValueError, "'depth' is given twice"),
    (["width=3"], ValueError, "model 'ampose' has no option 'width'; it has depth, channels, heads, block, order, groups"),
    (["frames=9"], ValueError, "has no option 'frames'"), (["skeleton=h36m17"], ValueError, "has no option 'skeleton'"),
    (["channels=many"], TypeError, "option 'channels' of model 'ampose' is 'many'; wanted a whole number"),
    (["block=null"], TypeError, "is None; wanted text"), (["depth=" + 5000 * "9"], TypeError, "wanted a whole number"),
    (["depth=" + 99999 * "["], TypeError, "wanted a whole number"), (["depth=NaN"], TypeError, "is nan; wanted a whole number")])
def test_an_option_that_the_model_does_not_have_is_refused(words, error, message):
    with pytest.raises(error, match=message):
        read_options("ampose", words)
