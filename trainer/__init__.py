"""Training: model zoo, methods, data, the loop."""
