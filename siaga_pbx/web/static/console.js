// The console: asks the centre once a second and shows the answer. Signed out it shows no callers.

import { get, post, token, Unauthorised } from "./api.js";
import { byId, element, openForm, tick } from "./dom.js";
import * as view from "./view.js";

const POLL_MS = 1000;
const POLL_HIDDEN_MS = 10_000;
const RECORDS_EVERY = 3; // polls

let status = null;
let clockOffset = 0; // the centre's clock less ours, so that ages are the centre's
let polls = 0;
let timer = 0;

const act = {
  dispatch(call) {
    byId("dispatch-for").textContent = [call.state, call.caller_number ?? view.words(call.identity_class), call.trunk, call.seat_id && `seat ${call.seat_id}`].filter(Boolean).join(" · ");
    const choices = status.categories.map((category) => element("option", { value: category.id }, category.name));
    byId("dispatch-dialog").querySelector("select").replaceChildren(...choices);
    openForm("dispatch-dialog", async ({ category, note, address, people, protected: kept }) => {
      const body = { category, note, address: address || null, people: people === "" ? null : Number(people), protected: kept === "on" };
      const receipt = await post(`/api/v1/calls/${call.id}/dispatches`, body);
      say(`On record and on its way to ${receipt.dispatch_ids.length} ${receipt.dispatch_ids.length === 1 ? "agency" : "agencies"}.`);
      polls = 0;
    });
  },
  pause: (seat) => askReason(`Pause ${seat.name}`, seat.id, async (reason) => {
    await post(`/api/v1/seats/${seat.id}/pause`, { reason });
    say(`${seat.name} is paused.`);
  }),
  async ready(seat) {
    await attempt(() => post(`/api/v1/seats/${seat.id}/ready`, {}));
    poll();
  },
  dismiss: (call) => askReason("Do not call back", call.caller_number ?? "", async (reason) => {
    await post(`/api/v1/callbacks/${call.id}/dismiss`, { reason });
    say("Off the list.");
    polls = 0;
  }),
};

function askReason(title, subject, then) {
  byId("reason-title").textContent = title;
  byId("reason-for").textContent = subject;
  openForm("reason-dialog", async ({ reason }) => {
    await then(reason);
    poll();
  });
}

function sign() {
  if (token.get()) return signOut();
  openForm("sign-dialog", async (fields) => {
    const given = fields.token.trim();
    await get("/api/v1/status", given);
    token.set(given);
    polls = 0;
    poll();
  });
}

function signOut() {
  token.forget();
  view.showDispatches([], false);
  view.showCallbacks([], false, act);
  view.showQuarantine([]);
  poll();
}

async function poll() {
  clearTimeout(timer);
  try {
    await refresh();
    connected(null);
  } catch (error) {
    // A token that is not valid any more: go on signed out.
    if (error instanceof Unauthorised && token.get()) return signOut();
    connected(error);
  } finally {
    clearTimeout(timer); // another poll may have ended in the meantime
    timer = setTimeout(poll, document.hidden ? POLL_HIDDEN_MS : POLL_MS);
  }
}

async function refresh() {
  status = await get("/api/v1/status");
  const signedIn = token.get() !== null;
  clockOffset = Date.parse(status.at) - Date.now();
  byId("sign").textContent = signedIn ? "Sign out" : "Sign in";
  view.showHead(status);
  view.showGlance(status);
  view.showAlarms(status.alarms);
  view.showCalls(status.calls, signedIn, act);
  view.showSeats(status.seats, signedIn, act);
  view.showLinks(status);
  tickNow();
  if (polls++ % RECORDS_EVERY === 0) await refreshRecords(signedIn);
}

async function refreshRecords(signedIn) {
  if (!signedIn) {
    view.showDispatches([], false);
    view.showCallbacks([], false, act);
    view.showQuarantine([]);
    return;
  }
  try {
    const paths = ["/api/v1/dispatches?limit=100", "/api/v1/callbacks", "/api/v1/quarantine"];
    const [dispatches, callbacks, quarantined] = await Promise.all(paths.map((path) => get(path)));
    view.showDispatches(dispatches, true);
    view.showCallbacks(callbacks, true, act);
    view.showQuarantine(quarantined);
    tickNow();
  } catch (error) {
    if (error instanceof Unauthorised) throw error;
    say(`The records cannot be read now: ${error.message}`); // what is live goes on
  }
}

function connected(error) {
  const lost = byId("lost");
  document.body.classList.toggle("stale", error !== null);
  lost.hidden = error === null;
  const wanted = error instanceof Unauthorised ? "Sign in to see this centre." : "No answer from the centre: what is shown is old. Trying again.";
  if (error && lost.textContent !== wanted) lost.textContent = wanted;
  if (error && !(error instanceof Unauthorised)) {
    byId("state").textContent = "no answer";
    byId("state").className = "pill bad";
  }
}

async function attempt(action) {
  try {
    await action();
  } catch (error) {
    say(error.message);
  }
}

let sayTimer = 0;
function say(text) {
  const said = byId("said");
  said.textContent = text;
  said.hidden = false;
  clearTimeout(sayTimer);
  sayTimer = setTimeout(() => { said.hidden = true; }, 5000);
}

function tickNow() {
  tick(Date.now() + clockOffset);
  byId("clock").textContent = new Date(Date.now() + clockOffset).toLocaleTimeString("en-GB");
}

byId("sign").addEventListener("click", sign);
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
setInterval(tickNow, 1000);
poll();
