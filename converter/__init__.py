"""From a trained network to int8 TFLite, a memory plan, a verdict and C++."""
