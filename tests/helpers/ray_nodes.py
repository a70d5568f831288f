"""A Ray cluster on this machine that starts however busy it is."""

from __future__ import annotations

import inspect
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import medzoo

MEMORY = 80 * 1024**2  # the least that an object store can have
ROOT = Path(medzoo.__file__).parents[2]
_PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")


def add_node(cluster: Any, **given: Any) -> Any:
    """Add a node with one CPU."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in _PORTS]
        for each in sockets:
            each.bind(("", 0))
        ports = dict(zip(_PORTS, [each.getsockname()[1] for each in sockets], strict=True))
    return cluster.add_node(num_cpus=1, object_store_memory=MEMORY, include_dashboard=False, **ports, **given)


@contextmanager
def ray_cluster(*, nodes: int) -> Iterator[Any]:
    """Yield a cluster of nodes with one CPU each, which run the medzoo that is tested."""
    from ray._private import services
    from ray._raylet import persist_port
    from ray.cluster_utils import Cluster

    get_node, start_raylet = services.get_node, services.start_raylet

    def get_node_in_time(*given: Any) -> Any:
        """Wait for a node longer than the 30 seconds that Ray waits."""
        until = time.monotonic() + 240
        while True:
            try:
                return get_node(*given)
            except RuntimeError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def start_with_ports(*given: Any, **named: Any) -> Any:
        """Say before what the node's agents say when they have started, for which Ray waits 15 seconds."""
        stated = inspect.signature(start_raylet).bind(*given, **named).arguments
        for name in _PORTS:
            persist_port(stated["session_dir"], stated["node_id"], name, stated[name])
        return start_raylet(*given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "get_node", get_node_in_time)
        patch.setattr(services, "start_raylet", start_with_ports)
        # As nodes inherit it, wherever another medzoo is installed.
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "core"), str(ROOT / "plugins")]))
        cluster = Cluster()
        add_node(cluster, _system_config={"health_check_period_ms": 1000, "health_check_failure_threshold": 8})
        for _ in range(nodes - 1):
            add_node(cluster)
        try:
            yield cluster
        finally:
            cluster.shutdown()
