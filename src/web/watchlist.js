// The watchlist: its rows, their reference prices, and how fresh the prices are.

import { $, dollars, part, problem, request, setText, tell, timeOf } from "./basics.js";
import { followPrices } from "./price-link.js";

const KEPT = "longbow.watchlist";
const DEFAULT_SYMBOLS = ["SPY", "IBM", "BAC", "AIG"];
const MAX_WATCHED = 40; // one stream carries the whole list
const DETAILS_RETRY_MS = 3_000; // for symbols that the exchange does not list (yet)
const DETAILS_KEEP_MS = 60_000; // a tab hidden for longer reads the details again
const DETAIL_MATCHES = 20; // a symbol is among the first matches of its own name
const SPARK_POINTS = 60; // at most one per second: the last minute or more
const STREAM_WORDS = {
  connecting: "Connecting", live: "Live", "feed-lost": "Exchange feed lost", lost: "Connection lost",
  waiting: "Waiting for prices", silent: "Server silent",
};
const STREAM_REASONS = {
  "feed-lost": "The server has lost the exchange's feed and keeps trying.",
  lost: "The server is not responding. This page keeps trying.",
  waiting: "The server has no prices yet. This page keeps trying.",
  silent: "The server has fallen silent. This page keeps trying.",
};

// symbol -> { element, lastCents, previousCents, sparks, sparkedAt, isListed, freshAt }; `isListed`
// is null until the exchange's list is known, `freshAt` is 0 if the details are to be read again.
const watchRows = new Map();
let showing = false; // between showWatchlist and closeWatchlist
let detailsTimer = 0;
let detailsTurn = 0; // only the newest load may continue

/** The symbols stored in this browser. */
export function watched() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT));
    if (Array.isArray(kept)) return kept.filter((name) => typeof name === "string").slice(0, MAX_WATCHED);
  } catch { /* an invalid value: use the defaults */ }
  return DEFAULT_SYMBOLS;
}

/** Updates rows and stream to the stored list; existing rows stay as they are. */
export function showWatchlist() {
  showing = true;
  const names = watched();
  for (const [name, row] of watchRows) {
    if (!names.includes(name)) { removeRow(row.element); watchRows.delete(name); }
  }
  for (const name of names) if (!watchRows.has(name)) addRow(name);
  $("watch-empty").hidden = names.length > 0;
  $("watched-symbols").replaceChildren(...names.map((name) => new Option(name, name)));
  if (names.length === 0 || [...watchRows.values()].some((row) => row.isListed)) follow();
  return loadDetails();
}

/** Stops the stream and empties the list. */
export function closeWatchlist() {
  showing = false;
  clearTimeout(detailsTimer);
  detailsTurn += 1;
  watchRows.clear();
  $("watchlist").replaceChildren();
  follow();
  tell($("watch-message"), "", "");
}

export const isWatched = (name) => watchRows.has(name);

/** The newest price of a watched symbol in cents, or null. */
export const lastCents = (name) => watchRows.get(name)?.lastCents ?? null;

export function watch(name) {
  const names = watched();
  if (names.includes(name)) return;
  const room = names.length < MAX_WATCHED;
  tell($("watch-message"), "bad", room ? "" : `The watchlist can hold at most ${MAX_WATCHED} symbols.`);
  if (room) keepWatchlist([...names, name]);
}

function keepWatchlist(names) {
  localStorage.setItem(KEPT, JSON.stringify(names));
  return showWatchlist();
}

function addRow(name) {
  const element = $("watch-row").content.firstElementChild.cloneNode(true);
  element.dataset.symbol = name;
  part(element, "symbol").textContent = name;
  element.querySelector("[data-action=remove]").setAttribute("aria-label", `Remove ${name}`);
  element.querySelector("[data-action=pick]").title = `Put ${name} into the order`;
  watchRows.set(name, {
    element, lastCents: null, previousCents: null, sparks: [], sparkedAt: 0, isListed: null, freshAt: 0,
  });
  $("watchlist").append(element);
}

/** Removes a row; the focus moves to its neighbour, not to the body. */
function removeRow(element) {
  const neighbour = element.nextElementSibling ?? element.previousElementSibling;
  const hadFocus = element.contains(document.activeElement);
  element.remove();
  if (hadFocus) (neighbour?.querySelector("[data-action=remove]") ?? $("search")).focus();
}

/** Reads the details of all rows again. */
function reloadDetails() {
  for (const row of watchRows.values()) row.freshAt = 0;
  return loadDetails();
}

/**
 * Loads the details of rows that lack them, and retries while the tab is visible: the exchange may
 * appear, or list a symbol, after this page was opened.
 */
async function loadDetails() {
  clearTimeout(detailsTimer);
  const turn = ++detailsTurn;
  const [first, ...rest] = [...watchRows].filter(([, row]) => !row.freshAt);
  if (!first || document.hidden) return;
  // If the first request fails, the others need not be tried.
  const state = await loadRow(...first);
  if (!state) await Promise.all(rest.map((entry) => loadRow(...entry)));
  if (turn !== detailsTurn) return;
  follow(state || "off");
  detailsTimer = setTimeout(loadDetails, DETAILS_RETRY_MS);
}

/**
 * Loads a row's previous close, and whether its prices are synthetic. Without an answer, returns the
 * state that says why.
 */
