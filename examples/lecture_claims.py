"""The lecture's claims by their number."""

from lecture_data import RareWords, TextAndControl
from lecture_images import Images
from lecture_steps import LearningRates, Smoothness, VanishingSteps

CLAIMS = dict(
    enumerate([LearningRates(), RareWords(), VanishingSteps(), Smoothness(), TextAndControl(), Images()], start=1)
)
