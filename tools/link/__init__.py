"""The framed serial link to the harness."""
