"""The project's figures beside other runtimes', and what makes them anew."""
