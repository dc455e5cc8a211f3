// The API, and the token: kept in this tab's session storage, sent as a bearer token.

const TOKEN = "siaga-token";
const TIMEOUT_MS = 5000;

export class Unauthorised extends Error {}

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (value) => sessionStorage.setItem(TOKEN, value),
  forget: () => sessionStorage.removeItem(TOKEN),
};

async function ask(method, path, body, bearer) {
  const headers = {};
  if (bearer) headers.authorization = `Bearer ${bearer}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  const answer = await fetch(path, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const text = await answer.text();
  if (answer.ok) return text ? JSON.parse(text) : null;
  let detail = `${answer.status} ${answer.statusText}`;
  try {
    detail = JSON.parse(text).detail ?? detail;
  } catch { /* not one of our errors: the status has to do */ }
  throw answer.status === 401 ? new Unauthorised(detail) : new Error(detail);
}

export const get = (path, bearer = token.get()) => ask("GET", path, undefined, bearer);
export const post = (path, body) => ask("POST", path, body, token.get());
