"""What Google refuses in a generateContent request."""

import re
from typing import Any

from tests.fakes.rules import Refused, require

KEYS = {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "safetySettings", "cachedContent"}
GENERATION_KEYS = {
    "maxOutputTokens", "stopSequences", "temperature", "topP", "topK", "responseMimeType", "responseJsonSchema",
    "responseSchema", "thinkingConfig", "candidateCount", "seed",
}  # fmt: skip
DATA = {"text", "inlineData", "fileData", "functionCall", "functionResponse", "toolCall", "toolResponse"}
PART_KEYS = DATA | {"thought", "thoughtSignature"}
DECLARATION_KEYS = {"name", "description", "parameters", "parametersJsonSchema", "response", "responseJsonSchema"}
REFUSED_KEYWORDS = {
    "$schema", "$id", "const", "patternProperties", "propertyNames", "if", "then", "else", "not", "allOf",
    "exclusiveMinimum", "exclusiveMaximum", "input_examples", "definitions", "strict",
}  # fmt: skip
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")
LEVELS = {"MINIMAL", "LOW", "MEDIUM", "HIGH"}
IMAGES = {"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif", "application/pdf"}


def check_body(body: Any, model: str, *, vertex: bool) -> None:
    """`model` "" stands for any."""
    require(isinstance(body, dict), "Invalid JSON payload received.")
    for key in sorted(set(body) - KEYS - ({"labels"} if vertex else set())):
        raise Refused(f'Invalid JSON payload received. Unknown name "{key}": Cannot find field.')
    older = re.search(r"gemini-[12]", model) is not None
    functions, searches = _check_tools(body)
    _check_tool_config(body, functions, searches, older=older)
    _check_generation(body.get("generationConfig", {}), model, has_tools=bool(functions or searches), older=older)
    _check_system(body)
    _check_contents(body, older=older)


def _check_system(body: dict[str, Any]) -> None:
    if "systemInstruction" in body:
        parts = body["systemInstruction"].get("parts")
        require(parts and all(part.get("text") for part in parts), "systemInstruction: parts must not be empty.")


def _check_tools(body: dict[str, Any]) -> tuple[set[str], bool]:
    names: list[str] = []
    searches = False
    for tool in body.get("tools", []):
        require(len(tool) == 1, f"tools: one tool an entry, got {sorted(tool)}")
        require(set(tool) <= {"functionDeclarations", "googleSearch"}, f'Unknown name "{next(iter(tool))}"')
        searches = searches or "googleSearch" in tool
        for declared in tool.get("functionDeclarations", []):
            for key in sorted(set(declared) - DECLARATION_KEYS):
                raise Refused(f'Invalid JSON payload received. Unknown name "{key}" at function_declarations.')
            require(NAME.fullmatch(declared["name"]), f"Invalid function name {declared['name']!r}.")
            if "parametersJsonSchema" in declared:
                schema = declared["parametersJsonSchema"]
                require(
                    schema.get("type") == "object" or "$ref" in schema, "parameters schema should be of type OBJECT."
                )
                _check_schema(schema)
            names.append(declared["name"])
    require(len(names) == len(set(names)), "Duplicate function declaration found.")
    require("tools" not in body or body["tools"], "tools: empty.")
    return set(names), searches


def _check_schema(schema: Any) -> None:
    if isinstance(schema, list):
        for part in schema:
            _check_schema(part)
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        require(key not in REFUSED_KEYWORDS, f'Invalid JSON payload received. Unknown name "{key}".')
        if key == "enum":
            require(value and "" not in value, "enum: cannot be empty")
            require(all(isinstance(each, str | int | float) for each in value), "enum: must be text or number")
        elif key in {"properties", "$defs"}:
            for inner in value.values():
                _check_schema(inner)
        elif key not in {"default", "required"}:
            _check_schema(value)


def _check_tool_config(body: dict[str, Any], functions: set[str], searches: bool, *, older: bool) -> None:
    config = body.get("toolConfig", {})
    calling = config.get("functionCallingConfig")
    require(calling is None or functions, "Function calling config is set without function_declarations.")
    if calling is not None:
        require(calling["mode"] in {"AUTO", "ANY", "NONE", "VALIDATED"}, "Invalid mode")
        allowed = calling.get("allowedFunctionNames", [])
        require(not allowed or calling["mode"] == "ANY", "allowed_function_names: only with mode ANY")
        require(set(allowed) <= functions, "allowed_function_names: not declared")
    if functions and searches:
        require(not older, "Tool use with function calling is unsupported.")
        require(config.get("includeServerSideToolInvocations"), "include_server_side_tool_invocations is required.")


