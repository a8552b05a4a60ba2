"""What holds for every test."""

from hypothesis import settings

# A machine that does something else for a moment is no reason for a property test to fail.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
