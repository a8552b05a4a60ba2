"""How each scenario is measured: functions of a running system and of seconds, grouped by the door they use.

Only the standard library is imported here, because the parent process reads the catalogue too.
"""
