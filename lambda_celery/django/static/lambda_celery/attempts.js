// The attempts of one task: its retries, and all tasks of the same chain, group or chord.
"use strict";

lambdaCelery.attempts = (() => {
    const {ask, count, element, milliseconds, moment, sentence, table} = lambdaCelery;
    const SVG = "http://www.w3.org/2000/svg";
    const WIDTH = 110;
    const MOST_INDENTED = 6;
    const form = document.getElementById("lc-attempts-form");
    const state = document.getElementById("lc-attempts-state");
    const place = document.getElementById("lc-attempts-table");
    const BAD = ["failed", "parked"];
    const WARNING = ["retried", "returned", "expired", "revoked"];
    let asked = "";

    /** Return [attempt, how deep its task stands], each task before those that it has sent. */
    function inOrder(attempts) {
        const tasks = new Map();
        for (const each of attempts) {
            if (!tasks.has(each.task_id)) tasks.set(each.task_id, []);
            tasks.get(each.task_id).push(each);
        }
        const done = new Set();
        const found = [];
        function add(task_id, depth) {
            // A message may name any parent, itself included.
            if (done.has(task_id)) return;
            done.add(task_id);
            found.push(...tasks.get(task_id).map((each) => [each, depth]));
            for (const [child, [first]] of tasks) if (first.parent_id === task_id) add(child, depth + 1);
        }
        for (const [task_id, [first]] of tasks) if (!tasks.has(first.parent_id)) add(task_id, 0);
        for (const task_id of tasks.keys()) add(task_id, 0);
        return found;
    }

    function timeline(attempt, first, last) {
        const drawn = document.createElementNS(SVG, "svg");
        const ends = Date.parse(attempt.time);
        const scale = WIDTH / Math.max(1, last - first);
        const width = Math.max(3, (attempt.duration_ms || 0) * scale);
        const bar = document.createElementNS(SVG, "rect");
        const attributes = {
            x: Math.max(0, Math.min((ends - first) * scale - width, WIDTH - width)), y: 3, rx: 2,
            width, height: 10, class: `lc-${tone(attempt) || "good"}-bar`,
        };
        Object.entries(attributes).forEach(([name, value]) => bar.setAttribute(name, value));
        drawn.setAttribute("class", "lc-timeline");
        drawn.setAttribute("width", WIDTH);
        drawn.setAttribute("height", 16);
        drawn.setAttribute("aria-hidden", "true");
        drawn.append(bar);
        return drawn;
    }

    function tone(attempt) {
        if (BAD.includes(attempt.end)) return "bad";
        return WARNING.includes(attempt.end) ? "warning" : null;
    }

    function draw(attempts, task_id) {
        const first = Math.min(...attempts.map((each) => Date.parse(each.time) - (each.duration_ms || 0)));
        const last = Math.max(...attempts.map((each) => Date.parse(each.time)));
        const n = (name) => [name, "lc-number"];
        place.replaceChildren(table(
            `Attempts of ${task_id}`,
            ["Task", "Id", "End", n("Retry"), n("Received"), "Ended at", n("Took"), "Course", "Exception", "Queue"],
            inOrder(attempts).map(([each, depth]) => [
                [(depth ? "↳ " : "") + (each.task || "A message"), `lc-depth-${Math.min(depth, MOST_INDENTED)}`],
                element("a", {
                    href: `#task=${encodeURIComponent(each.task_id)}`, class: "lc-id",
                    "aria-current": each.task_id === task_id ? "true" : null,
                }, each.task_id),
                [each.end, tone(each) && `lc-${tone(each)}`],
                count(each.retries), count(each.receive_count), moment(each.time),
                milliseconds(each.duration_ms), timeline(each, first, last), each.exception, each.queue,
            ]),
        ));
    }

    /** Ask for the attempts of `task_id`, and show them. */
    async function load(task_id) {
        asked = task_id;
        form.elements.task_id.value = task_id;
        state.textContent = `The attempts of ${task_id} are on their way.`;
        place.replaceChildren();
        let found;
        try {
            found = await ask(`attempts/${encodeURIComponent(task_id)}`);
        } catch (error) {
            if (asked === task_id) state.textContent = sentence(error);
            return;
        }
        if (asked !== task_id) return;
        const tasks = new Set(found.attempts.map((each) => each.task_id)).size;
        const said = found.attempts.length
            ? `${found.attempts.length} attempt${found.attempts.length > 1 ? "s" : ""} of ${tasks} task${tasks > 1 ? "s" : ""}.`
            : "No attempt of that task is known.";
        state.textContent = [said, ...found.left_out].join(" ");
        if (found.attempts.length) draw(found.attempts, task_id);
    }

    form.addEventListener("submit", (event) => {
        event.preventDefault();
        const hash = `#task=${encodeURIComponent(form.elements.task_id.value.trim())}`;
        if (location.hash === hash) load(form.elements.task_id.value.trim());
        else location.hash = hash;
    });

    return {load};
})();
