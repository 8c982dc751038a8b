import pytest

from lotto.config import ConfigError, Net, Recipe, nearest


def test_text_is_taken_as_the_number_it_spells():
    assert Recipe(lr="1e-3", steps="50") == Recipe(lr=0.001, steps=50)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("lr", "fast", "lr = 'fast'"),
        ("lr", True, "true or false, but a number belongs here"),
        ("lr", 0, "lr = 0: .*greater than 0 .Peak learning rate."),
        ("lr", float("nan"), "finite"),
        ("steps", "1.5", "steps = '1.5'"),
        ("batch", 1, "batch = 1"),
        ("ops", "color", "is text, but a list belongs here"),
        ("schedule", "linear", "schedule = 'linear'"),
        ("stepz", 3, "'stepz' is not a parameter of Recipe; did you mean 'steps'"),
    ],
)
def test_bad_values_are_named_in_one_line(name, value, said):
    with pytest.raises(ConfigError, match=said) as error:
        Recipe(**{name: value})
    assert "\n" not in str(error.value)


def test_a_copy_is_validated_anew_and_the_original_is_frozen():
    with pytest.raises(ConfigError, match="lr = -1"):
        Recipe().but(lr=-1)
    with pytest.raises(Exception, match="frozen"):
        Recipe().lr = 3


def test_nets_are_known_by_name_or_by_factory():
    assert Net(name="package.module:factory").name == "package.module:factory"
    with pytest.raises(ConfigError, match="name = 'resnet19': not known: use resnet18, .*'package.module:factory'"):
        Net(name="resnet19")


def test_the_nearest_name_or_all_of_them():
    assert nearest("stps", ["steps", "lr"]) == "did you mean 'steps'?"
    assert nearest("zzz", ["steps", "lr"]) == "known: steps, lr."
