"""The decision: websearch > subagent > image > long_context > think > background > default.

Each rule is a function that answers with the model it chooses, or None, and why. The first
rule that chooses wins; the trail keeps every answer.
"""

from collections.abc import Callable, Mapping
from functools import cached_property

from msgspec import Struct

from gateway.routing import signals, tags
from gateway.routing.names import Found, Names, is_alias, is_claude, names_of, shown, split_1m
from gateway.routing.patterns import MAX_NAME, InvalidPattern, check, matches
from gateway.routing.profiles import AUTO_MAP_REGEX, BACKGROUND_REGEX, merge_profiles
from gateway.routing.types import Decision, NoModels, Route, Rule, Signals, UnknownModel
from providers.calibration import scaled
from providers.types import Catalogue, Model, Profile
from providers.wire.request import MessagesRequest

Outcome = tuple[Found | None, str]
MOST_CHOICES = 2048
"""Of one catalogue that are remembered."""


class Choice(Struct, frozen=True):
    """The route and model that the rules choose, and their trail."""

    route: Route
    found: Found
    trail: tuple[Rule, ...]
    warnings: tuple[str, ...]


def route(
    request: MessagesRequest,
    *,
    headers: Mapping[str, str],
    profile: Profile,
    catalogue: Catalogue,
    tokens: int,
    counted: bool = False,
) -> Decision:
    """Decide which model serves `request`.

    `headers` have lower-case names; `profile` comes from `profile_for`; `tokens` is the request's
    input as measured here, `counted` or else estimated: each model has its own factor for either.
    Raises UnknownModel for a name that stands for nothing,
    NoModels for a catalogue without a servable model, InvalidRequest for a malformed field."""
    sender = signals.sender_of(request, headers)
    tag, edited = tags.take_tags(request, is_subagent=sender.is_subagent)
    found = signals.signals_of(edited, sender, tag, look_for_plan_mode=bool(profile.think))
    choice = choose(found, asked=request.model, tokens=tokens, counted=counted, profile=profile, catalogue=catalogue)
    _, wants_1m = split_1m(request.model)
    model = choice.found.model
    warnings = choice.warnings if model.vision or not found.image else (*choice.warnings, blind(model))
    return Decision(
        route=choice.route,
        model=model,
        requested=request.model,
        request=edited,
        provider=choice.found.provider,
        signals=found,
        wants_1m=wants_1m or "context-1m" in headers.get("anthropic-beta", ""),
        trail=choice.trail,
        warnings=warnings,
        session_id=sender.session_id,
        agent_id=sender.agent_id,
        parent_agent_id=sender.parent_agent_id,
        request_class=sender.request_class,
    )


def blind(model: Model) -> str:
    return f"The model {shown(model.name)} cannot see images: it gets a note in their place. Set an image route."


def choose(
    found: Signals,
    *,
    asked: str,
    tokens: int,
    profile: Profile,
    catalogue: Catalogue,
    counted: bool | None = None,
) -> Choice:
    """What the rules choose for a request with these signals, which asks for the model `asked`. `counted`
    is as for `route`; None: `tokens` were reported by a provider, and hold for every model.

    Raises UnknownModel and NoModels as `route` does."""
    names = names_of(catalogue)
    if not names.models:
        raise NoModels
    key = (found, asked, profile)
    # Only the long_context rule looks at the tokens; what else there is to see, a session's requests have in common.
    is_remembered = not profile.long_context and len(asked) <= MAX_NAME
    if is_remembered and (known := names.choices.get(key)) is not None:
        return known
    case = _Case(found, asked, tokens, merge_profiles(profile), names, counted=counted)
    chosen, model = _apply(case)
    choice = Choice(chosen, model, tuple(case.trail), tuple(dict.fromkeys(case.warnings)))
    if is_remembered:
        if len(names.choices) >= MOST_CHOICES:
            names.choices.clear()
        names.choices[key] = choice
    return choice


