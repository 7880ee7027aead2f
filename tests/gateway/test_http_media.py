"""Images given by their address, through the whole gateway."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.brain import saying
from tests.fakes.pages import Pages, png
from tests.processes import NewDatabase
from tests.world import World

pytestmark = pytest.mark.one_database


def asking(url: str, model: str = "openai-model") -> dict[str, Any]:
    look = {"type": "image", "source": {"type": "url", "url": url}}
    content = [{"type": "text", "text": "What is this?"}, look]
    return {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": content}]}


@pytest.fixture
def pages() -> Iterator[Pages]:
    with Pages({"/a.png": png()}) as made:
        yield made


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "169.254.169.254"])
def test_a_private_address_is_refused_though_upstreams_may_have_one(
    world: World, email: str, pages: Pages, host: str
) -> None:
    """And it costs nothing, and no provider is called."""
    key = world.ccm.create_key(email)
    world.openai.clear()
    response = world.post(key, asking(f"http://{host}/a.png"))
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith("messages.0.content.1.image.source.url: could not be fetched (")
    assert world.openai.requests == []
    assert pages.asked == []
    assert [record["charge"] for record in world.ccm.usage_records(email)] in ([], [0])


def test_an_image_is_fetched_for_a_provider_that_reads_no_addresses(
    new_database: NewDatabase, email: str, pages: Pages
) -> None:
    settings = {"DJANGO_SETTINGS_MODULE": "tests.plugin.private_media_settings"}
    with new_database() as url, World(database_url=url, settings=settings) as world:
        key = world.ccm.create_key(email)
        world.openai.brain = world.anthropic.brain = saying("A square.")
        for _ in range(2):
            assert world.post(key, asking(pages.url("/a.png"))).status_code == 200
        data = base64.b64encode(png()).decode()
        for request in world.openai.requests:
            assert request.body["messages"][-1]["content"][1] == {
                "type": "image_url",
                "image_url": {"url": f"data:image/png;base64,{data}"},
            }
        assert pages.asked == ["/a.png"]
        assert world.post(key, asking(pages.url("/a.png"), "anthropic-model")).status_code == 200
        assert pages.asked == ["/a.png"], "Anthropic's format may hold addresses"
        assert pages.url("/a.png") in world.anthropic.requests[0].raw.decode()
