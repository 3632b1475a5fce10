"""Histories of changing code longer and more than those of the suite, others each time, with processes killed on the way."""

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import rule

from tests.changing_code import fill_and_kill
from tests.test_never_mixes import COLUMNS, NeverMixes

pytestmark = pytest.mark.soak


class AndKilled(NeverMixes):
    """With a rule more: a process fills with the declared code, and is killed."""

    @rule(column=st.sampled_from(COLUMNS), at_call=st.integers(1, 18))
    def fill_and_kill(self, column, at_call):
        if self.code.same_for(column, self.declared[column]):
            fill_and_kill(self.folder, self.folder / "lake", column, at_call)


TestAndKilled = AndKilled.TestCase
TestAndKilled.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
