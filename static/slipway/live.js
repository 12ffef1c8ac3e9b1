/* Keeps a page fresh in place: fetches the page's own parts and changes only what differs, so
   that scroll, focus, selection and open details stay as they are. */
(function () {
  "use strict";

  const SLOW_WHEN_HIDDEN = 5;
  const words = (seconds) => {
    const whole = Math.max(Math.floor(seconds), 0);
    if (whole < 60) return whole + " s";
    if (whole < 3600) {
      const rest = whole % 60;
      return Math.floor(whole / 60) + " min" + (whole < 600 && rest ? " " + rest + " s" : "");
    }
    if (whole < 86400) {
      const minutes = Math.floor((whole % 3600) / 60);
      return Math.floor(whole / 3600) + " h" + (minutes ? " " + minutes + " min" : "");
    }
    const hours = Math.floor((whole % 86400) / 3600);
    return Math.floor(whole / 86400) + " d" + (hours && whole < 864000 ? " " + hours + " h" : "");
  };

  function tellTimes() {
    const now = Date.now();
    for (const time of document.querySelectorAll("time[data-ago]")) {
      const away = (now - Date.parse(time.dateTime)) / 1000;
      const text = away >= 0 ? words(away) + " ago" : "in " + words(-away);
      if (time.textContent !== text) time.textContent = text;
    }
  }

  // --- morphing --------------------------------------------------------------------------

  const key = (node) =>
    node.nodeType === Node.ELEMENT_NODE ? node.id || node.dataset.key || node.dataset.part || "" : "";

  function sameKind(a, b) {
    return a.nodeType === b.nodeType && a.nodeName === b.nodeName && key(a) === key(b);
  }

  function syncAttributes(from, to) {
    for (const { name, value } of [...to.attributes]) {
      if (from.getAttribute(name) !== value) from.setAttribute(name, value);
    }
    for (const { name } of [...from.attributes]) {
      const mine = name === "open" && from.nodeName === "DETAILS";
      if (!mine && !to.hasAttribute(name)) from.removeAttribute(name);
    }
  }

  function morph(from, to) {
    if (from.nodeType !== Node.ELEMENT_NODE) {
      if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
      return;
    }
    syncAttributes(from, to);
    if (from.hasAttribute("data-keep") || from === document.activeElement && "value" in from) return;
    if (from.nodeName === "TIME" && from.hasAttribute("data-ago")) return;
    const keyed = new Map();
    for (const child of from.childNodes) if (key(child)) keyed.set(key(child), child);
    let place = from.firstChild;
    for (const wanted of [...to.childNodes]) {
      let match = key(wanted) ? keyed.get(key(wanted)) : place;
      if (match && !sameKind(match, wanted)) match = null;
      if (!match) {
        from.insertBefore(document.importNode(wanted, true), place);
        continue;
      }
      if (match !== place) from.insertBefore(match, place);
      else place = place.nextSibling;
      morph(match, wanted);
    }
    while (place) {
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
  }

  // --- refreshing --------------------------------------------------------------------------

  let page = null;
  let fetched = Date.now();
  let failed = "";
  let timer = 0;

  function tellFreshness() {
    const place = document.querySelector("[data-freshness]");
    if (!place || !page) return;
    const every = Number(page.dataset.every);
    place.classList.toggle("sw-stale", Boolean(failed));
    const age = words((Date.now() - fetched) / 1000);
    if (failed) place.textContent = "Stale: " + failed + " Last updated " + age + " ago.";
    else place.textContent = every ? "Updated " + age + " ago" : "";
  }

  async function refresh() {
    clearTimeout(timer);
    if (!page) return;
    try {
      const response = await fetch(location.href, {
        headers: { "X-Slipway-Parts": "1" },
        credentials: "same-origin",
        redirect: "manual",
        cache: "no-store",
      });
      if (!response.ok) throw new Error(response.type === "opaqueredirect" ? "you are signed out." : "the server answered " + response.status + ".");
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
      const root = fresh.querySelector("[data-live]");
      if (!root) throw new Error("you are signed out.");
      page.dataset.every = root.dataset.every;
      const focused = document.activeElement; // a node that is moved loses it
      for (const part of root.querySelectorAll("[data-part]")) {
        const mine = page.querySelector('[data-part="' + part.dataset.part + '"]');
        if (mine) morph(mine, part);
      }
      if (focused.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
      fetched = Date.now();
      failed = "";
      tellTimes();
      document.dispatchEvent(new CustomEvent("slipway:refreshed"));
    } catch (error) {
      failed = error instanceof TypeError ? "the server cannot be reached." : error.message;
    }
    tellFreshness();
    schedule();
  }

  function schedule() {
    clearTimeout(timer);
    const every = Number(page.dataset.every);
    if (!every) return;
    timer = setTimeout(refresh, every * (document.hidden ? SLOW_WHEN_HIDDEN : 1) * (failed ? 2 : 1));
  }

  // --- parts that are fetched by themselves ---------------------------------------------------

  async function load(place) {
    const version = place.dataset.version;
    if (!place.dataset.load || !version || place.loadedVersion === version) return;
    place.loadedVersion = version;
    try {
      const response = await fetch(place.dataset.load, { credentials: "same-origin" });
      if (!response.ok) throw new Error(String(response.status));
      place.innerHTML = await response.text();
      place.dispatchEvent(new CustomEvent("slipway:loaded", { bubbles: true }));
    } catch (error) {
      place.loadedVersion = "";
      place.textContent = "It could not be loaded; it is tried again.";
      setTimeout(() => load(place), 5000);
    }
  }

  const loadAll = () => document.querySelectorAll("[data-load]").forEach(load);

  document.addEventListener("DOMContentLoaded", () => {
    page = document.querySelector("[data-live]");
    setInterval(() => { tellTimes(); tellFreshness(); }, 1000);
    if (!page) return;
    loadAll();
    tellFreshness();
    schedule();
    document.addEventListener("slipway:refreshed", loadAll);
    document.addEventListener("visibilitychange", () => { if (!document.hidden && Number(page.dataset.every)) refresh(); });
  });

  window.slipway = { refresh: () => (page ? refresh() : location.reload()) };
})();
