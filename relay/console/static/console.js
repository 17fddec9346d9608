// Keeps the open page up to date: replaces its live region by what the node sends, without taking away focus, scroll or what is
// being written, and says whether the connection stands. Without this script the page reloads itself.
"use strict";
(() => {
  const status = document.getElementById("status");
  const region = document.getElementById("live");
  const banner = document.getElementById("banner");
  const asOf = document.getElementById("asof");
  const stale = document.getElementById("stale");

  // In a narrow window a row stands as a card, whose cells say by themselves under which heading they stand; what is empty is left out.
  function label(root) {
    for (const table of root.querySelectorAll("table.rows")) {
      const headings = [...table.tHead.rows[0].cells].map((one) => one.textContent);
      for (const row of table.tBodies[0].rows) {
        [...row.cells].forEach((cell, index) => {
          if (cell.colSpan === 1) cell.dataset.heading = headings[index];
          cell.classList.toggle("nothing", ["", "–"].includes(cell.textContent.trim()));
        });
      }
      table.classList.add("cards");
    }
    return root;
  }

  // A form whose answer is a file leaves its page as it is, with a token that was used: filled in anew, it gets another.
  async function renew(form) {
    const page = parsed(await (await fetch(location.href)).text());
    const again = page.querySelector(`form[action="${form.getAttribute("action")}"] [name=csrf]`);
    if (again) form.elements.csrf.value = again.value;
  }

  function sent(event) {
    const form = event.target, { file, sent, anew } = form.dataset;
    if (file === undefined) return;
    form.dataset.sent = "";
    if (sent === undefined || anew === undefined) return;
    event.preventDefault();
    delete form.dataset.sent;
    delete form.dataset.anew;
    renew(form).finally(() => form.requestSubmit());
  }

  const parsed = (html) => label(new DOMParser().parseFromString(html, "text/html").body);

  label(document);
  document.addEventListener("submit", sent);
  document.addEventListener("input", (event) => { if (event.target.form) event.target.form.dataset.anew = ""; });
  if (!status || !region || !window.EventSource) return;

  const PATIENCE = 6000; // milliseconds; the node speaks every second
  const AGAIN = 3000;
  let source = null, timer = 0, at = new Date().toISOString(), pending = null, over = false, told = "";

  const clock = () => at.slice(11, 19) + "Z";

  function say(name, word) {
    const text = name === "live" || name === "waits" ? word : word + " " + clock() + ".";
    if (text === told) return;
    told = text;
    status.textContent = text;
    status.className = name;
    stale.hidden = name !== "lost"; // nobody must take for the present what is long past
    stale.querySelector(".words").textContent = text;
    stale.querySelector("a").hidden = !over;
  }

  const live = () => say("live", status.dataset.live);
  const lost = () => { if (!over) say("lost", status.dataset.lost); };

  function writing() {
    const fields = [...region.querySelectorAll("input:not([type=hidden]), textarea, select")];
    return fields.some((one) => one === document.activeElement || (one.defaultValue !== undefined && one.value !== one.defaultValue));
  }

  const key = (one) => (one.nodeType === Node.ELEMENT_NODE
    ? one.dataset.keep || one.id || one.getAttribute("href") || one.getAttribute("aria-label") : null);

  // What did not change stays the same element, with its focus, its scroll position, a selection in it, the tip under the pointer.
  function morph(was, is) {
    if (was.isEqualNode(is)) return;
    if (was.nodeName !== is.nodeName || key(was) !== key(is)) { was.replaceWith(is); return; }
    if (was.nodeType !== Node.ELEMENT_NODE) { was.data = is.data; return; }
    for (const { name } of [...was.attributes]) {
      if (!is.hasAttribute(name) && !(name === "open" && was.nodeName === "DETAILS")) was.removeAttribute(name);
    }
    for (const { name, value } of [...is.attributes]) if (was.getAttribute(name) !== value) was.setAttribute(name, value);
    morphAll(was, is);
  }

  function morphAll(was, is) {
    const before = [...was.childNodes], after = [...is.childNodes];
    after.forEach((one, index) => (index < before.length ? morph(before[index], one) : was.append(one)));
    before.slice(after.length).forEach((one) => one.remove());
  }

  function replace(html) {
    const focused = region.contains(document.activeElement) ? document.activeElement : null;
    const kept = focused && key(focused);
    morphAll(region, parsed(html));
    if (focused && !focused.isConnected) { // it went to another place, or is not there any more
      const again = [...region.querySelectorAll("a, button, summary, [tabindex]")].find((one) => kept && key(one) === kept);
      (again || region).focus({ preventScroll: true });
    }
    pending = null;
  }

  function shown(data) {
    morphAll(banner, parsed(data.banner));
    if (writing()) {
      pending = data.region;
      say("waits", status.dataset.waits);
    } else {
      replace(data.region);
      live();
    }
  }

  function alive(event) {
    clearTimeout(timer);
    timer = setTimeout(again, PATIENCE);
    return JSON.parse(event.data);
  }

  function beat(event) {
    at = alive(event).at;
    asOf.textContent = clock();
    if (pending === null) live();
  }

  function close() {
    clearTimeout(timer);
    if (source) source.close();
    source = null;
  }

  function again() {
    lost();
    close();
    timer = setTimeout(connect, AGAIN);
  }

  function connect() {
    if (over || document.hidden) return;
    close();
    source = new EventSource(status.dataset.stream);
    source.addEventListener("beat", beat);
    source.addEventListener("shown", (event) => shown(alive(event)));
    source.addEventListener("over", () => { over = true; close(); say("lost", status.dataset.over); });
    source.addEventListener("error", again);
  }

  region.addEventListener("focusout", () => setTimeout(() => {
    if (pending !== null && !writing()) { replace(pending); live(); }
  }, 0));
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : connect())); // six connections a host at most
  connect();
})();
