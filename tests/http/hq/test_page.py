"""The web page of the HQ door, in a real browser."""

import re

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.http.browser import tab
from tests.http.hq.door import NOWHERE, Hq
from tests.server import ServerProcess
from tests.webworker import WebWorker, answer


@pytest.fixture
def base(server: ServerProcess) -> str:
    host, port = server.http_addresses["hq"]
    return f"http://{host}:{port}/ui"


def row(page: Page, job_id: str) -> Locator:
    return page.locator(f'tr[data-id="{job_id}"]')


class TestPath:
    @pytest.mark.parametrize("path", ["", "/", "/job/1", "/a/b/c", "?term=x"])
    def test_every_path_below_gives_the_page(self, hq: Hq, path: str) -> None:
        answered = hq.get(f"/ui{path}")
        assert (answered.status, answered.type) == (200, "text/html; charset=utf-8")
        assert "<title>HQ</title>" in answered.text

    def test_it_brings_all_it_needs_and_lets_nothing_else_run(self, hq: Hq) -> None:
        answered = hq.get("/ui")
        policy = answered.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answered.headers["X-Content-Type-Options"] == "nosniff"
        assert not re.search(r'(src|href)="(https?:)?//', answered.text)

    def test_it_works_below_our_own_api_too(self, page: Page, hq: Hq, server: ServerProcess) -> None:
        job = hq.done(NOWHERE, name="mounted")
        host, port = server.http_addresses[""]
        page.goto(f"http://{host}:{port}/hq/ui?term={job['id']}")
        page.get_by_role("link", name=job["id"]).click()
        expect(page).to_have_url(f"http://{host}:{port}/hq/ui/job/{job['id']}")
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_have_text("mounted")


