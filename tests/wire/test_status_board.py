"""Status is read from plans, and told when there is one for what is wanted."""

import asyncio

from meshserve.controller.status_board import StatusBoard
from meshserve.core.plan import Plan
from meshserve.core.seen import Seen
from meshserve.model.control import Desired


def plan_of(generation: int) -> Plan:
    return Plan(Desired(generation=generation), Seen(epoch=1))


async def test_who_asks_a_controller_that_has_just_come_back_waits_for_its_first_plan():
    board = StatusBoard(plan_of(7))
    asked = asyncio.ensure_future(board.reached(7))
    await asyncio.sleep(0)
    assert not asked.done(), "it was told of applications without their deployments"
    first = plan_of(7)
    board.show(first)
    assert await asked is first


async def test_who_asks_waits_for_a_plan_of_what_is_wanted():
    board = StatusBoard(plan_of(1))
    board.show(plan_of(1))
    asked = asyncio.ensure_future(board.reached(2))
    await asyncio.sleep(0)
    assert not asked.done()
    later = plan_of(3)
    board.show(later)
    assert await asked is later
