// How the search ranks pages: titles that hold the whole query first, and guides before reference.
"use strict";

const GUIDES = /^(faq|choosing-alpha|training|benchmarks|how-to\/.*|tutorials\/.*)$/;
const LAST = /^(benchmarks-details|reference\/(api|changelog|cli|errors)|recipes\/.*)$/;

// The numbers are those of Sphinx; `title` is what a whole query in a title counts.
var Scorer = {
  // The messages of an error come after the error itself.
  score: ([page, title, , , score, , kind]) =>
    score * (kind === "title" && !title.endsWith(" says") ? 2 : 1) + (GUIDES.test(page) ? 4 : LAST.test(page) ? -4 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