class TestJobs:
    def test_they_are_listed_newest_first_and_as_they_change(
        self, page: Page, base: str, hq: Hq, worker: WebWorker
    ) -> None:
        first = hq.done(NOWHERE, name="first")
        page.goto(base)
        expect(row(page, first["id"])).to_contain_text("failure")
        worker.behaviours["/"] = worker.hang
        second = hq.push(worker.url(), name="second", comment="a <b>comment</b>")
        expect(row(page, second["id"])).to_contain_text("running")
        expect(row(page, second["id"])).to_contain_text("a <b>comment</b>")
        ids = page.locator("tbody tr").evaluate_all("rows => rows.map((row) => row.dataset.id)")
        assert ids.index(second["id"]) < ids.index(first["id"])
        hq.post(f"/job/{second['id']}/stop")
        expect(row(page, second["id"])).to_contain_text("failure")

    def test_the_search_is_live_and_stays_in_the_address(self, page: Page, base: str, hq: Hq) -> None:
        one, two = hq.done(NOWHERE, name="needle-one"), hq.done(NOWHERE, name="needle-two")
        page.goto(base)
        page.keyboard.press("/")
        page.keyboard.type("needle-o")
        expect(page.locator("tbody tr")).to_have_count(1)
        expect(row(page, one["id"])).to_be_visible()
        expect(page).to_have_url(f"{base}?term=needle-o")
        expect(page.get_by_text("Listed 1 job", exact=True)).to_be_visible()
        page.reload()
        expect(page.get_by_label("Search")).to_have_value("needle-o")
        page.get_by_label("Search").fill("needle-(one|two)")
        expect(row(page, two["id"])).to_be_visible()
        page.get_by_role("button", name="success").click()
        expect(page.get_by_text("No job matches.")).to_be_visible()
        page.get_by_role("button", name="all").click()
        expect(page.locator("tbody tr")).to_have_count(2)

    def test_a_wrong_expression_is_told_and_can_be_mended(self, page: Page, base: str, hq: Hq) -> None:
        hq.done(NOWHERE)
        page.goto(base)
        page.get_by_label("Search").fill("(")
        expect(page.get_by_role("alert")).to_contain_text("missing )")
        page.get_by_label("Search").fill("[")
        expect(page.get_by_role("alert")).to_contain_text("missing ]")
        page.get_by_label("Search").fill("")
        expect(page.get_by_role("alert")).to_be_hidden()

    def test_stop_asks_first(self, page: Page, base: str, hq: Hq, worker: WebWorker) -> None:
        worker.behaviours["/"] = worker.hang
        job_id = hq.push(worker.url(), name="to-stop")["id"]
        hq.wait_for(job_id, "running")
        page.goto(f"{base}?term={job_id}")
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        assert hq.job(job_id)["status"] == "running"
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("dialog").get_by_role("button", name="Stop").click()
        expect(row(page, job_id)).to_contain_text("failure")
        assert hq.job(job_id)["canceled"]

    def test_restart_offers_both_ways(self, page: Page, base: str, hq: Hq, worker: WebWorker) -> None:
        worker.behaviours["/"] = lambda request, _: answer(404 if len(worker.requests) == 1 else 200)
        job_id = hq.done(worker.url(), name="restart-me")["id"]
        page.goto(f"{base}?term=restart-me")
        row(page, job_id).get_by_role("button", name="Restart").click()
        page.get_by_role("dialog").get_by_role("button", name="Restart", exact=True).click()
        expect(row(page, job_id)).to_contain_text("success")
        row(page, job_id).get_by_role("button", name="Restart").click()
        page.get_by_role("button", name="Restart as a new job").click()
        expect(page.locator("tbody tr")).to_have_count(2)

    def test_delete_asks_first(self, page: Page, base: str, hq: Hq) -> None:
        job_id = hq.done(NOWHERE, name="delete-me")["id"]
        page.goto(f"{base}?term={job_id}")
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(page.get_by_text("No job matches.")).to_be_visible()
        assert hq.get(f"/job/{job_id}").status == 422

    def test_who_uses_the_keyboard_keeps_the_place_when_the_list_changes(
        self, page: Page, base: str, hq: Hq, worker: WebWorker
    ) -> None:
        worker.behaviours["/"] = worker.hang
        running = hq.push(worker.url(), name="keys-running")["id"]
        done = hq.done(NOWHERE, name="keys-done")["id"]
        page.goto(f"{base}?term=keys")
        for job_id, name in [(running, f"Stop job {running}"), (done, f"Delete job {done}")]:
            button = page.get_by_role("button", name=name)
            expect(row(page, job_id)).to_contain_text("running" if job_id == running else "failure")
            button.focus()
            made = hq.done(NOWHERE, name="keys-new")["id"]
            expect(row(page, made)).to_be_visible()
            expect(button).to_be_focused()
        row(page, running).get_by_role("link").click()
        button = page.get_by_role("button", name=f"Stop job {running}")
        button.focus()
        with page.expect_response(f"**/internal/job/{running}"):
            pass
        with page.expect_response(f"**/internal/job/{running}"):
            pass
        expect(button).to_be_focused()
        hq.post(f"/job/{running}/stop")

    def test_a_question_does_not_outlast_its_screen(self, page: Page, base: str, hq: Hq) -> None:
        job_id = hq.done(NOWHERE, name="ask-me")["id"]
        page.goto(f"{base}?term={job_id}")
        row(page, job_id).get_by_role("link").click()
        page.get_by_role("button", name="Delete").click()
        expect(page.get_by_role("dialog")).to_be_visible()
        page.go_back()
        expect(row(page, job_id)).to_be_visible()
        expect(page.get_by_role("dialog")).to_have_count(0)

    def test_a_narrow_window_says_which_time_is_which(self, browser: Browser, base: str, hq: Hq) -> None:
        job_id = hq.done(NOWHERE)["id"]
        with tab(browser, width=380) as page:
            page.goto(f"{base}?term={job_id}")
            expect(row(page, job_id)).to_be_visible()
            labels = (
                row(page, job_id)
                .locator("td")
                .evaluate_all("cells => cells.map((cell) => getComputedStyle(cell, '::before').content)")
            )
            assert [label for label in labels if label != "none"] == ['"Created "', '"Started "', '"Duration "']


class TestNewJob:
    def test_what_is_typed_is_pushed_to_the_byte(self, page: Page, base: str, worker: WebWorker) -> None:
        page.goto(base)
        page.get_by_role("link", name="New job").click()
        push = page.get_by_role("button", name="Push")
        expect(push).to_be_disabled()
        page.get_by_label("URL").fill(worker.url("/new"))
        expect(push).to_be_enabled()
        page.get_by_label("Name").fill("typed")
        page.get_by_label("Timeout").fill("30")
        page.get_by_label("Payload").fill('{ "big" : 12345678901234567890 }')
        page.get_by_label("Headers").fill('{"X-A": "b"}')
        push.click()
        expect(page.get_by_role("heading", level=1)).to_have_text("typed")
        (request,) = worker.wait_for_requests(1)
        assert request.body == b'{ "big" : 12345678901234567890 }'
        assert request.values("X-A") == ["b"]
        expect(page.get_by_text('"big": 12345678901234567890')).to_be_visible()
        expect(page.locator("h1 + .status")).to_have_text("success")

    def test_what_is_no_json_is_told_before_it_is_sent(self, page: Page, base: str) -> None:
        page.goto(f"{base}/new")
        page.get_by_label("URL").fill(NOWHERE)
        for name, text in [("Payload", "{"), ("Headers", "[]"), ("Headers", '{"A": 1}')]:
            page.get_by_label(name).fill(text)
            expect(page.locator("form [role=alert]")).to_contain_text(name)
            expect(page.get_by_role("button", name="Push")).to_be_disabled()
            page.get_by_label(name).fill("")
        expect(page.get_by_role("button", name="Push")).to_be_enabled()


