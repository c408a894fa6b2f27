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
  reachScrollers();
  addEventListener("resize", reachScrollers);
});
