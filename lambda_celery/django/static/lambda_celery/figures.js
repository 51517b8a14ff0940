// The figures of one look as tiles and tables.
"use strict";

lambdaCelery.figures = (() => {
    const {count, element, empty, knowsTasks, milliseconds, moment, show, span, sparkline, sum, table} = lambdaCelery;
    const place = (id) => document.getElementById(id);
    const number = (name) => [name, "lc-number"];

    function known(values) {
        return values.filter((each) => each !== null);
    }

    function total(values) {
        return known(values).length ? sum(known(values)) : null;
    }

    function bad(value, text = count(value)) {
        return [text, value > 0 ? "lc-bad" : null];
    }

    function counted(values) {
        return values.length ? count(sum(values)) : "-";
    }

    function dollars(value) {
        return value === null ? "-" : `$${value.toFixed(2)}`;
    }

    function tiles(status) {
        const of_queues = (name) => total(status.queues.map((each) => each[name]));
        const of_tasks = (name) => (knowsTasks(status) ? sum(status.tasks.map((each) => sum(each[name]))) : null);
        const oldest = known(status.queues.map((each) => each.oldest_seconds));
        const parked = of_queues("parked");
        const failed = of_tasks("failed");
        const entries = [
            ["Waiting", count(of_queues("waiting")), ""],
            ["In flight", count(of_queues("in_flight")), ""],
            ["Oldest", oldest.length ? span(Math.max(...oldest)) : "-", ""],
            ["Succeeded, 1 h", count(of_tasks("succeeded")), ""],
            ["Failed, 1 h", count(failed), failed ? "lc-bad" : ""],
            ["Parked", count(parked), parked ? "lc-bad" : ""],
            ["Cost today", dollars(total(status.functions.map((each) => each.usd_today))), ""],
        ];
        show(place("lc-tiles"), entries, () => entries.map(([name, value, named]) => element(
            "div", {}, element("dt", {}, name), element("dd", {class: named}, value),
        )));
    }

    function drain(queue) {
        if (queue.drain_seconds !== null) return span(queue.drain_seconds);
        if (queue.trend_per_minute === null) return "-";
        const growth = Math.round(queue.trend_per_minute);
        return growth > 0 ? `+${count(growth)}/min` : "steady";
    }

    function mappings(queue) {
        const names = {Enabled: "on", Disabled: "paused"};
        const words = queue.mappings.map((each) => {
            const most = each.maximum_concurrency ? `, ${each.maximum_concurrency} at once` : "";
            return (names[each.state] || each.state.toLowerCase()) + most;
        });
        const is_off = queue.mappings.some((each) => each.state !== "Enabled");
        return [words.join("; ") || "-", is_off ? "lc-warning" : null];
    }

    function queues(status) {
        show(place("lc-queues-table"), status.queues, () => (status.queues.length ? table(
            "Queues",
            ["Queue", number("Waiting"), number("In flight"), number("Delayed"), number("Oldest"),
                number("Empty in"), number("Parked"), "Waiting, last hour", "Mapping"],
            status.queues.map((each) => [
                each.name, count(each.waiting), count(each.in_flight), count(each.delayed),
                span(each.oldest_seconds), drain(each), bad(each.parked),
                sparkline(each.waiting_by_minute, "Waiting"), mappings(each),
            ]),
        ) : empty("No queue could be read.")));
    }

    function functions(status) {
        // CloudWatch may have no points of what never happened.
        const faults = (values, each) => bad(
            sum(values), values.length || !each.invocations.length ? counted(values) : "0",
        );
        show(place("lc-functions-table"), status.functions, () => (status.functions.length ? table(
            "Functions",
            ["Function", number("Invocations"), number("Errors"), number("Throttles"), number("Mean"),
                number("Longest"), number("At once"), number("Cost today"), "Invocations, last hour"],
            status.functions.map((each) => [
                each.name, counted(each.invocations), faults(each.errors, each),
                faults(each.throttles, each), milliseconds(each.duration_ms),
                milliseconds(each.duration_maximum_ms), count(each.concurrent), dollars(each.usd_today),
                sparkline(each.invocations, "Invocations"),
            ]),
        ) : empty("No function takes from the queues, or none could be read.")));
    }

    function tasks(status) {
        show(place("lc-tasks"), status.tasks, () => (status.tasks.length ? table(
            "Tasks",
            ["Task", "Queue", number("Succeeded"), number("Retried"), number("Failed"), number("Mean"),
                "Succeeded, last hour"],
            status.tasks.map((each) => [
                each.name, each.queue, counted(each.succeeded), counted(each.retried),
                bad(sum(each.failed), counted(each.failed)), milliseconds(each.duration_ms),
                sparkline(each.succeeded, "Succeeded"),
            ]),
        ) : []));
    }

    function deployments(status) {
        show(place("lc-deployments"), status.deployments, () => status.deployments.flatMap((each, n) => [
            n ? "; " : "Deployed: ", `${each.function} ${each.version} at `, moment(each.time),
        ]));
    }

    /** Fill the list of tasks, and leave what is chosen. */
    function choices(status) {
        const select = place("lc-task");
        const names = [...new Set(status.tasks.map((each) => each.name))].sort();
        const chosen = select.value;
        // What is chosen stays, though it has not run for an hour.
        if (chosen && !names.includes(chosen)) names.push(chosen);
        show(select, names, () => [
            element("option", {value: ""}, "All tasks"),
            ...names.map((each) => element("option", {value: each}, each)),
        ]);
        select.value = chosen;
    }

    function leftOut(status) {
        show(place("lc-left-out"), status.left_out, () => (status.left_out.length ? element(
            "ul", {class: "lc-left-out"}, ...status.left_out.map((each) => element("li", {}, each)),
        ) : []));
    }

    /** Show all of `status` but the charts. */
    function draw(status) {
        [tiles, choices, tasks, deployments, queues, functions, leftOut].forEach((each) => each(status));
    }

    return {draw};
})();
