// Dark or light, as the system has it or as the person has chosen. Django's admin does it by itself.
"use strict";

(() => {
    const names = {auto: "Theme: as the system", light: "Theme: light", dark: "Theme: dark"};
    const order = Object.keys(names);

    function chosen() {
        try {
            const kept = localStorage.getItem("theme");
            return order.includes(kept) ? kept : "auto";
        } catch {
            return "auto"; // The browser keeps nothing.
        }
    }

    let theme = chosen();
    document.documentElement.dataset.theme = theme;
    document.addEventListener("DOMContentLoaded", () => {
        const button = document.getElementById("lc-theme");
        button.hidden = false;
        button.textContent = names[theme];
        button.addEventListener("click", () => {
            theme = order[(order.indexOf(theme) + 1) % order.length];
            document.documentElement.dataset.theme = theme;
            button.textContent = names[theme];
            try {
                localStorage.setItem("theme", theme);
            } catch {
                // It holds for this visit.
            }
        });
    });
})();