async function loadRow(name, row) {
  try {
    const quote = await request("GET", `/symbol/${encodeURIComponent(name)}`);
    const isUnknown = quote.status === 404;
    if (!isUnknown && quote.status !== 200) {
      if (!row.isListed) annotate(row, "waiting", problem(quote));
      return "waiting";
    }
    row.isListed = !isUnknown;
    row.element.dataset.unknown = isUnknown;
    if (isUnknown) {
      annotate(row, "unknown", "The exchange does not list this symbol.");
      return "";
    }
    row.freshAt = Date.now();
    row.previousCents = quote.content.previousCloseInCents ?? null;
    row.element.dataset.stale = quote.content.stale === true;
    if (row.lastCents === null && quote.content.priceInCents) showPrice(quote.content);
    const found = await request("GET", `/symbols?query=${encodeURIComponent(name)}&limit=${DETAIL_MATCHES}`);
    const entry = found.content.symbols?.find(({ symbol }) => symbol === name);
    row.element.dataset.synthetic = entry?.synthetic === true;
    annotate(row, entry?.synthetic ? "synthetic" : "", entry?.source ?? "");
    return "";
  } catch {
    return "lost";
  }
}

function annotate({ element }, words, title) {
  const note = part(element, "note");
  setText(note, words);
  note.title = title;
}

function showPrice({ symbol, priceInCents, timestamp }) {
  const row = watchRows.get(symbol);
  if (!row) return;
  const { element, lastCents, previousCents } = row;
  setText(part(element, "price"), dollars(priceInCents));
  if (previousCents) {
    const change = priceInCents - previousCents;
    const percent = (Math.abs(change) * 100 / previousCents).toFixed(2);
    const sign = change > 0 ? "+" : change < 0 ? "−" : "";
    element.dataset.trend = change > 0 ? "up" : change < 0 ? "down" : "flat";
    setText(part(element, "change"), `${sign}${dollars(Math.abs(change)).slice(1)} (${sign}${percent}%)`);
  }
  if (lastCents !== null && lastCents !== priceInCents) {
    // Alternate between two names of one animation: only a change of name restarts it.
    const direction = priceInCents > lastCents ? "up" : "down";
    element.dataset.flash = element.dataset.flash === direction ? `${direction}-again` : direction;
  }
  row.lastCents = priceInCents;
  element.dataset.priceCents = priceInCents;
  element.dataset.timestamp = timestamp;
  part(element, "price").title = `Traded at ${timeOf(timestamp)}`;
  if (Date.now() - row.sparkedAt >= 1_000) drawSpark(row, priceInCents);
  document.dispatchEvent(new Event("price-shown"));
}

function drawSpark(row, cents) {
  row.sparkedAt = Date.now();
  row.sparks = [...row.sparks.slice(1 - SPARK_POINTS), cents];
  const low = Math.min(...row.sparks);
  const spread = Math.max(...row.sparks) - low || 1;
  const step = 100 / Math.max(row.sparks.length - 1, 1);
  const points = row.sparks.map((at, index) => `${(index * step).toFixed(1)},${(26 - 24 * (at - low) / spread).toFixed(1)}`);
  part(row.element, "spark").setAttribute("points", points.join(" "));
}

/**
 * Follows all listed symbols: a stream with an unlisted one would be refused as a whole. If none is
 * listed, there is no stream, and `otherwise` is the state to show.
 */
function follow(otherwise = "off") {
  const names = [...watchRows].filter(([, row]) => row.isListed);
  if (names.length === 0) showStream(otherwise, null);
  else if (!STREAM_WORDS[$("stream-state").dataset.state]) showStream("connecting", null);
  followPrices(names.map(([name]) => name), hearStream);
}

function hearStream(message) {
  if (message.kind === "price") {
    const row = watchRows.get(message.symbol);
    if (row && Number(row.element.dataset.timestamp ?? 0) !== message.timestamp) row.element.dataset.stale = false;
    showPrice(message);
  } else if (message.kind === "state") {
    const before = $("stream-state").dataset.state;
    showStream(message.state, message.since);
    // A symbol, or the close of a new day, may have been missed meanwhile.
    if (message.state === "live" && before in STREAM_REASONS) reloadDetails();
  } else {
    reloadDetails();
  }
}

/** Shows how fresh the prices are: dimmed, and with a reason, whenever they may be stale. */
function showStream(state, sinceMs) {
  tell($("stream-state"), state, STREAM_WORDS[state] ?? "");
  $("watchlist").dataset.stale = state !== "live";
  const reason = STREAM_REASONS[state] ?? "";
  const since = reason && sinceMs ? ` Prices are from before ${timeOf(sinceMs * 1_000)}.` : "";
  setText($("stale-note"), reason + since);
}

$("watchlist").addEventListener("click", (event) => {
  const action = event.target.closest("button")?.dataset.action;
  const name = event.target.closest("li")?.dataset.symbol;
  // The second click of a double click would remove the row that moved up.
  if (action === "remove" && event.detail <= 1) keepWatchlist(watched().filter((kept) => kept !== name));
  if (action === "pick") document.dispatchEvent(new CustomEvent("symbol-picked", { detail: name }));
});
document.addEventListener("visibilitychange", () => {
  if (!showing) return;
  if (document.hidden) return showStream("connecting", null); // shown when the tab is visible again
  for (const row of watchRows.values()) {
    if (row.element.dataset.stale === "true" || row.freshAt < Date.now() - DETAILS_KEEP_MS) row.freshAt = 0;
  }
  loadDetails();
});
addEventListener("storage", ({ key }) => {
  if (showing && key === KEPT) showWatchlist();
});
