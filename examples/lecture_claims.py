"""The lecture's claims by their number."""

from lecture_data import LargeBatch, RareWords, TextAndControl
from lecture_steps import LearningRates, Smoothness, VanishingSteps

CLAIMS = dict(
    enumerate([LearningRates(), RareWords(), VanishingSteps(), Smoothness(), TextAndControl(), LargeBatch()], start=1)
)
