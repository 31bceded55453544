"""The `tinyboost` command: one file per verb."""