class _Case:
    """One request on its way through the rules."""

    def __init__(
        self, found: Signals, asked: str, tokens: int, profile: Profile, names: Names, *, counted: bool | None
    ) -> None:
        self.signals = found
        self.profile = profile
        self.names = names
        self._tokens = tokens
        self._counted = counted
        self.trail: list[Rule] = []
        self.warnings: list[str] = []
        self.name, _ = split_1m(asked)
        self.is_explicit = False
        self.base = self._base()

    def tokens_for(self, model: Model) -> int:
        """The request's input in tokens of `model`."""
        if self._counted is None:
            return self._tokens
        factors = model.token_factors
        return scaled(self._tokens, factors.counted if self._counted else factors.estimated)

    def target(self, route: Route) -> Outcome:
        """The model of a route in the profile, or why there is none."""
        name: str = getattr(self.profile, route) or ""
        if not name.strip():
            return None, f"No {route} route is set."
        found = self.names.find(name)
        if found is None:
            self.warnings.append(f"The {route} route's model {shown(name)} is not available; the route is skipped.")
            return None, f"The {route} route's model {shown(name)} is not available."
        return found, ""

    def matches(self, field: str, pattern: str, default: str) -> bool:
        """Whether the tenant's pattern for model names matches what the client asked for."""
        try:
            check(pattern)
        except InvalidPattern as error:
            self.warnings.append(f"{field} {error}; the default {default} is used.")
            pattern = default
        return matches(pattern, self.name[:MAX_NAME])

    @cached_property
    def is_background_name(self) -> bool:
        return self.matches("background_regex", self.profile.background_regex or "", BACKGROUND_REGEX)

    def _base(self) -> Found:
        """The model when no other route applies: the client's own, or what stands in for it (auto-map)."""
        named = self.names.find(self.name)
        if named is not None and is_alias(self.name):
            return self._explicit(named, f"{shown(self.name)} is the listed id of {shown(named.model.name)}.")
        if self.matches("auto_map_regex", self.profile.auto_map_regex or "", AUTO_MAP_REGEX):
            return self._mapped(named)
        if named is not None:
            return self._explicit(named, f"{shown(self.name)} is outside auto_map_regex: the client named its model.")
        if is_claude(self.name):
            return self._stand_in(self.names.of_tier(self.name) or self.target("default")[0] or self.names.any())
        if self.is_background_name and (background := self.target("background")[0]):
            return self._stand_in(background)
        raise UnknownModel(self.name)

    def _mapped(self, named: Found | None) -> Found:
        default, why_not = self.target("default")
        if default is not None:
            text = f"{shown(self.name)} matches auto_map_regex: the default route's model stands in for it."
            self.trail.append(Rule("auto_map", True, text))
            return default
        found = named or self.names.of_tier(self.name)
        if found is None and not is_claude(self.name):
            raise UnknownModel(self.name)
        return self._stand_in(found or self.names.any(), why_not)

    def _explicit(self, found: Found, why: str) -> Found:
        self.is_explicit = True
        self.trail.append(Rule("auto_map", False, why))
        return found

    def _stand_in(self, found: Found, why: str = "") -> Found:
        text = f"{why} {shown(found.model.name)} serves {shown(self.name)}.".strip()
        self.trail.append(Rule("auto_map", True, text))
        return found


def _apply(case: _Case) -> tuple[Route, Found]:
    winner: tuple[Route, Found] | None = None
    for name, route_name, rule in _RULES:
        if winner is not None:
            case.trail.append(Rule(name, False, f"Not asked: the {winner[0]} route was chosen before."))
            continue
        found, why = rule(case)
        case.trail.append(Rule(name, found is not None, why))
        if found is not None:
            winner = (route_name, found)
    last: Route = "explicit" if case.is_explicit else "default"
    if winner is not None:
        case.trail.append(Rule(last, False, f"Not asked: the {winner[0]} route was chosen before."))
        return winner
    case.trail.append(Rule(last, True, f"No other route applies: {shown(case.base.model.name)} serves."))
    return last, case.base


def _safety(case: _Case) -> Outcome:
    if not case.signals.classifier:
        return None, "This is not the client's safety classifier."
    found, _ = case.target("safety")
    if found is not None:
        return found, "The client's safety classifier asks."
    # It has 64 tokens for its verdict: a reasoning model would use them up, a cheap one may err.
    return case.base, "The client's safety classifier asks; without a safety route the default model serves it."


def _websearch(case: _Case) -> Outcome:
    found, why_not = case.target("websearch")
    if found is None:
        return None, why_not
    if not case.signals.web_search:
        return None, "No tool is a web search (a type that begins with web_search)."
    return found, "A tool is a web search."


