// The watchlist: its rows, and the one stream that moves their prices.

import { $, dollars, part, request, setText, tell, timeOf } from "./basics.js";

const DEFAULT_SYMBOLS = ["SPY", "IBM", "BAC", "AIG"];
const MAX_WATCHED = 40; // one stream carries the whole list
const STREAM_RETRY_MS = 3_000; // only after an answer that made the browser give up by itself
const DETAIL_MATCHES = 20; // the symbol itself is among the first that its name finds
const SPARK_POINTS = 60; // at most one a second: the last minute or more

const watchRows = new Map(); // symbol -> { element, lastCents, previousCents, sparks, sparkedAt, unknown }
let showing = false; // from showWatchlist to closeWatchlist
let stream = null;
let streamTimer = 0;

/** The names that this browser keeps. */
export function watched() {
  try {
    const kept = JSON.parse(localStorage.getItem("longbow.watchlist"));
    if (Array.isArray(kept)) return kept.filter((name) => typeof name === "string").slice(0, MAX_WATCHED);
  } catch { /* somebody else's value: start over */ }
  return DEFAULT_SYMBOLS;
}

/** Brings rows and stream to the kept list; what is already shown stays as it is. */
export async function showWatchlist() {
  showing = true;
  const names = watched();
  for (const [name, row] of watchRows) {
    if (!names.includes(name)) { row.element.remove(); watchRows.delete(name); }
  }
  for (const name of names) if (!watchRows.has(name)) addRow(name);
  $("watch-empty").hidden = names.length > 0;
  $("watched-symbols").replaceChildren(...names.map((name) => new Option(name, name)));
  await Promise.all(names.filter((name) => watchRows.get(name)?.previousCents === null).map(loadDetails));
  if (showing) openStream();
}

/** Stops the stream and empties the list. */
export function closeWatchlist() {
  showing = false;
  closeStream();
  watchRows.clear();
  $("watchlist").replaceChildren();
  setStream("off", "");
  tell($("watch-message"), "", "");
}

export const isWatched = (name) => watchRows.has(name);

/** The newest price of a watched symbol in cents, or null. */
export const lastCents = (name) => watchRows.get(name)?.lastCents ?? null;

export function watch(name) {
  const names = watched();
  if (names.includes(name)) return;
  const room = names.length < MAX_WATCHED;
  tell($("watch-message"), "bad", room ? "" : `A list holds ${MAX_WATCHED} symbols at most.`);
  if (room) keepWatchlist([...names, name]);
}

function keepWatchlist(names) {
  localStorage.setItem("longbow.watchlist", JSON.stringify(names));
  return showWatchlist();
}

function addRow(name) {
  const element = $("watch-row").content.firstElementChild.cloneNode(true);
  element.dataset.symbol = name;
  part(element, "symbol").textContent = name;
  element.querySelector("[data-action=remove]").setAttribute("aria-label", `Remove ${name}`);
  element.querySelector("[data-action=pick]").title = `Put ${name} into the order`;
  watchRows.set(name, { element, lastCents: null, previousCents: null, sparks: [], sparkedAt: 0, unknown: false });
  $("watchlist").append(element);
}

/** What a row's prices are measured against, and whether they are real. */
async function loadDetails(name) {
  const row = watchRows.get(name);
  try {
    const [quote, found] = await Promise.all([
      request("GET", `/symbol/${encodeURIComponent(name)}`),
      request("GET", `/symbols?query=${encodeURIComponent(name)}&limit=${DETAIL_MATCHES}`),
    ]);
    row.unknown = quote.status === 404;
    row.element.dataset.unknown = row.unknown;
    if (row.unknown) return setText(part(row.element, "note"), "unknown");
    if (quote.status !== 200) return;
    row.previousCents = quote.content.previousCloseInCents ?? null;
    row.element.dataset.stale = quote.content.stale === true;
    if (row.lastCents === null && quote.content.priceInCents) showPrice(quote.content);
    markSynthetic(row, found.content.symbols?.find((entry) => entry.symbol === name));
  } catch { /* the stream and the polls speak of a lost connection */ }
}

function markSynthetic(row, entry) {
  row.element.dataset.synthetic = entry?.synthetic === true;
  const note = part(row.element, "note");
  setText(note, entry?.synthetic ? "synthetic" : "");
  note.title = entry?.source ?? "";
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
    // Two names for one animation, in turn: only another name starts it anew.
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

function setStream(state, words) {
  tell($("stream-state"), state, words);
  $("watchlist").dataset.stale = state !== "live";
}

function closeStream() {
  clearTimeout(streamTimer);
  stream?.close();
  stream = null;
}

/** One stream for the whole list: a change of the list closes it and opens the next. */
function openStream() {
  closeStream();
  const names = [...watchRows].filter(([, row]) => !row.unknown).map(([name]) => encodeURIComponent(name));
  if (names.length === 0) return setStream("off", "");
  setStream("connecting", "Connecting");
  const source = stream = new EventSource(`/subscribe?symbols=${names.join(",")}`);
  source.addEventListener("open", () => setStream("live", "Live"));
  source.addEventListener("price", (event) => {
    const price = JSON.parse(event.data);
    const row = watchRows.get(price.symbol);
    if (row && Number(row.element.dataset.timestamp ?? 0) !== price.timestamp) row.element.dataset.stale = false;
    showPrice(price);
  });
  source.addEventListener("feed", (event) => {
    const up = JSON.parse(event.data).up;
    setStream(up ? "live" : "feed-lost", up ? "Live" : "Exchange feed lost");
  });
  source.addEventListener("error", () => {
    if (source !== stream) return;
    setStream("lost", "Connection lost");
    // The browser comes back by itself, but never after an answer that it took for final.
    if (source.readyState === EventSource.CLOSED) streamTimer = setTimeout(openStream, STREAM_RETRY_MS);
  });
}

$("watchlist").addEventListener("click", (event) => {
  const action = event.target.closest("button")?.dataset.action;
  const name = event.target.closest("li")?.dataset.symbol;
  if (action === "remove") keepWatchlist(watched().filter((kept) => kept !== name));
  if (action === "pick") document.dispatchEvent(new CustomEvent("symbol-picked", { detail: name }));
});
