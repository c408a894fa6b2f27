// What the theme leaves to the mouse, for keyboards and screen readers. The site works without this file.
"use strict";

const NAMES = {
  ".sidebar-drawer": "All pages",
  ".toc-drawer": "On this page",
  ".nav-overlay-icon .icon": "All pages",
  ".toc-overlay-icon .icon": "On this page",
};

// Code and tables that are wider than their place are scrolled with the arrow keys: they have to be reached by Tab.
function reachScrollers() {
  for (const one of document.querySelectorAll(".table-wrapper, .highlight pre, .math-wrapper, .toc-scroll")) {
    if (one.scrollWidth > one.clientWidth || one.scrollHeight > one.clientHeight) one.tabIndex = 0;
    else one.removeAttribute("tabindex");
  }
}

// Long tables get a field that shows only the rows that have all of its words, in any order.
const MIN_ROWS = 40;

function filterTables() {
  for (const table of document.querySelectorAll("article table.docutils")) {
    const rows = Array.from(table.tBodies[0]?.rows ?? []);
    if (rows.length < MIN_ROWS) continue;
    const place = document.createElement("div"), label = document.createElement("label");
    const field = document.createElement("input"), count = document.createElement("output");
    place.className = "table-filter";
    place.append(label, count);
    label.append("Rows with: ", field);
    field.type = "search";
    const show = () => {
      const words = field.value.toLowerCase().split(/\s+/);
      for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
      count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
    };
    field.addEventListener("input", show);
    show();
    (table.closest(".table-wrapper") ?? table).before(place);
  }
}

// A message as it is printed has file names, values and line breaks that the index of words lacks. So the search page
// compares it with the texts of all messages, in which "…" stands for what is filled in, and lists those that fit best.
const MAX_MESSAGES = 3, MIN_LETTERS = 15;

function plain(text) {
  return text.toLowerCase().replace(/[\s'"`‘’“”]+/g, "");
}

// Letters of the message that are found in the pasted text, in their order; 0 if it is another message.
function agreement(message, pasted) {
  const parts = message.split("…").map(plain);
  // A part of a message, without what is filled in.
  if (parts.some((part) => part.includes(pasted))) return pasted.length;
  let end = 0, letters = 0;
  for (const part of parts) {
    const start = pasted.indexOf(part, end);
    if (start < 0) return 0;
    end = start + part.length;
    letters += part.length;
  }
  return letters;
}

function findMessages() {
  const place = document.getElementById("found-messages");
  const pasted = plain(new URLSearchParams(location.search).get("q") ?? "");
  if (!place || pasted.length < MIN_LETTERS) return;
  const messages = Object.entries(JSON.parse(document.getElementById("error-messages").textContent));
  const found = messages.map(([id, text]) => [agreement(text, pasted), id, text])
    .filter(([letters]) => letters >= MIN_LETTERS).sort(([one], [other]) => other - one).slice(0, MAX_MESSAGES);
  if (!found.length) return;
  place.append(Object.assign(document.createElement("h2"), { textContent: "Error messages" }));
  const list = place.appendChild(document.createElement("ul"));
  for (const [, id, text] of found) {
    const link = list.appendChild(document.createElement("li")).appendChild(document.createElement("a"));
    Object.assign(link, { href: `${place.dataset.page}#${id}`, textContent: text });
  }
}

document.addEventListener("DOMContentLoaded", () => {
  for (const [selector, name] of Object.entries(NAMES)) {
    for (const one of document.querySelectorAll(selector)) one.setAttribute("aria-label", name);
  }
  // On narrow screens the two lists open by labels of hidden boxes: with buttons in them, keys open them too.
  for (const icon of document.querySelectorAll(".nav-overlay-icon .icon, .toc-overlay-icon .icon")) {
    icon.setAttribute("role", "button");
    icon.tabIndex = 0;
    icon.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      icon.click();
    });
  }
  findMessages();
  filterTables();
  reachScrollers();
  addEventListener("resize", reachScrollers);
});
