"""Every example in a docstring holds."""

import doctest
import importlib
import pkgutil

import pytest

import replcheck

MODULES = [
    module.name
    for module in pkgutil.walk_packages(replcheck.__path__, "replcheck.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_hold(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_examples_are_found_at_all():
    assert doctest.testmod(importlib.import_module("replcheck.model.units")).attempted == 8
