"""The ways a switch can fail. Whatever it was, what is wanted is set again later."""


class VoiceError(Exception):
    """Base of everything a voice gateway raises; the text says what was wrong."""


class GatewayTimeout(VoiceError):
    """No answer or an unclear one: the number may have been changed or not."""


class GatewayRefused(VoiceError):
    """The switch does not do it as things stand, and has changed nothing."""
