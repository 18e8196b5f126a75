// A tab's way to the one stream of prices of its browser. A hidden tab has none and costs nothing.

import { PriceHub, RENEW_MS } from "./price-hub.js";

const NAME = "longbow-prices-1"; // another number where the messages change: old tabs may be open
const HUB = "hub";
const EVERYBODY = "everybody";
const PATIENCE = 3; // wishes without any answer before another way is taken

/** The way over a shared worker. */
function overWorker(hear, fail) {
  const worker = new SharedWorker("/price-worker.js", { type: "module", name: NAME });
  worker.onerror = fail;
  worker.port.onmessage = ({ data }) => hear(data);
  return { say: (wish) => worker.port.postMessage(wish), close: () => worker.port.close() };
}

/** The way to a leading tab: whichever visible one holds the lock has the stream for all. */
function overLeader(hear) {
  const channel = new BroadcastChannel(NAME);
  const self = crypto.getRandomValues(new Uint32Array(2)).join("-");
  channel.onmessage = ({ data: { to, message } }) => {
    if (to === self || to === EVERYBODY) hear(message);
  };
  const leaving = new AbortController();
  const lock = navigator.locks.request(NAME, { signal: leaving.signal }, () => lead(leaving.signal));
  lock.catch(() => { /* left while another tab was leading */ });
  return {
    say: (wish) => channel.postMessage({ to: HUB, from: self, message: wish }),
    close() { leaving.abort(); channel.close(); },
  };
}

function lead(leaving) {
  const channel = new BroadcastChannel(NAME);
  const hub = new PriceHub();
  channel.onmessage = ({ data: { to, from, message } }) => {
    if (to === HUB) hub.hear(from, message, (answer) => channel.postMessage({ to: from, message: answer }));
  };
  channel.postMessage({ to: EVERYBODY, message: { kind: "new-hub" } });
  return new Promise((resolve) => leaving.addEventListener("abort", () => {
    hub.close();
    channel.close();
    resolve();
  }));
}

/** A stream of the tab's own: a browser without locks, as on plain HTTP from another machine. */
function alone(hear) {
  const hub = new PriceHub();
  return { say: (wish) => hub.hear(HUB, wish, hear), close: () => hub.close() };
}

const ways = [alone];
if (navigator.locks && "BroadcastChannel" in window) ways.unshift(overLeader);
if ("SharedWorker" in window) ways.unshift(overWorker);

let link = null;
let wanted = [];
let listener = () => {};
let unanswered = 0;
let renewTimer = 0;

/** From now on `listen` is told the state of the stream and the prices of these symbols. */
export function followPrices(symbols, listen) {
  wanted = symbols;
  listener = listen;
  renew();
}

/** The server is known to answer: a stream that is lost tries at once. */
export const hurryPrices = () => renew(true);

function renew(hurry = false) {
  clearTimeout(renewTimer);
  if (document.hidden || wanted.length === 0) return leave();
  if (unanswered >= PATIENCE) takeAnotherWay();
  link ??= connect();
  unanswered += 1;
  link.say({ symbols: wanted, hurry });
  renewTimer = setTimeout(() => renew(), RENEW_MS);
}

function connect() {
  unanswered = 0;
  const hear = (message) => {
    if (link !== own) return;
    unanswered = 0;
    if (message.kind === "new-hub") renew();
    else listener(message);
  };
  const fail = () => {
    if (link !== own) return;
    takeAnotherWay();
    renew();
  };
  const own = ways[0](hear, fail);
  return own;
}

function takeAnotherWay() {
  if (ways.length > 1) ways.shift();
  leave();
}

function leave() {
  clearTimeout(renewTimer);
  link?.say({ symbols: [] });
  link?.close();
  link = null;
}

document.addEventListener("visibilitychange", () => renew());
addEventListener("pagehide", leave);
