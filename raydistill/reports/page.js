"use strict";
// Sorts a table by the column whose header is pressed; points that are not complete, then cells without a value, stay
// last either way.
function valueOf(row, column) {
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
}
function isMissing(value) {
  return value === "" || value === "-" || Number.isNaN(value);
}
function compare(first, second) {
  if (typeof first === "number" && typeof second === "number") return first - second;
  return String(first).localeCompare(String(second), undefined, { numeric: true });
}
function sortBy(header) {
  const table = header.closest("table");
  const column = header.cellIndex;
  const descending = header.getAttribute("aria-sort") === "ascending"
    || (header.getAttribute("aria-sort") === null && header.classList.contains("number"));
  const rows = Array.from(table.tBodies[0].rows, (row) => [valueOf(row, column), row]);
  const incomplete = (row) => row.classList.contains("incomplete");
  rows.sort(([first, one], [second, other]) => {
    if (incomplete(one) !== incomplete(other)) return incomplete(one) - incomplete(other);
    if (isMissing(first) || isMissing(second)) return isMissing(first) - isMissing(second);
    return descending ? compare(second, first) : compare(first, second);
  });
  for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  table.tBodies[0].append(...rows.map(([, row]) => row));
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("th button");
  if (button) sortBy(button.closest("th"));
});
