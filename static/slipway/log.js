/* The log that follows, and the plan. Everything from a run is put into text nodes: markup in it
   stays text, and of the terminal's codes only colours (SGR) have an effect. */
(function () {
  "use strict";

  const EVERY = 1000, EVERY_HIDDEN = 5000, EVERY_FAILED = 3000;
  const LINES_MAX = 10000;
  const ESCAPE = /\x1b\[([0-9;]*)m|\x1b\[[0-9;?]*[A-Za-ln-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[()][A-Z0-9]|[\x00-\x08\x0b-\x1f\x7f]/g;

  /** Return `text` as nodes; `style` (a Set of SGR numbers) carries over to the next call. */
  function colored(text, style) {
    const found = document.createDocumentFragment();
    const put = (piece) => {
      if (!piece) return;
      if (!style.size) { found.append(piece); return; }
      const span = document.createElement("span");
      span.className = [...style].map((code) => "sgr-" + code).join(" ");
      span.textContent = piece;
      found.append(span);
    };
    let last = 0;
    for (const match of text.matchAll(ESCAPE)) {
      put(text.slice(last, match.index));
      last = match.index + match[0].length;
      if (match[1] === undefined) continue;
      for (const part of match[1].split(";")) {
        const code = Number(part || 0);
        if (code === 0) style.clear();
        else if (code <= 4) style.add(code);
        else if (code === 22) { style.delete(1); style.delete(2); }
        else if (code === 23 || code === 24) style.delete(code - 20);
        else if (code === 39 || (code >= 30 && code <= 37) || (code >= 90 && code <= 97)) {
          for (const old of [...style]) if (old >= 30) style.delete(old);
          if (code !== 39) style.add(code);
        }
      }
    }
    put(text.slice(last));
    return found;
  }

  class Pane {
    constructor(log, element, url) {
      this.log = log;
      this.element = element;
      this.lines = element.querySelector(".sw-log-lines");
      this.url = url;
      this.phase = element.dataset.logPane;
      this.reset();
    }

    reset() {
      this.offset = 0;
      this.count = 0;
      this.dropped = 0;
      this.rest = "";
      this.style = new Set();
      this.decoder = new TextDecoder();
      this.complete = false;
      this.lines.replaceChildren();
    }

    atEnd() {
      return this.element.scrollHeight - this.element.scrollTop - this.element.clientHeight < 30;
    }

    async poll() {
      clearTimeout(this.timer);
      let wait = document.hidden ? EVERY_HIDDEN : EVERY;
      try {
        const response = await fetch(this.url + "?offset=" + this.offset, { credentials: "same-origin", redirect: "error", cache: "no-store" });
        if (!response.ok) throw new Error(String(response.status));
        const bytes = new Uint8Array(await response.arrayBuffer());
        const next = Number(response.headers.get("X-Next-Offset"));
        if (next < this.offset) { this.reset(); this.poll(); return; } // another attempt writes anew
        this.offset = next;
        this.complete = response.headers.get("X-Complete") === "1";
        if (bytes.length) {
          this.append(this.decoder.decode(bytes, { stream: true }));
          if (!this.complete) wait = 60;
        }
        if (this.complete) {
          if (this.rest) this.append("\n");
          if (response.headers.get("X-Truncated") === "1") this.append("… the log is longer than the server keeps.\n");
          return;
        }
        if (bytes.length < 65536) wait = document.hidden ? EVERY_HIDDEN : EVERY;
      } catch (error) {
        wait = EVERY_FAILED;
      }
      this.timer = setTimeout(() => this.poll(), wait);
    }

    append(text) {
      const rows = (this.rest + text).split("\n");
      this.rest = rows.pop();
      if (!rows.length) return;
      const wasAtEnd = this.atEnd();
      const batch = document.createDocumentFragment();
      for (const row of rows) batch.append(this.line(row.replace(/\r$/, "").replace(/^.*\r/, "")));
      this.lines.append(batch);
      while (this.lines.childElementCount > LINES_MAX) { this.lines.firstElementChild.remove(); }
      if (this.log.following && wasAtEnd) this.toEnd();
      this.log.search();
      this.jump();
    }

    line(text) {
      this.count += 1;
      const id = this.phase + "-L" + this.count;
      const row = document.createElement("div");
      row.className = "sw-line";
      row.id = id;
      const number = document.createElement("a");
      number.href = "#" + id;
      number.textContent = this.count;
      number.tabIndex = -1;
      number.setAttribute("aria-label", "Link to line " + this.count);
      const content = document.createElement("span");
      content.append(colored(text, this.style));
      row.append(number, content);
      return row;
    }

    toEnd() {
      this.element.scrollTop = this.element.scrollHeight;
    }

    jump() {
      const wanted = location.hash.slice(1);
      if (this.jumped || !wanted.startsWith(this.phase + "-L")) return;
      const row = document.getElementById(wanted);
      if (!row) return;
      this.jumped = true;
      this.log.follow(false);
      row.scrollIntoView({ block: "center" });
    }
  }

  class Log {
    constructor(root) {
      this.root = root;
      this.following = true;
      this.panes = {};
      this.chosen = false;
      this.input = root.querySelector("[data-log-search]");
      this.hits = root.querySelector("[data-log-hits]");
      this.followButton = root.querySelector("[data-log-follow]");
      for (const tab of root.querySelectorAll("[data-log-tab]")) {
        const phase = tab.dataset.logTab;
        const element = root.querySelector('[data-log-pane="' + phase + '"]');
        this.panes[phase] = new Pane(this, element, tab.dataset.url);
        tab.addEventListener("click", () => { this.chosen = true; this.choose(phase); });
        element.addEventListener("wheel", () => this.scrolled(element), { passive: true });
        element.addEventListener("scroll", () => this.scrolled(element), { passive: true });
      }
      this.followButton.addEventListener("click", () => this.follow(!this.following));
      this.input.addEventListener("input", () => this.search(true));
      this.input.addEventListener("keydown", (event) => {
        if (event.key === "Enter") { event.preventDefault(); this.nextHit(event.shiftKey ? -1 : 1); }
      });
      const hash = location.hash.match(/^#(plan|apply)-L\d+$/);
      if (hash) this.chosen = true;
      this.choose(hash ? hash[1] : root.dataset.phase);
      document.addEventListener("slipway:refreshed", () => {
        const head = document.querySelector("[data-log-phase]");
        if (head && !this.chosen && head.dataset.logPhase !== this.phase) this.choose(head.dataset.logPhase);
      });
    }

    choose(phase) {
      if (!this.panes[phase]) return;
      this.phase = phase;
      for (const tab of this.root.querySelectorAll("[data-log-tab]")) {
        const selected = tab.dataset.logTab === phase;
        tab.setAttribute("aria-selected", String(selected));
        this.panes[tab.dataset.logTab].element.hidden = !selected;
      }
      const pane = this.panes[phase];
      this.root.querySelector("[data-log-download]").href = pane.url + "?download";
      if (!pane.started) { pane.started = true; pane.poll(); }
      if (this.following) pane.toEnd();
      this.search();
    }

    scrolled(element) {
      // The reader decides: away from the end stops following, back at the end follows again.
      const pane = this.panes[element.dataset.logPane];
      const atEnd = pane.atEnd();
      if (atEnd !== this.following && element.scrollHeight > element.clientHeight) this.mark(atEnd);
    }

    mark(following) {
      this.following = following;
      this.followButton.setAttribute("aria-pressed", String(following));
    }

    follow(following) {
      this.mark(following);
      if (following) this.panes[this.phase].toEnd();
    }

    search(typed) {
      const wanted = this.input.value.toLowerCase();
      this.found = [];
      for (const row of this.panes[this.phase].lines.children) {
        const hit = wanted !== "" && row.lastChild.textContent.toLowerCase().includes(wanted);
        if (row.classList.contains("sw-hit") !== hit) row.classList.toggle("sw-hit", hit);
        if (hit) this.found.push(row);
      }
      this.hits.textContent = wanted ? this.found.length + (this.found.length === 1 ? " line" : " lines") : "";
      if (typed) { this.at = -1; if (this.found.length) this.nextHit(1); }
    }

    nextHit(step) {
      if (!this.found.length) return;
      this.at = (this.at + step + this.found.length) % this.found.length;
      this.mark(false);
      this.found[this.at].scrollIntoView({ block: "center" });
    }
  }

  // --- the plan ----------------------------------------------------------------------------------

  function tabs(root) {
    for (const tab of root.querySelectorAll("[data-tab]")) {
      tab.addEventListener("click", () => {
        for (const other of tab.parentElement.querySelectorAll("[data-tab]")) {
          const selected = other === tab;
          other.setAttribute("aria-selected", String(selected));
          document.getElementById(other.dataset.tab).hidden = !selected;
        }
      });
    }
  }

  function plan(root) {
    tabs(root);
    for (const text of root.querySelectorAll("[data-sgr]")) {
      const source = text.textContent;
      text.replaceChildren(colored(source, new Set()));
    }
    const input = root.querySelector("[data-plan-filter]");
    const chips = [...root.querySelectorAll("[data-kind]")];
    const filter = () => {
      const wanted = input ? input.value.toLowerCase() : "";
      const kinds = chips.filter((chip) => chip.getAttribute("aria-pressed") === "true").map((chip) => chip.dataset.kind);
      for (const row of root.querySelectorAll("[data-change]")) {
        row.hidden = !row.dataset.address.toLowerCase().includes(wanted) || (kinds.length > 0 && !kinds.includes(row.dataset.change));
      }
    };
    if (input) input.addEventListener("input", filter);
    for (const chip of chips) {
      chip.addEventListener("click", () => {
        chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
        filter();
      });
    }
  }

  document.addEventListener("slipway:loaded", (event) => event.target.querySelectorAll("[data-plan]").forEach(plan));
  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-log]").forEach((root) => new Log(root)));
})();
