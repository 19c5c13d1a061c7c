"""What the tests have in common."""

pytest_plugins = ["pytester"]
