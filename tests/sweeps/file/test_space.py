import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.sweeps.file import Dimension, Point, Space, draw
from raydistill.sweeps.file.points import Generator
from raydistill.sweeps.file.reading import read_space
from raydistill.sweeps.file.space import among, combinations, dependency_order, parents_values, value_key


def read(raw: Any) -> Space:
    problems: list[str] = []
    space = read_space(raw, problems)
    assert problems == []
    return space


def problems_of(raw: Any) -> list[str]:
    problems: list[str] = []
    read_space(raw, problems)
    return problems


@dataclass
class Scripted:
    """Chooses the last value and the highest number, and keeps what it was asked."""

    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def choice(self, name, values):
        self.asked.append((name, *values))
        return values[-1]

    def uniform(self, name, low, high, log):
        self.asked.append((name, low, high, log))
        return high

    def integer(self, name, low, high):
        self.asked.append((name, low, high))
        return high


CHAIN = {
    "c": {"grid": [1, 2], "when": {"b": [True]}},
    "a": {"grid": ["x", "y"]},
    "b": {"choice": [True, False], "when": {"a": "y"}},
}


# ------------------------------------------------------------------------------------------------------------- the form
@pytest.mark.parametrize(
    ("written", "said"),
    [
        ([1, 2], "must be a mapping such as"),
        ({}, "must hold one of choice, grid, uniform, loguniform, int, got none of them"),
        ({"grid": [1], "choice": [1]}, "must hold one of choice, grid, uniform, loguniform, int, got grid and choice"),
        ({"gird": [1]}, "must hold one of choice, grid, uniform, loguniform, int, and perhaps when, got gird"),
        (
            {"grid": [1], "step": 2},
            "must hold one of choice, grid, uniform, loguniform, int, and perhaps when, got step",
        ),
        ({"grid": []}, "grid must be a list of at least one value"),
        ({"choice": 3}, "choice must be a list of at least one value"),
        ({"grid": [1, 2, 1.0]}, "grid must not hold a value twice, got 1.0 again"),
        ({"choice": [[1], [1]]}, "choice must not hold a value twice, got [1] again"),
        ({"uniform": [1]}, "uniform must be [low, high], two numbers"),
        ({"uniform": [False, True]}, "uniform must be [low, high], two numbers"),
        ({"uniform": [0, float("inf")]}, "uniform must be [low, high], two numbers"),
        ({"uniform": [2, 2]}, "uniform must be [low, high] with low < high"),
        ({"loguniform": [0, 2]}, "loguniform must lie above 0"),
        ({"int": [1, 2.5]}, "int must be [low, high], two whole numbers"),
        ({"int": [3, 1]}, "int must be [low, high] with low < high"),
        ({"grid": [1], "when": "x"}, "when must be a mapping"),
        ({"grid": [1], "when": {}}, "when must be a mapping"),
    ],
)
def test_that_a_dimension_of_another_form_is_an_error(written, said):
    (problem,) = problems_of({"some.thing": written})
    assert problem.startswith(f"space.some.thing: {said}")


@pytest.mark.parametrize("space", [[], 3, "x"])
def test_that_a_space_of_another_kind_is_an_error(space):
    assert problems_of(space) == [f"space: must hold settings to search, or be left out, got {space!r}"]


@pytest.mark.parametrize("space", [None, {}])
def test_that_a_space_may_hold_nothing(space):
    assert problems_of(space) == []


@pytest.mark.parametrize("name", ["a b", "", "a..b", ".a", 3])
def test_that_a_name_is_dotted_words(name):
    assert problems_of({name: {"grid": [1]}}) == [f"space.{name}: must be the dotted name of a setting"]


def test_that_a_setting_is_not_searched_beside_its_section():
    one = {"grid": [1]}
    assert problems_of({"decay.rate": one, "decay": one, "decaying": one}) == [
        "space.decay.rate: cannot be searched beside decay, which it is a part of"
    ]


def test_that_values_equal_in_python_only_are_different():
    assert read({"a": {"grid": [1, True, "1", None, 0, False]}})["a"].values == (1, True, "1", None, 0, False)
    assert among(1.0, [1])
    assert not among(True, [1])
    assert value_key({"a": 1, "b": [2.0]}) == value_key({"b": [2], "a": 1.0})


