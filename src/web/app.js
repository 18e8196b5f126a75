// The page at `/`: the session, and the parts that live as long as one is there. No framework
// and no build step: these files are served as they are.

import { $, problem, request, setText, tell } from "./basics.js";
import { closeOrders, turnPage } from "./order-list.js";
import "./search.js";
import { clearTicket, offerSymbol } from "./ticket.js";
import { closeWatchlist, showWatchlist, watched } from "./watchlist.js";

let signedIn = false;

function enter() {
  signedIn = true;
  document.body.dataset.view = "trading";
  $("login-view").hidden = true;
  $("trading-view").hidden = $("session").hidden = false;
  setText($("user-name"), localStorage.getItem("longbow.user") ?? "");
  offerSymbol(watched()[0] ?? "");
  showWatchlist();
  turnPage([]);
}

function leave(words) {
  signedIn = false;
  document.body.dataset.view = "login";
  closeWatchlist();
  closeOrders();
  clearTicket();
  $("trading-view").hidden = $("session").hidden = true;
  $("login-view").hidden = false;
  setText($("login-error"), words);
  $("login-user").focus();
}

$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const user = $("login-user").value.trim();
  $("log-in").disabled = true;
  try {
    const answer = await request("POST", "/session", { user });
    if (answer.status >= 400) return setText($("login-error"), problem(answer));
    setText($("login-error"), "");
    localStorage.setItem("longbow.user", user);
    enter();
  } catch {
    setText($("login-error"), "The server does not answer. Try again.");
  } finally {
    $("log-in").disabled = false;
  }
});

$("log-out").addEventListener("click", async () => {
  try {
    const answer = await request("DELETE", "/session");
    if (answer.status >= 400) return tell($("orders-message"), "bad", `Still logged in. ${problem(answer)}`);
    localStorage.removeItem("longbow.user");
    leave("");
  } catch {
    tell($("orders-message"), "bad", "Still logged in. The server does not answer.");
  }
});

document.addEventListener("session-lost", () => {
  if (signedIn) leave("Your session has ended. Please log in again.");
});

try {
  const answer = await request("GET", "/orders?limit=1");
  if (answer.status === 200) enter();
  else leave(answer.status === 401 ? "" : problem(answer));
} catch {
  leave("The server does not answer. Reload the page to try again.");
}
