// The `ollama` package of npm.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { all, cancel, ended, FIRM, LONG, near, newest, raised, run, SERVER } from "./checking.mjs";

const { Ollama } = createRequire(`${process.argv[3]}/`)("ollama");
const client = new Ollama({ host: SERVER });
const messages = [{ role: "user", content: "hello" }];
const parameters = { type: "object", properties: { a: { type: "integer" } }, required: ["a"] };
const add = { type: "function", function: { name: "add", description: "Add.", parameters } };
const animal = {
  type: "object",
  properties: { legs: { type: "integer" }, tame: { type: "boolean" } },
  required: ["legs", "tame"],
};

async function chat() {
  const options = { ...FIRM, num_predict: 12 };
  const answer = await client.chat({ model: "tiny", messages, options });
  assert.ok(answer.message.content);
  assert.deepEqual([answer.done, answer.done_reason, answer.eval_count], [true, "length", 12]);
  const generated = await client.generate({ model: "tiny", prompt: "the cat", options });
  assert.ok(generated.response);
  assert.equal(generated.eval_count, 12);
}

async function stream() {
  const asked = { model: "tiny", messages, options: { ...FIRM, num_predict: 30 } };
  const pieces = await all(await client.chat({ ...asked, stream: true }));
  const whole = await client.chat(asked);
  assert.equal(pieces.map((piece) => piece.message.content).join(""), whole.message.content);
  assert.ok(pieces.length > 2);
  assert.deepEqual([pieces.at(-1).done, pieces.at(-1).eval_count], [true, 30]);
}

async function tools() {
  const asked = { model: "caller", tools: [add], think: false, options: { ...FIRM, num_predict: 1 } };
  const answer = await client.chat({ ...asked, messages });
  const [call] = answer.message.tool_calls;
  assert.equal(call.function.name, "add");
  assert.ok(Number.isInteger(call.function.arguments.a));
  const history = [...messages, answer.message, { role: "tool", tool_name: "add", content: "3" }];
  assert.ok((await client.chat({ ...asked, messages: history })).prompt_eval_count > answer.prompt_eval_count);
}

async function schema() {
  const options = { seed: 3, temperature: 1, num_predict: 300 };
  const answer = await client.chat({ model: "tiny", messages, format: animal, options });
  const found = JSON.parse(answer.message.content);
  assert.ok(Number.isInteger(found.legs));
  assert.equal(typeof found.tame, "boolean");
}

async function thinking() {
  const answer = await client.chat({ model: "thinker", messages, think: true, options: { ...FIRM, num_predict: 1 } });
  assert.ok(answer.message.thinking.startsWith("because "), answer.message.thinking);
  assert.equal(answer.message.content, "so it is");
}

async function embeddings() {
  const { embeddings: found } = await client.embed({ model: "tiny-embed", input: ["the cat", "the dog"] });
  assert.equal(found.length, 2);
  assert.ok(!near(found[0], found[1]));
  assert.ok(near((await client.embeddings({ model: "tiny-embed", prompt: "the cat" })).embedding, found[0]));
}

async function models() {
  const named = (await client.list()).models.map((model) => model.model);
  assert.ok(named.includes("tiny:latest"), `${named}`);
  assert.ok((await client.show({ model: "tiny" })).capabilities.includes("completion"));
  await client.generate({ model: "tiny", prompt: "hello", options: { num_predict: 1 } });
  assert.ok((await client.ps()).models.some((model) => model.model === "tiny:latest"));
}

async function cancelled() {
  const pieces = await client.chat({ model: "tiny", messages, options: { num_predict: LONG }, stream: true });
  const id = await newest("ollama");
  const error = await raised(async () => {
    let cancelled = false;
    for await (const _ of pieces) {
      if (!cancelled) await cancel(id);
      cancelled = true;
    }
  });
  assert.match(String(error), /cancel/);
}

async function left() {
  const pieces = await client.chat({ model: "tiny", messages, options: { num_predict: 80 }, stream: true });
  const id = await newest("ollama");
  try {
    for await (const _ of pieces) pieces.abort();
  } catch (error) {
    assert.equal(error.name, "AbortError"); // unless all of it had come already
  }
  assert.equal(await ended(id), "done");
}

async function errors() {
  const missing = await raised(() => client.chat({ model: "nope", messages }));
  assert.deepEqual([missing.status_code, missing.error], [404, "model 'nope' not found"]);
  const wrong = await raised(() => client.chat({ model: "tiny-embed", messages }));
  assert.equal(wrong.status_code, 400);
}

await run(chat, stream, tools, schema, thinking, embeddings, models, cancelled, left, errors);
