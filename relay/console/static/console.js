// Keeps the open page up to date: replaces its live region by what the node sends, without taking away focus, scroll or what is
// being written, and says whether the connection stands. Without this script the page reloads itself.
"use strict";
(() => {
  const status = document.getElementById("status");
  const region = document.getElementById("live");
  const banner = document.getElementById("banner");
  const asOf = document.getElementById("asof");
  if (!status || !region || !window.EventSource) return;

  const PATIENCE = 6000; // milliseconds; the node speaks every second
  const AGAIN = 3000;
  let source = null, timer = 0, at = new Date().toISOString(), pending = null, over = false, told = "", top = null;

  const clock = () => at.slice(11, 19) + "Z";

  function say(name, word) {
    const text = name === "live" || name === "waits" ? word : word + " " + clock() + ".";
    if (text === told) return;
    told = text;
    status.textContent = text;
    status.className = name;
  }

  const live = () => say("live", status.dataset.live);
  const lost = () => { if (!over) say("lost", status.dataset.lost); };

  function writing() {
    const fields = [...region.querySelectorAll("input:not([type=hidden]), textarea, select")];
    return fields.some((one) => one === document.activeElement || (one.defaultValue !== undefined && one.value !== one.defaultValue));
  }

  const key = (one) => one.dataset.keep || one.id || one.getAttribute("href") || one.getAttribute("aria-label");

  function replace(html) {
    const focused = region.contains(document.activeElement) ? document.activeElement : null;
    const kept = focused && key(focused);
    const scrolled = new Map([...region.querySelectorAll(".scroll")].map((one) => [key(one), [one.scrollLeft, one.scrollTop]]));
    const open = new Set([...region.querySelectorAll("details[open]")].map(key));
    const place = [window.scrollX, window.scrollY];
    region.replaceChildren(...new DOMParser().parseFromString(html, "text/html").body.childNodes);
    for (const one of region.querySelectorAll(".scroll")) {
      const was = scrolled.get(key(one));
      if (was) [one.scrollLeft, one.scrollTop] = was;
    }
    for (const one of region.querySelectorAll("details")) if (open.has(key(one))) one.open = true;
    if (focused) {
      const again = [...region.querySelectorAll("a, button, summary, [tabindex]")].find((one) => kept && key(one) === kept);
      (again || region).focus({ preventScroll: true });
    }
    window.scrollTo(...place);
    pending = null;
  }

  function shown(data) {
    if (data.banner !== top) {
      top = data.banner;
      banner.replaceChildren(...new DOMParser().parseFromString(top, "text/html").body.childNodes);
    }
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
