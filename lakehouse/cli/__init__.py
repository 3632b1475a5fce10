"""The command ``lakehouse``: each verb parses, makes one call of the library and prints.

Results go to standard output, bars and errors to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage,
3 the schema file and the table differ (``schema plan``), 130 stopped by Ctrl-C.
"""

from lakehouse.cli.app import main

__all__ = ["main"]
