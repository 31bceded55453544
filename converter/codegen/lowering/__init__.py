"""The lowering of each kind of operator to kernels."""
