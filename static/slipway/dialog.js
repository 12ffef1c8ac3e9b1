/* Operations in dialogs. The browser's own modal dialog keeps the focus inside, closes on Esc and
   makes the page behind inert; afterwards the focus returns to the button. */
(function () {
  "use strict";

  let dialog = null;
  let opener = "";

  function toast(text) {
    let place = document.querySelector(".sw-toasts");
    if (!place) {
      place = document.createElement("div");
      place.className = "sw-toasts";
      place.setAttribute("role", "status");
      document.body.append(place);
    }
    const note = document.createElement("div");
    note.className = "sw-toast";
    note.textContent = text;
    place.append(note);
    setTimeout(() => note.remove(), 6000);
  }

  function make() {
    dialog = document.createElement("dialog");
    dialog.className = "sw-dialog";
    dialog.setAttribute("role", "dialog");
    dialog.setAttribute("aria-modal", "true");
    dialog.setAttribute("aria-labelledby", "sw-dialog-title");
    document.body.append(dialog);
    dialog.addEventListener("close", () => {
      const button = opener && document.getElementById(opener);
      if (dialog.changed && document.querySelector("[data-live]")) window.slipway.refresh();
      else if (dialog.changed) location.reload();
      dialog.changed = false;
      dialog.replaceChildren();
      if (button) button.focus();
    });
    // Tab goes round inside; without this it also visits the browser's own bars.
    dialog.addEventListener("keydown", (event) => {
      if (event.key !== "Tab") return;
      const stops = [...dialog.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea")]
        .filter((one) => !one.disabled && one.offsetParent !== null);
      if (!stops.length) return;
      const first = stops[0], last = stops[stops.length - 1];
      if (event.shiftKey && document.activeElement === first) { event.preventDefault(); last.focus(); }
      else if (!event.shiftKey && document.activeElement === last) { event.preventDefault(); first.focus(); }
    });
    dialog.addEventListener("click", (event) => {
      const close = event.target.closest("[data-close]");
      if (!close) return;
      event.preventDefault();
      dialog.close();
    });
    dialog.addEventListener("submit", submit);
  }

  function show(html) {
    dialog.innerHTML = html;
    if (!dialog.open) dialog.showModal();
    if (dialog.querySelector("[data-changed]")) dialog.changed = true; // closed by Esc as well
    const secret = dialog.querySelector("[data-select]");
    const wrong = dialog.querySelector("[role=alert][tabindex], [aria-invalid=true]");
    const first = dialog.querySelector("input:not([type=hidden]), select, textarea, button[type=submit], [data-close]");
    const target = secret || wrong || first;
    if (target) target.focus();
    if (secret) secret.select();
  }

  async function open(url) {
    if (!dialog) make();
    const response = await fetch(url, { headers: { "X-Slipway-Dialog": "1" }, credentials: "same-origin", cache: "no-store" });
    if (!response.ok || response.redirected) { location.assign(url); return; }
    show(await response.text());
  }

  async function submit(event) {
    event.preventDefault();
    const form = event.target;
    const button = form.querySelector("[type=submit]");
    if (button.disabled) return;
    button.disabled = true;
    try {
      const response = await fetch(form.action, {
        method: "POST",
        body: new FormData(form),
        headers: { "X-Slipway-Dialog": "1" },
        credentials: "same-origin",
      });
      if ((response.headers.get("Content-Type") || "").startsWith("application/json")) {
        const done = await response.json();
        const here = !done.location || done.location === location.pathname;
        if (here) {
          toast(done.message);
          dialog.changed = true;
          dialog.close();
        } else {
          sessionStorage.setItem("slipway-toast", done.message);
          location.assign(done.location);
        }
        return;
      }
      if (response.status >= 500 || response.status === 403 || response.status === 404) {
        throw new Error("The server answered " + response.status + "; nothing is known to have changed. Reload the page.");
      }
      show(await response.text());
    } catch (error) {
      button.disabled = false;
      const text = error instanceof TypeError ? "The server cannot be reached. Look again before you repeat it." : error.message;
      let note = form.querySelector(".sw-failed");
      if (!note) {
        note = document.createElement("p");
        note.className = "sw-notice sw-bad sw-failed";
        note.setAttribute("role", "alert");
        form.prepend(note);
      }
      note.textContent = text;
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("a[data-dialog]");
    if (!button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    opener = button.id;
    open(button.href);
  });
  // What is done to several rows of a list: the same dialog, at an address below the list's.
  document.addEventListener("submit", (event) => {
    if (event.target.id !== "changelist-form") return;
    const action = event.target.elements.action;
    const rows = [...event.target.querySelectorAll("input.action-select:checked")];
    if (!action || !action.value || !rows.length || rows.length > 50) return; // the server says why
    event.preventDefault();
    opener = action.id || "";
    const query = new URLSearchParams(rows.map((row) => ["task", row.value]));
    open(location.pathname + "bulk/" + action.value + "/?" + query);
  });
  // Links that act as buttons answer to the space bar too.
  document.addEventListener("keydown", (event) => {
    if (event.key === " " && event.target.matches && event.target.matches("a[data-dialog]")) {
      event.preventDefault();
      event.target.click();
    }
  });
  document.addEventListener("DOMContentLoaded", () => {
    const left = sessionStorage.getItem("slipway-toast");
    if (left) { sessionStorage.removeItem("slipway-toast"); toast(left); }
  });
})();
