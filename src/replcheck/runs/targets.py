"""The nodes that a configuration names, as something to connect to."""

from typing import TYPE_CHECKING

from replcheck.errors import ConfigurationError
from replcheck.model.node import NodeTarget
from replcheck.postgres import dsn

if TYPE_CHECKING:
    from replcheck.config.model import Configuration


def configured_targets(configuration: "Configuration | None") -> tuple[NodeTarget, ...]:
    """Return the nodes of a configuration, none where there is no configuration; raise ConfigurationError."""
    if configuration is None:
        return ()
    common = dsn.parse(configuration.connect, origin="configuration key connect", failure=ConfigurationError)
    targets = []
    for name, node in configuration.nodes.items():
        own = dsn.parse(node.dsn, origin=f"configuration key nodes.{name}.dsn", failure=ConfigurationError)
        targets.append(NodeTarget(name=name, dsn=dsn.inherit(own, common), zone=node.zone))
    return tuple(targets)
