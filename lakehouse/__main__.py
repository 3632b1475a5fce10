"""``python -m lakehouse``: the command line where its script is not on the path."""

from lakehouse.cli import main

if __name__ == "__main__":
    main()
