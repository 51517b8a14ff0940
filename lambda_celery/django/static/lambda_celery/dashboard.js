// Looks again and again while the page is seen. Where the server does not answer, the last figures stay,
// and a sentence says so.
"use strict";

(() => {
    const {ask, attempts, charts, clock, failed, figures, root, sentence} = lambdaCelery;
    const LOOK_MILLISECONDS = 2000;
    const state = document.getElementById("lc-state");
    const select = document.getElementById("lc-task");
    let status = null;
    let timer = null;

    function tell(text, is_bad = false) {
        // What is said again is read aloud again.
        if (state.textContent !== text) state.textContent = text;
        state.classList.toggle("lc-is-bad", is_bad);
        root.classList.toggle("lc-is-old", is_bad && status !== null);
    }

    async function look() {
        clearTimeout(timer);
        timer = null;
        try {
            status = await ask("status");
            figures.draw(status);
            charts.draw(status, select.value);
            failed.follow(status);
            tell("The figures are live.");
        } catch (error) {
            if (!error.isSaid && !(error instanceof TypeError) && error.name !== "TimeoutError") console.error(error);
            const kept = status ? ` These are the figures of ${clock(status.time)}.` : "";
            tell(`${sentence(error)}${kept}`, true);
        }
        if (!document.hidden && timer === null) timer = setTimeout(look, LOOK_MILLISECONDS);
    }

    /** Show what the address names: `#task=ID`, or `#failed=ID`. */
    function follow() {
        const [, name, value] = /^#(task|failed)=(.+)$/.exec(location.hash) || [];
        if (!name) return;
        let id;
        try {
            id = decodeURIComponent(value);
        } catch {
            return; // A broken address names nothing.
        }
        if (name === "failed") {
            failed.open(id);
            return;
        }
        const heading = document.getElementById("lc-attempts");
        heading.scrollIntoView();
        heading.focus({preventScroll: true});
        attempts.load(id);
    }

    document.addEventListener("visibilitychange", () => {
        if (document.hidden) clearTimeout(timer);
        else look();
    });
    select.addEventListener("change", () => {
        if (status) charts.draw(status, select.value);
    });
    addEventListener("hashchange", follow);
    look();
    failed.load();
    follow();
})();
