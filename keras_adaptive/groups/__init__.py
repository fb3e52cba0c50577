"""Which variable gets which hyperparameters, and how a model's variables are grouped."""