# ----------------------------------------------------------------------------------------------------------- conditions
@pytest.mark.parametrize(
    ("when", "said"),
    [
        ({"d": 1}, "when.d: must be searched too"),
        ({"range": 1}, "when.range: must have listed values (choice or grid), got uniform"),
        ({"a": "z"}, "when.a: must be among the values of a, x, y, got z"),
        ({"a": ["x", "z"]}, "when.a: must be among the values of a, x, y, got z"),
        ({"a": []}, "when.a: must name at least one value, got []"),
    ],
)
def test_that_a_condition_that_cannot_hold_is_an_error(when, said):
    space = {"a": {"grid": ["x", "y"]}, "range": {"uniform": [0, 1]}, "child": {"grid": [1], "when": when}}
    assert problems_of(space) == [f"space.child: {said}"]


def test_that_a_misspelt_parent_names_the_one_that_was_meant():
    space = {"decay.shape": {"grid": [1]}, "decay.rate": {"grid": [1], "when": {"decay.shap": 1}}}
    assert problems_of(space)[0].endswith("did you mean decay.shape?")


def test_that_a_circle_of_conditions_is_an_error():
    space = {"a": {"grid": [1], "when": {"b": 1}}, "b": {"grid": [1], "when": {"a": 1}}, "c": {"grid": [1]}}
    assert problems_of(space) == ["space: conditions must not go round in a circle, got one through a, b"]
    assert problems_of({"a": {"grid": [1], "when": {"a": 1}}})


def test_that_conditions_that_contradict_each_other_are_an_error():
    space = {
        "a": {"grid": ["x", "y"]},
        "b": {"grid": [1], "when": {"a": "x"}},
        "c": {"grid": [1], "when": {"a": "y", "b": 1}},
    }
    assert problems_of(space) == [
        "space.c: can never be active: its conditions and its parents' contradict each other",
    ]


def test_that_a_list_is_one_condition_where_the_parent_has_lists():
    space = read({"a": {"grid": [[1], [1, 2]]}, "b": {"grid": [1], "when": {"a": [1]}}, "c": {"grid": [1]}})
    assert space["b"].when == {"a": ([1],)}
    both = read({"a": {"grid": [[1], [1, 2]]}, "b": {"grid": [1], "when": {"a": [[1], [1, 2]]}}})
    assert both["b"].when == {"a": ([1], [1, 2])}


def test_that_the_values_of_all_ancestors_are_found():
    assert parents_values(read(CHAIN), "c") == {"a": "y", "b": True}
    assert parents_values(read(CHAIN), "a") == {}


# -------------------------------------------------------------------------------------------------------------- drawing
def test_that_parents_are_drawn_first_and_the_point_keeps_the_order_of_the_space():
    chooser = Scripted()
    space = read({**CHAIN, "b": {"choice": [False, True], "when": {"a": "y"}}})
    point = draw(space, chooser)
    assert [name for name, *_ in chooser.asked] == ["a", "b", "c"]
    assert list(point.items()) == [("c", 2), ("a", "y"), ("b", True)]


def test_that_a_child_of_an_inactive_parent_is_not_drawn():
    chooser = Scripted()
    assert draw(read({**CHAIN, "a": {"grid": ["y", "x"]}}), chooser) == {"a": "x"}
    assert len(chooser.asked) == 1


def test_that_every_kind_asks_for_what_it_is():
    chooser = Scripted()
    space = read(
        {"u": {"uniform": [0, 1]}, "l": {"loguniform": [0.1, 10]}, "i": {"int": [1, 4]}, "c": {"grid": [1, "a"]}}
    )
    assert draw(space, chooser) == {"u": 1.0, "l": 10.0, "i": 4, "c": "a"}
    assert chooser.asked == [("u", 0.0, 1.0, False), ("l", 0.1, 10.0, True), ("i", 1, 4), ("c", 1, "a")]


def test_that_a_chooser_gets_scalars_it_can_tell_apart():
    chooser = Scripted()
    space = read(
        {"a": {"grid": [[0.5], {"shape": "step", "factor": 0}]}, "b": {"grid": [1, True]}, "c": {"grid": [None, 2]}}
    )
    assert draw(space, chooser) == {"a": {"shape": "step", "factor": 0}, "b": True, "c": 2}
    for _, *values in chooser.asked:
        assert all(value is None or isinstance(value, str | int | float) for value in values)
        assert len(set(values)) == len(values)


