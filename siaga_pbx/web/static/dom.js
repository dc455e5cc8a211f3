// Small helpers. All text goes in as text, never as markup: a note or a name cannot become a script.

export const byId = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const pill = (text, tone = "") => element("span", { class: `pill ${tone}` }, text);

// Show `items` as children of `parent`. A child is built again only when what it shows has changed, and the others stay,
// so that focus and selection survive the polling. `ages` (elements with data-since) are brought up to date by `tick`.
export function show(parent, items, key, build, shown = (item) => item) {
  const present = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const wanted = items.map((item) => {
    const id = String(key(item));
    const print = JSON.stringify(shown(item));
    const old = present.get(id);
    if (old?.dataset.print === print) return old;
    const made = build(item);
    made.dataset.key = id;
    made.dataset.print = print;
    if (old?.contains(document.activeElement)) queueMicrotask(() => made.querySelector("button")?.focus());
    return made;
  });
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  wanted.forEach((child, index) => {
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
  const none = byId(`${parent.id}-none`);
  if (none) none.hidden = items.length > 0;
}

export const age = (since) => element("span", { "data-since": since ?? "" });

export function tick(now) {
  for (const shown of document.querySelectorAll("[data-since]")) {
    const since = Date.parse(shown.dataset.since);
    const text = Number.isNaN(since) ? "" : duration((now - since) / 1000);
    if (shown.textContent !== text) shown.textContent = text;
  }
}

export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours}:${String(minutes).padStart(2, "0")}:${String(whole % 60).padStart(2, "0")}`;
  return `${minutes}:${String(whole % 60).padStart(2, "0")}`;
}

// A dialog with one form. `submit(fields)` may throw: its message is shown and the dialog stays.
export function openForm(id, submit) {
  const dialog = byId(id);
  const form = dialog.querySelector("form");
  const fault = form.querySelector(".fault");
  const button = form.querySelector("button.main");
  form.reset();
  fault.textContent = "";
  form.querySelector("[value=cancel]").onclick = () => dialog.close();
  form.onsubmit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await submit(Object.fromEntries(new FormData(form)));
      dialog.close();
    } catch (error) {
      fault.textContent = error.message;
    } finally {
      button.disabled = false;
    }
  };
  dialog.showModal();
}
