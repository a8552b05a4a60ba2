"""Names of processes: found again, and the ones that users are given."""

from meshserve.model.ids import DeploymentId, ReplicaId
from meshserve.model.process_names import replica_name, replica_of


def test_the_full_id_of_a_replica_is_the_name_of_its_actor():
    replica = ReplicaId(DeploymentId("app", "Model"), "r1")
    assert replica.to_full_id_str() == replica_name(replica) == "MESHSERVE_REPLICA::app#Model#r1"
    assert replica_of(replica.to_full_id_str()) == replica
    assert replica_of("somebody else") is None
