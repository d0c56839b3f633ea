"""Which kernels run, and that whoever asks for what is not there is told."""

from __future__ import annotations

import sys

import pytest
from algorithms.kernels.cases import COMPILED, NAMES

from hpcml.algorithms.arithmetic import arithmetic_family
from hpcml.algorithms.kernels import choice
from hpcml.errors import SpecError


def test_the_best_is_taken(monkeypatch):
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    assert choice.chosen() == NAMES[0]
    monkeypatch.setenv(choice.VARIABLE, "auto")
    assert choice.chosen() == NAMES[0]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_forced_and_named(monkeypatch, name):
    monkeypatch.setenv(choice.VARIABLE, name)
    assert choice.chosen() == name
    kind = "numpy" if name == "numpy" else "compiled"
    assert arithmetic_family().startswith(f"{kind} kernels; ")


def test_what_is_not_there(monkeypatch):
    monkeypatch.setenv(choice.VARIABLE, "abacus")
    with pytest.raises(SpecError, match=r"HPCML_KERNELS=abacus is not there: this build has .*numpy"):
        arithmetic_family()


def test_without_the_extension(monkeypatch):
    monkeypatch.setitem(sys.modules, "hpcml.algorithms.kernels._compiled", None)
    monkeypatch.delattr("hpcml.algorithms.kernels._compiled", raising=False)
    choice.compiled.cache_clear()
    try:
        assert choice.available() == ("numpy",)
    finally:
        monkeypatch.undo()
        choice.compiled.cache_clear()
    assert choice.available() == NAMES


def test_this_build_has_what_the_machine_can_do():
    """An install that silently lost its compiler would pass every other test."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        words = set(file.read().split())
    if "fma" in words and "avx2" in words:
        assert "avx2" in COMPILED
    if {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= words:
        assert "avx512" in COMPILED
