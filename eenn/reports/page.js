// Tables that sort, and print whole: one activation of a header sorts its column upwards, the next downwards.
"use strict";

// Paper cannot be clicked on.
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});

const collator = new Intl.Collator("en", { numeric: true });
const missing = ["", "-", "nan"];

for (const header of document.querySelectorAll("th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...header.childNodes);
  button.addEventListener("click", () => sort(header));
  header.append(button);
}

function sort(header) {
  const upwards = header.getAttribute("aria-sort") !== "ascending";
  for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", upwards ? "ascending" : "descending");

  const numeric = header.classList.contains("number");
  const compare = numeric ? (a, b) => parseFloat(a) - parseFloat(b) : collator.compare;
  const body = header.closest("table").tBodies[0];
  const text = (row) => row.cells[header.cellIndex].textContent;
  const [last, first] = [[], []];
  for (const row of body.rows) (missing.includes(text(row)) ? last : first).push(row);
  first.sort((a, b) => (upwards ? 1 : -1) * compare(text(a), text(b)));
  body.append(...first, ...last);
}
