// Failed tasks: listed page by page, filtered, looked at, and where it is allowed sent back.
"use strict";

lambdaCelery.failed = (() => {
    const {ask, count, element, empty, moment, root, sentence, sum, table} = lambdaCelery;
    const place = (id) => document.getElementById(id);
    const [form, state, list, verbs] = [
        "lc-failed-filter", "lc-failed-state", "lc-failed-table", "lc-failed-verbs",
    ].map(place);
    const [newest, older, counts, dialog] = ["lc-failed-newest", "lc-failed-older", "lc-failed-counts", "lc-failure"].map(place);
    const VERBS = [
        ["retry", "Retry", "What is retried goes back to its queue, under its id, and runs once."],
        ["discard", "Discard", "What is discarded is gone: its dead letter is deleted."],
    ];
    const may_act = Boolean(root.dataset.token);
    const seen = {after: "", parked: null, asked: 0};

    function values() {
        const given = [...new FormData(form)].filter(([, value]) => value.trim());
        return new URLSearchParams(seen.after ? [...given, ["after", seen.after]] : given);
    }

    function chosen() {
        return [...list.querySelectorAll("input:checked")].map((each) => each.value);
    }

    function draw(page) {
        const box = (each) => element("input", {
            type: "checkbox", value: each.id, "aria-label": `${each.task || "A message"} ${each.task_id}`,
        });
        const rows = page.failures.map((each) => [
            ...(may_act ? [box(each)] : []),
            element("a", {href: `#failed=${encodeURIComponent(each.id)}`}, each.task || "A message"),
            each.task_id ? element("a", {
                href: `#task=${encodeURIComponent(each.task_id)}`, class: "lc-id", title: "Its attempts",
            }, each.task_id) : "-",
            each.exception + (each.is_retried ? " (sent back)" : ""),
            each.queue, moment(each.failed_at), count(each.attempts),
        ]);
        const columns = [...(may_act ? [""] : []), "Task", "Id", "Exception", "Queue", "Failed at", ["Attempts", "lc-number"]];
        const is_filtered = [...new FormData(form)].some(([, value]) => value.trim());
        const nothing = page.is_cut ? "None of those that were looked at matches."
            : is_filtered ? "No failed task matches." : "No task has failed for good.";
        list.replaceChildren(rows.length ? table("Failed tasks", columns, rows) : empty(nothing));
        verbs.hidden = !may_act || !rows.length;
        newest.hidden = !seen.after;
        older.hidden = !page.after;
        older.dataset.after = page.after;
        older.textContent = page.is_cut ? "Look on, further back" : "Older";
    }

    /** Ask for the page of the list that is shown, and show it as it is now. */
    async function load() {
        const asked = ++seen.asked;
        try {
            const page = await ask(`failed?${values()}`);
            if (asked !== seen.asked) return;
            draw(page);
            state.textContent = "";
        } catch (error) {
            if (asked === seen.asked) state.textContent = sentence(error);
        }
    }

    /** Begin anew with the newest. */
    function first() {
        seen.after = "";
        return load();
    }

    async function loadCounts() {
        const where = counts.querySelector(".lc-scroll");
        where.replaceChildren(element("p", {class: "lc-note"}, "All records are being read."));
        try {
            const said = await ask("failed-counts");
            const rows = said.counts.map((each) => {
                const button = element("button", {type: "button", class: "lc-link"}, each.task || "A message");
                button.addEventListener("click", () => {
                    form.reset();
                    form.elements.task.value = each.filter.task;
                    form.elements.exception.value = each.filter.exception;
                    first();
                });
                return [button, each.exception, each.queue, count(each.number)];
            });
            where.replaceChildren(
                rows.length ? table("Failed tasks, counted", ["Task", "Exception", "Queue", ["Failed", "lc-number"]], rows)
                    : empty("No task has failed for good."),
            );
        } catch (error) {
            where.replaceChildren(empty(sentence(error)));
        }
    }

    async function act(verb, ids) {
        const [, word, meaning] = VERBS.find(([each]) => each === verb);
        if (!ids.length) {
            state.textContent = "No failed task was chosen.";
            return;
        }
        const which = ids.length > 1 ? `${ids.length} failed tasks` : "this failed task";
        if (!confirm(`${word} ${which}? ${meaning}`)) return;
        let said;
        try {
            const answer = await ask(`failed/${verb}`, {
                method: "POST", body: JSON.stringify({ids}),
                headers: {"Content-Type": "application/json", "X-Lambda-Celery-Token": root.dataset.token},
            });
            said = [...answer.refused, ...answer.done].join(" ");
        } catch (error) {
            said = sentence(error);
        }
        if (dialog.open) dialog.close();
        await load();
        state.textContent = said;
        // What had the focus is not there any longer.
        state.focus();
    }

    function buttons(ids) {
        return VERBS.map(([verb, word]) => {
            const made = element("button", {type: "button", "data-verb": verb}, word);
            made.addEventListener("click", () => act(verb, ids()));
            return made;
        });
    }

    function close() {
        const made = element("button", {type: "button"}, "Close");
        made.addEventListener("click", () => dialog.close());
        return made;
    }

    function links(failure) {
        const found = [];
        if (failure.task_id) {
            const made = element("a", {href: `#task=${encodeURIComponent(failure.task_id)}`}, "Its attempts");
            made.addEventListener("click", () => dialog.close("left"));
            found.push(made);
        }
        // Django's admin has a page of its own about each.
        if (failure.page) found.push(element("a", {href: failure.page}, "Send it back, or discard it"));
        return found;
    }

    /** Show all that is known of the failure `id`. */
    async function open(id) {
        let content;
        try {
            const failure = await ask(`failed/${encodeURIComponent(id)}`);
            content = [
                element("h2", {id: "lc-failure-name"}, `${failure.task || "A message"} ${failure.task_id}`),
                element("dl", {class: "lc-fields"}, ...failure.fields.flatMap(([label, value, is_moment]) => [
                    element("dt", {}, label),
                    element("dd", {}, is_moment ? moment(value) : String(value)),
                ])),
                ...(failure.has_message ? [] : [element(
                    "p", {class: "lc-note"}, "The message is too large to be kept here: it is on the dead-letter queue.",
                )]),
                ...(failure.traceback ? [
                    element("h3", {id: "lc-traceback"}, "Traceback"),
                    element("pre", {tabindex: "0", role: "group", "aria-labelledby": "lc-traceback"}, failure.traceback),
                ] : []),
                element("p", {class: "lc-pager"}, close(), ...(may_act ? buttons(() => [id]) : []), ...links(failure)),
            ];
        } catch (error) {
            content = [
                element("h2", {id: "lc-failure-name"}, "Failed task"),
                element("p", {}, sentence(error)), element("p", {class: "lc-pager"}, close()),
            ];
        }
        dialog.replaceChildren(...content);
        if (!dialog.open) dialog.showModal();
        dialog.scrollTop = 0;
        // A traceback ends with what has happened.
        const pre = dialog.querySelector("pre");
        if (pre) pre.scrollTop = pre.scrollHeight;
    }

    /** Look again where what is parked has changed, unless somebody is at it. */
    function follow(status) {
        const parked = sum(status.queues.map((each) => each.parked || 0))
            + sum(status.tasks.map((each) => sum(each.failed)));
        const is_used = dialog.open || list.closest("section").contains(document.activeElement) || chosen().length;
        if (parked === seen.parked || is_used) return;
        const is_first = seen.parked === null;
        seen.parked = parked;
        if (!is_first) load();
    }

    verbs.append(...buttons(chosen));
    form.addEventListener("submit", (event) => {
        event.preventDefault();
        first();
    });
    // The fields are empty after the event.
    form.addEventListener("reset", () => setTimeout(first));
    place("lc-failed-reload").addEventListener("click", load);
    newest.addEventListener("click", first);
    older.addEventListener("click", () => {
        seen.after = older.dataset.after;
        load();
    });
    counts.addEventListener("toggle", () => {
        if (counts.open) loadCounts();
    });
    dialog.addEventListener("close", () => {
        // So that the same link opens it again.
        if (dialog.returnValue !== "left") history.replaceState(null, "", location.pathname + location.search);
        dialog.returnValue = "";
    });

    return {follow, load, open};
})();
