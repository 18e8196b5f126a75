// The list of orders: polled while visible, with pages and Cancel buttons.

import { $, dollars, grouped, keepFocus, part, problem, request, setText, tell, timeOf } from "./basics.js";
import { hurryPrices } from "./price-link.js";

const ORDERS_A_PAGE = 50;
const POLL_MS = 1_000;
export const STATUS_WORDS = {
  pending: "Pending", submitted: "Submitted", partially_filled: "Partly filled", filled: "Filled",
  pending_cancel: "Cancelling", cancelled: "Cancelled", failed: "Failed",
};
const CAN_CANCEL = new Set(["pending", "submitted", "partially_filled"]);

const orderRows = $("orders").children;
let showing = false; // between turnPage and closeOrders
let pages = []; // the cursors that lead to the current page; none for the newest
let nextCursor = null;
let pollTimer = 0;
let pollTurn = 0; // only the newest poll may update the page

/** Stops polling and empties the list. */
export function closeOrders() {
  stopPolling();
  showing = false;
  $("orders").replaceChildren();
  $("orders-table").hidden = true;
  tell($("orders-state"), "off", "");
  tell($("orders-message"), "", "");
}

function stopPolling() {
  clearTimeout(pollTimer);
  pollTurn += 1;
}

/** Shows the page that the cursors lead to and keeps it current; `[]` is the newest. */
export function turnPage(cursors) {
  showing = true;
  pages = cursors;
  return pollOrders();
}

/** Reads the current page, and again each second while the tab is visible. */
async function pollOrders() {
  stopPolling();
  if (document.hidden) return; // resumes when the tab is visible
  const turn = pollTurn;
  const cursor = pages.length > 0 ? `&cursor=${encodeURIComponent(pages.at(-1))}` : "";
  let words = "";
  try {
    const answer = await request("GET", `/orders?limit=${ORDERS_A_PAGE}${cursor}`);
    if (turn !== pollTurn) return;
    if (answer.status === 200) keepFocus(() => showOrders(answer.content), $("orders-title"));
    else words = `Not up to date: ${problem(answer)}`;
  } catch {
    if (turn !== pollTurn) return;
    words = "Not up to date: the server is not responding";
  }
  // The polls are the first to notice that the server is back.
  const recovered = $("orders-state").dataset.state === "lost" && words === "";
  tell($("orders-state"), words ? "lost" : "live", words);
  if (recovered) hurryPrices();
  pollTimer = setTimeout(pollOrders, POLL_MS);
}

/** Moves as few rows as possible, to preserve focus and selection. */
function showOrders({ orders, nextCursor: next }) {
  const known = new Map(Array.from(orderRows, (row) => [row.dataset.orderId, row]));
  let place = orderRows[0] ?? null;
  for (const order of orders) {
    const row = known.get(order.orderId) ?? $("order-row").content.firstElementChild.cloneNode(true);
    fillOrder(row, order);
    if (row === place) place = place.nextElementSibling;
    else $("orders").insertBefore(row, place);
  }
  while (orderRows.length > orders.length) $("orders").lastElementChild.remove();
  nextCursor = next ?? null;
  $("orders-table").hidden = orders.length === 0;
  $("orders-empty").hidden = orders.length > 0 || pages.length > 0;
  $("orders-pages").hidden = pages.length === 0 && !nextCursor;
  // Not `disabled`, which would lose the focus.
  $("newer-orders").ariaDisabled = String(pages.length === 0);
  $("older-orders").ariaDisabled = String(!nextCursor);
  setText($("orders-page"), `Page ${pages.length + 1}`);
}

function fillOrder(row, order) {
  const unchanged = row.dataset.version !== undefined && Number(row.dataset.version) >= order.version;
  if (unchanged) return; // or older: an answer that was overtaken
  Object.assign(row.dataset, {
    orderId: order.orderId, version: order.version, status: order.status, symbol: order.symbol,
    side: order.side, clientOrderId: order.clientOrderId ?? "",
  });
  const price = order.priceInCents ? `Limit ${dollars(order.priceInCents)}` : "Market";
  setText(part(row, "side"), order.side === "buy" ? "Buy" : "Sell");
  setText(part(row, "what"), `${grouped(order.numShares)} ${order.symbol}`);
  setText(part(row, "terms"), `${price}, ${order.timeInForce === "gtc" ? "until cancelled" : "day"}`);
  setText(part(row, "filled"), `${grouped(order.filledShares)} / ${grouped(order.numShares)}`);
  Object.assign(part(row, "progress"), { max: order.numShares, value: order.filledShares });
  setText(part(row, "average"), order.filledShares ? dollars(order.averagePriceInCents) : "–");
  setText(part(row, "status"), STATUS_WORDS[order.status] ?? order.status);
  setText(part(row, "reason"), order.reason ?? "");
  const placed = part(row, "placed");
  placed.dateTime = new Date(order.createdAt / 1_000).toISOString();
  placed.title = `Order ${order.orderId}`;
  setText(placed, timeOf(order.createdAt));
  const cancel = row.querySelector("[data-action=cancel]");
  const hadFocus = document.activeElement === cancel;
  cancel.hidden = !CAN_CANCEL.has(order.status);
  if (cancel.hidden && hadFocus) row.focus();
  cancel.setAttribute("aria-label", `Cancel: ${order.side} ${order.numShares} ${order.symbol}`);
}

$("orders").addEventListener("click", async (event) => {
  const button = event.target.closest("[data-action=cancel]");
  if (!button || button.getAttribute("aria-disabled") === "true") return;
  const row = button.closest("tr");
  const name = [part(row, "side"), part(row, "what")].map((element) => element.textContent).join(" ");
  const say = (state, words) => tell($("orders-message"), state, `${name}: ${words}`);
  button.setAttribute("aria-disabled", "true"); // not `disabled`, which would lose the focus
  try {
    const answer = await request("DELETE", `/order/${encodeURIComponent(row.dataset.orderId)}`);
    const order = answer.content.order ?? answer.content;
    if (order.orderId === row.dataset.orderId) fillOrder(row, order);
    if (answer.status === 200) say("accepted", "cancelled.");
    else if (answer.status === 202) say("pending", "cancel recorded; the exchange has not confirmed it yet.");
    else if (answer.status === 409) say("refused", `too late to cancel, the order is ${(STATUS_WORDS[order.status] ?? "closed").toLowerCase()}.`);
    else say("invalid", `not cancelled. ${problem(answer)}`);
  } catch {
    say("unknown", "no answer to the cancel. Trying again is safe.");
  } finally {
    button.removeAttribute("aria-disabled");
  }
  if (showing) pollOrders();
});

$("newer-orders").addEventListener("click", () => pages.length > 0 && turnPage(pages.slice(0, -1)));
$("older-orders").addEventListener("click", () => nextCursor && turnPage([...pages, nextCursor]));
document.addEventListener("visibilitychange", () => {
  if (showing && !document.hidden) pollOrders();
});
