"""Gigabytes of real files with real defects; run by `make soak`, in a small form by the suite."""

import json
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import lakehouse as lh
from tests.broken_files import break_file, ways_to_break
