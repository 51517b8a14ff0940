"""The page in a real browser, as a person sees and uses it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from playwright.sync_api import expect

from lambda_celery.status.figures import TaskStatus
from tests.functional.dashboard.figures import busy, idle

#: How many pixels of the colour that the variable names there are on a chart.
PIXELS_OF = """([id, name]) => {
    const canvas = document.querySelector(`#${id} canvas`);
    const pen = canvas.getContext("2d");
    const colour = getComputedStyle(document.getElementById("lc")).getPropertyValue(name).trim();
    const wanted = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    const {data} = pen.getImageData(0, 0, canvas.width, canvas.height);
    let found = 0;
    for (let at = 0; at < data.length; at += 4) {
        if (wanted.every((each, n) => Math.abs(data[at + n] - each) < 3)) found += 1;
    }
    return found;
}"""
DRAWN = (
    ("lc-throughput", "--lc-succeeded"),
    ("lc-failures", "--lc-failed"),
    ("lc-durations", "--lc-heat"),
    ("lc-durations", "--lc-mark"),
)
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_shows_all_figures_and_asks_nobody_else(shop, visit, scheme):
    for number in range(3):
        shop.fail(number)
    with shop.serving() as url:
        seen = visit(url, color_scheme=scheme)
        expect(seen.page.locator("#lc-failed-table tbody tr")).to_have_count(3)
        expect(seen.page.locator("#lc-state")).to_have_text("The figures are live.")
        for chart in DRAWN:
            assert seen.page.evaluate(PIXELS_OF, chart) > 50, chart
        seen.picture(scheme)
        assert "1,180" in seen.text("#lc-queues-table")
        assert "shop-payments 42 at" in seen.text("#lc-deployments")
        assert "allow cloudwatch:GetMetricData" in seen.text("#lc-left-out")
        is_dark = seen.page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] < 128"
        )
        assert is_dark == (scheme == "dark")
        assert seen.complaints == []
        assert all(each.startswith(url) for each in seen.asked), seen.asked


def test_each_chart_is_a_table_as_well_and_of_one_task_if_it_is_chosen(shop, visit):
    with shop.serving() as url:
        seen = visit(url)
        seen.page.get_by_role("combobox").select_option("shop.make_report")
        expect(seen.page.locator("#lc-failures .lc-plot")).to_have_text(
            "shop.make_report has not failed or been retried in the last hour."
        )
        seen.page.get_by_text("How long they ran as a table").click()
        table = seen.page.get_by_role("table", name="Runs by minute and by how long they took")
        expect(table.get_by_role("columnheader")).to_have_count(9)
        expect(table.get_by_role("row").nth(1)).to_contain_text("12:00")


def test_an_app_that_has_not_run_yet_is_told_so_and_then_moves(shop, visit):
    shop.figures.now = idle()
    with shop.serving() as url:
        seen = visit(url)
        expect(seen.page.locator("#lc-throughput .lc-plot")).to_have_text(
            "No task has run in the last hour."
        )
        expect(seen.page.locator("#lc-failed-table")).to_have_text("No task has failed for good.")
        shop.figures.now = busy()
        expect(seen.page.locator("#lc-throughput canvas")).to_be_visible()
        assert seen.page.evaluate(PIXELS_OF, DRAWN[0]) > 50
        assert seen.complaints == []


def test_what_could_not_be_read_is_not_told_to_be_nothing(shop, visit):
    refused = "Allow cloudwatch:GetMetricData."
    shop.figures.now = replace(
        idle(), tasks=(TaskStatus("shop.send_mail", "mail"),), left_out=(refused,)
    )
    with shop.serving() as url:
        seen = visit(url)
        for each in ("throughput", "failures", "durations"):
            expect(seen.page.locator(f"#lc-{each} .lc-plot")).to_have_text(
                "What tasks did in the last hour is not known."
            )
        expect(seen.page.locator("#lc-failures .lc-legend")).to_have_text("retriedfailed")
        expect(seen.page.locator("#lc-tiles")).to_contain_text("Failed, 1 h-")
        expect(seen.page.locator("#lc-tasks tbody td").nth(3)).to_have_text("-")
        expect(seen.page.locator("#lc-left-out")).to_have_text(refused)


def test_it_can_be_walked_through_by_keyboard(shop, visit):
    shop.fail(1)
    with shop.serving() as url:
        seen = visit(url)
        expect(seen.page.locator("#lc-failed-table tbody tr")).to_have_count(1)
        names = []
        while "shop.charge_card" not in names:
            seen.page.keyboard.press("Tab")
            name, outline = seen.page.evaluate(
                "[document.activeElement.getAttribute('aria-label')"
                " || document.activeElement.innerText || document.activeElement.name,"
                " getComputedStyle(document.activeElement).outlineStyle]"
            )
            assert outline != "none", name
            assert len(names) < 60, names
            names.append(name)
        for each in ("Skip to the figures", "Throughput as a table", "q", "Filter"):
            assert each in names, names
        seen.page.keyboard.press("Enter")
        expect(seen.page.get_by_role("dialog")).to_be_visible()
        seen.page.keyboard.press("Escape")
        expect(seen.page.get_by_role("dialog")).to_be_hidden()
        assert seen.page.evaluate("document.activeElement.innerText") == "shop.charge_card"


def test_dark_or_light_can_be_chosen_and_is_kept(shop, visit):
    with shop.serving() as url:
        seen = visit(url, color_scheme="light")
        button = seen.page.get_by_role("button", name="Theme")
        button.click()
        button.click()
        expect(button).to_have_text("Theme: dark")
        seen.page.reload()
        assert seen.page.evaluate("document.documentElement.dataset.theme") == "dark"
        expect(seen.page.locator("#lc-throughput canvas")).to_be_visible()
        assert seen.page.evaluate(PIXELS_OF, DRAWN[0]) > 50


def test_what_a_sender_has_written_is_text_and_nothing_else(shop, visit):
    shop.figures.now = replace(
        busy(), tasks=(replace(busy().tasks[0], name=HOSTILE),), left_out=(HOSTILE,)
    )
    shop.figures.found = replace(
        shop.figures.found,
        attempts=tuple(
            replace(each, task=HOSTILE, exception=HOSTILE, task_id=HOSTILE, parent_id=HOSTILE)
            for each in shop.figures.found.attempts
        ),
    )
    hostile = dict.fromkeys(("task", "task_id", "exception", "message", "traceback"), HOSTILE)
    shop.fail(1, args=HOSTILE, **hostile)
    with shop.serving() as url:
        seen = visit(url)
        seen.page.locator("#lc-failed-table tbody th a").click()
        dialog = seen.page.get_by_role("dialog")
        expect(dialog.locator("pre")).to_have_text(HOSTILE)
        dialog.get_by_role("link", name="Its attempts").click()
        expect(seen.page.locator("#lc-attempts-table tbody tr")).to_have_count(5)
        assert shop.figures.asked == [HOSTILE]
        assert seen.page.locator("#lc img, #lc script").count() == 0
        assert seen.page.title() == "shop - Lambda Celery"
        assert seen.complaints == []


def test_failed_tasks_are_filtered_counted_and_followed_to_their_attempts(shop, visit):
    for number in range(120):
        shop.fail(number, task="shop.send_mail", exception="SMTPDataError")
    shop.fail(200)
    with shop.serving() as url:
        seen = visit(url)
        rows = seen.page.locator("#lc-failed-table tbody tr")
        expect(rows).to_have_count(100)
        seen.page.get_by_role("button", name="Older").click()
        expect(rows).to_have_count(21)
        seen.page.get_by_role("button", name="The newest").click()
        expect(rows).to_have_count(100)
        seen.page.get_by_text("Count by task and exception").click()
        counted = seen.page.get_by_role("table", name="Failed tasks, counted")
        expect(counted.get_by_role("row").nth(1)).to_contain_text("120")
        counted.get_by_role("button", name="shop.charge_card").click()
        expect(rows).to_have_count(1)
        rows.get_by_role("link", name="shop.charge_card").click()
        dialog = seen.page.get_by_role("dialog")
        expect(dialog).to_contain_text("(200,)")
        expect(dialog.locator("pre")).to_contain_text("in charge_card")
        assert "the body of" not in dialog.inner_text()
        seen.picture("failure", within="dialog")
        assert dialog.get_by_role("button").all_inner_texts() == ["Close"]
        seen.page.keyboard.press("Escape")
        rows.get_by_role("link", name="93f1e0b7-charge-200").click()
        expect(seen.page.locator("#lc-attempts-state")).to_have_text("5 attempts of 3 tasks.")
        seen.picture("attempts", within="section:has(#lc-attempts)")
        assert shop.figures.asked == ["93f1e0b7-charge-200"]


def test_where_it_is_allowed_failed_tasks_are_sent_back_and_discarded(shop, visit):
    about = shop.stack.sqs.get_queue_attributes(
        QueueUrl=shop.stack.queue_url, AttributeNames=["QueueArn"]
    )
    place = {
        "queue": about["Attributes"]["QueueArn"],
        "dead_letter_queue": shop.stack.dead_letter_queue_url,
    }
    for number in range(3):
        shop.fail(number, **place)
    with shop.serving(allow_retry=True) as url:
        seen = visit(url)
        seen.page.on("dialog", lambda asked: asked.accept())
        rows = seen.page.locator("#lc-failed-table tbody tr")
        seen.page.get_by_label("shop.charge_card 93f1e0b7-charge-0").check()
        seen.page.locator("#lc-failed-verbs").get_by_role("button", name="Discard").click()
        expect(rows).to_have_count(2)
        expect(seen.page.locator("#lc-failed-state")).to_contain_text("discarded")
        rows.first.get_by_role("link", name="shop.charge_card").click()
        seen.page.get_by_role("dialog").get_by_role("button", name="Retry").click()
        expect(rows).to_have_count(1)
        expect(seen.page.locator("#lc-failed-state")).to_contain_text("sent back to")
    assert [each["Body"] for each in shop.stack.messages()] == ["the body of 1"]


def test_the_last_figures_stay_while_the_server_is_gone(shop, visit):
    with shop.serving() as url:
        seen = visit(url)
        state = seen.page.locator("#lc-state")
        expect(state).to_have_text("The figures are live.")
    expect(state).to_have_text("The server does not answer. These are the figures of 12:00:20.")
    assert "1,180" in seen.text("#lc-queues-table")
    with shop.serving(port=int(url.rpartition(":")[2].strip("/"))):
        expect(state).to_have_text("The figures are live.")


def test_it_does_not_look_while_nobody_sees_it(shop, visit):
    with shop.serving() as url:
        seen = visit(url)
        seen.page.clock.install()
        seen.page.reload()
        expect(seen.page.locator("#lc-state")).to_have_text("The figures are live.")
        # As the browser says it of a tab that is behind another one.
        hide = "is => {Object.defineProperty(document, 'hidden', {value: is, configurable: true});"
        hide += "document.dispatchEvent(new Event('visibilitychange'))}"
        seen.page.evaluate(hide, True)
        seen.asked.clear()
        seen.page.clock.run_for(60_000)
        assert seen.asked == []
        with seen.page.expect_request("**/api/status"):
            seen.page.evaluate(hide, False)
