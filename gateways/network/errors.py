"""The ways a network gateway can fail. What is wanted of a line is set again later, whatever it
was; what was asked of a router is not."""


class NetworkError(Exception):
    """Base of everything a network gateway raises; the text says what was wrong."""


class GatewayTimeout(NetworkError):
    """No answer or an unclear one: the line or the router may have been changed or not."""


class GatewayRefused(NetworkError):
    """The network does not do it as things stand, and has changed nothing."""


class GatewayAway(GatewayRefused):
    """What would tell the routers cannot be reached or used; nothing has changed."""


class NoEquipment(GatewayRefused):
    """No router is known at the end of the line."""


class SeveralEquipment(GatewayRefused):
    """More than one router is known as that of the line; none of them is touched."""
