"""The search engines over real sockets, and which pages a search may show."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from ccm_site.env import SEARCH_NEEDS, search_engine
from providers.search import BACKENDS, Domains, InvalidDomain, Place, Query, Result, SearchFailed, backend_named
from providers.search.domains import normalised
from providers.transport import Transport
from tests.fakes.search import KEY, PAGES, FakeEngine, Page, fake_engine


@pytest.fixture(scope="module", params=list(BACKENDS))
def shared_engine(request: pytest.FixtureRequest) -> Iterator[FakeEngine]:
    with fake_engine(request.param) as made:
        yield made


@pytest.fixture
def engine(shared_engine: FakeEngine) -> FakeEngine:
    shared_engine.clear()
    return shared_engine


def search(
    engine: FakeEngine, query: Query, *, key: str = KEY, allow_private: bool = True, url: str = ""
) -> list[Result]:
    async def go() -> list[Result]:
        transport = Transport(allow_private=allow_private)
        try:
            backend = backend_named(engine.name, url=(url or engine.url) + "/", key=key, transport=transport)
            assert backend is not None
            return await backend.search(query)
        finally:
            await transport.close()

    return asyncio.run(go())


def failure(engine: FakeEngine, query: Query | None = None, **options: Any) -> str:
    with pytest.raises(SearchFailed) as caught:
        search(engine, query or Query("x"), **options)
    assert KEY not in str(caught.value)
    return caught.value.error


def test_every_engine_can_be_configured() -> None:
    assert set(SEARCH_NEEDS) == {"", *BACKENDS}


def test_what_is_found_is_told_once_and_plainly(engine: FakeEngine) -> None:
    found = search(engine, Query("marzipan & more"))
    assert found == [
        Result("The marzipan museum", "https://museum.example/marzipan", "Opened in 1923 by Köhler.", "2026-10-01"),
        Result("Almonds", "https://almonds.test/sweet", "About almonds."),
    ]
    (asked,) = engine.asked
    assert asked.query == "marzipan & more"
    told = {value for name, value in asked.headers.items() if name in {"authorization", "x-subscription-token"}}
    assert any(KEY in value for value in told)
    assert KEY not in asked.path


def test_domains_are_asked_for_and_enforced(engine: FakeEngine) -> None:
    allowed = Domains(allowed=("museum.example", "other.example/blog"))
    assert [page.url for page in search(engine, Query("q", allowed))] == ["https://museum.example/marzipan"]
    blocked = Domains(blocked=("museum.example", "almonds.test/bitter"))
    assert [page.url for page in search(engine, Query("q", blocked))] == ["https://almonds.test/sweet"]
    first, second = engine.asked
    if engine.name == "tavily":
        assert first.fields["include_domains"] == ["museum.example", "other.example"]
        assert second.fields["exclude_domains"] == ["museum.example"]
    else:
        assert first.query == "q (site:museum.example OR site:other.example)"
        assert second.query == "q -site:museum.example"


def test_many_domains_do_not_make_the_query_too_long(engine: FakeEngine) -> None:
    domains = Domains(allowed=(*(f"a-rather-long-name-{n}.example" for n in range(64)), "museum.example"))
    assert [page.url for page in search(engine, Query("q", domains))] == ["https://museum.example/marzipan"]


def test_where_the_user_is(engine: FakeEngine) -> None:
    search(engine, Query("q", place=Place(city="Köln", region="NRW", country="DE", timezone="Europe/Berlin")))
    (asked,) = engine.asked
    if engine.name == "brave":
        assert (asked.headers["x-loc-state-name"], asked.headers["x-loc-country"]) == ("NRW", "DE")
        assert "x-loc-city" not in asked.headers
    if engine.name == "tavily":
        assert asked.fields["country"] == "germany"


def test_no_more_than_ten_results_of_a_bounded_size(engine: FakeEngine) -> None:
    engine.pages = tuple(Page("t" * 5000, f"https://many.example/{n}", "x " * 50_000) for n in range(30))
    found = search(engine, Query("q"))
    assert len(found) == 10
    assert all(len(page.title) <= 300 and len(page.text) <= 4000 for page in found)


@pytest.mark.parametrize(
    ("status", "error"),
    [(429, "too_many_requests"), (432, "too_many_requests"), (414, "query_too_long"), (500, "unavailable"),
     (403, "unavailable"), (302, "unavailable")],
)  # fmt: skip
def test_what_a_status_means(engine: FakeEngine, status: int, error: str) -> None:
    engine.status = status
    assert failure(engine) == error
    assert len(engine.asked) == 1


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"results": 7, "web": {"results": 7}}', b'{"web": 7, "results": true}', b"\xff"]
)
def test_an_answer_of_another_shape_is_a_failure(engine: FakeEngine, body: bytes) -> None:
    engine.body = body
    assert failure(engine) == "unavailable"


def test_an_answer_without_results_is_no_failure(engine: FakeEngine) -> None:
    engine.body = b'{"results": [], "web": null}'
    assert search(engine, Query("q")) == []


def test_an_answer_that_is_too_large_is_a_failure(engine: FakeEngine) -> None:
    engine.body = b'{"results": [], "padding": "' + b"x" * (5 * 1024 * 1024) + b'"}'
    assert failure(engine) == "unavailable"


def test_a_query_that_is_too_long_is_not_sent(engine: FakeEngine) -> None:
    assert failure(engine, Query("x" * 1001)) == "query_too_long"
    assert engine.asked == []


def test_a_wrong_key_is_the_operator_s_affair(engine: FakeEngine) -> None:
    if engine.name == "searxng":
        pytest.skip("asks for none")
    assert failure(engine, key="wrong") == "unavailable"


def test_a_private_address_is_refused_unless_it_is_allowed(engine: FakeEngine) -> None:
    assert failure(engine, allow_private=False) == "unavailable"
    assert engine.asked == []


def test_nobody_listens(engine: FakeEngine) -> None:
    with fake_engine("brave") as other:
        url = other.url
    assert failure(engine, url=url) == "unavailable"


# -- domains


@pytest.mark.parametrize(
    ("entry", "url", "covered"),
    [
        ("example.com", "https://example.com", True),
        ("example.com", "https://EXAMPLE.com./x", True),
        ("example.com", "http://docs.example.com:8080/x", True),
        ("example.com", "https://notexample.com", False),
        ("example.com", "https://example.com.evil.test", False),
        ("example.com", "https://evil.test/example.com", False),
        ("example.com", "https://example.com@evil.test/", False),
        ("docs.example.com", "https://example.com", False),
        ("example.com/blog", "https://example.com/blog/1", True),
        ("example.com/blog", "https://example.com/blog", True),
        ("example.com/blog", "https://example.com/blogger", False),
        ("example.com/*/news", "https://example.com/de/news/1", True),
        ("example.com/*/news", "https://example.com/news", False),
        ("example.com/news*", "https://example.com/newsletter", True),
    ],
)
def test_which_pages_an_entry_covers(entry: str, url: str, covered: bool) -> None:
    assert Domains(allowed=(entry,)).admit(url) is covered
    assert Domains(blocked=(entry,)).admit(url) is not covered


@pytest.mark.parametrize("url", ["javascript:alert(1)", "file:///etc/passwd", "https://[", "no address", ""])
def test_only_pages_of_the_web_are_shown(url: str) -> None:
    assert not Domains().admit(url)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("Example.COM", "example.com"),
        (" https://example.com/ ", "example.com"),
        ("a.b.example/Path", "a.b.example/Path"),
    ],
)
def test_entries_are_normalised(entry: str, expected: str) -> None:
    assert normalised(entry) == expected


@pytest.mark.parametrize(
    "entry", ["", "*.example.com", "localhost", "a b.com", "example.com:80", "e.com/*/*", "x" * 600]
)
def test_entries_that_are_no_domains(entry: str) -> None:
    with pytest.raises(InvalidDomain):
        normalised(entry)


HOSTS = st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8}){1,3}", fullmatch=True)


@given(HOSTS, HOSTS)
def test_a_block_holds_for_the_domain_and_all_below_it(host: str, below: str) -> None:
    blocked = Domains(blocked=(normalised(host),))
    assert not blocked.admit(f"https://{host}/x")
    assert not blocked.admit(f"https://{below}.{host}")
    assert blocked.admit(f"https://x{host}") is True


# -- settings


@pytest.mark.parametrize(
    ("name", "url", "key", "said"),
    [
        ("google", "", "", "must be one of searxng, brave, tavily"),
        ("searxng", "", "", "needs CCM_SEARCH_URL"),
        ("brave", "", "", "needs CCM_SEARCH_KEY"),
        ("tavily", "http://x", "", "needs CCM_SEARCH_KEY"),
        ("searxng", "search.example", "", "must begin with http"),
        ("brave", "", "a\nb", "CCM_SEARCH_KEY"),
    ],
)
def test_settings_that_cannot_work_stop_the_start(name: str, url: str, key: str, said: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=said):
        search_engine(name, url, key)


def test_no_engine_is_fine() -> None:
    assert search_engine("", "", "") == ("", "", "")
    assert backend_named("", url="", key="", transport=Transport(allow_private=True)) is None


def test_the_fake_finds_an_address_twice() -> None:
    assert len({page.url for page in PAGES}) < len(PAGES)
