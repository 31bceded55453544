"""What every Python package here may use: the error tree and atomic files. Imports nothing of ours."""
