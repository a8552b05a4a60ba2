"""Scripts that a make-believe mesh plays, and the transcript of what its control plane did.

A scenario is a text: a line that begins with `> ` is a command, the lines after it are what was done until it was over.
Times are fixed, nothing is left to chance. Commands:

    apply APP DEPLOYMENT=VERSIONxCOUNT ... [OPTION=VALUE ...]   set an application; each deployment uses the next;
                                                                the option gang is the size of gangs
    scale APP DEPLOYMENT COUNT                                  as the autoscaler does
    delete APP | shutdown
    run SECONDS                                                 let time pass
    kill TAG | leave NODE SECONDS | bad VERSION | restart
    crash COUNT                                                 the controller dies once it has had so many actions of
                                                                a plan performed that has more
"""

from __future__ import annotations

import json
import re

from meshserve.core import actions as ac
from meshserve.core import desire
from meshserve.core.plan import Plan
from meshserve.model.control import ApplicationSpec, CountSource, DeploymentSpec
from meshserve.model.ids import DeploymentId
from meshserve.model.options import DeploymentOptions, GangOptions
from meshserve.model.targets import DeploymentTargets
from sim.laws import check_laws
from sim.steady import SteadyWorld
from sim.world import World

_DEPLOYMENT = re.compile(r"(\w+)=(\w+)x(\d+)")


def play(text: str) -> str:
    """Plays a scenario; returns it with the transcript of this run."""
    player = _Player()
    out: list[str] = []
    for line in text.splitlines():
        if line.startswith(("> ", "#")):
            out.append(line)
        if line.startswith("> "):
            player.lines.clear()
            player.obey(*line[2:].split())
            out.extend(player.lines)
    return "\n".join(out) + "\n"


class _Player:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.world = SteadyWorld(1)
        self.world.after_turn = self._watch
        self._said: dict[str, str] = {}
        self.world.run(0.5)

    def obey(self, verb: str, *words: str) -> None:
        """Carries out one command."""
        world = self.world
        match verb, words:
            case "apply", (app, *rest):
                spec = _application(app, rest)
                world.want(lambda desired: desire.set_applications(desired, [spec], world.now))
            case "scale", (app, name, count):
                deployment = DeploymentId(app, name)
                source = CountSource.AUTOSCALER
                world.want(lambda desired: desire.set_count(desired, deployment, int(count), source))
            case "delete", (app,):
                world.want(lambda desired: desire.delete_applications(desired, [app]))
            case "shutdown", ():
                world.want(desire.shut_down)
            case "run", (seconds,):
                world.run(world.now + float(seconds))
            case "kill", (tag,):
                world.die(next(one for one in world.alive() if one.id.tag == tag))
            case "leave", (node, seconds):
                world.leave(node, float(seconds))
            case "bad", (version,):
                world.bad_versions.add(version)
            case "restart", ():
                world.restart_controller()
            case "crash", (count,):
                world.dies_after = int(count)
            case _:
                raise ValueError(f"no such command: {verb} {' '.join(words)}")

    def _watch(self, world: World, before: Plan, now: Plan) -> None:
        check_laws(world, before, now)
        for targets in now.targets:
            self._say(f"publish {targets.deployment}: {_published(targets)}")
        for action in now.actions:
            if (text := _action(action)) is not None:
                self._say(text)
        for deployment_id, part in now.parts.all.items():
            self._say_new(str(deployment_id), f"{deployment_id} is {part.status.state} / {part.status.trigger}")
        for name, status in now.seen.applications.items():
            self._say_new(name, f"{name} is {status.state}, generation {status.generation}")

    def _say(self, text: str) -> None:
        self.lines.append(f"{self.world.now:9.3f} {text}")

    def _say_new(self, subject: str, text: str) -> None:
        if self._said.get(subject) != text:
            self._said[subject] = text
            self._say(text)


def _application(app: str, words: list[str]) -> ApplicationSpec:
    options = dict(word.split("=", 1) for word in words if not _DEPLOYMENT.fullmatch(word))
    found = [match.groups() for word in words if (match := _DEPLOYMENT.fullmatch(word))]
    ids = [DeploymentId(app, name) for name, _, _ in found]
    values = {name: json.loads(value) for name, value in options.items()}
    if gang_size := values.pop("gang", 0):
        values["gang_scheduling_config"] = GangOptions(gang_size)
    deployments = tuple(
        DeploymentSpec(
            one, version, DeploymentOptions(num_replicas=int(count), **values), uses=tuple(ids[at + 1 : at + 2])
        )
        for at, (one, (_, version, count)) in enumerate(zip(ids, found, strict=True))
    )
    return ApplicationSpec(app, deployments, found[0][0])


def _published(targets: DeploymentTargets) -> str:
    if not targets.exists:
        return "gone"
    tags = " ".join(replica.tag for replica in targets.replicas) or "nobody"
    return f"{tags}, unavailable" if targets.unavailable else tags


def _action(action: ac.Action) -> str | None:
    match action:
        case ac.StartReplica(replica, want, gang):
            where = f" in gang {gang.gang_id}" if gang is not None else ""
            return f"start {replica.tag} of {replica.deployment} {want.spec.code_version}{where}"
        case ac.InitializeReplica(replica, _, _, rank):
            return f"initialize {replica.tag} with rank {rank.rank}"
        case ac.ReconfigureReplica(replica, _, _, _, rank):
            return f"reconfigure {replica.tag} with rank {rank.rank if rank else 'none'}"
        case ac.DrainReplica(replica):
            return f"drain {replica.tag}"
        case ac.KillReplica(replica):
            return f"kill {replica.tag}"
        case ac.RemoveGang(gang):
            return f"remove the placement group of gang {gang.tag}"
        case ac.DescribeReplica(replica):
            return f"describe {replica.tag}"
        case ac.RecordFailure(deployment):
            return f"record that {deployment} was given up"
        case ac.Forget(app):
            return f"forget {app}"
        case ac.ClearStore():
            return "clear the store"
    return None
