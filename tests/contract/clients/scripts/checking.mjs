// What every script of a JavaScript client is made of; the same as checking.py says.

import assert from "node:assert/strict";

export const SERVER = process.argv[2] ?? "";
export const FIRM = { temperature: 0, seed: 7 };
export const LONG = 20_000;
const PATIENCE_MS = 60_000;

/** Run the checks, named functions, and print one JSON line for each. */
export async function run(...checks) {
  for (const check of checks) {
    let told = "";
    try {
      await within(check());
    } catch (error) {
      const where = /scripts\/\w+\.mjs:\d+/.exec(error?.stack ?? "")?.[0] ?? "";
      told = `${error?.name}: ${String(error?.message).slice(0, 400)} (${where})`;
    }
    console.log(JSON.stringify({ check: check.name, ok: told === "", told }));
  }
  setTimeout(() => process.exit(), 100); // what a check that was too late began may go on for ever
}

async function within(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("no end of it")), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Return what the server's own API answers. */
export async function rest(method, path) {
  const answer = await fetch(SERVER + path, { method });
  assert.ok(answer.ok, `${path}: ${answer.status}`);
  return answer.json();
}

/** Return the id of the newest job that came in by a dialect. */
export const newest = async (source) => (await rest("GET", `/v1/jobs?source=${source}&limit=1`)).items[0].id;

/** Cancel a job by the server's own API. */
export const cancel = (id) => rest("POST", `/v1/jobs/${id}/cancel`);

/** Wait until a job is over, and return how it ended. */
export async function ended(id) {
  for (;;) {
    const { status } = await rest("GET", `/v1/jobs/${id}`);
    if (status === "done" || status === "error") return status;
    assert.ok(["queued", "running"].includes(status), `job ${id} is ${status}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Return the error that `work` ends in. */
export async function raised(work) {
  try {
    await work();
  } catch (error) {
    return error;
  }
  throw new Error("no error was raised");
}

/** Return all items of an asynchronous iterable. */
export async function all(items) {
  const found = [];
  for await (const item of items) found.push(item);
  return found;
}

/** Say whether two vectors are the same but for what packing them loses. */
export const near = (a, b) =>
  a.length === b.length && a.length > 0 && a.every((number, place) => Math.abs(number - b[place]) < 1e-5);
