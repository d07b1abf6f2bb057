"""The console of the Fireworq door, in a real browser."""

import json
import re
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.http.browser import tab
from tests.http.client import HttpClient
from tests.http.fireworq.workers import Fireworq, Gate, replies, says
from tests.server import ServerProcess

HOSTILE = '<img src=x onerror="document.title=1">'


@pytest.fixture
def base(server: ServerProcess) -> str:
    host, port = server.http_addresses["fireworq"]
    return f"http://{host}:{port}/console"


def row(page: Page, item_id: object, area: str = "") -> Locator:
    inside = page.get_by_role("region", name=area) if area else page
    return inside.locator(f'tr[data-id="{item_id}"]')


def confirm(page: Page) -> None:
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()


class TestPath:
    @pytest.mark.parametrize("path", ["", "/", "/queue/a/jobs", "/queue/a%252Fb", "?x=y"])
    def test_every_path_below_gives_the_page(self, http: HttpClient, path: str) -> None:
        answered = http.get(f"/console{path}")
        assert (answered.status, answered.type) == (200, "text/html; charset=utf-8")
        assert "<title>Fireworq</title>" in answered.text
        policy = answered.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(r'(src|href)="(https?:)?//', answered.text)

    def test_it_works_below_our_own_api_too(self, page: Page, fireworq: Fireworq, server: ServerProcess) -> None:
        queue = fireworq.queue()
        host, port = server.http_addresses[""]
        page.goto(f"http://{host}:{port}/fireworq/console")
        page.get_by_role("link", name=queue).click()
        expect(page).to_have_url(f"http://{host}:{port}/fireworq/console/queue/{queue}")
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_have_text(queue)
        expect(page.get_by_text("not throttled")).to_be_visible()


class TestQueues:
    def test_they_are_shown_with_their_figures_as_these_change(self, page: Page, base: str, fireworq: Fireworq) -> None:
        queue = fireworq.queue(max_dispatches_per_second=500.5, max_burst_size=3, max_workers=7)
        page.goto(base)
        expect(row(page, queue)).to_contain_text("at most 500.5/s, bursts of 3")
        expect(row(page, queue)).to_contain_text("0 of 7")
        gate = Gate()
        fireworq.worker.behaviours["/gate"] = gate
        fireworq.push(queue, "/gate")
        expect(row(page, queue)).to_contain_text("1 of 7")
        gate.open()
        expect(row(page, queue)).to_contain_text("0 of 7")
        expect(row(page, queue).locator("td").nth(4)).to_have_text("1")

    def test_one_is_created_changed_and_deleted_with_its_routings(
        self, page: Page, base: str, fireworq: Fireworq
    ) -> None:
        name = f"{fireworq.queue()} a/b%2F"
        path = f"/queue/{quote(name, safe='')}"
        page.goto(base)
        page.get_by_role("link", name="+ New queue").click()
        page.get_by_label("Name").fill(name)
        page.get_by_label("Jobs per second").fill("2.5")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("alert").first).to_contain_text("max_dispatches_per_second needs max_burst_size")
        page.get_by_label("Burst").fill("4")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(name)
        expect(page.get_by_text("at most 2.5/s, bursts of 4")).to_be_visible()
        page.reload()
        page.get_by_role("link", name="Edit").click()
        expect(page.get_by_label("Burst")).to_have_value("4")
        page.get_by_label("Burst").fill("")
        page.get_by_label("Jobs per second").fill("")
        page.get_by_label("Workers").fill("3")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("not throttled")).to_be_visible()
        assert fireworq.http.get(path).json["max_workers"] == 3
        fireworq.http.put(f"/routing/{quote(name)}/x", {"queue_name": name})
        page.get_by_role("button", name="Delete").click()
        expect(page.get_by_role("dialog")).to_contain_text("Its 1 routing go")
        confirm(page)
        expect(page).to_have_url(f"{base}/")
        assert fireworq.http.get(path).status == 404
        assert fireworq.http.get(f"/routing/{quote(name)}/x").status == 404

    def test_one_that_could_not_be_read_is_not_overwritten(self, page: Page, base: str, fireworq: Fireworq) -> None:
        queue = fireworq.queue(max_workers=7, max_dispatches_per_second=5, max_burst_size=3)
        page.route(f"**/queue/{queue}", lambda route: route.abort())
        page.goto(f"{base}/queue/{queue}/edit")
        expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
        page.unroute_all()
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("alert")).to_contain_text("could not be read")
        assert fireworq.http.get(f"/queue/{queue}").json["max_workers"] == 7
        page.reload()
        expect(page.get_by_label("Jobs per second")).to_have_value("5")
        page.get_by_label("Workers").fill("8")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("at most 5/s, bursts of 3")).to_be_visible()
        page.goto(base)
        expect(row(page, queue)).to_contain_text("at most 5/s, bursts of 3")


