// Elements and texts. Whoever may send a message chooses names, exceptions and tracebacks: they come
// into the page as text alone, and nothing here or elsewhere reads HTML.
"use strict";

window.lambdaCelery = (() => {
    const SVG = "http://www.w3.org/2000/svg";
    const root = document.getElementById("lc");
    const number = new Intl.NumberFormat("en", {maximumFractionDigits: 0});
    const small = new Intl.NumberFormat("en", {maximumSignificantDigits: 3});

    /** Return the element `name` with `attributes`, and with `children`: elements, or texts. */
    function element(name, attributes = {}, ...children) {
        return filled(document.createElement(name), attributes, children);
    }

    function filled(made, attributes, children) {
        for (const [each, value] of Object.entries(attributes)) {
            if (value === true) made.setAttribute(each, "");
            else if (value !== false && value !== null) made.setAttribute(each, value);
        }
        made.append(...children.filter((each) => each !== null));
        return made;
    }

    /** Put `children` in the place of what `parent` has, unless `about` is what it shows already. */
    function show(parent, about, make) {
        const text = JSON.stringify(about);
        if (parent.lcShown === text) return;
        parent.lcShown = text;
        parent.replaceChildren(...[make()].flat());
    }

    function count(value) {
        return value === null || value === undefined ? "-" : number.format(value);
    }

    function sum(values) {
        return values.reduce((total, each) => total + each, 0);
    }

    /** Whether `status` tells what tasks did. What could not be read is not known to be nothing. */
    function knowsTasks(status) {
        return status.tasks.some((each) => each.succeeded.length) || !status.left_out.length;
    }

    /** Return `seconds` as people say them: in the largest unit, and the next one. */
    function span(seconds) {
        if (seconds === null || seconds === undefined) return "-";
        const whole = Math.round(seconds);
        for (const [size, unit, less, lower] of [
            [86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"],
        ]) {
            if (whole >= size) {
                const rest = Math.floor((whole % size) / less);
                return `${Math.floor(whole / size)} ${unit}` + (rest ? ` ${rest} ${lower}` : "");
            }
        }
        return `${whole} s`;
    }

    function milliseconds(value) {
        if (value === null || value === undefined) return "-";
        return value < 1000 ? `${small.format(value)} ms` : `${small.format(value / 1000)} s`;
    }

    function two(value) {
        return String(value).padStart(2, "0");
    }

    function minute(seconds) {
        const time = new Date(seconds * 1000);
        return `${two(time.getHours())}:${two(time.getMinutes())}`;
    }

    function clock(text) {
        const time = new Date(text);
        return `${minute(time / 1000)}:${two(time.getSeconds())}`;
    }

    function moment(text) {
        const time = new Date(text);
        const day = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
        return element("time", {datetime: text}, `${day} ${clock(text)}`);
    }

    /**
     * Return a table. A column is its head, or an array of the head and a class, such as "lc-number";
     * a cell is a text, an element, or an array of one and a class. The first cell heads its row.
     */
    function table(caption, columns, rows) {
        const classes = columns.map((each) => (Array.isArray(each) ? each[1] : null));
        const heads = columns.map((each) => (Array.isArray(each) ? each[0] : each));
        const head = heads.map((each, n) => element("th", {scope: "col", class: classes[n]}, each));
        const body = rows.map((cells) => element("tr", {}, ...cells.map((cell, n) => {
            const [content, own] = Array.isArray(cell) ? cell : [cell, null];
            const named = [classes[n], own].filter(Boolean).join(" ") || null;
            const is_head = n === headed(heads);
            return element(is_head ? "th" : "td", {scope: is_head ? "row" : null, class: named}, content);
        })));
        return element(
            "table", {class: "lc-table"},
            element("caption", {class: "lc-unseen"}, caption),
            element("thead", {}, element("tr", {}, ...head)),
            element("tbody", {}, ...body),
        );
    }

    // A box to tick stands before what heads the row.
    function headed(heads) {
        return heads[0] === "" ? 1 : 0;
    }

    function empty(sentence) {
        return element("p", {class: "lc-empty"}, sentence);
    }

    /** Return a small line of `values`, with words for who does not see it. */
    function sparkline(values, name) {
        if (!values.length) return "-";
        const highest = Math.max(...values);
        const [width, height] = [120, 24];
        const step = values.length > 1 ? width / (values.length - 1) : 0;
        const y = (each) => height - 2 - (highest > 0 ? each / highest : 0) * (height - 4);
        const points = values.map((each, n) => `${(n * step).toFixed(1)},${y(each).toFixed(1)}`);
        const words = `${name}: ${count(values.at(-1))} in the latest minute, ${count(highest)} at most`;
        const drawn = document.createElementNS(SVG, "svg");
        const line = document.createElementNS(SVG, "polyline");
        const area = document.createElementNS(SVG, "polygon");
        const title = document.createElementNS(SVG, "title");
        return filled(drawn, {
            class: "lc-spark", viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
            "aria-label": words, preserveAspectRatio: "none",
        }, [
            filled(title, {}, [words]),
            filled(area, {points: `0,${height} ${points.join(" ")} ${width},${height}`}, []),
            filled(line, {points: points.join(" ")}, []),
        ]);
    }

    /** Ask the server, and return what it says. What it refuses is raised in its own sentence. */
    async function ask(path, options = {}) {
        const answer = await fetch(root.dataset.api + path, {
            credentials: "same-origin", signal: AbortSignal.timeout(60_000), ...options,
        });
        const is_json = (answer.headers.get("Content-Type") || "").startsWith("application/json");
        const said = is_json && !answer.redirected ? await answer.json() : null;
        if (!answer.ok || said === null) {
            // Such as the page where one signs in.
            const other = answer.ok ? "The server answers with another page: load this one anew."
                : `The server answers with ${answer.status}.`;
            const refusal = new Error(said?.error || other);
            refusal.isSaid = true;
            throw refusal;
        }
        return said;
    }

    /** Return what went wrong, as a sentence. */
    function sentence(error) {
        return error.isSaid ? error.message : "The server does not answer.";
    }

    return {
        root, ask, clock, count, element, empty, knowsTasks, milliseconds, minute, moment, sentence, show, span,
        sparkline, sum, table,
    };
})();
