// Asks for the page again when something happened, and now and then without: a runner that hangs says nothing.
// What comes back was escaped by the server; nothing of it can run under the page's policy.
"use strict";
const root = document.documentElement.dataset.root;
let asking = false, again = false;
async function refresh() {
  if (asking) { again = true; return; }
  asking = true;
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.querySelector("main").replaceWith(page.querySelector("main"));
      document.title = page.title;
    }
  } catch (_) { /* the server is gone; the page says when it was read */ }
  asking = false;
  if (again) { again = false; refresh(); }
}
new EventSource(root + "news").addEventListener("message", refresh);
setInterval(refresh, 30000);
