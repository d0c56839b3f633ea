"""Losses: one number a row, with its slope and curvature in the raw prediction z."""

from __future__ import annotations

from hpcml.algorithms.losses.base import Loss, Terms
from hpcml.algorithms.losses.distance import Huber, JointHuber, Squared
from hpcml.algorithms.losses.log_link import Gamma, Poisson, Tweedie
from hpcml.algorithms.losses.two_classes import Logistic, SquaredHinge

__all__ = [
    "Gamma",
    "Huber",
    "JointHuber",
    "Logistic",
    "Loss",
    "Poisson",
    "Squared",
    "SquaredHinge",
    "Terms",
    "Tweedie",
]
