// The page at `/`: logs in and out, and shows the trading view while there is a session. No
// framework and no build step: these files are served as they are.

import { $, problem, request, setText, tell } from "./basics.js";
import { closeOrders, turnPage } from "./order-list.js";
import "./search.js";
import { closeTicket, openTicket } from "./ticket.js";
import { closeWatchlist, showWatchlist, watched } from "./watchlist.js";

const USER = "longbow.user"; // the user's name, shared by all tabs
const RETRY_MS = 2_000;
const NO_ANSWER = "The server is not responding. This page keeps trying.";
const HINTS = {
  name: "Any name will do: this server makes development users.",
  token: "This server authenticates users by signed tokens. Ask its operator for one.",
};

let signedIn = false;
let loginBy = "name"; // how this server authenticates users
let startTimer = 0;

/** Finds out whether there is a session; retries until the server answers. */
async function start() {
  clearTimeout(startTimer);
  const answer = await request("GET", "/orders?limit=1").catch(() => null);
  // Only the server's own answers have a code: this one knows the user, even if it cannot help now.
  const isKnown = answer?.status === 200 || (answer?.status === 503 && answer.content.code);
  if (signedIn) return;
  if (isKnown) return enter();
  if (answer?.status === 401) return document.body.dataset.view === "login" || askForUser("");
  setText($("start-message"), answer ? problem(answer) : NO_ANSWER);
  startTimer = setTimeout(start, RETRY_MS);
}

function enter() {
  const from = document.body.dataset.view;
  signedIn = true;
  document.body.dataset.view = "trading";
  setText($("start-message"), "");
  $("login-view").hidden = true;
  $("trading-view").hidden = $("session").hidden = false;
  const user = localStorage.getItem(USER) ?? "";
  setText($("user-name"), user);
  openTicket(user, watched()[0] ?? "");
  showWatchlist();
  turnPage([]);
  if (from === "login") document.querySelector("main").focus();
}

function leave(words) {
  signedIn = false;
  closeWatchlist();
  closeOrders();
  closeTicket();
  $("trading-view").hidden = $("session").hidden = true;
  return askForUser(words);
}

/** Shows the login form: for a name or for a token. */
async function askForUser(words) {
  setText($("login-error"), words);
  // A request with neither token nor name. Only a server in development mode misses the name.
  const answer = await request("POST", "/session", {}).catch(() => null);
  if (signedIn) return;
  if (!answer || answer.status >= 500) {
    document.body.dataset.view = "starting";
    setText($("start-message"), [words, NO_ANSWER].join(" ").trim());
    startTimer = setTimeout(start, RETRY_MS);
    return;
  }
  loginBy = answer.status === 401 ? "token" : "name";
  document.body.dataset.view = "login";
  setText($("start-message"), "");
  setText($("login-hint"), HINTS[loginBy]);
  $("by-name").hidden = loginBy !== "name";
  $("by-token").hidden = loginBy !== "token";
  $("login-view").hidden = false;
  (loginBy === "token" ? $("login-token") : $("login-user")).focus();
}

/** The login request, or what is wrong with the form. */
function readLogin() {
  if (loginBy === "name") return { body: { user: $("login-user").value.trim() } };
  const token = $("login-token").value.trim().replace(/^Bearer\s+/i, "");
  if (!/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)) {
    return { wrong: "That is not a token: a token has three parts separated by dots." };
  }
  return { body: {}, headers: { Authorization: `Bearer ${token}` } };
}

$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if ($("log-in").ariaDisabled === "true") return;
  const { body, headers, wrong } = readLogin();
  if (wrong) return setText($("login-error"), wrong);
  $("log-in").ariaDisabled = "true";
  try {
    const answer = await request("POST", "/session", body, headers);
    if (answer.status === 401 && loginBy === "name") return await askForUser(""); // the server wants tokens by now
    if (answer.status >= 400) return setText($("login-error"), problem(answer));
    setText($("login-error"), "");
    $("login-token").value = "";
    localStorage.setItem(USER, answer.content.user ?? body.user);
    enter();
  } catch {
    setText($("login-error"), "The server is not responding. Try again.");
  } finally {
    $("log-in").ariaDisabled = "false";
  }
});

$("log-out").addEventListener("click", async () => {
  try {
    const answer = await request("DELETE", "/session");
    if (answer.status >= 400 && answer.status !== 401) {
      return tell($("orders-message"), "bad", `Still logged in. ${problem(answer)}`);
    }
    localStorage.removeItem(USER);
    if (signedIn) leave("");
  } catch {
    tell($("orders-message"), "bad", "Still logged in. The server is not responding.");
  }
});

document.addEventListener("session-lost", () => {
  if (signedIn) leave("Your session has ended. Please log in again.");
});

// Of several nodes, the one that has answered last.
document.addEventListener("node-answered", ({ detail }) => setText($("node"), `Node ${detail}`));

// All tabs share one session: each follows the others' logins and logouts.
addEventListener("storage", ({ key, newValue }) => {
  if (key !== USER) return;
  if (!signedIn) start();
  else if (newValue === null) leave("You have logged out in another tab.");
  else location.reload(); // another user: drop everything of the previous one
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !signedIn) start();
});

// Holding Enter presses a button once.
document.addEventListener("keydown", (event) => {
  if (event.repeat && event.key === "Enter") event.preventDefault();
});

start();
