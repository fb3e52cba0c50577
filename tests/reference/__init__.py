"""What the optimizers are compared with: NumPy float64 twins, written from the equations, and other libraries."""
