"""Run the command line as a module: ``python -m labelmend``, as torchrun does."""

from labelmend.cli import main

if __name__ == "__main__":
    main()
