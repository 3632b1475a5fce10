"""Histories of the table against the model, ten times as long as those of the suite, and others each time."""

import pytest
from hypothesis import HealthCheck, settings

from tests.test_table_model import TableAndModel

pytestmark = pytest.mark.soak

TestLongHistories = TableAndModel.TestCase
TestLongHistories.settings = settings(
    max_examples=20, stateful_step_count=250, deadline=None, suppress_health_check=list(HealthCheck)
)