def _check_generation(config: dict[str, Any], model: str, *, has_tools: bool, older: bool) -> None:
    for key in sorted(set(config) - GENERATION_KEYS):
        raise Refused(f'Invalid JSON payload received. Unknown name "{key}" at generation_config.')
    require(config.get("maxOutputTokens", 1) >= 1, "max_output_tokens must be positive.")
    require(len(config.get("stopSequences", [])) <= 5, "The number of stop sequences must be at most 5.")
    if config.get("responseMimeType") == "application/json":
        require(
            not (older and has_tools), "Function calling with a response mime type: 'application/json' is unsupported"
        )
        _check_schema(config.get("responseJsonSchema"))
    thinking = config.get("thinkingConfig")
    if thinking is None or not model:
        return
    require(set(thinking) <= {"includeThoughts", "thinkingBudget", "thinkingLevel"}, "Unknown name at thinking_config.")
    require(not {"thinkingBudget", "thinkingLevel"} <= set(thinking), "You can only set one of budget and level.")
    require("gemini-2.0" not in model, "Unable to submit request because thinking is not supported by this model.")
    if "thinkingBudget" in thinking:
        budget = thinking["thinkingBudget"]
        least, most = (128, 32_768) if "pro" in model else (512, 24_576) if "lite" in model else (0, 24_576)
        stopped = budget == 0 and "pro" not in model
        require(older and (budget == -1 or stopped or least <= budget <= most), f"thinking budget {budget} is invalid.")
    if "thinkingLevel" in thinking:
        require(not older and thinking["thinkingLevel"] in LEVELS, "Thinking level is not supported for this model.")
        require(
            "pro" not in model or thinking["thinkingLevel"] != "MINIMAL", "Thinking level MINIMAL is not supported."
        )


def _check_contents(body: dict[str, Any], *, older: bool) -> None:
    contents: list[dict[str, Any]] = body.get("contents") or []
    require(contents, "contents is not specified")
    require(contents[0]["role"] == "user", "Please ensure that the first turn is a user's.")
    waiting: list[dict[str, Any]] = []
    current = max((i for i, c in enumerate(contents) if _has_text(c)), default=0)
    for index, content in enumerate(contents):
        require(content["role"] in {"user", "model"}, "Please use a valid role: user, model.")
        require(content.get("parts"), f"contents[{index}].parts must not be empty.")
        for number, part in enumerate(content["parts"]):
            _check_part(f"contents[{index}].parts[{number}]", part)
        _check_pairs(content, waiting)
        waiting = [part["functionCall"] for part in content["parts"] if "functionCall" in part]
        require(not waiting or content["role"] == "model", "function call of a user")
        if waiting and not older and index > current:
            first = next(part for part in content["parts"] if "functionCall" in part)
            require(
                first.get("thoughtSignature"), "Function call is missing a thought_signature in functionCall parts."
            )
    require(not waiting, "Please ensure that function call turns are followed by function response turns.")


def _has_text(content: dict[str, Any]) -> bool:
    return (
        content["role"] == "user"
        and any("text" in part for part in content["parts"])
        and not any("functionResponse" in part for part in content["parts"])
    )


def _check_pairs(content: dict[str, Any], waiting: list[dict[str, Any]]) -> None:
    answers = [part["functionResponse"] for part in content["parts"] if "functionResponse" in part]
    told = [(answer.get("id"), answer["name"]) for answer in answers]
    require(
        told == [(call.get("id"), call["name"]) for call in waiting],
        "Please ensure that the number of function response parts is equal to the number of function call parts.",
    )
    first = content["parts"][: len(answers)]
    require(all("functionResponse" in part for part in first), "function responses come first")


def _check_part(where: str, part: dict[str, Any]) -> None:
    for key in sorted(set(part) - PART_KEYS):
        raise Refused(f'Invalid JSON payload received. Unknown name "{key}" at {where}.')
    data = set(part) & DATA
    require(len(data) == 1, f"{where}: required oneof field 'data' must have one initialized field")
    if "text" in part:
        require(part["text"] or part.get("thoughtSignature"), f"{where}: text must not be empty")
    if "inlineData" in part:
        require(part["inlineData"]["mimeType"] in IMAGES, f"Unsupported MIME type: {part['inlineData']['mimeType']}")
    if "functionCall" in part:
        require(isinstance(part["functionCall"].get("args", {}), dict), f"{where}: args must be an object")
    if "functionResponse" in part:
        answer = part["functionResponse"]
        require(isinstance(answer["response"], dict), f"{where}: response must be an object")
        require(set(answer) <= {"id", "name", "response", "parts"}, f"Unknown name at {where}.function_response")
