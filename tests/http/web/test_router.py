"""Which handler serves which path, and what it is told of it."""

import pytest

from workq.http.web import ANY, Headers, Query, Request, Response, Router


async def handler(request: Request) -> Response:
    return Response()


async def other(request: Request) -> Response:
    return Response()


def asked(method: str, target: str) -> Request:
    return Request(method, target, Headers({}), "127.0.0.1")


def router(*routes: tuple[str, str]) -> Router:
    made = Router()
    for method, path in routes:
        made.add_route(method, path, handler)
    return made


def found(routes: Router, target: str, method: str = "GET") -> tuple[str | None, dict[str, str]]:
    """The route and what it matches."""
    request = asked(method, target)
    assert (routes.find(request) is None) == (request.route is None)
    return request.route, dict(request.match_info)


def test_paths_without_braces_come_first() -> None:
    routes = router(("GET", "/queues/{name}"), ("GET", "/queues/stats"))
    assert found(routes, "/queues/stats?x=/y") == ("/queues/stats", {})
    assert found(routes, "/queues/state") == ("/queues/{name}", {"name": "state"})


def test_then_those_that_begin_alike_for_longer() -> None:
    routes = router(("GET", "/{rest:.*}"), ("GET", "/a/{rest:.*}"), ("GET", "/a/b/{name}"))
    assert found(routes, "/a/b/c")[0] == "/a/b/{name}"
    assert found(routes, "/a/b/c/d") == ("/a/{rest:.*}", {"rest": "b/c/d"})
    assert found(routes, "/b") == ("/{rest:.*}", {"rest": "b"})


def test_a_name_takes_no_slash_and_at_least_a_character() -> None:
    routes = router(("GET", "/jobs/{id}/result"))
    assert found(routes, "/jobs/5/result")[1] == {"id": "5"}
    for target in ("/jobs//result", "/jobs/5/6/result", "/jobs/5/result/", "/jobs/5"):
        assert found(routes, target)[0] is None


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("/q/a%20b", "a b"),
        ("/q/a%2Fb", "a/b"),
        ("/q/%C3%BC", "ü"),
        ("/q/%FF", "\N{REPLACEMENT CHARACTER}"),
        ("/q/%zz", "%zz"),
    ],
)
def test_what_is_escaped_is_decoded_after_the_route_is_found(target: str, name: str) -> None:
    assert found(router(("GET", "/q/{name}")), target) == ("/q/{name}", {"name": name})


def test_what_is_needlessly_escaped_is_the_same_path() -> None:
    routes = router(("GET", "/jobs"), ("GET", "/state/{state:waiting}"))
    assert found(routes, "/j%6fbs")[0] == "/jobs"
    assert found(routes, "/state/w%61iting")[1] == {"state": "waiting"}
    assert found(routes, "%2Fjobs")[0] is None


def test_methods() -> None:
    routes = router(("POST", "/a"), (ANY, "/a"), ("GET", "/b"), ("PUT", "/{name}"))
    routes.add_get("/c", other)
    assert found(routes, "/a", "DELETE")[0] == "/a"
    assert found(routes, "/b", "PUT")[0] == "/{name}"
    assert found(routes, "/b", "POST")[0] is None
    assert routes.methods(asked("POST", "/b")) == ["GET", "PUT"]
    assert routes.methods(asked("POST", "/c")) == ["GET", "HEAD", "PUT"]
    assert routes.methods(asked("POST", "/c/d")) == []
    assert routes.find(asked("HEAD", "/c")) is other


def test_below_a_prefix() -> None:
    request = asked("GET", "/door/jobs/5")
    assert router(("GET", "/jobs/{id}")).find(request, "/door") is handler
    assert (request.route, request.match_info) == ("/door/jobs/{id}", {"id": "5"})


def test_a_path_of_many_slashes_takes_no_longer_than_another() -> None:
    """It took time with the square of their number, 3 s for what fits into a head, and these would take an hour."""
    routes = router(("GET", "/jobs/{id}"), ("GET", "/{rest:.+x}"))
    request = asked("GET", "/" * 5_000_000)
    assert routes.find(request) is None
    assert routes.methods(request) == []


@pytest.mark.parametrize(("escape", "character"), [("%41", "A"), ("%7e", "~"), ("%2f", None), ("%2B", None)])
def test_what_was_needlessly_escaped_is_as_if_it_was_not(escape: str, character: str | None) -> None:
    routes = router(("GET", "/{name}/A~"))
    assert found(routes, f"/{escape}/%41%7E")[1] == {"name": character or chr(int(escape[1:], 16))}


def test_the_first_of_two_handlers_stays() -> None:
    routes = router(("GET", "/{name}"))
    routes.add_get("/{name}", other, allow_head=False)
    assert routes.find(asked("GET", "/x")) is handler
    assert routes.find(asked("HEAD", "/x")) is None


def test_a_query() -> None:
    query = Query("a=1&b=&a=2&c=%20+&d&%zz=%FF")
    assert dict(query) == {"a": "1", "b": "", "c": "  ", "d": "", "%zz": "\N{REPLACEMENT CHARACTER}"}
    assert query.getall("a") == ["1", "2"]
    assert len(query) == 5


def test_headers_have_no_case() -> None:
    headers = Headers({b"content-type": b"a", b"x": b"\xff"})
    assert (headers.get("Content-Type"), headers.get("content-TYPE"), headers.get("Y"), headers.get("Y", "")) == (
        "a",
        "a",
        None,
        "",
    )
    assert headers.get("X") == "\N{REPLACEMENT CHARACTER}"
    assert "CONTENT-TYPE" in headers
    assert "Y" not in headers
