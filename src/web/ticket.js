// The order ticket: from the form to the outcome of the order, in words. One ticket is one order:
// it is placed once, however often its button is pressed, until the ticket changes.

import { $, centsOf, dollars, grouped, problem, request, setText, tell } from "./basics.js";
import { STATUS_WORDS, turnPage } from "./order-list.js";
import { lastCents } from "./watchlist.js";

const KEPT = "longbow.unanswered";
const RECORDED = new Set([200, 201, 202, 422]);
const TRY_AGAIN = "Press the button to send the same order again; it is never placed twice.";

const ticket = $("ticket");
const button = $("place-order");
let user = "";
let visits = 0; // of users: an answer to an earlier user is ignored
let changes = 0; // of the ticket
let isSending = false;
let isPlaced = false; // whether the order on the ticket is placed

// The last order without a definite answer: `{ user, text, clientOrderId }`, `text` being the
// terms. The same terms are sent again under the same key, so a retry never places a second order.
// It is stored before it is sent, so that it survives a reload.
let unanswered = null;

/** A key for one order. `crypto.randomUUID` is unavailable on plain HTTP; this is not. */
function freshKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `web-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

function keep(sent) {
  unanswered = sent;
  try { sessionStorage.setItem(KEPT, JSON.stringify(sent)); } catch { /* without storage it lasts until a reload */ }
}

/** This order has been answered. */
function markAnswered({ clientOrderId }) {
  if (unanswered?.clientOrderId === clientOrderId) unanswered = null;
  if (readKept()?.clientOrderId === clientOrderId) sessionStorage.removeItem(KEPT);
}

function readKept() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEPT));
    if (typeof kept.text === "string" && typeof kept.clientOrderId === "string") return kept;
  } catch { /* nothing stored, or invalid */ }
  return null;
}

function showTicket() {
  const data = new FormData(ticket);
  ticket.dataset.side = data.get("position");
  ticket.dataset.type = data.get("type");
  $("price-field").hidden = data.get("type") === "market";
  const verb = data.get("position") === "buy" ? "Buy" : "Sell";
  const words = [verb, data.get("numShares"), data.get("symbol").toUpperCase()].join(" ").trim();
  setText(button, isSending ? "Sending…" : words);
  button.ariaBusy = String(isSending);
  button.ariaDisabled = String(isSending || isPlaced); // not `disabled`, which would lose the focus
  $("order-again").hidden = !isPlaced;
  showEstimate();
}

/** The ticket is a new order now and may be placed. */
function changeTicket() {
  changes += 1;
  isPlaced = false;
  if (unanswered && !isSending) {
    const hint = JSON.stringify(readTicket().terms) === unanswered.text ? TRY_AGAIN : "The list of orders shows whether it was placed.";
    tell($("ticket-message"), "unknown", `${nameOf(JSON.parse(unanswered.text))}: no answer. ${hint}`);
  }
  showTicket();
}

/** Uses BigInt: cents times shares can exceed 2^53. */
function showEstimate() {
  const data = new FormData(ticket);
  const market = data.get("type") === "market";
  const cents = market ? lastCents(data.get("symbol").trim().toUpperCase()) : centsOf(data.get("priceInCents"));
  const shares = /^\d+$/.test(data.get("numShares")) && BigInt(data.get("numShares"));
  setText($("estimate"), cents && shares ? dollars(BigInt(cents) * shares) : "–");
}

function showErrors(errors) {
  for (const place of ticket.querySelectorAll("[data-error-for]")) {
    const field = place.dataset.errorFor;
    setText(place, errors[field] ?? "");
    const input = ticket.elements[field];
    if (input instanceof HTMLInputElement) input.setAttribute("aria-invalid", field in errors);
  }
  ticket.querySelector("[aria-invalid=true]")?.focus();
}

/** The terms of the order, and the errors of the form by field. */
function readTicket() {
  const data = new FormData(ticket);
  const terms = {
    position: data.get("position"),
    symbol: data.get("symbol").trim().toUpperCase(),
    numShares: Number(data.get("numShares").trim()),
    timeInForce: data.get("timeInForce"),
  };
  const errors = {};
  if (terms.symbol === "") errors.symbol = "Enter a symbol.";
  if (!/^[1-9]\d*$/.test(data.get("numShares").trim())) errors.numShares = "Enter a whole number of shares, 1 or more.";
  if (data.get("type") === "limit") {
    terms.priceInCents = centsOf(data.get("priceInCents"));
    if (!terms.priceInCents) errors.priceInCents = "Enter a price such as 512.30, at least 0.01.";
  }
  return { terms, errors };
}

function fillTicket(terms) {
  const { elements } = ticket;
  elements.position.value = terms.position;
  elements.symbol.value = terms.symbol;
  elements.numShares.value = terms.numShares;
  elements.timeInForce.value = terms.timeInForce;
  elements.type.value = terms.priceInCents ? "limit" : "market";
  if (terms.priceInCents) elements.priceInCents.value = plainDollars(terms.priceInCents);
}

const plainDollars = (cents) => dollars(cents).replace(/[$,]/g, "");
const nameOf = (terms) => `${terms.position === "buy" ? "Buy" : "Sell"} ${grouped(terms.numShares)} ${terms.symbol}`;

/** Opens the ticket for a user: with the unanswered order, or with a symbol. */
export function openTicket(name, symbol) {
  user = name;
  visits += 1;
  const kept = readKept();
  unanswered = kept?.user === user ? kept : null;
  if (unanswered) fillTicket(JSON.parse(unanswered.text));
  else ticket.elements.symbol.value ||= symbol;
  changeTicket();
}

/** Forgets the user's input, except what the browser stores. */
export function closeTicket() {
  visits += 1;
  isSending = false;
  unanswered = null;
  ticket.reset();
  showErrors({});
  tell($("ticket-message"), "", "");
  changeTicket();
}

document.addEventListener("price-shown", showEstimate);
document.addEventListener("symbol-picked", ({ detail: name }) => {
  ticket.elements.symbol.value = name;
  const cents = lastCents(name);
  if (cents !== null) ticket.elements.priceInCents.value = plainDollars(cents);
  changeTicket();
  ticket.elements.numShares.focus();
});
ticket.addEventListener("input", changeTicket);
$("order-again").addEventListener("click", () => {
  tell($("ticket-message"), "", "");
  button.focus(); // before the focused button disappears
  changeTicket();
});
ticket.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!isSending && !isPlaced) place();
});

async function place() {
  const { terms, errors } = readTicket();
  showErrors(errors);
  tell($("ticket-message"), "", "");
  if (Object.keys(errors).length > 0) return;
  const text = JSON.stringify(terms);
  const isFirst = unanswered?.text !== text;
  if (isFirst) keep({ user, text, clientOrderId: freshKey() });
  const sent = unanswered;
  const [visit, change] = [visits, changes];
  isSending = true;
  showTicket();
  tell($("ticket-message"), "sending", "Sending…");
  const answer = await request("POST", "/order", { ...terms, clientOrderId: sent.clientOrderId }).catch(() => null);
  // A first try that was not recorded leaves nothing open. A repeated one does: the earlier try may
  // have been recorded.
  if (answer && (answer.status < 500 || (isFirst && isRefusal(answer)))) markAnswered(sent);
  if (visit !== visits) return;
  isSending = false;
  isPlaced = RECORDED.has(answer?.status) && change === changes;
  showTicket();
  if (answer) showOutcome(answer, terms);
  else tell($("ticket-message"), "unknown", `${nameOf(terms)}: no answer. ${TRY_AGAIN}`);
  turnPage([]);
}

/** Nothing was recorded. A proxy's 503 has no code, and the proxy may have forwarded the order. */
const isRefusal = (answer) => answer.status === 503 && Boolean(answer.content.code);

function showOutcome(answer, terms) {
  const say = (state, words) => tell($("ticket-message"), state, words);
  const order = answer.content.order ?? answer.content;
  const name = nameOf(terms);
  switch (answer.status) {
    case 201: return say("accepted", `${name}: the exchange accepted the order.`);
    case 200: return say("accepted", `${name}: the first try got through. It was placed once and is ${(STATUS_WORDS[order.status] ?? "known").toLowerCase()}.`);
    case 202: return say("pending", `${name}: recorded. The exchange has not answered yet; the list below shows the outcome.`);
    case 422: return say("refused", `${name}: the exchange refused the order. ${order.reason ?? problem(answer)}`);
  }
  if (isRefusal(answer)) {
    const wait = answer.retryAfter ? ` in ${answer.retryAfter} s` : "";
    return say("unavailable", `Nothing was recorded: ${problem(answer)} Try again${wait}; the order is never placed twice.`);
  }
  // Not from the server itself, which may have received the order.
  if (answer.status >= 500) return say("unknown", `${name}: ${problem(answer)} ${TRY_AGAIN}`);
  const { field } = answer.content;
  if (field && ticket.querySelector(`[data-error-for="${CSS.escape(field)}"]`)) {
    showErrors({ [field]: problem(answer) });
    return say("invalid", "The order was not placed: see above.");
  }
  return say("invalid", problem(answer));
}
