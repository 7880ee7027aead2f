"""What routing hands to the pipeline: the decision, its trail, and the two refusals."""

from typing import Literal

import msgspec

from providers.types import Model
from providers.wire.request import MessagesRequest

Route = Literal[
    "default", "think", "websearch", "image", "long_context", "background", "subagent", "safety", "explicit"
]
RequestClass = Literal["main", "subagent", "workflow", "compaction", "auxiliary", ""]


class UnknownModel(Exception):
    """The client named a model that the catalogue does not have. `requested` is the name as sent."""

    def __init__(self, requested: str) -> None:
        shown = requested if len(requested) <= 100 else f"{requested[:100]}…"
        super().__init__(f"The model {shown!r} is not available here: GET /v1/models lists the models.")
        self.requested = requested


class NoModels(Exception):
    """The catalogue holds no model that any provider can serve: an operator has to add one."""

    def __init__(self) -> None:
        super().__init__("No model is available at the moment. Please try again later.")


class Rule(msgspec.Struct, frozen=True):
    """One line of the trail: a rule, whether it matched, and why (a sentence for people)."""

    rule: str
    matched: bool
    why: str


class Signals(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a request says about itself, as far as the choice of its route depends on it; its model's
    name and its tokens, which differ from request to request, stand beside it.

    `plan_mode` is None when nobody looked: with no think route it does not matter, and to look is dear.
    `little`: at most one token is wanted (a count or a probe). `effort` and `tag` are the client's words."""

    web_search: bool = False
    image: bool = False
    tag: str | None = None
    subagent: bool = False
    classifier: bool = False
    helper: str = ""
    request_class: RequestClass = ""
    main_shaped: bool = False
    thinking: str | None = None
    effort: str | None = None
    plan_agent: bool = False
    plan_mode: bool | None = False
    little: bool = False


NO_SIGNALS = Signals()


class Decision(msgspec.Struct, frozen=True):
    """Which model serves a request, and why.

    `provider`: set when the client named a provider with the model; then only that
    provider's targets may serve. `request` is the request as it goes on (routing tags
    removed); its `model` field is still the client's. `request_class` is what the client's
    header says, else what the request's shape says, else "". `origin` says whose profile set
    the route, "" when none did.
    """

    route: Route
    model: Model
    requested: str
    request: MessagesRequest
    provider: str | None = None
    signals: Signals = NO_SIGNALS
    origin: str = ""
    wants_1m: bool = False
    trail: tuple[Rule, ...] = ()
    warnings: tuple[str, ...] = ()
    session_id: str = ""
    agent_id: str = ""
    parent_agent_id: str = ""
    request_class: RequestClass = ""
