"use strict";
// Filters of the answers, and open details in print. Reads and hides what stands in the page; makes no markup.
const PAGE = 25;

function startAnswers(view) {
  const text = view.querySelector("[data-text]");
  const differs = view.querySelector("[data-differs-choice]");
  const marks = view.querySelector("[data-marks-choice]");
  const group = view.querySelector("[data-group-choice]");
  const count = view.querySelector("[data-count]");
  const more = view.querySelector("[data-more]");
  const exchanges = Array.from(view.querySelectorAll("[data-exchange]"), (element) => ({
    element,
    words: element.textContent.toLowerCase(),
    answers: Array.from(element.querySelectorAll("[data-answer]")),
  }));
  let limit = PAGE;

  function isOfGroup(answer) {
    return !group || group.value === "" || answer.dataset.group === group.value;
  }

  function show() {
    const wanted = text.value.trim().toLowerCase();
    let found = 0;
    for (const { element, words, answers } of exchanges) {
      const shown = answers.filter(isOfGroup);
      for (const answer of answers) answer.hidden = !shown.includes(answer);
      const fits =
        words.includes(wanted) && (!differs.checked || shown.some((answer) => "differs" in answer.dataset));
      if (fits) found += 1;
      element.hidden = !fits || found > limit;
    }
    const visible = Math.min(found, limit);
    more.hidden = found <= limit;
    more.textContent = `Show ${Math.min(PAGE, found - visible)} more`;
    count.textContent =
      `${found} of ${exchanges.length} instructions` + (visible < found ? `, the first ${visible} are shown` : "");
  }

  function restart() {
    limit = PAGE;
    show();
  }

  let waiting = 0;
  text.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(restart, 120);
  });
  for (const control of [differs, group]) if (control) control.addEventListener("change", restart);
  marks.addEventListener("change", () => view.classList.toggle("unmarked", !marks.checked));
  view.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    restart();
  });
  more.addEventListener("click", () => {
    const before = exchanges.filter(({ element }) => !element.hidden).length;
    limit += PAGE;
    show();
    const next = exchanges.filter(({ element }) => !element.hidden)[before];
    if (next) next.element.querySelector("h4").focus();
  });
  show();
}

for (const view of document.querySelectorAll("[data-answers]")) startAnswers(view);

let opened = [];
window.addEventListener("beforeprint", () => {
  opened = Array.from(document.querySelectorAll("details:not([open])"));
  for (const details of opened) details.open = true;
});
window.addEventListener("afterprint", () => {
  for (const details of opened) details.open = false;
  opened = [];
});
