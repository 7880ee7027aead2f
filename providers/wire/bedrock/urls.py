"""Where Bedrock's operations are."""

from urllib.parse import quote

from providers.types import Target
from providers.wire.base import OutboundRequest

EVENT_STREAM = "application/vnd.amazon.eventstream"
USER_AGENT = "ccm"


def outbound(target: Target, model_id: str, action: str, body: bytes, *, streamed: bool) -> OutboundRequest:
    """The POST of `action`. Model ids hold colons, and ARNs slashes: both are escaped, for the signature
    covers the path as it is sent."""
    url = f"{target.base_url.rstrip('/')}/model/{quote(model_id, safe='')}/{action}"
    accept = EVENT_STREAM if streamed else "application/json"
    headers = {"content-type": "application/json", "accept": accept, "user-agent": USER_AGENT}
    return OutboundRequest(url=url, body=body, headers=headers)
