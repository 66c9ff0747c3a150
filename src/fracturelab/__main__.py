"""`python -m fracturelab` is the same as `fracturelab`."""

from .cli import run

if __name__ == "__main__":
    run()
