"""Why keys of claude-code-router's config.json are not imported."""

CODE = "code is never run."
OF_THE_CLIENT = "it concerns the client's machine, not the gateway."
OF_A_PRESET = "it describes the preset; enter its inputs as environment variables or in the admin."
OWN_LOGS = "CCM logs as LOG_LEVEL says, and no prompts and answers."

TOP = {
    "PORT": "CCM listens where HOST and PORT say.",
    "HOST": "CCM listens where HOST and PORT say.",
    "APIKEY": "one key for all is no key of CCM's: give each client its own (create_key).",
    "PROXY_URL": "CCM connects to providers directly.",
    "HTTPS_PROXY": "CCM connects to providers directly.",
    "https_proxy": "CCM connects to providers directly.",
    "httpsProxy": "CCM connects to providers directly.",
    "LOG": OWN_LOGS,
    "LOG_LEVEL": OWN_LOGS,
    "NON_INTERACTIVE_MODE": OF_THE_CLIENT,
    "CLAUDE_PATH": OF_THE_CLIENT,
    "StatusLine": OF_THE_CLIENT,
    "plugins": CODE,
    "CUSTOM_ROUTER_PATH": CODE,
    "REWRITE_SYSTEM_PROMPT": "the file is not here, and CCM does not rewrite prompts.",
    "forceUseImageAgent": "CCM has no image agent: a request with an image takes the image route.",
    "ANTHROPIC_BASE_URL": OF_THE_CLIENT,
    "ANTHROPIC_API_KEY": OF_THE_CLIENT,
}
PRESET = dict.fromkeys(
    (
        "name", "version", "description", "author", "homepage", "repository", "license", "keywords", "ccrVersion",
        "source", "sourceFile", "checksum", "metadata", "schema", "template", "configMappings", "userValues",
        "requiredInputs", "noServer",
    ),
    OF_A_PRESET,
)  # fmt: skip
TOKENIZER = "CCM counts tokens with the model family's own tokenizer."
ROUTER = {"custom": CODE, "customRouter": CODE}
