// The search that adds a symbol to the watchlist.

import { $, dollars, problem, request, setText } from "./basics.js";
import { isWatched, watch } from "./watchlist.js";

const RESULTS = 8;
const DELAY_MS = 150;

let searchTimer = 0;
let searchTurn = 0; // answers to earlier input are dropped

$("search").addEventListener("input", () => {
  clearTimeout(searchTimer);
  searchTimer = setTimeout(search, DELAY_MS);
});

async function search() {
  const turn = ++searchTurn;
  const query = $("search").value.trim().toUpperCase();
  if (query === "") return endSearch();
  let symbols = [];
  let words = "The server is not responding.";
  try {
    const answer = await request("GET", `/symbols?query=${encodeURIComponent(query)}&limit=${RESULTS}`);
    symbols = answer.content.symbols ?? [];
    words = answer.status !== 200 ? problem(answer) : symbols.length === 0 ? "No such symbol" : "";
  } catch { /* shown below */ }
  if (turn !== searchTurn) return;
  $("search-results").replaceChildren(...symbols.map(searchResult), ...(words ? [searchWords(words)] : []));
  $("search-results").hidden = false;
  setText($("search-state"), words || `${symbols.length} symbols found`);
}

function searchResult({ symbol, synthetic, previousCloseInCents }) {
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.dataset.symbol = symbol;
  button.disabled = isWatched(symbol);
  const name = Object.assign(document.createElement("strong"), { textContent: symbol });
  const close = previousCloseInCents ? dollars(previousCloseInCents) : "";
  const note = Object.assign(document.createElement("small"), { textContent: synthetic ? `synthetic ${close}` : close });
  button.append(name, note);
  const item = document.createElement("li");
  item.append(button);
  return item;
}

const searchWords = (words) => Object.assign(document.createElement("li"), { textContent: words, className: "hint" });

function endSearch() {
  clearTimeout(searchTimer);
  searchTurn += 1;
  $("search").value = "";
  $("search-results").hidden = true;
  $("search-results").replaceChildren();
}

function choose(name) {
  endSearch();
  watch(name);
  $("search").focus();
}

$("search-results").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) choose(button.dataset.symbol);
});
$("search-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  clearTimeout(searchTimer);
  await search();
  const first = $("search-results").querySelector("button:enabled");
  if (first) choose(first.dataset.symbol);
});
$("search-form").addEventListener("keydown", (event) => {
  if (event.key === "Escape") { endSearch(); $("search").focus(); }
});
document.addEventListener("click", (event) => {
  if (!$("search-form").contains(event.target)) endSearch();
});
