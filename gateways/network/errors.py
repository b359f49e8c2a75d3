"""The ways a network gateway can fail. Whatever it was, what is wanted is set again later."""


class NetworkError(Exception):
    """Base of everything a network gateway raises; the text says what was wrong."""


class GatewayTimeout(NetworkError):
    """No answer or an unclear one: the line may have been changed or not."""


class GatewayRefused(NetworkError):
    """The network does not do it as things stand, and has changed nothing."""