class TestJobs:
    def test_they_are_listed_by_what_becomes_of_them_and_can_be_deleted(
        self, page: Page, base: str, fireworq: Fireworq
    ) -> None:
        gate = Gate()
        fireworq.worker.behaviours["/gate"] = gate
        queue = fireworq.queue(max_workers=1)
        sent = fireworq.push(queue, "/gate")["id"]
        fireworq.worker.wait_for_requests(1)
        waiting = fireworq.push(queue, payload={"big": 12345678901234567890})["id"]
        deferred = [fireworq.push(queue, run_after=3600, max_retries=2)["id"] for _ in range(31)]
        page.goto(f"{base}/queue/{queue}/jobs")
        expect(row(page, sent, "Being sent")).to_be_visible()
        expect(row(page, waiting, "Waiting")).to_be_visible()
        expect(row(page, deferred[0], "Deferred")).to_contain_text("0 of 3")
        expect(page.get_by_text("30 jobs; there are more")).to_be_visible()
        page.get_by_role("button", name="More").click()
        expect(page.get_by_text("31 jobs")).to_be_visible()
        page.get_by_role("button", name=f"Delete job {deferred[0]}", exact=True).click()
        confirm(page)
        expect(page.get_by_text("30 jobs")).to_be_visible()
        assert fireworq.job(queue, deferred[0]).status == 404
        row(page, waiting).get_by_role("link").click()
        expect(page.get_by_text('"big": 12345678901234567890')).to_be_visible()
        gate.open()
        expect(page.get_by_text("It is here no more.")).to_be_visible()

    def test_one_is_still_there_when_the_server_is_back(self, page: Page, base: str, fireworq: Fireworq) -> None:
        queue = fireworq.queue()
        number = fireworq.push(queue, payload="to be seen", run_after=3600)["id"]
        page.goto(f"{base}/queue/{queue}/job/{number}")
        expect(page.get_by_text("to be seen")).to_be_visible()
        page.route("**/job/*", lambda route: route.abort())
        expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached. This page tries again.")
        expect(page.get_by_text("to be seen")).to_be_visible()
        page.unroute_all()
        expect(page.get_by_role("alert")).to_be_hidden()
        expect(page.get_by_text("to be seen")).to_be_visible()
        page.route("**/job/*", lambda route: route.fulfill(status=404))
        expect(page.get_by_text("It is here no more.")).to_be_visible()
        page.unroute_all()
        expect(page.get_by_text("to be seen")).to_be_visible()

    def test_numbers_that_javascript_would_round_hide_nothing(self, page: Page, base: str, fireworq: Fireworq) -> None:
        queue, huge = fireworq.queue(), 2**53 + 1
        number = fireworq.push(queue, run_after=3600, timeout=huge, retry_delay=huge, max_retries=3)["id"]
        page.goto(f"{base}/queue/{queue}/job/{number}")
        expect(page.locator(".facts")).to_contain_text("0 of 4")

    def test_what_is_typed_is_pushed(self, page: Page, base: str, fireworq: Fireworq) -> None:
        queue = fireworq.queue()
        for payload, body in [('{ "n" : 12345678901234567890 }', b'{ "n" : 12345678901234567890 }'), ("it's", b"it's")]:
            page.goto(f"{base}/job")
            page.get_by_label("Category").fill(queue)
            page.get_by_label("URL").fill(fireworq.worker.url("/ok"))
            page.get_by_label("Payload").fill(payload)
            page.get_by_role("button", name="Push").click()
            expect(page).to_have_url(f"{base}/queue/{queue}/jobs")
            assert fireworq.worker.wait_for_requests(1)[-1].body == body
            fireworq.worker.requests.clear()