def _subagent(case: _Case) -> Outcome:
    tag = case.signals.tag
    if tag is not None:
        found = case.names.find(tag) or case.names.of_tier(tag)
        if found is not None:
            return found, f"A subagent tag names {shown(tag)}."
        case.warnings.append(f"The subagent tag's model {shown(tag)} is not available; the tag is ignored.")
    without = "No subagent tag was found" if tag is None else f"The tag's model {shown(tag)} is not available"
    if not case.signals.subagent:
        return None, f"{without}, and the request is not a subagent's."
    found, why_not = case.target("subagent")
    if found is None:
        return None, f"{without}. {why_not}"
    return found, "The request is a subagent's."


def _image(case: _Case) -> Outcome:
    found, why_not = case.target("image")
    if found is None:
        return None, why_not
    if not case.signals.image:
        return None, "The newest user turn holds no image."
    return found, "The newest user turn holds an image."


def _long_context(case: _Case) -> Outcome:
    found, why_not = case.target("long_context")
    if found is None:
        return None, why_not
    threshold = case.profile.long_context_threshold or 0
    chosen = next((other for _, _, rule in _LATER if (other := rule(case)[0])), case.base).model
    tokens = case.tokens_for(chosen)
    if tokens > threshold:
        return found, f"The input is longer than the threshold of {threshold} tokens."
    if _holds(chosen.context_window, tokens) or not _holds(found.model.context_window, case.tokens_for(found.model)):
        return None, f"The input is within the threshold of {threshold} tokens."
    return found, f"The input does not fit the {chosen.context_window} tokens of {shown(chosen.name)}."


def _holds(context_window: int | None, tokens: int) -> bool:
    return context_window is None or tokens <= context_window


def _pin(case: _Case) -> Outcome:
    if not case.profile.pin_explicit_model:
        return None, "pin_explicit_model is off."
    if not case.is_explicit:
        return None, "The client did not name a model outside auto_map_regex."
    return case.base, f"The client named {shown(case.name)}, and pin_explicit_model is on."


def _think(case: _Case) -> Outcome:
    found, why_not = case.target("think")
    if found is None:
        return None, why_not
    if case.signals.thinking == "enabled":
        return found, "Thinking is enabled."
    if case.signals.thinking == "disabled":
        return None, "Thinking is disabled."
    # Helpers inherit the session's effort and agent type, though nobody wants them to think.
    if case.signals.helper or (case.signals.request_class == "auxiliary" and not case.signals.main_shaped):
        return None, "The request is one of the client's helpers."
    effort = case.signals.effort
    if effort is not None and effort in (case.profile.think_efforts or ()):
        return found, f"The effort is {shown(effort)}."
    if case.signals.plan_agent:
        return found, "A Plan agent asks."
    if case.profile.think_in_plan_mode and case.signals.plan_mode:
        return found, "The client is in plan mode."
    return None, "Nothing asks for thinking: not its type, effort, agent type or plan mode."


def _background(case: _Case) -> Outcome:
    found, why_not = case.target("background")
    if found is None:
        return None, why_not
    if case.is_background_name:
        return found, f"{shown(case.name)} matches background_regex."
    if case.signals.helper:
        return found, f"The request is the client's {case.signals.helper} helper."
    if case.signals.request_class != "auxiliary":
        return None, f"{shown(case.name)} does not match background_regex, and no helper asks."
    # Side questions and prompt suggestions carry the whole conversation: another model would
    # read it at full price where the main model has it cached, and may not have the window.
    if case.signals.main_shaped:
        return None, "The auxiliary request carries the conversation: it stays with the main loop's model."
    # A search must reach a model that can search; counts and probes are about the model they name.
    if case.signals.web_search or case.signals.little:
        return None, "The auxiliary request is a web search, a token count or a probe."
    return found, "The client's request class is auxiliary."


_LATER: tuple[tuple[str, Route, Callable[[_Case], Outcome]], ...] = (
    ("pin_explicit_model", "explicit", _pin),
    ("think", "think", _think),
    ("background", "background", _background),
)
_RULES: tuple[tuple[str, Route, Callable[[_Case], Outcome]], ...] = (
    ("safety", "safety", _safety),
    ("websearch", "websearch", _websearch),
    ("subagent", "subagent", _subagent),
    ("image", "image", _image),
    ("long_context", "long_context", _long_context),
    *_LATER,
)
