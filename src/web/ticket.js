// The order ticket: from the form to what became of the order, in words.

import { $, centsOf, dollars, grouped, problem, request, setText, tell } from "./basics.js";
import { STATUS_WORDS, turnPage } from "./order-list.js";
import { lastCents } from "./watchlist.js";

/** A key for one submission. `crypto.randomUUID` is missing on plain HTTP; this is not. */
function freshKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `web-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

const ticket = $("ticket");
// What was sent last without a definite answer: the same terms go again under the same key, so
// that trying again never places a second order.
let unsettled = null;

function showTicket() {
  const data = new FormData(ticket);
  ticket.dataset.side = data.get("position");
  ticket.dataset.type = data.get("type");
  $("price-field").hidden = data.get("type") === "market";
  const verb = data.get("position") === "buy" ? "Buy" : "Sell";
  setText($("place-order"), [verb, data.get("numShares"), data.get("symbol").toUpperCase()].join(" ").trim());
  showEstimate();
}

/** Cents times shares can pass 2^53: BigInt. */
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

/** The body of the request, or what is wrong with the form by field. */
function readTicket() {
  const data = new FormData(ticket);
  const terms = {
    position: data.get("position"),
    symbol: data.get("symbol").trim().toUpperCase(),
    numShares: Number(data.get("numShares").trim()),
    timeInForce: data.get("timeInForce"),
  };
  const errors = {};
  if (terms.symbol === "") errors.symbol = "Which symbol?";
  if (!/^[1-9]\d*$/.test(data.get("numShares").trim())) errors.numShares = "A whole number of shares, 1 or more.";
  if (data.get("type") === "limit") {
    terms.priceInCents = centsOf(data.get("priceInCents"));
    if (!terms.priceInCents) errors.priceInCents = "A price such as 512.30, at least 0.01.";
  }
  return { terms, errors };
}

/** Fills in a symbol where none is chosen. */
export function offerSymbol(name) {
  ticket.elements.symbol.value ||= name;
  showTicket();
}

/** Forgets what one user did. */
export function clearTicket() {
  ticket.reset();
  unsettled = null;
  showErrors({});
  tell($("ticket-message"), "", "");
}

document.addEventListener("price-shown", showEstimate);
document.addEventListener("symbol-picked", ({ detail: name }) => {
  ticket.elements.symbol.value = name;
  const cents = lastCents(name);
  if (cents !== null) ticket.elements.priceInCents.value = dollars(cents).replace(/[$,]/g, "");
  showTicket();
  ticket.elements.numShares.focus();
});
ticket.addEventListener("input", showTicket);
ticket.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { terms, errors } = readTicket();
  showErrors(errors);
  tell($("ticket-message"), "", "");
  if (Object.keys(errors).length > 0) return;
  const text = JSON.stringify(terms);
  if (unsettled?.text !== text) unsettled = { text, clientOrderId: freshKey() };
  const sent = unsettled;
  $("place-order").disabled = true;
  tell($("ticket-message"), "sending", "Sending…");
  const answer = await request("POST", "/order", { ...terms, clientOrderId: sent.clientOrderId }).catch(() => null);
  $("place-order").disabled = false;
  if (unsettled !== sent) return; // logged out meanwhile
  if (answer && answer.status < 500) unsettled = null;
  if (answer) showOutcome(answer, terms);
  else tell($("ticket-message"), "unknown", "No answer came. Press the button again: it sends the same order, which is never placed twice.");
  turnPage([]);
});

function showOutcome(answer, terms) {
  const order = answer.content.order ?? answer.content;
  const name = `${terms.position === "buy" ? "Buy" : "Sell"} ${grouped(terms.numShares)} ${terms.symbol}`;
  const field = answer.content.field;
  switch (answer.status) {
    case 201: return tell($("ticket-message"), "accepted", `${name}: the exchange has accepted the order.`);
    case 200: return tell($("ticket-message"), "accepted", `${name}: the first try had arrived. It was placed once and is ${(STATUS_WORDS[order.status] ?? "known").toLowerCase()}.`);
    case 202: return tell($("ticket-message"), "pending", `${name}: recorded. The exchange has not answered yet; the list below shows what comes of it.`);
    case 422: return tell($("ticket-message"), "refused", `${name}: the exchange refused the order. ${order.reason ?? problem(answer)}`);
    case 503: {
      const wait = answer.retryAfter ? ` in ${answer.retryAfter} s` : "";
      return tell($("ticket-message"), "unavailable", `Nothing was recorded: ${problem(answer)} Try again${wait}; the order is never placed twice.`);
    }
    default:
      if (field && ticket.querySelector(`[data-error-for="${CSS.escape(field)}"]`)) {
        showErrors({ [field]: problem(answer) });
        return tell($("ticket-message"), "invalid", "Nothing was placed: see above.");
      }
      return tell($("ticket-message"), answer.status < 500 ? "invalid" : "unknown", problem(answer));
  }
}
