// Helpers of the whole page: elements, formatting of money and time, requests. Money stays in whole
// cents, and text enters the page through `textContent` alone.

const REQUEST_TIMEOUT_MS = 10_000;

export const $ = (id) => document.getElementById(id);
export const part = (element, name) => element.querySelector(`[data-part=${name}]`);

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Applies a change to the page. If the focused element disappears, moves the focus to `fallback`:
 * from the body, keyboard navigation would restart at the top.
 */
export function keepFocus(change, fallback) {
  const before = document.activeElement;
  change();
  const now = document.activeElement;
  const isLost = now === document.body ? before !== now : !now?.checkVisibility();
  if (isLost) fallback.focus();
}

/** Shows a state: `state` is for styles and tests, `text` for people. */
export function tell(element, state, text) {
  if (element.dataset.state !== state) element.dataset.state = state;
  setText(element, text);
}

/** `123456` -> `$1,234.56`; takes whole cents as a number or a BigInt. */
export function dollars(cents) {
  const digits = String(cents).replace("-", "").padStart(3, "0");
  const whole = digits.slice(0, -2).replace(/\B(?=(\d{3})+$)/g, ",");
  return `${cents < 0 ? "−" : ""}$${whole}.${digits.slice(-2)}`;
}

/** `"12.5"` -> `1250`, without floats; null for anything but dollars and cents. */
export function centsOf(text) {
  const match = /^\$?(\d{1,8})(?:\.(\d{1,2}))?$/.exec(text.trim());
  return match && Number(match[1] + (match[2] ?? "").padEnd(2, "0"));
}

export const grouped = (count) => String(count).replace(/\B(?=(\d{3})+$)/g, ",");

export function timeOf(micros) {
  const date = new Date(micros / 1_000);
  const today = date.toDateString() === new Date().toDateString();
  return today ? date.toLocaleTimeString() : date.toLocaleString([], { dateStyle: "short", timeStyle: "short" });
}

/**
 * Sends one request; throws only without an answer. `content` is the JSON body, also of a problem
 * document. A `401` tells the whole page that the session has ended.
 */
export async function request(method, path, body, headers = {}) {
  const response = await fetch(path, {
    method,
    cache: "no-store",
    headers: body ? { "Content-Type": "application/json", ...headers } : headers,
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
  });
  const text = await response.text();
  let content = {};
  try { content = JSON.parse(text) ?? {}; } catch { /* 204, or a proxy's page: the status suffices */ }
  // Only one of several nodes says its number.
  const node = response.headers.get("X-Longbow-Node");
  if (node) document.dispatchEvent(new CustomEvent("node-answered", { detail: node }));
  if (response.status === 401) document.dispatchEvent(new Event("session-lost"));
  return { status: response.status, content, retryAfter: response.headers.get("Retry-After") };
}

export const problem = (answer) => answer.content.detail || answer.content.title || `The server answered ${answer.status}.`;
