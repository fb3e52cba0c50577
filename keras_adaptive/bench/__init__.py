"""`python -m keras_adaptive bench`: how fast updates are on this device, and how fast they could be."""
