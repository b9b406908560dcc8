"use strict";
// Keeps a page up to date: when a call or an event comes that the page's filter
// selects, the page is read again, and what is marked data-live is replaced. So
// the server alone writes HTML. Without this script a page is as it was loaded.
(() => {
  const bar = document.getElementById("live");
  if (!bar) return;
  const button = bar.querySelector("button");
  const status = bar.querySelector("[role=status]");
  const wait = 1000; // milliseconds between two readings, at least
  let tail, timer, news = 0;

  // what is the same element before and after: links and buttons
  const mark = (e) => [e.tagName, e.getAttribute("href"), e.getAttribute("aria-label")].join(" ");

  async function refresh() {
    timer = undefined;
    if (!getSelection().isCollapsed) { // somebody copies a text
      later();
      return;
    }
    let fresh;
    try {
      const answer = await fetch(location.href);
      if (!answer.ok || answer.redirected) throw new Error(answer.statusText);
      fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    } catch {
      status.textContent = "The page could not be read; load it again.";
      return;
    }
    for (const old of document.querySelectorAll("[data-live]")) {
      const now = fresh.getElementById(old.id);
      if (!now) continue;
      const focused = old.contains(document.activeElement) ? mark(document.activeElement) : "";
      old.replaceChildren(...now.childNodes);
      if (focused) [...old.querySelectorAll("a, button")].find((e) => mark(e) === focused)?.focus();
    }
    if (tail?.readyState === EventSource.OPEN) status.textContent = `Live: ${news} new since the page was loaded.`;
  }

  const later = () => { timer ??= setTimeout(refresh, wait); };

  function start() {
    const query = new URLSearchParams(location.search);
    for (const name of ["since", "until", "limit", "cursor", "done"]) query.delete(name);
    tail = new EventSource("/api/tail?" + query);
    tail.onopen = () => { status.textContent = "Live."; };
    tail.onerror = () => {
      if (tail.readyState === EventSource.CLOSED) { // refused: the login has ended, or too many look
        status.textContent = "Not live. Load the page again.";
      } else {
        status.textContent = "Not live: cmstap does not answer. It is tried again.";
      }
    };
    tail.addEventListener(bar.dataset.what, () => { news++; later(); });
    tail.addEventListener("missed", later);
  }

  function stop() {
    tail?.close();
    tail = undefined;
    clearTimeout(timer);
    timer = undefined;
  }

  // A browser has six connections to a server, so a page that nobody sees has none.
  function follow() {
    const paused = button.getAttribute("aria-pressed") === "true";
    stop();
    if (paused) status.textContent = "Paused.";
    if (paused || document.hidden) return;
    start();
    later(); // what came meanwhile
  }

  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") === "false"));
    follow();
  });
  document.addEventListener("visibilitychange", follow);
  bar.hidden = false;
  follow();
})();