def test_that_the_same_seed_draws_the_same_points():
    space = read({**CHAIN, "u": {"uniform": [0, 1]}, "l": {"loguniform": [0.1, 10]}, "i": {"int": [1, 9]}})

    def drawn(seed: int) -> list[Point]:
        generator = Generator(seed)
        return [draw(space, generator) for _ in range(5)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_that_a_loguniform_range_is_as_often_below_as_above_its_geometric_mean():
    generator = Generator(0)
    values = [generator.uniform("x", 0.01, 100, log=True) for _ in range(2000)]
    assert 900 < sum(value < 1 for value in values) < 1100
    assert 900 < sum(value < 50 for value in (generator.uniform("x", 0, 100, log=False) for _ in range(2000))) < 1100


def test_that_whole_numbers_include_both_ends():
    generator = Generator(0)
    assert {generator.integer("x", 1, 3) for _ in range(50)} == {1, 2, 3}


# --------------------------------------------------------------------------------------------------------- combinations
def test_that_a_grid_varies_its_last_setting_fastest():
    space = read({"a": {"grid": [1, 2]}, "b": {"grid": ["x", "y"]}})
    points = list(combinations(space, {name: dimension.values for name, dimension in space.items()}))
    assert points == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]


@st.composite
def spaces(draw_: Any) -> Space:
    """Draw a space of up to five discrete dimensions, each under conditions on some of the earlier ones, shuffled."""
    space: dict[str, Dimension] = {}
    for number in range(draw_(st.integers(1, 5))):
        values = tuple(range(draw_(st.integers(1, 3))))
        parents = draw_(st.lists(st.sampled_from(sorted(space)), unique=True, max_size=2)) if space else []
        when = {
            parent: tuple(draw_(st.lists(st.sampled_from(space[parent].values), min_size=1, unique=True)))
            for parent in parents
        }
        space[f"s{number}"] = Dimension("grid", values, when)
    return {name: space[name] for name in draw_(st.permutations(sorted(space)))}


def by_hand(space: Space, full: Point) -> Point:
    """Return the active part of a point that has a value for everything: settings go until nothing changes."""
    active = dict(full)
    while True:
        kept = {name: value for name, value in active.items() if space[name].active(active)}
        if kept == active:
            return kept
        active = kept


@settings(max_examples=50, deadline=None, derandomize=True)
@given(spaces())
def test_that_the_combinations_are_those_found_by_hand(space):
    found = list(combinations(space, {name: dimension.values for name, dimension in space.items()}))
    full = (
        dict(zip(space, values, strict=True)) for values in itertools.product(*(space[name].values for name in space))
    )
    expected = {value_key(by_hand(space, point)) for point in full}
    assert {value_key(point) for point in found} == expected
    assert len(found) == len(expected)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(spaces(), st.integers(0, 1000))
def test_that_a_drawn_point_is_one_of_the_combinations_in_the_order_of_the_space(space, seed):
    point = draw(space, Generator(seed))
    assert point in list(combinations(space, {name: dimension.values for name, dimension in space.items()}))
    assert list(point) == [name for name in space if name in point]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(spaces())
def test_that_every_parent_comes_before_its_children(space):
    order = dependency_order(space)
    assert sorted(order) == sorted(space)
    assert all(order.index(parent) < order.index(name) for name in space for parent in space[name].when)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(spaces())
def test_that_the_ancestors_values_make_a_setting_active(space):
    found = list(combinations(space, {name: dimension.values for name, dimension in space.items()}))
    for name, dimension in space.items():
        parents = parents_values(space, name)
        assert (parents is not None) == any(name in point for point in found)
        if parents is not None:
            assert dimension.active(parents)
            assert all(space[parent].active(parents) for parent in parents)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(spaces())
def test_that_a_space_survives_being_written_and_read(space):
    problems: list[str] = []
    assert list(read_space({name: dimension.as_written() for name, dimension in space.items()}, problems)) == list(
        space
    )
    assert all("can never be active" in problem for problem in problems)
