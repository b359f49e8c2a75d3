"""The ways a payment gateway can fail.

Only `GatewayRefused` says that this call will have no effect. Whoever catches `GatewayTimeout` does
not know the outcome and has to ask the gateway later.
"""

KEY_REUSED = "key reused"
"""The code of a refusal because the gateway knows the key with other content."""


class GatewayError(Exception):
    """Base of everything a payment gateway raises."""


class GatewayTimeout(GatewayError):
    """No answer or an unclear one: what happened is unknown until the gateway is asked again.

    `was_sent` is False when this call certainly did not reach the gateway. That says nothing about
    an earlier call with the same key.
    """

    def __init__(self, detail: str, *, was_sent: bool = True) -> None:
        super().__init__(detail)
        self.detail = detail
        self.was_sent = was_sent


class GatewayRefused(GatewayError):
    """A definite no: this call had no effect and repeating it will not change that.

    `code` is one word from the gateway's fixed list, for a translated text; `customer_message` is
    English and safe to show.
    """

    def __init__(self, code: str, customer_message: str) -> None:
        super().__init__(f"{code}: {customer_message}")
        self.code = code
        self.customer_message = customer_message


class GatewayUnknownKey(GatewayError):
    """The gateway has never seen this key.

    A start that is still on its way can arrive after this answer, so it is final only once the
    start's own time limit has passed.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"the gateway has never seen the key {key!r}")
        self.key = key


class NoticeRejected(GatewayError):
    """A notice that is not believed; nothing may be written because of it.

    `reason` is one of: too large, no signature, bad signature, too old, in the future, unreadable.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
