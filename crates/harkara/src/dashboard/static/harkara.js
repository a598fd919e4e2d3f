// What the dashboard does in a browser beyond showing pages. Every page works without it.

// htmx turns text from the server into elements; only this policy may, and it makes no scripts.
const policy = globalThis.trustedTypes?.createPolicy("harkara", { createHTML: (text) => text });

htmx.registerExtension("harkara", {
  init: (api) => {
    if (policy) api.initSecurity(policy);
  },
});

const zone = new Intl.DateTimeFormat(undefined, {
  dateStyle: "medium",
  timeStyle: "medium",
});

// Moments in the reader's zone; UTC stays in the title.
function localise(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const shown = zone.format(new Date(time.dateTime));
    if (time.textContent !== shown) time.textContent = shown;
  }
}

// One row or step of a timeline down or up: the first link of it has the focus.
function step(by) {
  const all = [...document.querySelectorAll("tbody tr:has(a), .timeline > li:has(a)")];
  const at = all.findIndex((row) => row.contains(document.activeElement));
  const next = all[Math.max(0, Math.min(all.length - 1, at + by))];
  next?.querySelector("a")?.focus();
}

// The search of this page, or of the page that has one for everything.
function search() {
  const field = document.querySelector("input[type=search]");
  const orders = document.querySelector("nav a[href$='/orders']");
  if (field) field.focus();
  else if (orders) location.assign(`${orders.href}#search`);
}

const KEYS = {
  "/": search,
  j: () => step(1),
  k: () => step(-1),
  r: () => document.querySelector("[data-key=r]")?.focus(),
  "?": () => document.getElementById("keys")?.showPopover?.(),
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea, [contenteditable]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = KEYS[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});

// Copies the text of the element that the button names.
document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("button[data-copy]");
  const source = button && document.getElementById(button.dataset.copy);
  if (!source) return;
  await navigator.clipboard.writeText(source.textContent);
  button.textContent = "Copied";
});

// A list that somebody reads further down stays as it is.
document.addEventListener("htmx:sse:before:message", (event) => {
  if (event.target.dataset?.live === "list" && scrollY > 200) event.preventDefault();
});

// Whoever is answered that there is nothing asks no more; the extension would, twice a second.
document.addEventListener("htmx:sse:before:connection", (event) => {
  if (event.detail.connection.status === 204) event.preventDefault();
});

const seen = new MutationObserver(() => localise(document));
document.addEventListener("DOMContentLoaded", () => {
  localise(document);
  // Where the sections do not fit, the one that is open is among those seen.
  document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest" });
  for (const live of document.querySelectorAll("[data-live]")) {
    seen.observe(live, { childList: true, characterData: true, subtree: true });
  }
});
