"""Longer histories of ours and of others on one table, and others each time."""

import pytest
from hypothesis import HealthCheck, settings

from tests.test_features_audit import Everybody

pytestmark = pytest.mark.soak

TestEverybodyForLong = Everybody.TestCase
TestEverybodyForLong.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
