// What the state of the centre looks like. Each function shows one part of it; `act` has what the buttons do.

import { age, byId, duration, element, pill, show } from "./dom.js";

const SEAT_TONES = { ready: "good", offered: "busy", talking: "busy", wrap_up: "busy", paused: "warn", resting: "warn" };
const CALL_TONES = { waiting: "warn", offered: "warn", overflow: "warn", talking: "busy" };
const STEPS = ["published", "received", "accepted", "arrived", "cleared"];
const OVER = ["cleared", "cancelled"];
const WAIT_WARN_S = 10;
const WAIT_BAD_S = 15; // 90 % of calls are to be answered within 15 s (NENA-STA-020.1)

export const words = (name) => String(name ?? "").replaceAll("_", " ");

export function showHead(status) {
  byId("name").textContent = status.name;
  document.title = `${status.queue.waiting ? `(${status.queue.waiting}) ` : ""}${status.name}`;
  const state = byId("state");
  state.textContent = status.state;
  state.className = `pill ${status.state === "running" ? "good" : "warn"}`;
  const since = duration((Date.parse(status.at) - Date.parse(status.started_at)) / 1000);
  byId("facts").textContent = [status.node, `version ${status.version}`, `up ${since}`].filter(Boolean).join(" · ");
}

export function showGlance(status) {
  const { waiting, oldest_s: oldest } = status.queue;
  const seats = (state) => status.seats.filter((seat) => seat.state === state).length;
  const online = status.seats.length - seats("offline");
  const waitTone = !waiting ? "" : oldest >= WAIT_BAD_S ? "bad" : oldest >= WAIT_WARN_S ? "warn" : "";
  const numbers = [
    ["Waiting", waiting, waitTone],
    ["Longest wait", waiting ? duration(oldest) : "–", waitTone],
    ["Seats ready", seats("ready"), seats("ready") ? "good" : "warn"],
    ["Talking", seats("talking"), seats("talking") ? "busy" : ""],
    ["Paused", seats("paused"), ""],
    ["Registered", `${online}/${status.seats.length}`, online ? "" : "bad"],
    ["Outbox", status.outbox.pending, status.outbox.oldest_s > 60 ? "bad" : ""],
  ];
  show(byId("glance"), numbers, ([title]) => title, ([title, value, tone]) =>
    element("div", { class: tone }, element("dt", {}, title), element("dd", {}, String(value))));
}

export function showAlarms(alarms) {
  byId("alarms-panel").hidden = alarms.length === 0;
  show(byId("alarms"), alarms, (alarm) => alarm.name + alarm.detail, (alarm) =>
    element("li", {}, element("b", {}, words(alarm.name)), element("span", {}, alarm.detail), age(alarm.since)));
}

// The address, which people read, before the point on the map.
function place(known) {
  if (!known) return "";
  const point = known.lat == null ? "" : `${known.lat.toFixed(5)}, ${known.lon.toFixed(5)}`;
  const within = known.radius_m == null ? "" : ` ± ${Math.round(known.radius_m)} m`;
  return [known.address, point && point + within].filter(Boolean).join(" · ");
}

export function showCalls(calls, signedIn, act) {
  const waits = (call) => call.state !== "talking"; // those nobody talks to stand first, each part oldest first
  const sorted = [...calls].sort((one, other) => waits(other) - waits(one));
  show(byId("calls"), sorted, (call) => call.id, (call) =>
    element("tr", {},
      element("td", {}, pill(words(call.state), CALL_TONES[call.state]),
        ...(call.on_hold_since ? [" ", pill("on hold", "warn"), " ", age(call.on_hold_since)] : []),
        ...call.unheard.flatMap((who) => [" ", pill(`${words(who)} not heard`, "bad")])),
      element("td", { class: "num" }, age(call.received_at)),
      element("td", {}, words(call.identity_class ?? "")),
      element("td", {}, call.caller_number ?? (signedIn ? "none" : "•••")),
      element("td", {}, place(call.place)),
      element("td", {}, call.trunk),
      element("td", {}, call.seat_id ?? ""),
      element("td", { class: "act" }, signedIn
        ? element("button", { class: "small", type: "button", onclick: () => act.dispatch(call) }, "Dispatch")
        : null)),
  (call) => [call, signedIn]);
}

