// A tab's connection to the shared price stream of its browser. A hidden tab has none and costs
// nothing.

import { PriceHub, RENEW_MS } from "./price-hub.js";

const NAME = "longbow-prices-1"; // increment when the messages change: old tabs may be open
const HUB = "hub";
const ALL_TABS = "everybody";
const MAX_UNANSWERED = 3; // requests without an answer before the next transport is tried

/** Transport: a shared worker. */
function overWorker(hear, fail) {
  const worker = new SharedWorker("/price-worker.js", { type: "module", name: NAME });
  worker.onerror = fail;
  worker.port.onmessage = ({ data }) => hear(data);
  return { say: (request) => worker.port.postMessage(request), close: () => worker.port.close() };
}

/** Transport: a leading tab. The visible tab that holds the lock runs the stream for all. */
function overLeader(hear) {
  const channel = new BroadcastChannel(NAME);
  const self = crypto.getRandomValues(new Uint32Array(2)).join("-");
  channel.onmessage = ({ data: { to, message } }) => {
    if (to === self || to === ALL_TABS) hear(message);
  };
  const leaving = new AbortController();
  const lock = navigator.locks.request(NAME, { signal: leaving.signal }, () => lead(leaving.signal));
  lock.catch(() => { /* closed while another tab was leading */ });
  return {
    say: (request) => channel.postMessage({ to: HUB, from: self, message: request }),
    close() { leaving.abort(); channel.close(); },
  };
}

function lead(leaving) {
  const channel = new BroadcastChannel(NAME);
  const hub = new PriceHub();
  channel.onmessage = ({ data: { to, from, message } }) => {
    if (to === HUB) hub.hear(from, message, (answer) => channel.postMessage({ to: from, message: answer }));
  };
  channel.postMessage({ to: ALL_TABS, message: { kind: "new-hub" } });
  return new Promise((resolve) => leaving.addEventListener("abort", () => {
    hub.close();
    channel.close();
    resolve();
  }));
}

/** Transport: a stream of its own, without locks, as on plain HTTP from another machine. */
function alone(hear) {
  const hub = new PriceHub();
  return { say: (request) => hub.hear(HUB, request, hear), close: () => hub.close() };
}

const transports = [alone];
if (navigator.locks && "BroadcastChannel" in window) transports.unshift(overLeader);
if ("SharedWorker" in window) transports.unshift(overWorker);

let link = null;
let wanted = [];
let listener = () => {};
let unanswered = 0;
let renewTimer = 0;

/** From now on, `listen` receives the state of the stream and the prices of these symbols. */
export function followPrices(symbols, listen) {
  wanted = symbols;
  listener = listen;
  renew();
}

/** The server is known to answer: a lost stream reconnects at once. */
export const hurryPrices = () => renew(true);

function renew(hurry = false) {
  clearTimeout(renewTimer);
  if (document.hidden || wanted.length === 0) return leave();
  if (unanswered >= MAX_UNANSWERED) tryNextTransport();
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
    tryNextTransport();
    renew();
  };
  const own = transports[0](hear, fail);
  return own;
}

function tryNextTransport() {
  if (transports.length > 1) transports.shift();
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
