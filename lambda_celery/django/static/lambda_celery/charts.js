// Charts of the last hour by minute: uPlot draws axes and bars, and what it has no shape for is drawn
// onto its canvas. Each has a table of the same figures beside it.
"use strict";

lambdaCelery.charts = (() => {
    const {count, element, empty, knowsTasks, milliseconds, minute, show, sum, table} = lambdaCelery;
    const HEIGHT = 190;
    const charts = [];

    function colour(name) {
        return getComputedStyle(lambdaCelery.root).getPropertyValue(`--lc-${name}`).trim();
    }

    /** Draw when a function became another one: a line, and its version above the plot. */
    function drawMarks(plot, marks) {
        const {ctx, bbox} = plot;
        ctx.save();
        ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
        ctx.strokeStyle = ctx.fillStyle = colour("mark");
        ctx.lineWidth = devicePixelRatio;
        ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
        ctx.textBaseline = "bottom";
        let free = bbox.left;
        for (const each of marks) {
            const x = Math.round(plot.valToPos(Date.parse(each.time) / 1000, "x", true));
            if (x < bbox.left || x > bbox.left + bbox.width) continue;
            ctx.beginPath();
            ctx.moveTo(x, bbox.top);
            ctx.lineTo(x, bbox.top + bbox.height);
            ctx.stroke();
            const width = ctx.measureText(`▾ ${each.version}`).width;
            const tip = 4 * devicePixelRatio;
            const is_at_end = x - tip + width > bbox.left + bbox.width;
            const text = is_at_end ? `${each.version} ▾` : `▾ ${each.version}`;
            const left = is_at_end ? x + tip - width : x - tip;
            if (left < free) continue;
            ctx.fillText(text, left, bbox.top - 2 * devicePixelRatio);
            free = left + width + 6 * devicePixelRatio;
        }
        ctx.restore();
    }

    function axes(more) {
        const common = {
            stroke: () => colour("quiet"), font: "11px system-ui, sans-serif",
            ticks: {show: false}, grid: {stroke: () => colour("grid"), width: 1},
        };
        return [
            {...common, size: 24, space: 70, grid: {show: false}, values: (_, all) => all.map(minute)},
            {...common, size: 56, ...more},
        ];
    }

    /** A chart in the figure `id`, of which `plotted` gives uPlot's options and data. */
    class Chart {
        constructor(id, plotted) {
            this.figure = document.getElementById(id);
            this.place = this.figure.querySelector(".lc-plot");
            this.readout = this.figure.querySelector(".lc-readout");
            this.plotted = plotted;
            this.plot = null;
            new ResizeObserver(() => this.fit()).observe(this.place);
            charts.push(this);
        }

        fit() {
            const width = this.place.clientWidth;
            if (this.plot && width && width !== this.plot.width) this.plot.setSize({width, height: HEIGHT});
        }

        /** Show `figures`, or the sentence that says that there are none. */
        draw(figures, nothing) {
            this.figures = figures;
            this.nothing = nothing;
            if (nothing) {
                this.plot?.destroy();
                this.plot = null;
                this.place.replaceChildren(empty(nothing));
                this.readout.textContent = "";
                return;
            }
            if (this.plot) {
                this.plot.setData(this.plotted.data(figures));
                return;
            }
            this.place.replaceChildren();
            const chart = this;
            this.plot = new uPlot({
                width: this.place.clientWidth || 600, height: HEIGHT, padding: [18, 18, 0, 0],
                legend: {show: false},
                cursor: {y: false, points: {show: false}, drag: {x: false, y: false}, sync: {key: "lambda-celery"}},
                hooks: {
                    draw: [(plot) => {
                        this.plotted.drawn?.(plot, this.figures);
                        drawMarks(plot, this.figures.deployments);
                    }],
                    setCursor: [(plot) => {
                        const n = plot.cursor.idx;
                        const is_there = n !== null && n !== undefined && plot.cursor.left >= 0;
                        this.readout.textContent = is_there
                            ? `${minute(this.figures.minutes[n])} - ${this.plotted.said(this.figures, n)}` : "";
                    }],
                },
                ...this.plotted.options(() => chart.figures),
            }, this.plotted.data(figures), this.place);
        }

        redraw() {
            if (this.figures && !this.nothing) this.plot?.redraw(true, true);
        }
    }

    /** Bars that stand on each other: each is drawn behind those below it, from the ground. */
    function stacked(names) {
        return {
            data: (figures) => [
                figures.minutes,
                ...names.map((_, n) => figures.minutes.map(
                    (_, at) => sum(names.slice(n).map((each) => figures[each][at])),
                )),
            ],
            options: () => ({
                scales: {x: {range: aroundMinutes}, y: {range: (_, low, high) => [0, Math.max(4, high * 1.1)]}},
                axes: axes({
                    incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6],
                    values: (_, all) => all.map((each) => count(each)),
                }),
                series: [{}, ...names.map((each) => ({
                    fill: () => colour(each), width: 0, points: {show: false},
                    paths: uPlot.paths.bars({size: [0.72, 24]}),
                }))],
            }),
            said: (figures, n) => names.map((each) => `${count(figures[each][n])} ${each}`).reverse().join(", "),
        };
    }

    // Half a minute more on both sides: a bar stands around its minute.
    function aroundMinutes(_, low, high) {
        return [low - 30, high + 30];
    }

    /** Return the words of the bucket `n`. */
    function bucket(bounds, n) {
        return n < bounds.length ? `up to ${milliseconds(bounds[n])}` : `above ${milliseconds(bounds.at(-1))}`;
    }

    const heat = {
        data: (figures) => [figures.minutes, figures.minutes.map(() => 0)],
        options: (now) => ({
            scales: {x: {range: aroundMinutes}, y: {range: () => [0, now().bounds.length + 1]}},
            axes: axes({
                splits: () => [...now().bounds.keys()].map((n) => n + 1),
                values: (_, all) => all.map((each) => milliseconds(now().bounds[each - 1])),
            }),
            series: [{}, {paths: () => null, points: {show: false}}],
        }),
        drawn: (plot, figures) => {
            const highest = Math.max(1, ...figures.durations.flat());
            const {ctx} = plot;
            const width = plot.valToPos(60, "x", true) - plot.valToPos(0, "x", true);
            const gap = devicePixelRatio;
            ctx.save();
            ctx.fillStyle = colour("heat");
            figures.durations.forEach((buckets, at) => buckets.forEach((runs, n) => {
                if (!runs) return;
                const left = plot.valToPos(figures.minutes[at] - 30, "x", true);
                const top = plot.valToPos(n + 1, "y", true);
                const bottom = plot.valToPos(n, "y", true);
                // One run of many must be seen.
                ctx.globalAlpha = 0.18 + 0.82 * Math.sqrt(runs / highest);
                ctx.fillRect(left + gap / 2, top + gap / 2, width - gap, bottom - top - gap);
            }));
            ctx.restore();
        },
        said: (figures, at) => figures.durations[at]
            ?.map((runs, n) => (runs ? `${count(runs)} ${bucket(figures.bounds, n)}` : null))
            .filter(Boolean).join(", ") || "none ran",
    };

    const throughput = new Chart("lc-throughput", stacked(["failed", "retried", "succeeded"]));
    const failures = new Chart("lc-failures", stacked(["failed", "retried"]));
    const durations = new Chart("lc-durations", heat);

    function legend(chart, entries) {
        show(chart.figure.querySelector(".lc-legend"), entries, () => entries.map(([name, words]) => element(
            "span", {}, element("span", {class: `lc-swatch lc-is-${name}`, "aria-hidden": "true"}), words,
        )));
    }

    function alternative(chart, name, columns, rows, nothing) {
        const place = chart.figure.querySelector("details .lc-scroll");
        show(place, [columns, rows], () => (rows.length ? table(name, columns, rows) : empty(nothing)));
    }

    /** Return the figures of the tasks of `status` that are `chosen`, added up by minute. */
    function added(status, chosen) {
        const tasks = status.tasks.filter((each) => !chosen || each.name === chosen);
        const length = Math.max(0, ...status.tasks.map((each) => Math.max(
            each.succeeded.length, each.failed.length, each.retried.length, each.durations.length,
        )));
        // The last of each is of the latest minute, whatever its length.
        const at = (values, n) => values[values.length - length + n];
        const by_minute = (name) => [...Array(length).keys()].map(
            (n) => sum(tasks.map((each) => at(each[name], n) || 0)),
        );
        const bounds = status.duration_bounds_ms;
        const started = Date.parse(status.started) / 1000;
        return {
            minutes: [...Array(length).keys()].map((n) => started + 60 * n),
            succeeded: by_minute("succeeded"), failed: by_minute("failed"), retried: by_minute("retried"),
            durations: [...Array(length).keys()].map((n) => [...Array(bounds.length + 1).keys()].map(
                (b) => sum(tasks.map((each) => at(each.durations, n)?.[b] || 0)),
            )),
            bounds, deployments: status.deployments,
        };
    }

    /** Show the tasks of `status`, or the one that is `chosen`. */
    function draw(status, chosen) {
        const figures = added(status, chosen);
        const total = Object.fromEntries(["succeeded", "failed", "retried"].map((each) => [each, sum(figures[each])]));
        const whose = chosen || "No task";
        const ran = total.succeeded + total.failed + total.retried;
        const unknown = knowsTasks(status) ? "" : "What tasks did in the last hour is not known.";
        const none = unknown || (chosen ? "It has not run in the last hour." : "No task has run in the last hour.");
        throughput.draw(figures, ran ? "" : none);
        failures.draw(figures, total.failed + total.retried ? ""
            : unknown || `${whose} has ${chosen ? "not " : ""}failed or been retried in the last hour.`);
        const timed = sum(figures.durations.flat());
        // Only the busiest tasks are timed.
        const untimed = ran ? "How long it took is not known." : none;
        durations.draw(figures, timed ? "" : untimed);
        const named = (each) => [each, unknown ? each : `${count(total[each])} ${each}`];
        legend(throughput, ["succeeded", "retried", "failed"].map(named));
        legend(failures, ["retried", "failed"].map(named));
        legend(durations, timed ? [["heat", "the stronger, the more runs in that minute"]] : []);

        const n = (each) => [each, "lc-number"];
        const minutes = [...figures.minutes.keys()].reverse();
        const busy = minutes.filter((at) => figures.succeeded[at] + figures.failed[at] + figures.retried[at]);
        alternative(
            throughput, "Throughput by minute", ["Minute", n("Succeeded"), n("Retried"), n("Failed")],
            busy.map((at) => [
                minute(figures.minutes[at]),
                ...["succeeded", "retried", "failed"].map((each) => count(figures[each][at])),
            ]), none,
        );
        alternative(
            failures, "Failures and retries by minute", ["Minute", n("Retried"), n("Failed")],
            busy.filter((at) => figures.failed[at] + figures.retried[at]).map((at) => [
                minute(figures.minutes[at]), count(figures.retried[at]), count(figures.failed[at]),
            ]), failures.nothing,
        );
        alternative(
            durations, "Runs by minute and by how long they took",
            ["Minute", ...[...Array(figures.bounds.length + 1).keys()].map((b) => n(bucket(figures.bounds, b)))],
            minutes.filter((at) => sum(figures.durations[at])).map((at) => [
                minute(figures.minutes[at]), ...figures.durations[at].map((each) => count(each)),
            ]), untimed,
        );
    }

    function redraw() {
        charts.forEach((each) => each.redraw());
    }

    // The canvas has the colours of the moment in which it was drawn.
    new MutationObserver(redraw).observe(document.documentElement, {attributeFilter: ["data-theme"]});
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

    return {draw};
})();