class TestFailures:
    def test_one_is_shown_pushed_again_and_deleted(self, page: Page, base: str, fireworq: Fireworq) -> None:
        fireworq.worker.behaviours["/bad"] = says("permanent-failure", HOSTILE, 500)
        fireworq.worker.behaviours["/html"] = replies(b"<html>", 502)
        queue = fireworq.queue()
        page.goto(f"{base}/queue/{queue}/failed")
        expect(page.get_by_text("No failures.")).to_be_visible()
        fireworq.push(queue, "/bad", payload={"a": HOSTILE})
        fireworq.wait_until_completed(queue, 1)
        fireworq.push(queue, "/html", payload="plain")
        expect(row(page, 2)).to_contain_text("Cannot parse body as JSON")
        expect(row(page, 1)).to_contain_text("permanent")
        row(page, 1).get_by_role("link").first.click()
        for text in (HOSTILE, "500", fireworq.worker.url("/bad")):
            expect(page.get_by_text(text, exact=True).first).to_be_visible()
        expect(page.locator("pre")).to_have_text(json.dumps({"a": HOSTILE}, indent=2))
        assert page.locator("main img").count() == 0
        page.get_by_role("link", name="Push again").click()
        expect(page.get_by_label("URL")).to_have_value(fireworq.worker.url("/bad"))
        page.get_by_label("URL").fill(fireworq.worker.url("/ok"))
        page.get_by_role("button", name="Push").click()
        fireworq.wait_until_completed(queue, 3)
        assert fireworq.stats(queue)["total_successes"] == 1
        page.get_by_role("link", name="Failures").click()
        expect(page.locator("tbody tr")).to_have_count(1)
        page.get_by_role("button", name="Delete failure 2").click()
        confirm(page)
        expect(page.get_by_text("No failures.")).to_be_visible()
        assert fireworq.failures(queue)["failed_jobs"] == []

    def test_what_is_pushed_again_is_what_failed(self, page: Page, base: str, fireworq: Fireworq) -> None:
        fireworq.worker.behaviours["/bad"] = says("permanent-failure", "no")
        queue = fireworq.queue()
        fireworq.push(queue, "/bad", payload="none")
        fireworq.wait_until_completed(queue, 1)
        page.goto(f"{base}/queue/{queue}/recycle/1")
        expect(page.get_by_label("URL")).to_have_value(fireworq.worker.url("/bad"))
        expect(page.get_by_label("Payload")).to_have_value("none")

    def test_the_way_back_leads_to_the_same_place(self, page: Page, base: str, fireworq: Fireworq) -> None:
        fireworq.worker.behaviours["/bad"] = says("permanent-failure", "no")
        queue = fireworq.queue()
        for _ in range(40):
            fireworq.push(queue, "/bad")
        fireworq.wait_until_completed(queue, 40)
        page.goto(f"{base}/queue/{queue}/failed")
        page.get_by_role("button", name="pushed last first").click()
        page.get_by_role("button", name="More").click()
        expect(page.locator("tbody tr")).to_have_count(40)
        page.evaluate("scrollTo(0, 1500)")
        row(page, 10).get_by_role("link").first.click()
        expect(page.get_by_role("heading", name="Failure 10")).to_be_visible()
        page.go_back()
        expect(page.locator("tbody tr")).to_have_count(40)
        expect(page.get_by_role("button", name="pushed last first")).to_have_attribute("aria-pressed", "true")
        expect(row(page, 10)).to_be_in_viewport()
        page.reload()
        expect(row(page, 10)).to_be_in_viewport()


class TestOtherScreens:
    def test_routings(self, page: Page, base: str, fireworq: Fireworq) -> None:
        queue, other = fireworq.queue(), fireworq.queue()
        category = f"{queue}/a b%2F"
        page.goto(f"{base}/routings")
        page.get_by_role("link", name="+ New routing").click()
        page.get_by_label("Category").fill(category)
        page.get_by_label("Queue").select_option(queue)
        page.get_by_role("button", name="Save").click()
        expect(row(page, category)).to_contain_text(queue)
        row(page, category).get_by_role("link", name="Edit").click()
        page.reload()
        expect(page.get_by_label("Queue")).to_have_value(queue)
        page.get_by_label("Queue").select_option(other)
        page.get_by_role("button", name="Save").click()
        expect(row(page, category).get_by_role("link", name=other)).to_be_visible()
        assert fireworq.http.get(f"/routing/{quote(category)}").json["queue_name"] == other
        page.get_by_role("button", name=f"Delete routing {category}", exact=True).click()
        confirm(page)
        expect(row(page, category)).to_have_count(0)
        assert fireworq.http.get(f"/routing/{quote(category)}").status == 404

    def test_the_server_and_what_is_not_there(self, page: Page, base: str) -> None:
        page.goto(f"{base}/server")
        expect(page.locator(".facts")).to_contain_text("queue_default_max_workers")
        page.goto(f"{base}/queue/default/job/999")
        expect(page.get_by_text("No such job: 999")).to_be_visible()
        page.goto(f"{base}/no/such/screen")
        expect(page.get_by_text("There is nothing here.")).to_be_visible()

    def test_nothing_sticks_out_of_a_narrow_window(self, browser: Browser, base: str, fireworq: Fireworq) -> None:
        queue = fireworq.queue()
        long = f"{queue}/{'c' * 200}"
        fireworq.http.put(f"/routing/{long}", {"queue_name": queue})
        fireworq.push(long, f"/{'x' * 200}")
        fireworq.wait_until_completed(queue, 1)
        number = fireworq.push(long, run_after=3600)["id"]
        with tab(browser, width=380, dark=True) as page:
            below = ("", "/jobs", f"/job/{number}", "/failed", "/failed/1", "/edit")
            for path in ("", "job", "server", "routings", *[f"queue/{queue}{rest}" for rest in below]):
                page.goto(f"{base}/{path}")
                expect(page.locator("main > *")).to_be_visible()
                expect(page.locator("main")).not_to_contain_text("Loading")
                assert page.evaluate("document.documentElement.scrollWidth") <= 380, path

    def test_a_telephone_shows_all_links(self, browser: Browser, base: str) -> None:
        with tab(browser, width=360) as page:
            page.goto(base)
            nav = page.get_by_role("navigation", name="Screens")
            assert nav.evaluate("nav => nav.scrollWidth <= nav.clientWidth")
            page.get_by_role("link", name="Fireworq").click()
            expect(page).to_have_url(f"{base}/")