class TestJob:
    def test_all_of_it_is_shown_as_text(self, page: Page, base: str, hq: Hq, worker: WebWorker) -> None:
        hostile = '<img src=x onerror="document.title=1"><script>document.title=1</script>'
        worker.behaviours["/"] = lambda request, _: answer(500, hostile.encode())
        job = hq.done(worker.url(), name=hostile, comment=hostile, payload={"a": hostile}, headers={"X-A": hostile})
        page.goto(f"{base}/job/{job['id']}")
        expect(page.get_by_role("heading", level=1)).to_have_text(hostile)
        for text in (job["id"], worker.url(), "500", "Internal Server Error"):
            expect(page.get_by_text(text, exact=True).first).to_be_visible()
        expect(page.locator("pre").filter(has_text=hostile)).to_have_count(1)
        assert page.locator("main img, main script").count() == 0
        assert page.title() == "HQ"
        page.goto(f"{base}?term={job['id']}")
        expect(row(page, job["id"])).to_contain_text(hostile)
        assert page.locator("main img, main script").count() == 0

    def test_a_timeout_that_javascript_would_round(self, page: Page, base: str, hq: Hq) -> None:
        job_id = hq.done(NOWHERE, name="patient", timeout=2**53 + 1)["id"]
        page.goto(f"{base}/job/{job_id}")
        expect(page.get_by_role("heading", level=1)).to_have_text("patient")

    def test_one_that_is_not_there(self, page: Page, base: str) -> None:
        page.goto(f"{base}/job/5")
        expect(page.get_by_text("The job '5' is not found")).to_be_visible()

    def test_deleting_it_leads_to_the_list(self, page: Page, base: str, hq: Hq) -> None:
        job = hq.done(NOWHERE)
        page.goto(f"{base}/job/{job['id']}")
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(page).to_have_url(f"{base}/")


class TestOtherScreens:
    def test_stats(self, page: Page, base: str, hq: Hq) -> None:
        stats = hq.get("/stats").json
        page.goto(base)
        page.get_by_role("link", name="Stats").click()
        expect(page).to_have_url(f"{base}/stats")
        expect(page.locator(".figure").filter(has_text="Queue size")).to_contain_text("8,192")
        expect(page.locator(".figure").filter(has_text="Dispatchers")).to_contain_text(str(stats["dispatchers"]))
        page.go_back()
        expect(page.get_by_label("Search")).to_be_visible()

    def test_nothing_there(self, page: Page, base: str) -> None:
        page.goto(f"{base}/no/such/screen")
        expect(page.get_by_text("There is nothing here.")).to_be_visible()
        page.get_by_role("link", name="To the start page").click()
        expect(page.get_by_label("Search")).to_be_visible()

    @pytest.mark.parametrize("dark", [False, True])
    def test_light_and_dark(self, browser: Browser, base: str, dark: bool) -> None:
        system, other = ("dark", "light") if dark else ("light", "dark")
        with tab(browser, dark=dark) as page:
            page.goto(base)
            expect(page.locator("html")).to_have_attribute("data-theme", system)
            page.get_by_role("button", name="Light or dark").click()
            expect(page.locator("html")).to_have_attribute("data-theme", other)
            page.reload()
            expect(page.locator("html")).to_have_attribute("data-theme", other)

    def test_a_browser_that_keeps_nothing(self, page: Page, base: str) -> None:
        page.add_init_script(
            "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError'); }})"
        )
        page.goto(f"{base}/stats")
        expect(page.get_by_text("Jobs running")).to_be_visible()
        expect(page.locator("html")).to_have_attribute("data-theme", "light")
        page.get_by_role("button", name="Light or dark").click()
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")

    def test_nothing_sticks_out_of_a_narrow_window(self, browser: Browser, base: str, hq: Hq) -> None:
        hq.done(NOWHERE + "x" * 300, name="y" * 300, comment="z" * 300)
        job = hq.done(NOWHERE, name="n" * 200)
        with tab(browser, width=380) as page:
            for path in ("", f"/job/{job['id']}", "/new", "/stats"):
                page.goto(base + path)
                expect(page.locator("main > *")).to_be_visible()
                expect(page.locator("main")).not_to_contain_text("Loading")
                assert page.evaluate("document.documentElement.scrollWidth") <= 380

    def test_a_server_that_is_gone_is_told(self, browser: Browser) -> None:
        with tab(browser) as page:
            with ServerProcess("--hq-listen", "127.0.0.1:0") as server:
                host, port = server.http_addresses["hq"]
                page.goto(f"http://{host}:{port}/ui")
                expect(page.get_by_text("No jobs yet.")).to_be_visible()
            expect(page.get_by_role("alert").first).to_contain_text("cannot be reached")
            page.get_by_role("button", name="Dismiss").click()
            expect(page.get_by_role("alert").first).to_be_hidden()