export function showSeats(seats, signedIn, act) {
  show(byId("seats"), seats, (seat) => seat.id, (seat) => {
    const tone = SEAT_TONES[seat.state] ?? "";
    const paused = seat.state === "paused";
    const button = element("button", {
      class: "small", type: "button", onclick: () => (paused ? act.ready(seat) : act.pause(seat)),
      "aria-label": `${paused ? "Set ready" : "Pause"}: ${seat.name}`,
    }, paused ? "Ready" : "Pause");
    return element("li", { class: tone },
      element("span", { class: "name" }, seat.name || seat.id),
      element("span", {}, pill(words(seat.state), tone), " ", age(seat.since)),
      seat.reason ? element("span", { class: "more" }, seat.reason) : null,
      element("span", { class: "more" }, [seat.id, ...seat.skills].join(" · ")),
      signedIn && seat.state !== "offline" ? button : null);
  }, (seat) => [seat, signedIn]);
}

export function showDispatches(dispatches, signedIn) {
  byId("dispatches-none").textContent = signedIn ? "No dispatches." : "Sign in to see them.";
  const open = (dispatch) => !OVER.includes(dispatch.state);
  const sorted = [...dispatches].reverse().sort((one, other) => open(other) - open(one)).slice(0, 12);
  show(byId("dispatches"), sorted, (dispatch) => dispatch.id, (dispatch) => {
    const steps = STEPS.map((step) => {
      const at = dispatch[`${step}_at`];
      return element("li", { class: at ? "done" : null, title: at }, step, at ? null : element("span", { class: "hidden" }, " (not yet)"));
    });
    const tone = dispatch.state === "failed" || dispatch.state === "rejected" ? "bad" : dispatch.accepted_at ? "good" : "warn";
    return element("tr", {},
      element("td", {}, dispatch.agency),
      element("td", {}, words(dispatch.message?.category)),
      element("td", { class: "num" }, age(dispatch.created_at)),
      element("td", {}, pill(words(dispatch.state), OVER.includes(dispatch.state) ? "" : tone)),
      element("td", {}, element("ol", { class: "steps" }, ...steps)));
  });
}

export function showQuarantine(payloads) {
  byId("quarantine-panel").hidden = payloads.length === 0;
  const newest = [...payloads].reverse().slice(0, 10);
  show(byId("quarantine"), newest, (one) => one.at + one.topic + one.payload, (one) =>
    element("tr", {},
      element("td", { title: one.at }, age(one.at), " ago"),
      element("td", {}, one.topic),
      element("td", {}, one.reason),
      element("td", {}, element("code", {}, one.payload.slice(0, 200)))));
}

export function showCallbacks(calls, signedIn, act) {
  byId("callbacks-none").textContent = signedIn ? "Nobody." : "Sign in to see them.";
  show(byId("callbacks"), calls, (call) => call.id, (call) =>
    element("li", {},
      element("span", {}, call.caller_number ?? "", element("small", {}, "abandoned ", age(call.ended_at ?? call.received_at), " ago")),
      element("button", { class: "small", type: "button", onclick: () => act.dismiss(call) }, "Dismiss")));
}

export function showLinks(status) {
  const link = (name, up, good, bad, unknown) =>
    ({ name, tone: up === null ? "" : up ? "good" : "bad", text: up === null ? unknown : up ? good : bad });
  const links = [
    ...status.trunks.map((trunk) => link(`Trunk ${trunk.id}`, trunk.up, "up", "down", "not checked")),
    link("Broker", status.mqtt_connected, "connected", "not connected", "not known"),
    ...status.agencies.map((agency) => link(agency.name || agency.id, agency.online, "online", "offline", "not heard of")),
    { name: "Journal", tone: status.journal_pending ? "bad" : "good", text: status.journal_pending ? `${status.journal_pending} waiting` : "empty" },
  ];
  show(byId("links"), links, (one) => one.name, (one) => element("li", {}, one.name, pill(one.text, one.tone)));
}
